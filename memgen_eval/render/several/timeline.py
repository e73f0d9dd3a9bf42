"""The onsets of a training in words: a plain sentence, and the rows of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from memgen_eval.errors import InputError
from memgen_eval.render import numbers
from memgen_eval.render.numbers import Shown
from memgen_eval.report import Report
from memgen_eval.results import CAPTIONS, Estimate
from memgen_eval.trajectory.onsets import Onset, Onsets, onsets

LOSS, COPIES = "test loss leaves training loss", "copies appear"
MEANINGS = {
    "onset_loss": "The first checkpoint from which the generalization gap, averaged over the noise levels, stays above "
    "zero and grows. The model knows its training images one by one from here on.",
    "onset_copy": "The first checkpoint at which samples copy training images more often than unseen images seem to "
    "(Fisher's exact p at most 0.001), there and at the next.",
    "memorization_rate": "Growth of the memorization ratio per doubling of the steps, from the onset of copies until "
    "it saturates.",
    "memorization_rate_per_step": "The same per step.",
    "quality_plateau": "The first checkpoint that no later one improves on beyond its interval ({fidelity}).",
    "peak_step": "The checkpoint with the best {fidelity} before copies appear.",
    "peak_fidelity": "The {fidelity} there.",
}
ROW_LABELS = {
    "onset_loss": "onset of the loss",
    "onset_copy": "onset of copies",
    "memorization_rate": "memorization rate",
    "memorization_rate_per_step": "memorization rate per step",
    "quality_plateau": "plateau of quality",
    "peak_step": "peak of fidelity",
    "peak_fidelity": "peak fidelity",
}


@dataclass(frozen=True)
class OnsetRow:
    """A line of the table: what it is called and means, its value, and the checkpoints on both sides."""

    label: str
    meaning: str
    shown: Shown
    around: str


@dataclass(frozen=True)
class Timeline:
    """The onsets, None where the reports do not go together; what they say in sentences, and line by line."""

    onsets: Onsets | None
    sentences: tuple[str, ...]
    rows: tuple[OnsetRow, ...]


def timeline(reports: Sequence[Report], steps: Sequence[float], unit: str) -> Timeline:
    """What reports in order tell of the onsets; `unit` is what a step is called."""
    try:
        found = onsets(reports, steps)
    except InputError as error:
        return Timeline(None, (f"Onsets cannot be told: {error}.",), ())
    return Timeline(found, (_both(found, unit), _stopping(found, unit)), _rows(found))


def _both(found: Onsets, unit: str) -> str:
    """Both onsets in a sentence."""
    loss, copies = found.onset_loss.step, found.onset_copy.step
    told = [_told(loss, LOSS, unit), _told(copies, COPIES, unit)]
    if loss.value and copies.value:
        told[1] += f", {copies.value / loss.value:.2g} times as late" if copies.value > loss.value else ""
    sentence = "; ".join(told)
    return f"{sentence[0].upper()}{sentence[1:]}."


def _told(step: Estimate, what: str, unit: str) -> str:
    if step.value is not None:
        shown = _step(step)
        return f"{what} at {unit} {shown.value} (95 % interval: {shown.interval})"
    if step.low is None:
        return f"whether {what} cannot be told ({step.notes[0]})"
    unconfirmed = "" if len(step.notes) == 1 else " with certainty: later signs are not confirmed"
    return f"up to {unit} {numbers.number(step.low)}, it is not seen that {what}{unconfirmed}"


def _stopping(found: Onsets, unit: str) -> str:
    """Where to stop, in a sentence."""
    window = found.early_stopping
    if window.first is None or window.last is None:
        return f"There is no window to stop in: {window.notes[0]}."
    first, last = (numbers.number(end) for end in (window.first, window.last))
    place = f"at {unit} {first}" if first == last else f"between {unit}s {first} and {last}"
    remark = f" ({'; '.join(window.notes)})" if window.notes else ""
    return f"The time to stop is {place}: quality no longer improves, and copies have not appeared{remark}."


def _rows(found: Onsets) -> tuple[OnsetRow, ...]:
    caption = CAPTIONS[found.fidelity]
    rows = [
        OnsetRow(ROW_LABELS[name], MEANINGS[name], _step(onset.step), _around(onset))
        for name, onset in (("onset_loss", found.onset_loss), ("onset_copy", found.onset_copy))
    ]
    others = {
        "memorization_rate": numbers.show(found.memorization_rate, "points"),
        "memorization_rate_per_step": numbers.show(found.memorization_rate_per_step, "number"),
        "quality_plateau": _step(found.quality_plateau),
        "peak_step": _step(found.peak_step),
        "peak_fidelity": numbers.show(found.peak_fidelity, caption.unit),
    }
    words = {"fidelity": caption.label}
    rows += [OnsetRow(ROW_LABELS[name], MEANINGS[name].format(**words), shown, "") for name, shown in others.items()]
    return tuple(rows)


def _step(step: Estimate) -> Shown:
    """A step in full, with the ends of its interval."""
    if step.value is None:
        beyond = "" if step.low is None else f"after {numbers.number(step.low)}"
        return Shown(beyond or numbers.NOT_MEASURED, reason=step.notes[0])
    value = numbers.number(step.value)
    if step.low is None:
        return Shown(value)
    low = numbers.number(step.low)
    return Shown(value, f"after {low}" if step.high is None else f"{low} to {numbers.number(step.high)}")


def _around(onset: Onset) -> str:
    sides = [None if side is None else numbers.number(side) for side in (onset.before, onset.after)]
    return f"{sides[0] or 'none'} and {sides[1] or 'none'}"
