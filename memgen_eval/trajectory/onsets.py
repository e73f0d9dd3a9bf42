"""The onsets of a training: when it begins to know its training images, when to copy them, and the time between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.metrics.resampling import NUM_RESAMPLES, percentile_interval
from memgen_eval.report import Report, to_json
from memgen_eval.results import LEVEL, Estimate
from memgen_eval.trajectory.crossings import (
    copies_seen,
    divergence,
    first_copies,
    gap_seen,
    plateau,
    resampled_divergence,
    resampled_first_copies,
    saturation,
)
from memgen_eval.trajectory.readings import Readings, readings_of

BOOTSTRAP = f"bootstrap over {{}}, {NUM_RESAMPLES} resamples, percentile 95 %, with the checkpoint before"
OF_IMAGES, OF_SAMPLES = "the images of the denoiser", "samples and unseen images"
BEST = "the best of {} checkpoints: a little better than that model is"

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
_Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Onset:
    """The step at which something begins.

    Attributes
    ----------
    step : Estimate
        The first checkpoint at which it is seen, in steps, and an interval. None where it is not within the run: `low`
        is then the last step at which it was not seen, and the first note says so; or where it cannot be told.
    before, after : float or None
        The steps of the checkpoints on both sides, None where there is none: it began after `before`.
    """

    step: Estimate
    before: float | None
    after: float | None


@dataclass(frozen=True)
class EarlyStopping:
    """The steps between which to stop: quality does not improve later, and copying has not begun.

    Attributes
    ----------
    first, last : float or None
        The first and the last checkpoint of the window; None where there is none.
    notes : tuple of str
        What limits it, or why there is none.
    """

    first: float | None
    last: float | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Onsets:
    """When a model began to know its training images, when it began to copy them, and what there was to gain before.

    Attributes
    ----------
    steps : tuple of float
        The checkpoints.
    onset_loss : Onset
        Test loss leaves training loss: the first checkpoint from which the generalization gap, averaged over the noise
        levels, stays above zero and grows.
    onset_copy : Onset
        Copies appear: the first checkpoint at which samples copy more often than unseen images seem to (Fisher's exact
        p <= 0.001), there and at the next.
    memorization_rate, memorization_rate_per_step : Estimate
        The growth of the memorization ratio after the copies appear and until it saturates, per doubling of the steps
        and per step.
    quality_plateau : Estimate
        The step from which fidelity no longer improves beyond its interval; its interval reaches from the checkpoint
        before.
    peak_step, peak_fidelity : Estimate
        Where fidelity is best before copies of any kind appear, and what it is there.
    fidelity : str
        The path of the figure of fidelity: low is good.
    early_stopping : EarlyStopping
        From the plateau, or from the peak where the plateau comes later, to the last checkpoint before copies appear,
        by the 1/3 rule or by one of the verdict's rules for altered copies.
    """

    steps: tuple[float, ...]
    onset_loss: Onset
    onset_copy: Onset
    memorization_rate: Estimate
    memorization_rate_per_step: Estimate
    quality_plateau: Estimate
    peak_step: Estimate
    peak_fidelity: Estimate
    fidelity: str
    early_stopping: EarlyStopping

    def to_dict(self) -> dict[str, Any]:
        """The same in JSON types."""
        data: dict[str, Any] = to_json(self)
        return data


def onsets(reports: Sequence[Report], steps: Sequence[float], *, seed: int = 0) -> Onsets:
    """When a training begins to know its training images, and when to copy them.

    Both onsets are checkpoints, and come with the checkpoints around them: reports at steps that grow by a factor of
    1.26 place them to within that factor. An onset needs a later checkpoint that confirms it. A model that does not
    copy shows copies at any of K checkpoints with a chance of at most K / 1,000.

    Parameters
    ----------
    reports : sequence of Report, K
        Of the checkpoints of one training, the first one first, with the same training and test images and settings.
        The copies need the memorization family, the loss needs denoiser and test set, the peak needs fidelity; what is
        missing is undefined, with the reason.
    steps : sequence of float, K
        At how many steps, or images seen, each was taken; ascending.
    seed : int
        Of the bootstrap.

    Raises
    ------
    InputError
        If there are fewer than two reports, or they are not of one training set, or steps do not ascend.

    References
    ----------
    .. [1] Marion & Wu, arXiv 2605.06077, 2026: onset of memorization where the test loss leaves the training loss.
    .. [2] Bonnaire, Urfin, Biroli & Mezard, "Why diffusion models don't memorize", NeurIPS 2025: the share of copies.
    """
    read = readings_of(reports, steps)
    copies, place = _copies(read, seed=seed)
    per_doubling, per_step = _rates(read, place, seed=seed)
    settled, end = _plateau(read), _first_judged(read, place)
    peak = _peak(read, end)
    return Onsets(
        steps=tuple(read.steps.tolist()),
        onset_loss=_loss(read, seed=seed),
        onset_copy=copies,
        memorization_rate=per_doubling,
        memorization_rate_per_step=per_step,
        quality_plateau=settled,
        peak_step=peak[0],
        peak_fidelity=peak[1],
        fidelity=read.fidelity_path,
        early_stopping=_window(read, settled, peak[0], end, copied=place),
    )


def _loss(read: Readings, *, seed: int) -> Onset:
    """Where the test loss leaves the training loss."""
    gap = read.gap
    if isinstance(gap, str):
        return Onset(Estimate.undefined(gap), None, None)
    resampled = resampled_divergence(gap, seed=seed)
    onset = _onset(read.steps, divergence(gap), resampled, gap_seen(gap), what=OF_IMAGES)
    return replace(onset, step=replace(onset.step, count=gap.count))


def _copies(read: Readings, *, seed: int) -> tuple[Onset, int | None]:
    """Where copies appear, and which checkpoint that is: None where it cannot be told, K where it is none."""
    tallies = read.tallies
    if isinstance(tallies, str):
        return Onset(Estimate.undefined(tallies), None, None), None
    place, resampled = first_copies(tallies), resampled_first_copies(tallies, seed=seed)
    onset = _onset(read.steps, place, resampled, copies_seen(tallies), what=OF_SAMPLES)
    return replace(onset, step=replace(onset.step, count=int(tallies.samples.min()))), place


def _first_judged(read: Readings, place: int | None) -> int | None:
    """The checkpoint at which copies of any kind appear: that of the onset, or an earlier one that the verdict names.

    The rules for altered copies see some before the 1/3 rule does; like it, they count from two checkpoints on.
    """
    if place is None:
        return None
    twice = np.flatnonzero(read.judged[:-1] & read.judged[1:])
    return min(place, int(twice[0])) if len(twice) else place


def _onset(steps: Floats, place: int, resampled: _Counts, seen: Bools, *, what: str) -> Onset:
    """The onset at a checkpoint, with the interval of resampled ones; `seen` says where it shows without the next."""
    if place == len(steps):
        unseen = np.flatnonzero(~seen)
        bound = float(steps[unseen[-1]]) if len(unseen) else 0.0
        notes = [f"no onset within the run of {steps[-1]:,g} steps"]
        if bound < steps[-1]:
            notes.append("signs at the last checkpoints, which no later one confirms")
        return Onset(Estimate(None, low=bound, method="censored", notes=tuple(notes)), bound, None)
    tail = (1 - LEVEL) / 2
    first, last = np.quantile(resampled, [tail, 1 - tail], method="inverted_cdf").astype(int)
    edges = np.concatenate([[0.0], steps])
    low, high = float(edges[min(first, place)]), max(int(last), place)
    without = f"none within the run in {np.mean(resampled == len(steps)):.1%} of the resamples".replace("%", " %")
    open_end = high == len(steps)
    upper = None if open_end else float(steps[high])
    step = Estimate(float(steps[place]), low, upper, BOOTSTRAP.format(what), notes=(without,) * open_end)
    return Onset(step, _at(steps, place - 1), _at(steps, place + 1))


def _at(steps: Floats, place: int) -> float | None:
    return float(steps[place]) if 0 <= place < len(steps) else None


def _rates(read: Readings, place: int | None, *, seed: int) -> tuple[Estimate, Estimate]:
    """The slopes of the ratio against log2 step and against step, by least squares, from the onset to saturation.

    The counts of other samples are binomial; one draw moves all checkpoints alike.
    """
    from scipy.stats import binom

    ratio, reason = read.ratio, _no_growth(read, place)
    if isinstance(ratio, str) or place is None or reason:
        undefined = Estimate.undefined(ratio if isinstance(ratio, str) else reason)
        return undefined, undefined
    start = place + int(read.steps[place] == 0)  # which has no logarithm
    part = slice(start, max(saturation(ratio, start), start + 1) + 1)
    values, steps = ratio.value[part], read.steps[part]
    drawn = np.random.default_rng(seed).random((NUM_RESAMPLES, 1))
    others = np.asarray(binom.ppf(drawn, ratio.count, values)) / ratio.count  # (R, checkpoints)
    return _slope(np.log2(steps), values, others, ratio.count), _slope(steps, values, others, ratio.count)


def _slope(x: Floats, values: Floats, others: Floats, count: int) -> Estimate:
    """The slope of the values (P,) against x (P,), with those of other values (R, P)."""
    weights = (x - x.mean()) / np.square(x - x.mean()).sum()
    low, high = percentile_interval((others @ weights)[:, np.newaxis])
    method = f"least squares over {len(x)} checkpoints, bootstrap over samples, {NUM_RESAMPLES} resamples, 95 %"
    return Estimate(float(values @ weights), float(low[0]), float(high[0]), method, count)


def _no_growth(read: Readings, place: int | None) -> str:
    """Why no slope can be taken from the onset of copies on; empty where one can."""
    if place is None:
        return str(read.tallies)
    if place == len(read.steps):
        return "no copies within the run"
    return "needs two checkpoints after step 0" if (read.steps[place:] > 0).sum() < 2 else ""


def _plateau(read: Readings) -> Estimate:
    """From where fidelity no longer improves beyond its interval."""
    fidelity, steps = read.fidelity, read.steps
    if isinstance(fidelity, str):
        return Estimate.undefined(fidelity)
    place = plateau(fidelity)
    if place == len(steps) - 1:
        low = float(steps[-1])
        return Estimate(None, low, method="censored", count=fidelity.count, notes=("still improves at the last step",))
    return Estimate(
        float(steps[place]), _at(steps, place - 1) or 0.0, float(steps[place]), "between checkpoints", fidelity.count
    )


def _peak(read: Readings, place: int | None) -> tuple[Estimate, Estimate]:
    """Where fidelity is best before copies appear, and its figure there."""
    fidelity = read.fidelity
    reason = fidelity if isinstance(fidelity, str) else "copies from the first checkpoint on" if place == 0 else ""
    if isinstance(fidelity, str) or reason:
        return Estimate.undefined(reason), Estimate.undefined(reason)
    num_before = len(read.steps) if place is None else place
    best = int(np.argmin(fidelity.value[:num_before]))
    step = Estimate(float(read.steps[best]), method="the best checkpoint", count=fidelity.count)
    value, low, high = (float(part[best]) for part in (fidelity.value, fidelity.low, fidelity.high))
    notes = (BEST.format(num_before),)
    return step, Estimate(value, low, high, "95 %, of this checkpoint", fidelity.count, notes)


def _window(read: Readings, settled: Estimate, peak: Estimate, end: int | None, *, copied: int | None) -> EarlyStopping:
    """From the plateau or the peak, whichever is earlier, to the last checkpoint before copies of any kind appear."""
    if end is None or peak.value is None:
        return EarlyStopping(None, None, (str(read.tallies) if end is None else peak.notes[0],))
    last = float(read.steps[end - 1])
    first = peak.value if settled.value is None else min(settled.value, peak.value)
    notes = ("no copies within the run: it may end later",) if end == len(read.steps) else ()
    if end != copied:
        notes = (*notes, f"altered copies from step {read.steps[end]:,g} on, before those of the 1/3 rule")
    if settled.value is None or settled.value > last:
        notes = (*notes, "quality still improves where it ends")
    return EarlyStopping(first, last, notes)
