"""What moved from one report to another beyond the intervals of both, and why two reports cannot be compared.

The rule. The interval of a change combines those of both reports, arm by arm, as Newcombe combines those of two
proportions: ``low = (b - a) - hypot(b - b_low, a_high - a)``. A change of a curve is judged at each of its points, by
Bonferroni. Of all figures that can be judged, those moved that Holm's procedure rejects at 5 %: if nothing has changed,
at most 5 comparisons in 100 say that anything has, however many figures they hold and however these depend on one
another. A gate on one figure reads its own interval, at 95 %: that figure was chosen before, not picked out.

References
----------
.. [1] Newcombe, "Interval estimation for the difference between independent proportions", Statistics in Medicine 17,
   1998, method 10; for other figures Zou & Donner, "Construction of confidence limits about effect measures",
   Statistics in Medicine 27, 2008.
.. [2] Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from memgen_eval.results import CAPTIONS, Curve, Estimate, Settings, Z

if TYPE_CHECKING:
    from memgen_eval.report import Report

FALSE_ALARMS = 0.05  # the share of comparisons of equals that may say that anything moved
_METHOD = "both intervals combined as Newcombe does, 95 %"
_NOT_THERE = "it was not measured in both reports"
_TOO_LARGE = "the change is too large for a number"
_OTHER_GRID = "the curves were measured at other places"
_FREE = frozenset({"seed", "metrics", "checksums"})  # settings that two comparable reports need not share
_DERIVED = frozenset({"duplicate_tolerance", "sigmas"})  # None where nothing that was asked for needs them
_ROUNDING, _MACHINE = 1e-9, 1e-5  # how far rounding moves a figure: of zero, and as a share on another machine
_SHOWN = 12  # digits of a checksum among what differs
_LONGEST = 40  # characters of a value in the reason


@dataclass(frozen=True)
class FigureChange:
    """A figure in both reports.

    Attributes
    ----------
    path : str
        Where the figure stands in a report.
    before, after : Estimate or Curve
        The figure in the earlier report and in the later one.
    change : Estimate or Curve
        After minus before, with its 95 % interval; None as values where either was not measured.
    p_value : float or None
        The chance of as large a change if nothing has changed; of a curve, of the point that changed most clearly,
        times the number of points. None where there are no intervals to judge by.
    index : int or None
        That point of a curve.
    moved : bool
        Whether the change is beyond the intervals of both, by the rule above.
    """

    path: str
    before: Estimate | Curve
    after: Estimate | Curve
    change: Estimate | Curve
    p_value: float | None
    index: int | None = None
    moved: bool = False


@dataclass(frozen=True)
class Changes:
    """An earlier report and a later one. `reason` says in one line why they cannot be compared, if they cannot."""

    before: Report
    after: Report
    reason: str | None
    figures: tuple[FigureChange, ...]
    differences: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def moved(self) -> tuple[FigureChange, ...]:
        """What moved, the clearest first."""
        return tuple(sorted((c for c in self.figures if c.moved), key=lambda c: c.p_value or 0.0))

    @property
    def judged(self) -> int:
        """How many figures have intervals to judge a change by."""
        return sum(change.p_value is not None for change in self.figures)

    def change(self, path: str) -> Estimate | Curve:
        """The change of a figure, after minus before; undefined, with the reason, where there is none."""
        if self.reason is not None:
            return Estimate.undefined(self.reason)
        found = [change.change for change in self.figures if change.path == path]
        return found[0] if found else Estimate.undefined(_NOT_THERE)

    def require(self, expression: str) -> None:
        """Raise GateError unless `expression` holds; ``baseline.FIGURE.change`` is the change of a figure."""
        from memgen_eval.gates import parse_gate, require

        require(self.after, parse_gate(expression), self)


def changes_between(before: Report, after: Report, *, num_pairs: int = 1) -> Changes:
    """What moved from `before` to `after`, beyond the intervals of both.

    Where `num_pairs` of reports are compared at once, all of them share the 5 % of false alarms.
    """
    reason = incomparable(before, after)
    found = [] if reason is not None else [change for path in CAPTIONS if (change := _change(path, before, after))]
    return Changes(before, after, reason, _judge(found, FALSE_ALARMS / num_pairs), unlike([before, after]))


def incomparable(before: Report, after: Report) -> str | None:
    """Why figures of two reports cannot be compared, in one line; None where they can.

    They can where the training set, the test set and all settings agree but the seed and what was asked for.
    """
    for name, words in (("train", "training"), ("test", "test")):
        sums = [report.settings.checksums.get(name) for report in (before, after)]
        if sums[0] != sums[1]:
            return f"the {words} sets differ (checksum {_short(sums[0])} before, {_short(sums[1])} now)"
    names = [f.name for f in fields(Settings) if f.name not in _FREE]
    pairs = {name: (getattr(before.settings, name), getattr(after.settings, name)) for name in names}
    others = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    told = [
        f"{name} was {_short(pair[0])} and is {_short(pair[1])}"
        for name, pair in others.items()
        if not (name in _DERIVED and None in pair)
    ]
    return f"other settings: {'; '.join(told)}" if told else None


def unlike(reports: Sequence[Report]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """What differs between reports beyond their figures: sets, settings, versions, devices; each with its values."""
    held = [_surroundings(report) for report in reports]
    names = list(dict.fromkeys(name for one in held for name in one))
    rows = [(name, tuple(_words(one.get(name)) for one in held)) for name in names]
    return tuple((name, values) for name, values in rows if len(set(values)) > 1)


def _surroundings(report: Report) -> dict[str, Any]:
    """All that may explain why figures differ, by name."""
    held = {f.name: getattr(report.settings, f.name) for f in fields(Settings) if f.name != "checksums"}
    held |= {f"checksum of {name}": value and value[:_SHOWN] for name, value in report.settings.checksums.items()}
    held |= {f"version of {name}": value for name, value in report.provenance.versions.items()}
    held |= {name: getattr(report.provenance, name) for name in ("engine", "device", "threads", "ranks")}
    accounts = {name: given.get("account") for name, given in report.provenance.inputs.items()}
    return held | {"denoiser": accounts.get("denoiser")} | {"processor": report.provenance.host.get("processor")}


def _short(value: object) -> str:
    text = _words(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _words(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_words(item)}" for name, item in value.items())
    return ", ".join(map(_words, value)) if isinstance(value, list | tuple) else str(value)


def _change(path: str, before: Report, after: Report) -> FigureChange | None:
    old, new = before.figure(path), after.figure(path)
    if old is None or new is None:
        return None
    if isinstance(old, Estimate) and isinstance(new, Estimate):
        return FigureChange(path, old, new, difference(old, new), chance(old, new))
    assert isinstance(old, Curve) and isinstance(new, Curve)
    return _curve_change(path, old, new)


def _curve_change(path: str, old: Curve, new: Curve) -> FigureChange:
    if old.value is None or new.value is None:
        return FigureChange(path, old, new, Curve.undefined(_NOT_THERE), None)
    if old.x != new.x or len(old.value) != len(new.value):
        return FigureChange(path, old, new, Curve.undefined(_OTHER_GRID), None)
    points = [difference(old.at(i), new.at(i)) for i in range(len(old.value))]
    value, low, high = (tuple(getattr(point, part) for point in points) for part in ("value", "low", "high"))
    counts = [count for count in (old.count, new.count) if count is not None]
    change = Curve(value, low, high, _METHOD, min(counts, default=None), x=new.x)
    chances = {i: p for i in range(len(points)) if (p := chance(old.at(i), new.at(i))) is not None}
    if not chances:
        return FigureChange(path, old, new, change, None)
    index = min(chances, key=chances.__getitem__)
    return FigureChange(path, old, new, change, min(1.0, len(chances) * chances[index]), index)


def difference(before: Estimate, after: Estimate) -> Estimate:
    """After minus before, with the interval of both combined.

    Undefined where either is; without an interval where either has none.
    """
    if before.value is None or after.value is None:
        return Estimate.undefined(_NOT_THERE)
    change = after.value - before.value
    counts = [count for count in (before.count, after.count) if count is not None]
    arms = _arms(before, after)
    if not math.isfinite(change):
        return Estimate.undefined(_TOO_LARGE)
    if arms is None or not all(map(math.isfinite, (change - arms[0], change + arms[1]))):
        return Estimate(change, method="no interval", count=min(counts, default=None))
    return Estimate(change, change - arms[0], change + arms[1], _METHOD, min(counts, default=None))


def chance(before: Estimate, after: Estimate) -> float | None:
    """The chance of as large a change, up or down, if nothing has changed; None where there are no intervals.

    Normal, with the arm of the change's interval on the side of zero for a spread: it is wider where an interval is.
    What the rounding of another machine can do is no change.
    """
    arms = _arms(before, after)
    if before.value is None or after.value is None or arms is None:
        return None
    change = after.value - before.value
    if abs(change) <= max(_ROUNDING, _MACHINE * max(abs(after.value), abs(before.value))):
        return 1.0
    arm = arms[0] if change > 0 else arms[1]
    if arm == 0 or not math.isfinite(change) or not math.isfinite(arm):
        return 1.0 if change == 0 else None
    return math.erfc(Z * abs(change) / arm / math.sqrt(2))


def _arms(before: Estimate, after: Estimate) -> tuple[float, float] | None:
    """How far the interval of the change reaches below it, and above it; None without two intervals."""
    ends = (before.value, before.low, before.high, after.value, after.low, after.high)
    if any(end is None for end in ends):
        return None
    a, a_low, a_high, b, b_low, b_high = (float(end) for end in ends if end is not None)
    below = math.hypot(max(b - b_low, 0), max(a_high - a, 0))
    above = math.hypot(max(b_high - b, 0), max(a - a_low, 0))
    return below, above


def _judge(changes: Iterable[FigureChange], level: float) -> tuple[FigureChange, ...]:
    """The changes in their order, those marked that Holm's procedure rejects."""
    held = list(changes)
    ordered = sorted((c.p_value, i) for i, c in enumerate(held) if c.p_value is not None)
    for rank, (p_value, i) in enumerate(ordered):
        if p_value > level / (len(ordered) - rank):
            break
        held[i] = replace(held[i], moved=True)
    return tuple(held)
