"""The page about the battery, in Markdown: what is found, missed and cried falsely, in plain words and in tables.

Whoever knows no formula reads the summary and the first column of each table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from statistics import median

from memgen_eval.battery.cases import ALTERED, EXACT, percent
from memgen_eval.battery.catalogue import COUNTED
from memgen_eval.battery.circumstances import COMPANY, CONTROLS, FEW, MISREAD, TRAINING
from memgen_eval.battery.draws import SOURCES
from memgen_eval.battery.innocents import AWKWARD, COLLAPSED, FRESH
from memgen_eval.battery.ledger import Record
from memgen_eval.battery.peers import MIFID_NOTED
from memgen_eval.battery.tallies import (
    DOUBTED,
    OF_VERDICT,
    VERDICT,
    Judged,
    altered_at,
    by_rule,
    by_source,
    crying,
    found_by,
    judged_cases,
    measured_names,
    rated_figures,
    rule_of,
    total,
)
from memgen_eval.render.numbers import escape_markdown, number
from memgen_eval.results import CAPTIONS

MAIN_FIGURES = (
    *("memorization.plain_ratio", "memorization.ratio", "memorization.calibrated_ratio", "memorization.carlini"),
    *("novelty.auc", "novelty.relative_auc", "novelty.ct", "novelty.authenticity"),
)
GROUPS = {
    FRESH: "Images that the model cannot have copied, of the same kind as the training images.",
    EXACT: "Some samples are training images, to the last pixel; the others are unseen.",
    ALTERED: "Some samples are training images that were altered; the others are unseen. Later rows are altered more.",
    COMPANY: "Copies beside samples that are odd in another way.",
    AWKWARD: "Not one copy, but images that differ from the data, as those of a poor model do.",
    COLLAPSED: "Not one copy, but a model that repeats itself: a few new images, again and again.",
    TRAINING: "Training sets that hold images several times, or were not given whole.",
    CONTROLS: "Test sets that cannot speak for unseen images.",
    MISREAD: "Values that were read with the wrong range, so that every distance is wrong.",
}
HOW_OFTEN = (
    "The numbers say how often the verdict was *copies / undecided / no copying found*. ✗ marks copies that are "
    "acquitted each time, and innocents that are ever called copies."
)
DIVIDED = (
    "Each repetition divides the images anew into training images, test images and unseen ones, none of them in two of "
    "these."
)
NAMED_ALIKE = (
    "An alteration has the same name on all images: shifts, frames and blurs are in pixels, which is much for 8 x 8; "
    "crops, cut-outs and centres are shares of the side, by what they are of 32."
)
BAR = 20  # characters
SHARES_IN_WORDS = {0.05: "5 % of the samples are altered copies", 1.0: "all samples are altered copies"}


def page(settings: Record, records: Sequence[Record]) -> str:
    """The page."""
    tallies = judged_cases(records)
    blocks = [
        "# What is found, what is missed, what is cried falsely",
        _opening(settings, records),
        "## In short",
        "What is cried falsely:",
        _bullets(_cried_falsely(tallies)),
        "What is found:",
        _bullets(_found(tallies)),
        "What is missed:",
        _bullets(_missed(tallies)),
        "## How many copies it takes",
        _power(tallies),
        *_groups(tallies),
        "## Figure by figure",
        _figures(tallies),
        "## Neighbouring tools",
        _peers(settings, tallies),
        "## Where it fails",
        _bullets(_failures(tallies)),
        "## Every case with its figures",
        _details(tallies),
        "## How it was measured",
        _method(settings, records),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _opening(settings: Record, records: Sequence[Record]) -> str:
    sources = [source.words for source in SOURCES if any(record["source"] == source.name for record in records)]
    quick = " This is the short form of the battery, with fewer cases and repetitions." if settings["quick"] else ""
    return (
        "This page is made by `memgen-eval battery`. The command makes sets of samples whose truth is known, with "
        "copies of training images in them or without, and asks `evaluate` what it thinks of them. "
        f"It did so {len(records):,} times, on {_listed(sources)}. The verdict is one of three: *copies*, *undecided*, "
        "*no copying found*. Of copies, *no copying found* is the error; of images that are not copies, *copies* is. "
        f"*Undecided* is never wrong, and never of much use.{quick}"
    )


def _cried_falsely(tallies: Sequence[Judged]) -> Iterator[str]:
    for words, groups in (
        ("sets of unseen images", (FRESH,)),
        ("sets without copies that look awkward or repeat themselves", (AWKWARD, COLLAPSED)),
        ("sets without copies beside odd training sets, test sets or ranges", (TRAINING, CONTROLS, MISREAD)),
    ):
        chosen = [tally for tally in tallies if tally.case.group in groups and tally.case.truth == "innocent"]
        false, doubted = crying(chosen, VERDICT), total(chosen, "undecided").count
        if false.total:
            called = f"{false.count:,} were called copies, {doubted:,} undecided"
            yield f"Of {false.total:,} {words}, {called}. False alarms: {false}."


def _found(tallies: Sequence[Judged]) -> Iterator[str]:
    """How many alterations are found on each source, at each share."""
    for held in by_source(tallies):
        clauses = []
        for share, words in SHARES_IN_WORDS.items():
            chosen = altered_at(held, share)
            visible = [tally for tally in chosen if tally.case.truth == "copies"]
            stronger = [tally for tally in chosen if tally.alteration in COUNTED]
            if visible:
                of_stronger = f"{sum(tally.is_found for tally in stronger)} of the {len(stronger)} stronger ones"
                found = f"{sum(tally.is_found for tally in visible)} of {len(visible)} alterations"
                clauses.append(f"{found} where {words} ({of_stronger})")
        if clauses:
            yield f"{held[0].title}: called copies at least 19 times of 20 are {' and '.join(clauses)}."


def _missed(tallies: Sequence[Judged]) -> Iterator[str]:
    """Copies of which no copying is found each time."""
    for held in by_source(tallies):
        for share, words in SHARES_IN_WORDS.items():
            never = [t.alteration for t in altered_at(held, share) if t.is_acquitted and t.case.truth == "copies"]
            if never:
                yield f"{held[0].title}, where {words}, *no copying found* each time: {_listed(never)}."
    hidden = dict.fromkeys(tally.alteration for tally in tallies if tally.case.truth == "cannot be seen")
    if hidden:
        yield f"No figure here is made to see these, whatever their share: {_listed(list(hidden))}."
    named = [f"{t.case.name} ({t.title})" for t in tallies if t.is_acquitted and t.case.group not in (ALTERED, EXACT)]
    if named:
        yield f"*No copying found* each time because of what they are compared with: {_listed(named)}."


def _power(tallies: Sequence[Judged]) -> str:
    """How often exact copies are found, by their share."""
    rows = []
    for tally in tallies:
        if tally.case.group == EXACT and tally.case.share is not None:
            rate = tally.right
            bar = "█" * round(BAR * rate.count / rate.total)
            rows.append((tally.title, percent(tally.case.share), f"{bar:·<{BAR}}", str(rate), tally.counts))
    rows.sort(key=lambda row: [source.title for source in SOURCES].index(row[0]))
    text = "Exact copies, by their share of the samples: how often the verdict is *copies*."
    columns = ("images", "share", "called copies", "rate (95 % interval)", "copies / undecided / none")
    return f"{text}\n\n{_table(columns, rows)}"


def _groups(tallies: Sequence[Judged]) -> Iterator[str]:
    """A table a group, with a column for each kind of images, and of altered copies for each share."""
    for group, words in GROUPS.items():
        chosen = [tally for tally in tallies if tally.case.group == group]
        if chosen:
            yield f"## {group.capitalize()}"
            yield f"{words} {HOW_OFTEN}"
            yield _altered_table(chosen) if group == ALTERED else _table_of(chosen)


def _table_of(tallies: Sequence[Judged]) -> str:
    sources = [source for source in SOURCES if any(tally.source == source.name for tally in tallies)]
    held = {(tally.case.name, tally.source): tally for tally in tallies}
    rows = []
    for name, case in {tally.case.name: tally.case for tally in tallies}.items():
        cells = (held.get((name, source.name)) for source in sources)
        says = name if case.group in (EXACT, FRESH) else f"{name}. {case.says}"
        rows.append((says, case.truth, *(_marked(tally) if tally else "" for tally in cells)))
    return _table(("case", "truth", *(source.title for source in sources)), rows)


def _altered_table(tallies: Sequence[Judged]) -> str:
    columns = [(s, share) for s in SOURCES for share in SHARES_IN_WORDS if any(t.source == s.name for t in tallies)]
    held = {(tally.alteration, tally.source, tally.case.share): tally for tally in tallies}
    rows = []
    for name, case in {tally.alteration: tally.case for tally in tallies}.items():
        cells = (held.get((name, source.name, share)) for source, share in columns)
        kind = case.kind if case.truth == "copies" else f"{case.kind} (cannot be seen)"
        rules = ", ".join(found_by(tally for tally in altered_at(tallies, FEW) if tally.alteration == name))
        rows.append((kind, name, *(_marked(tally) if tally else "" for tally in cells), rules))
    titles = (f"{source.title}: {'all' if share == 1 else percent(share)}" for source, share in columns)
    return _table(("kind", "alteration", *titles, f"rules that see {percent(FEW)}"), rows)


def _marked(tally: Judged) -> str:
    """The counts, with a mark for copies that are acquitted each time, and for false alarms."""
    is_wrong = tally.wrong.count > 0 if tally.case.truth == "innocent" else tally.is_acquitted
    return f"{tally.counts}{' ✗' if is_wrong else ''}"


def _figures(tallies: Sequence[Judged]) -> str:
    """How often each figure cries copies, in sets with copies and without."""
    altered = [tally for tally in tallies if tally.case.group == ALTERED and tally.case.truth == "copies"]
    columns: dict[str, list[Judged]] = {
        "unseen": [tally for tally in tallies if tally.case.group == FRESH],
        "awkward": [tally for tally in tallies if tally.case.group == AWKWARD],
        "repeated, new": [tally for tally in tallies if tally.case.group == COLLAPSED],
        "exact, 1 %": [tally for tally in tallies if tally.case.group == EXACT and tally.case.share == 0.01],
        "exact, 5 %": [tally for tally in tallies if tally.case.group == EXACT and tally.case.share == 0.05],
        "altered, 5 %": [tally for tally in altered if tally.case.share == 0.05],
        "altered, all": [tally for tally in altered if tally.case.share == 1],
    }
    rules = [by_rule(name) for name in measured_names(tallies, "rules")]
    names = [VERDICT, DOUBTED, *rules, *rated_figures(tallies)]
    names += [MIFID_NOTED] if MIFID_NOTED in measured_names(tallies, "peers") else []
    rows = [(*_named(name), *(str(crying(held, name)) for held in columns.values())) for name in names]
    text = (
        "What a reader would conclude who looks at one figure alone, by the rule given. The first three columns are of "
        "sets without copies, where every alarm is false; in the others every silence is a miss."
    )
    return f"{text}\n\n{_table(('figure', 'cries copies if', *columns), rows)}"


def _named(name: str) -> tuple[str, str]:
    if name in CAPTIONS:
        return CAPTIONS[name].label, rule_of(name) or ""
    return name, "by itself, corrected for their number" if name.startswith(OF_VERDICT) else ""


def _peers(settings: Record, tallies: Sequence[Judged]) -> str:
    """What other tools say of unseen images and of copies."""
    names = [name for name in measured_names(tallies, "peers") if name != MIFID_NOTED]
    missing = [name for name, version in settings["peers"].items() if version is None]
    text = (
        "The tools get the leading 64 principal coordinates of the pixels, since the weights of their networks are not "
        "there. Of all of them only MiFID has a published rule that says when a set is memorized: a mean cosine "
        "distance below 0.1, meant for Inception's features. The others say how good a set is, and copies score best."
    )
    if missing:
        remedy = "pip install 'memgen-eval[peers]'"
        text += f" Left out, since they are not installed: {_listed(missing)} (`{remedy}`)."
    if settings["features"] is None:
        text += " The rule of SSCD, a cosine similarity above 0.6, needs its network: give `--features`."
    rows = []
    for tally in tallies:
        if any(tally.median_of("peers", name) is not None for name in names) and _is_telling(tally):
            values = (tally.median_of("peers", name) for name in names)
            rows.append((tally.case.name, tally.title, tally.case.truth, *map(_number, values)))
    return text + (f"\n\n{_table(('case', 'images', 'truth', *names), rows)}" if rows else "")


def _is_telling(tally: Judged) -> bool:
    """Whether the peers' values of a case stand in their short table: the plainest of each group."""
    case = tally.case
    plain = ("unseen images, draw 1", "noise", "noise 30, 100 %", "unseen, blur 1.5")
    return case.group in (EXACT, COLLAPSED) or case.name in plain


def _failures(tallies: Sequence[Judged]) -> Iterator[str]:
    """Each case that is judged wrongly, with what is said of it; the table of altered copies speaks for itself."""
    failed = [tally for tally in tallies if tally.wrong.count and tally.case.group != ALTERED and not _is_small(tally)]
    for tally in failed:
        said = next((record["sentence"] for record in tally.records if record["sentence"]), "")
        label = "copies" if tally.case.truth == "innocent" else "no copying found"
        what = f"{tally.case.name}, {tally.title}: *{label}*, {tally.wrong.plain} times"
        yield f"{what}. {tally.case.says} It says: {escape_markdown(said)}"
    yield "Altered copies: where the table above has a ✗, and wherever its last number is not 0."


def _is_small(tally: Judged) -> bool:
    """Whether so few samples are exact copies that the table of shares says all there is to say."""
    return tally.case.group == EXACT and tally.case.share is not None and tally.case.share < 0.01


def _details(tallies: Sequence[Judged]) -> str:
    """The medians of the main figures, and of every p-value that there is, folded away."""
    present = measured_names(tallies, "figures")
    chosen = [path for path in MAIN_FIGURES if path in present] + [path for path in present if path.endswith("p_value")]
    columns = ("case", "images", "truth", "right", "p of the verdict", *(CAPTIONS[path].label for path in chosen))
    rows = []
    for tally in tallies:
        p_value = number(median(record["p_value"] for record in tally.records))
        values = (tally.median_of("figures", path) for path in chosen)
        known = (tally.case.name, tally.title, tally.case.truth, str(tally.right), p_value)
        rows.append((*known, *map(_number, values)))
    text = "Medians over the repetitions; *right* says how often the verdict was the right one."
    return f"<details><summary>{text}</summary>\n\n{_table(columns, rows)}\n\n</details>"


def _method(settings: Record, records: Sequence[Record]) -> str:
    seconds = sum(record["seconds"] for record in records)
    form = " --quick" if settings["quick"] else ""
    versions = ", ".join(f"{name} {version}" for name, version in settings["peers"].items() if version is not None)
    sizes = (f"{s.title}: {s.num_train:,}, {s.num_test:,} and {s.num_samples:,}" for s in SOURCES)
    command = f"memgen-eval battery{form} --seed {settings['seed']}"
    made = f"Command: `{command}`, memgen-eval {settings['version']}, code {settings['code']}"
    lines = (
        f"{made}; {seconds / 60:.0f} minutes of computing, on all processes together.",
        f"Other tools: {versions or 'none'}.",
        f"{DIVIDED} Numbers of training images, test images and samples: {'; '.join(sizes)}.",
        "Intervals are Wilson's at 95 %, with each repetition one draw. They say nothing of other kinds of images.",
        NAMED_ALIKE,
        f"The stronger alterations that are counted by themselves: {_listed(COUNTED)}.",
        "Measured once: novelty, other tools, odd training and test sets, sets of nothing but altered copies.",
    )
    return _bullets(lines)


def _number(value: float | None) -> str:
    return "" if value is None else number(value)


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else "".join(words)


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ("---",) * len(columns), *(tuple(map(escape_markdown, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
