"""What moves each figure: measures it on sets whose truth is known, and draws it for the documentation.

``python docs/pictures.py`` measures anew, in about two minutes of a processor, and writes ``docs/pictures``; with
``--draw`` it draws what was measured before.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits

from memgen_eval import GaussianDenoiser, OptimalDenoiser, Report, evaluate

FOLDER = Path(__file__).parent / "pictures"
NUMBERS = FOLDER / "numbers.json"
NUM_SAMPLES = 400
IMAGES = np.rint(load_digits().images * 255 / 16).astype(np.uint8)
ORDER = np.random.default_rng(0).permutation(len(IMAGES))
TRAIN, TEST, UNSEEN = IMAGES[ORDER[:1000]], IMAGES[ORDER[1000:1397]], IMAGES[ORDER[1397:]]
FAMILIES = ["memorization", "novelty", "fidelity", "gaussian"]

Samples = Callable[[float], Any]


def noisy(images: Any, levels: float) -> Any:
    """Images with Gaussian noise, its standard deviation in grey levels."""
    noise = np.random.default_rng(1).normal(0, 1, images.shape)
    return np.rint(images + levels * noise).clip(0, 255).astype(np.uint8)


def with_copies(percent: float) -> Any:
    """Unseen images, of which a share is replaced by training images."""
    count = round(NUM_SAMPLES * percent / 100)
    return np.concatenate([TRAIN[:count], UNSEEN[: NUM_SAMPLES - count]])


def faded(percent: float) -> Any:
    """Unseen images, each moved some way towards the mean of the training images."""
    mean = TRAIN.mean(axis=0)
    return np.rint(mean + (1 - percent / 100) * (UNSEEN - mean)).astype(np.uint8)


SWEEPS: dict[str, tuple[str, tuple[float, ...], Samples]] = {
    "copies": ("some are copies:\n% of the samples", (0, 1, 2, 5, 10, 20, 50, 100), with_copies),
    "noise": ("all are copies:\nnoise on them, grey levels", (0, 5, 10, 20, 40, 80), lambda s: noisy(TRAIN[:400], s)),
    "contrast": ("nothing is copied:\ncontrast taken away, %", (0, 10, 20, 30, 50), faded),
}
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of D* in the mixture with the Wiener denoiser

PICTURES: dict[str, tuple[str, ...]] = {
    "memorization": (
        "memorization.ratio",
        "memorization.excess",
        "memorization.calibrated_ratio",
        "memorization.standardized_ratio",
        "memorization.aligned_ratio",
        "memorization.carlini",
        "memorization.repetition",
        "memorization.num_near_identical",
    ),
    "novelty": (
        "novelty.distance_ratio",
        "novelty.auc",
        "novelty.relative_auc",
        "novelty.ct",
        "novelty.relative_ct",
        "novelty.authenticity",
    ),
    "fidelity": ("fidelity.precision", "fidelity.recall", "fidelity.density", "fidelity.coverage", "fidelity.swd"),
    "gaussian-samples": ("gaussian.wasserstein", "gaussian.subspace_overlap"),
}
CURVES: dict[str, tuple[str, ...]] = {
    "denoiser": (
        "denoiser.error_train",
        "denoiser.error_test",
        "denoiser.generalization_gap",
        "denoiser.relative_error_test",
        "denoiser.gap_train",
        "denoiser.gap_test",
        "denoiser.memorization_index",
        "denoiser.matched_memorization_index",
    ),
    "gaussian": ("gaussian.nmse", "gaussian.cosine", "gaussian.linearity", "gaussian.distillation_r2"),
}


def of_samples(sweep: str, place: float) -> dict[str, Any]:
    """Every figure of PICTURES at one place of a sweep: value, low and high."""
    report = evaluate(SWEEPS[sweep][2](place), train=TRAIN, test=TEST, metrics=FAMILIES)
    return {path: _numbers(report, path) for paths in PICTURES.values() for path in paths}


def of_mixture(weight: float) -> dict[str, Any]:
    """Every curve of CURVES for a denoiser between the Wiener denoiser (0) and D* (1)."""
    train = TRAIN[:, None]
    optimal, gaussian = OptimalDenoiser(train), GaussianDenoiser(train)

    def denoiser(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return weight * optimal(x, sigma) + (1 - weight) * gaussian(x, sigma)

    report = evaluate(
        UNSEEN, train=TRAIN, test=TEST, denoiser=denoiser, metrics=["denoiser", "gaussian"], num_denoiser_images=64
    )
    return {path: _numbers(report, path) for paths in CURVES.values() for path in paths}


def _numbers(report: Report, path: str) -> Any:
    figure: Any = report.figure(path)
    x = getattr(figure, "x", None)
    return {"value": figure.value, "low": figure.low, "high": figure.high, "x": None if x is None else x.values}


def measure() -> dict[str, Any]:
    """All that is drawn."""
    torch.set_num_threads(1)
    samples = {name: {str(place): of_samples(name, place) for place in sweep[1]} for name, sweep in SWEEPS.items()}
    return {"samples": samples, "mixtures": {str(weight): of_mixture(weight) for weight in WEIGHTS}}


def draw(numbers: Mapping[str, Any], folder: Path) -> None:
    """The pictures as SVG files; the same numbers give the same bytes."""
    import matplotlib as mpl

    style = {"svg.fonttype": "none", "svg.hashsalt": "pictures", "font.size": 9, "axes.grid": True, "grid.alpha": 0.4}
    with mpl.rc_context(style):
        for name, paths in PICTURES.items():
            _save(_sweeps(numbers["samples"], paths), folder / f"{name}.svg")
        for name, paths in CURVES.items():
            _save(_mixtures(numbers["mixtures"], paths), folder / f"{name}.svg")


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, format="svg", metadata={"Date": None}, facecolor="white")


def _sweeps(samples: Mapping[str, Any], paths: tuple[str, ...]) -> Any:
    """A row for each figure, a column for each sweep; one scale a row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.2, 1.45 * len(paths) + 0.5), layout="constrained")
    grid = figure.subplots(len(paths), len(SWEEPS), sharey="row", sharex="col", squeeze=False)
    for row, path in zip(grid, paths, strict=True):
        row[0].set_ylabel(path.partition(".")[2].replace("_", "\n"), rotation=0, ha="right", va="center")
        for axes, (name, (label, places, _)) in zip(row, SWEEPS.items(), strict=True):
            points = [samples[name][str(place)][path] for place in places]
            values = [np.nan if point["value"] is None else point["value"] for point in points]
            axes.plot(range(len(places)), values, "o-", color="#b4470a", markersize=3, linewidth=1.3)
            low = [np.nan if point["low"] is None else point["low"] for point in points]
            high = [np.nan if point["high"] is None else point["high"] for point in points]
            axes.fill_between(range(len(places)), low, high, color="#b4470a", alpha=0.2, linewidth=0)
            axes.set_xticks(range(len(places)), [f"{place:g}" for place in places])
            axes.set_title(label if path == paths[0] else "", fontsize=8)
    return figure


def _mixtures(mixtures: Mapping[str, Any], paths: tuple[str, ...]) -> Any:
    """A panel for each curve; darker lines are nearer to D*."""
    from matplotlib.figure import Figure

    columns = 3 if len(paths) > 4 else 2
    rows = -(-len(paths) // columns)
    figure = Figure(figsize=(8.2, 2.1 * rows + 0.5), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    styles = ("-", (0, (6, 1)), (0, (4, 2)), (0, (2, 1)), ":")
    for axes, path in zip(grid.flat, paths, strict=False):
        for place, weight in enumerate(WEIGHTS):
            curve = mixtures[str(weight)][path]
            if curve["x"] is not None and curve["value"] is not None:
                values = [np.nan if value is None else value for value in curve["value"]]
                colour = (0.11 + 0.6 * weight, 0.37 - 0.1 * weight, 0.65 - 0.6 * weight)
                axes.plot(curve["x"], values, color=colour, linestyle=styles[place], linewidth=1.4)
        axes.set_xscale("log")
        axes.set_title(path.partition(".")[2], fontsize=9, loc="left")
        axes.set_xlabel("noise level sigma")
        if path == "denoiser.relative_error_test":
            axes.set_yscale("log")
    for axes in grid.flat[len(paths) :]:
        axes.remove()
    handles, labels = grid[0, 0].lines, [f"{weight:g}" for weight in WEIGHTS]
    figure.legend(handles, labels, title="share of D* in the denoiser", loc="outside upper center", ncols=5)
    return figure


def main() -> None:
    """Measure unless told otherwise, and draw."""
    parser = argparse.ArgumentParser(description="Draws what moves each figure.")
    parser.add_argument("--draw", action="store_true", help="draw what was measured before")
    if not parser.parse_args().draw:
        NUMBERS.write_text(json.dumps(measure(), indent=1) + "\n", encoding="utf-8")
    draw(json.loads(NUMBERS.read_text(encoding="utf-8")), FOLDER)


if __name__ == "__main__":
    main()
