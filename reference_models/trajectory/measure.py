"""Reports of the kept checkpoints of a run, one after the other, and what they say together.

``trajectory/step-00000128.json`` is the report of a checkpoint; ``step-00000128.npz`` holds its first samples and the
training image nearest to each. The same call goes on after a kill.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri

from memgen_eval import Images, InputError, Onsets, Reference, Report, evaluate, nearest_neighbours, onsets
from memgen_eval.errors import reading
from memgen_eval.render.save import write_file
from memgen_eval.render.several.in_order import trajectory_page
from memgen_eval.render.several.members import Member
from memgen_eval.render.several.strips import Strip
from memgen_eval.report import dumps, to_json
from memgen_eval.shell import write_whole
from reference_models.precond import training_sigma
from reference_models.recipes import Recipe
from reference_models.sample import BLOCK, quiet_clipping, sampler_of
from reference_models.training.checkpoints import Trained, checkpoints, load_trained
from reference_models.training.folder import read_recipe

FOLDER, SUMMARY, PAGE = "trajectory", "trajectory.json", "trajectory.html"
GAUSSIAN = ("gaussian.nmse", "gaussian.wasserstein", "gaussian.test_wasserstein")  # the others cost more calls
METRICS = ("memorization", "novelty", "fidelity", "denoiser", *GAUSSIAN)
NUM_SAMPLES, NUM_STEPS = 500, 10
NUM_DENOISER_IMAGES, NUM_DRAWS = 128, 1
NUM_SIGMAS = 7
NUM_SHOWN = 16  # samples of a strip
# The figures of trajectory.json, each with its interval.
HEADLINES = (
    "memorization.ratio",
    "memorization.test_ratio",
    "memorization.num_near_identical",
    "novelty.distance_ratio",
    "fidelity.precision",
    "fidelity.swd",
    "fidelity.test_swd",
    "fidelity.gap_swd",
    "fidelity.density",
    "fidelity.coverage",
    "denoiser.mean_generalization_gap",
    "gaussian.wasserstein",
    "gaussian.test_wasserstein",
)
CURVES = ("denoiser.error_train", "denoiser.error_test", "denoiser.gap_train", "denoiser.gap_test", "gaussian.nmse")

Pixels = NDArray[np.uint8]


def evaluate_missing(
    folder: Path,
    *,
    data_dir: str | Path | None = None,
    num_samples: int = NUM_SAMPLES,
    reference: Reference | None = None,
) -> list[int]:
    """Evaluate every kept checkpoint of a run that has no report yet; the steps of those that were evaluated.

    Samples start from the same noise at every checkpoint. What rests on the training set alone, such as its index and
    D*, is prepared once.

    Parameters
    ----------
    folder : path
        The ``--out`` of a memgen-train.
    data_dir : path, optional
        Where named sets lie.
    num_samples : int
        Samples of a checkpoint.
    reference : Reference, optional
        That of `reference_of` this run: kept over several calls, as a training makes them.

    Raises
    ------
    InputError
        If `folder` holds no run, or a checkpoint or the images cannot be read, or a report cannot be written. Reports
        that were written before are kept.
    """
    read_recipe(folder)
    missing = [step for step in checkpoints(folder) if not _path(folder, step, "json").exists()]
    if not missing:
        return []
    reference = reference or reference_of(folder, data_dir=data_dir)
    _make(folder / FOLDER)
    for step in missing:
        report = _evaluated(load_trained(folder, step=step), reference, num_samples)
        write_whole(_path(folder, step, "npz"), _packed(_strip(report, reference)))
        write_file(_path(folder, step, "json"), dumps(report.to_dict()))  # where it is, the strip is too
    return missing


def reference_of(folder: Path, *, data_dir: str | Path | None = None) -> Reference:
    """The images that a run is trained on, and the held-out ones. Raises InputError if they are no longer the same."""
    recipe = read_recipe(folder)
    train, test = recipe.selection.train(data_dir), recipe.selection.test(data_dir)
    if train.checksum != recipe.checksum:
        data = recipe.selection.data
        raise InputError(f"{data} does not hold the images that {folder} was trained on: give its --data-dir")
    held_out = None if test is None else Images(test.array(), names=test.names)
    return Reference(Images(train.array(), names=train.names), held_out)


def _evaluated(trained: Trained, reference: Reference, num_samples: int) -> Report:
    recipe, denoiser = trained.recipe, trained.denoiser
    with quiet_clipping():
        return evaluate(
            sampler_of(denoiser, recipe.unet.image_shape, seed=recipe.seed, num_steps=NUM_STEPS),
            train=reference,
            denoiser=denoiser,
            metrics=METRICS,
            num_samples=num_samples,
            batch_size=BLOCK,
            value_range=(-1, 1),
            sigmas=_sigmas(recipe),
            num_denoiser_images=NUM_DENOISER_IMAGES,
            num_draws=NUM_DRAWS,
            seed=recipe.seed,
        )


def _sigmas(recipe: Recipe) -> list[float]:
    """Noise levels at even quantiles of those that the model is trained at: their mean stands for the loss.

    Where models do not differ, at high noise, images do: with such levels the gap would be lost among them.
    """
    z = ndtri((np.arange(NUM_SIGMAS) + 0.5) / NUM_SIGMAS)
    sigmas: list[float] = training_sigma(torch.from_numpy(z), recipe.parametrization).tolist()
    return sigmas


def _strip(report: Report, reference: Reference) -> Strip:
    """The first samples of a report, and the training image nearest to each."""
    samples, settings = report.samples[:NUM_SHOWN], report.settings
    train = reference.prepared(quantize=settings.quantize, seed=settings.seed).train.array()
    nearest = nearest_neighbours(samples, train, 1).indices[:, 0]
    return Strip(samples, train[nearest])


def _packed(strip: Strip) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, samples=strip.samples, nearest=strip.nearest)
    return buffer.getvalue()


def _read_strip(path: Path) -> Strip:
    expected = "remove it and the report of that step, and evaluate again"
    with reading(str(path), "is not a strip of samples", expected):
        file = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
        return Strip(file["samples"], file["nearest"])


def _path(folder: Path, step: int, suffix: str) -> Path:
    return folder / FOLDER / f"step-{step:08d}.{suffix}"


def _make(place: Path) -> None:
    try:
        place.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"{place}: cannot be made ({error.strerror}); free the disk") from None


def finish(folder: Path) -> Onsets:
    """Write what the reports of a run say together: trajectory.json and trajectory.html; the onsets.

    Raises
    ------
    InputError
        If fewer than two checkpoints have been evaluated, or a report cannot be read, or the files not be written.
    """
    steps = [step for step in checkpoints(folder) if _path(folder, step, "json").exists()]
    if len(steps) < 2:
        raise InputError(
            f"{folder} has {len(steps)} reports of checkpoints, a trajectory needs 2: let memgen-train go on"
        )
    reports = [Report.load(_path(folder, step, "json")) for step in steps]
    found = onsets(reports, steps)
    write_file(folder / SUMMARY, dumps(_summary(found, reports, steps)))
    members = [Member(_path(folder, step, "json").stem, report) for step, report in zip(steps, reports, strict=True)]
    strips = [_read_strip(_path(folder, step, "npz")) for step in steps]
    write_file(folder / PAGE, trajectory_page(members, "step", steps, strips=strips))
    return found


def _summary(found: Onsets, reports: Sequence[Report], steps: Sequence[int]) -> dict[str, Any]:
    """The onsets, and the headlines of each checkpoint."""
    rows = [
        {"step": step, "figures": {path: to_json(report.figure(path)) for path in (*HEADLINES, *CURVES)}}
        for step, report in zip(steps, reports, strict=True)
    ]
    return {"onsets": found.to_dict(), "checkpoints": rows}
