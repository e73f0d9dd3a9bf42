"""Requirements on a report: the language of ``--fail-if`` and `Report.require`.

``PATH OP NUMBER`` with OP one of ``< <= > >=``, or ``verdict == LABEL``, ``verdict != LABEL``. PATH ends in a figure
(its value), in ``.value .low .high .count`` of one, or in ``.min`` or ``.max`` of a curve. With an earlier report,
``baseline.FIGURE.change`` is how much a figure has grown since, with the same endings, but for ``.count``.
"""

from __future__ import annotations

import difflib
import math
import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from memgen_eval.errors import GateError, InputError
from memgen_eval.results import FAMILIES, LABELS, Curve, Estimate, figure_kinds

if TYPE_CHECKING:
    from memgen_eval.comparison.changes import Changes
    from memgen_eval.report import Report

FORM = "a gate is 'PATH < NUMBER' (or <= > >=), 'verdict == LABEL' or 'verdict != LABEL'"
LONGEST_GATE = 200  # characters; no gate needs half as many
BOUND = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
GATE = re.compile(r"\s*([\w.]+)\s*(<=|>=|==|!=|<|>)\s*(.*?)\s*")
ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
EQUALITY: dict[str, Callable[[Any, Any], bool]] = {"==": operator.eq, "!=": operator.ne}
ESTIMATE_PARTS = ("value", "low", "high", "count")
CURVE_PARTS = ("min", "max")
SINCE, CHANGE = "baseline", "change"  # first word of the path of a change, and the word after its figure


@dataclass(frozen=True)
class Gate:
    """A parsed gate; `text` is what was typed."""

    text: str
    path: str
    comparison: str
    bound: float | str

    @property
    def of_change(self) -> bool:
        """Whether it is about the change of a figure since an earlier report."""
        return self.path.startswith(f"{SINCE}.")

    @property
    def figure(self) -> str:
        """The path of the figure it is about, or "verdict"."""
        return ".".join(self.path.removeprefix(f"{SINCE}.").split(".")[:2])

    @property
    def part(self) -> str:
        """What of the figure, or of its change, is compared."""
        return (*self.path.split(".")[4 if self.of_change else 2 :], "value")[0]


def parse_gate(text: str) -> Gate:
    """Read a gate and check its path against what a report holds.

    Raises
    ------
    InputError
        If it does not parse, names nothing, or its bound is not a finite decimal number.
    """
    if len(repr(text)) > LONGEST_GATE + 2:  # what cannot be printed takes several characters in a message
        raise InputError(f"gate {repr(text)[:LONGEST_GATE]}... has {len(text)} characters: {FORM}")
    match = GATE.fullmatch(text)
    if match is None:
        raise InputError(f"gate {text!r} does not parse: {FORM}")
    path, comparison, bound = match.groups()
    if path == "verdict":
        return Gate(text, path, comparison, _label(text, comparison, bound))
    _check_path(text, path)
    if comparison not in ORDER:
        raise InputError(f"gate {text!r} compares a number with {comparison}: use one of < <= > >=")
    if BOUND.fullmatch(bound) is None or not math.isfinite(float(bound)):
        raise InputError(f"gate {text!r} has the bound {bound!r}, expected a finite decimal number")
    return Gate(text, path, comparison, float(bound))


def _label(text: str, comparison: str, bound: str) -> str:
    label = bound[1:-1] if len(bound) > 1 and bound[0] == bound[-1] and bound[0] in "'\"" else bound
    if comparison not in EQUALITY or label not in LABELS:
        raise InputError(f"gate {text!r}: the verdict is compared with == or != to one of {', '.join(LABELS)}")
    return label


def _check_path(text: str, path: str) -> None:
    words = path.split(".")
    of_change = words[0] == SINCE
    family, name = (*words[of_change:], "", "")[:2]
    rest, stem, figures = words[of_change + 2 :], f"{family}.{name}", figure_kinds()
    kind = figures.get(stem)
    if kind is None:
        known = [figure.split(".")[1] for figure in figures if figure.startswith(f"{family}.")]
        choices = f"{family} holds {', '.join(known)}" if known else f"families are {', '.join(FAMILIES)}"
        raise InputError(f"gate {text!r} names nothing in a report: {choices}{did_you_mean(stem, figures)}")
    parts: tuple[str, ...] = CURVE_PARTS if kind is Curve else ESTIMATE_PARTS
    if of_change:
        stem, parts = f"{SINCE}.{stem}", tuple(part for part in parts if part != "count")
        if rest[:1] != [CHANGE]:
            raise InputError(f"gate {text!r}: {stem} is followed by .{CHANGE}, which is how much it has grown since")
        stem, rest = f"{stem}.{CHANGE}", rest[1:]
    if rest[1:] or (rest[0] not in parts if rest else kind is Curve):
        raise InputError(f"gate {text!r}: {stem} is followed by one of .{', .'.join(parts)}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message that says which of the known names was meant, where one is close."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def holds(report: Report, gate: Gate, since: Changes | None = None) -> bool:
    """Whether the comparison is true; `since` is what changed since an earlier report.

    Raises
    ------
    GateError
        With the reason, where the report did not measure it, or the reports cannot be compared.
    InputError
        If the gate is about a change, and no earlier report was given.
    """
    compare = (ORDER | EQUALITY)[gate.comparison]
    return compare(_measured(report, gate, since), gate.bound)


def require(report: Report, gate: Gate, since: Changes | None = None) -> None:
    """Raise GateError, naming value and bound, unless the comparison is true."""
    if not holds(report, gate, since):
        raise GateError(f"required {gate.text!r}, but {gate.path} is {_measured(report, gate, since)}")


def fail_if(report: Report, gate: Gate, since: Changes | None = None) -> None:
    """Raise GateError, naming value and bound, if the comparison is true."""
    if holds(report, gate, since):
        raise GateError(f"failed because {gate.text!r}: {gate.path} is {_measured(report, gate, since)}")


def failure(report: Report, gate: Gate, since: Changes | None = None) -> str | None:
    """What `fail_if` says of a gate; None where it passes."""
    try:
        fail_if(report, gate, since)
    except GateError as error:
        return str(error)
    return None


def _measured(report: Report, gate: Gate, since: Changes | None) -> Any:
    if gate.path == "verdict":
        if report.verdict is None:
            raise GateError(_unmeasured(gate, report.skipped.get("verdict", "no verdict was asked for")))
        return report.verdict.label
    figure = _changed(gate, since) if gate.of_change else report.figure(gate.figure)
    if figure is None:
        raise GateError(_unmeasured(gate, report.skipped.get(gate.figure.split(".")[0], "not measured")))
    if isinstance(figure, Curve):
        values = [v for v in figure.value or () if v is not None]
        value = (min(values) if gate.part == "min" else max(values)) if values else None
    else:
        value = getattr(figure, gate.part, None)  # a curve's change that is undefined has neither end
    if value is None:
        raise GateError(_unmeasured(gate, figure.notes[0] if figure.notes else f"{gate.part} is not defined"))
    return value


def _changed(gate: Gate, since: Changes | None) -> Estimate | Curve:
    if since is None:
        raise InputError(
            f"gate {gate.text!r} asks what changed since an earlier report, and none is given: in a shell add "
            "--baseline FILE, in Python use report.compared_with(earlier).require"
        )
    return since.change(gate.figure)


def _unmeasured(gate: Gate, reason: str) -> str:
    return f"failed because {gate.text!r} rests on {gate.path}, which was not measured: {reason}"
