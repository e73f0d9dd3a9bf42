"""How often intervals of a denoiser's figures hold: ``python tests/intervals/denoisers.py``, some 15 minutes.

Images and noise are drawn anew each time, the training set and the model stay. An interval should hold the mean of its
figure over all draws in 95 of 100; in the second part also the value of all training images with many noise draws,
which is what the two figures there estimate. Written to denoisers.json.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor

from memgen_eval.diffusion.gaussian import GaussianDenoiser
from memgen_eval.diffusion.optimal import OptimalDenoiser
from memgen_eval.diffusion.probe import probe
from memgen_eval.metrics.denoiser import measure_denoiser
from memgen_eval.metrics.gaussian_denoiser import measure_gaussian_curves
from memgen_eval.results import Curve, Estimate, Gaussian
from memgen_eval.results.figures import Family

FILE = Path(__file__).with_suffix(".json")
SIGMAS = (0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 20.0)
FEW, USUAL = 64, 256
Floats = NDArray[np.float64]
Values = Mapping[str, Sequence[float | None]]
Model = Callable[[Tensor, Tensor], Tensor]


def digits() -> NDArray[np.uint8]:
    images = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)
    return np.random.default_rng(0).permutation(images)[:, None]


def network() -> Model:
    """Three random convolutions with the preconditioning of EDM."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [torch.nn.Conv2d(a, b, 3, padding=1) for a, b in ((1, 16), (16, 16), (16, 1))]
    inner = torch.nn.Sequential(layers[0], torch.nn.Tanh(), layers[1], torch.nn.Tanh(), layers[2]).eval()

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        s, total = sigma.reshape(-1, 1, 1, 1), sigma.reshape(-1, 1, 1, 1) ** 2 + 0.25
        return 0.25 / total * x + s * 0.5 / total.sqrt() * inner(2 * x / total.sqrt())

    return denoise


class Case:
    """A model beside D* and D_G of its training set."""

    def __init__(self, name: str, num_train: int) -> None:
        images = digits()
        self.test = images[num_train:] if len(images) - num_train > USUAL else None
        self.optimal, self.gaussian = OptimalDenoiser(images[:num_train]), GaussianDenoiser(images[:num_train])
        self.model: Model = network()
        if name == "Wiener":
            self.model = self.gaussian
        if name == "half a copier":
            self.model = lambda x, sigma: 0.5 * self.optimal(x, sigma) + 0.5 * self.gaussian(x, sigma)

    def figures(self, seed: int, num_images: int, num_draws: int = 2) -> tuple[Family, Gaussian]:
        found = probe(
            self.model,
            optimal=self.optimal,
            gaussian=self.gaussian,
            test=self.test,
            sigmas=list(SIGMAS),
            num_images=num_images,
            num_draws=num_draws,
            seed=seed,
        )
        return measure_denoiser(found, seed=seed), measure_gaussian_curves(found, seed=seed)


def curves(*families: Family) -> dict[str, Curve]:
    """Every figure with an interval at each noise level; an estimate is a curve of one."""
    found = {}
    for name, figure in (item for family in families for item in vars(family).items()):
        if isinstance(figure, Estimate) and figure.low is not None:
            found[name] = Curve((figure.value,), (figure.low,), (figure.high,))
        if isinstance(figure, Curve) and figure.value is not None and figure.low is not None:
            found[name] = figure
    return found


def held(drawn: Sequence[Curve], truth: Floats) -> list[float | None]:
    """The share of intervals that hold the truth, at each noise level; None where any is undefined, or has no width."""
    low, high = (np.array([getattr(one, side) for one in drawn], dtype=float) for side in ("low", "high"))  # None: NaN
    shares = ((low <= truth) & (truth <= high)).mean(axis=0)
    known = np.isfinite(low).all(axis=0) & np.isfinite(high).all(axis=0) & ((high - low).max(axis=0) > 1e-9)
    return [round(float(share), 4) if defined else None for share, defined in zip(shares, known, strict=True)]


def covered(case: Case, num_runs: int, num_images: int) -> dict[str, list[float | None]]:
    runs = [curves(*case.figures(seed, num_images)) for seed in range(num_runs)]
    found: dict[str, list[float | None]] = {}
    for name in runs[0]:
        drawn = [run[name] for run in runs if name in run]
        if name == "identity_residual":
            low, high = (np.array([getattr(one, side) for one in drawn], dtype=float) for side in ("low", "high"))
            found[name] = [round(float(((low <= 1e-12) & (high >= -1e-12)).all(axis=1).mean()), 4)]
        else:
            found[name] = held(drawn, np.array([one.value for one in drawn], dtype=float).mean(axis=0))
    return found


def against_all(case: Case, num_runs: int) -> dict[str, Any]:
    """`optimal_error_train` and `distillation_r2` of 256 images against those of the whole training set."""
    names = ("optimal_error_train", "distillation_r2")
    runs = [curves(*case.figures(seed, USUAL)) for seed in range(num_runs)]
    whole = curves(*case.figures(num_runs, len(case.optimal.train), num_draws=8))
    found: dict[str, Any] = {}
    for name in names:
        truth = np.array(whole[name].value, dtype=float)
        values = np.array([run[name].value for run in runs], dtype=float)
        missing = (1 - values) / (1 - truth) if name == "distillation_r2" else values / truth
        found[name] = {
            "held": held([run[name] for run in runs], truth),
            "mean, relative": [round(float(ratio), 3) for ratio in missing.mean(axis=0)],
            "median, relative": [round(float(ratio), 3) for ratio in np.median(missing, axis=0)],
        }
    return found


CASES = ("network", "Wiener", "half a copier")


def main(num_runs: int) -> None:
    result: dict[str, Any] = {"runs": num_runs, "sigmas": SIGMAS, "covered": {}, "against all images": {}}
    for name in CASES:
        result["covered"][name] = covered(Case(name, 900), num_runs, FEW)
    result["against all images"] = against_all(Case("network", 1500), num_runs // 2)
    FILE.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
