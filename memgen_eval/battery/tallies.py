"""Results counted: how often each case was called what, and how often each figure, read alone, cried copies.

No rule here is the verdict's. They say what a reader would conclude who looks at one figure beside its control.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from memgen_eval.battery.cases import ALTERED, all_cases
from memgen_eval.battery.draws import SOURCES, Case, Truth
from memgen_eval.battery.ledger import Record
from memgen_eval.battery.peers import MIFID_NOTED
from memgen_eval.metrics.statistics import wilson_interval
from memgen_eval.report import Report
from memgen_eval.results import CAPTIONS, LABELS, Estimate

ALARMING_P_VALUE = 1e-3  # one fresh set in a thousand
ALARMING_Z_SCORE = -3.0
FAMILIES_OF_SAMPLES = ("memorization", "novelty")
NOT_OF_COPYING = ("repetition",)  # the model repeats itself, whether or not it copies
LOW_IS_BAD = ("authenticity", "distance_median")
FELL_BELOW_HALF, FELL_BELOW_ONE = ("auc", "relative_auc"), ("distance_ratio",)
Z_SCORES = ("ct", "relative_ct")

FOUND_ALWAYS = 0.95
OF_VERDICT = "rule of the verdict: "
VERDICT, DOUBTED = "verdict: copies", "verdict: copies or undecided"
RIGHT: Mapping[Truth, str] = {"copies": "copies", "innocent": "no copying found", "cannot be seen": "copies"}


@dataclass(frozen=True)
class Rate:
    """A share, as a count out of a total."""

    count: int
    total: int

    def __str__(self) -> str:
        """In per cent, with Wilson's interval."""
        if self.total == 0:
            return "-"
        low, high = wilson_interval(self.count / self.total, self.total)
        return f"{100 * self.count / self.total:.0f} % ({100 * low:.0f} to {100 * high:.0f})"

    @property
    def plain(self) -> str:
        """As a count."""
        return f"{self.count:,} of {self.total:,}"


@dataclass(frozen=True)
class Judged:
    """What all repetitions of a case on one source gave."""

    case: Case
    source: str
    records: tuple[Record, ...]

    def called(self, *labels: str) -> Rate:
        """How often the verdict was one of these."""
        return Rate(sum(record["label"] in labels for record in self.records), len(self.records))

    @property
    def counts(self) -> str:
        """How often it was each: copies, undecided, no copying found."""
        copies, none, undecided = (self.called(label).count for label in LABELS)
        return f"{copies} / {undecided} / {none}"

    @property
    def right(self) -> Rate:
        """How often it was what it should be."""
        return self.called(RIGHT[self.case.truth])

    @property
    def is_found(self) -> bool:
        """Whether it was called what it should be 19 times of 20 at least."""
        return self.right.count >= FOUND_ALWAYS * self.right.total

    @property
    def wrong(self) -> Rate:
        """How often copies were acquitted, or innocents called copies."""
        return self.called("copies" if self.case.truth == "innocent" else "no copying found")

    @property
    def is_acquitted(self) -> bool:
        """Whether these are copies of which no copying was found each time."""
        return self.case.truth != "innocent" and self.wrong.count == self.wrong.total

    @property
    def title(self) -> str:
        """What tables call its source."""
        return next(source.title for source in SOURCES if source.name == self.source)

    @property
    def alteration(self) -> str:
        """How its copies were altered: its name without the share."""
        return self.case.name.rpartition(", ")[0]

    def median_of(self, kind: str, name: str) -> float | None:
        """The median of a figure over the repetitions that have it."""
        values = [record[kind][name] for record in self.records if name in record[kind]]
        return median(values) if values else None


def judged_cases(records: Iterable[Record]) -> list[Judged]:
    """The results by case and source, in the order of the cases; cases that are no more are left out."""
    held: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        held.setdefault((record["case"], record["source"]), []).append(record)
    sources = list(dict.fromkeys(source for _, source in held))
    return [
        Judged(case, source, tuple(held[case.name, source]))
        for case in all_cases()
        for source in sources
        if (case.name, source) in held
    ]


def total(tallies: Iterable[Judged], label: str) -> Rate:
    """How often some cases together were called so."""
    rates = [tally.called(label) for tally in tallies]
    return Rate(sum(rate.count for rate in rates), sum(rate.total for rate in rates))


def by_source(tallies: Sequence[Judged]) -> list[list[Judged]]:
    """The cases of each source, the largest images first."""
    held = ([tally for tally in tallies if tally.source == source.name] for source in reversed(SOURCES))
    return [found for found in held if found]


def altered_at(tallies: Iterable[Judged], share: float) -> list[Judged]:
    """The cases of altered copies at a share."""
    return [tally for tally in tallies if tally.case.group == ALTERED and tally.case.share == share]


def measured_names(tallies: Sequence[Judged], kind: str) -> list[str]:
    """The figures or peers' figures that any result has, in their order."""
    return list(dict.fromkeys(name for tally in tallies for record in tally.records for name in record[kind]))


def by_rule(rule: str) -> str:
    """What the page calls a rule of the verdict."""
    return f"{OF_VERDICT}{rule}"


def found_by(tallies: Iterable[Judged]) -> list[str]:
    """The rules that fired in at least half of all repetitions of some cases."""
    fired = [record["fired"] for tally in tallies for record in tally.records]
    names = dict.fromkeys(name for names in fired for name in names)
    return [name for name in names if 2 * sum(name in names for names in fired) >= len(fired)]


def rated_figures(tallies: Sequence[Judged]) -> list[str]:
    """The figures that can cry copies, of those measured."""
    return [path for path in measured_names(tallies, "figures") if rule_of(path) is not None]


def crying(tallies: Iterable[Judged], path: str) -> Rate:
    """How often a figure, a verdict or a peer cried copies, over all repetitions of some cases that have it."""
    reads: Callable[[Record], bool | None]
    if path in (VERDICT, DOUBTED):
        labels = LABELS[:1] if path == VERDICT else ("copies", "undecided")
        reads = lambda record: record["label"] in labels  # noqa: E731
    elif path.startswith(OF_VERDICT):
        rule = path.removeprefix(OF_VERDICT)
        reads = lambda record: rule in record["fired"] if rule in record["rules"] else None  # noqa: E731
    elif path == MIFID_NOTED:
        reads = lambda record: bool(record["peers"][path]) if path in record["peers"] else None  # noqa: E731
    else:
        reads = lambda record: path in record["alarms"] if path in record["figures"] else None  # noqa: E731
    found = [read for tally in tallies for record in tally.records if (read := reads(record)) is not None]
    return Rate(sum(found), len(found))


def rule_of(path: str) -> str | None:
    """When the figure at a path cries copies, in words; None for a figure that cannot."""
    family, name = path.split(".")
    if family not in FAMILIES_OF_SAMPLES or name in NOT_OF_COPYING:
        return None
    if name.endswith("p_value"):
        return f"at most {ALARMING_P_VALUE:g}"
    if name in Z_SCORES:
        return f"below {ALARMING_Z_SCORE:g}"
    if name in FELL_BELOW_HALF:
        return "interval below 0.5"
    if name in FELL_BELOW_ONE:
        return "interval below 1"
    if name.endswith("excess"):
        return "interval above 0"
    if f"test_{name}" in CAPTIONS[path].beside:
        return f"interval {'below' if name in LOW_IS_BAD else 'above'} that of unseen images"
    return None


def cries(report: Report, path: str) -> bool:
    """Whether the figure at a path cries copies; False where it has no value, no interval or no rule."""
    figure, name = report.figure(path), path.split(".")[1]
    if rule_of(path) is None or not isinstance(figure, Estimate) or figure.value is None:
        return False
    if name.endswith("p_value"):
        return figure.value <= ALARMING_P_VALUE
    if name in Z_SCORES:
        return figure.value < ALARMING_Z_SCORE
    if name in FELL_BELOW_HALF or name in FELL_BELOW_ONE:
        return figure.high is not None and figure.high < (0.5 if name in FELL_BELOW_HALF else 1)
    if name.endswith("excess"):
        return figure.low is not None and figure.low > 0
    control = report.figure(f"{path.split('.', maxsplit=1)[0]}.test_{name}")
    return isinstance(control, Estimate) and _beyond(figure, control, low_is_bad=name in LOW_IS_BAD)


def _beyond(figure: Estimate, control: Estimate, *, low_is_bad: bool) -> bool:
    """Whether the two intervals do not meet, and the figure lies on the bad side; counts have no interval."""
    worse, better = (figure, control) if low_is_bad else (control, figure)
    return worse.high is not None and better.low is not None and worse.high < better.low
