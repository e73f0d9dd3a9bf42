"""How often intervals of `wasserstein` and `subspace_overlap` hold: ``python tests/intervals/moments.py``, 2 minutes.

Samples are drawn anew each time beside one training set of Gaussian images of 48 values, whose spectrum falls like 1/k.
An interval should hold the mean of its figure over all draws in 95 of 100. Written to moments.json.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memgen_eval.diffusion.moments import principal
from memgen_eval.metrics.gaussian_samples import MatchedSets, measure_gaussian
from memgen_eval.results import Estimate

FILE = Path(__file__).with_suffix(".json")
WIDTH = 48
FIGURES = ("wasserstein", "subspace_overlap")
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Law:
    """Images of the law of train times `scale`, each of which is drawn `repeats` times with a little noise."""

    size: int
    scale: float = 1.0
    repeats: int = 1

    def draw(self, rng: np.random.Generator) -> Floats:
        scales = 100 / np.arange(1, WIDTH + 1)
        images = rng.standard_normal((self.size // self.repeats, WIDTH)) * scales * self.scale
        repeated = np.repeat(images, self.repeats, axis=0)
        return repeated + (self.repeats > 1) * 0.01 * scales * rng.standard_normal(repeated.shape)


LAWS = {
    "fresh, 40": Law(40),
    "fresh, 400": Law(400),
    "stretched, 40": Law(40, scale=1.3),
    "stretched, 400": Law(400, scale=1.3),
    "20 images twice": Law(40, repeats=2),
    "20 images twenty times": Law(400, repeats=20),
    "100 images four times": Law(400, repeats=4),
}


def measured(law: Law, seed: int) -> tuple[Estimate, ...]:
    rng = np.random.default_rng((law.size, 0))
    train, other, test = (Law(law.size).draw(rng) for _ in range(3))
    samples = law.draw(np.random.default_rng((law.size, 1, seed)))
    known = principal(np.concatenate([train, other]))
    found = measure_gaussian(MatchedSets(samples, test, train, other), train_moments=known, seed=seed)
    return tuple(getattr(found, name) for name in FIGURES)


def covered(law: Law, num_draws: int) -> dict[str, float]:
    """The share of draws in which each figure's interval holds its mean."""
    shares = {}
    for name, drawn in zip(FIGURES, zip(*(measured(law, seed) for seed in range(num_draws)), strict=True), strict=True):
        mean = float(np.mean([one.value for one in drawn]))
        held = [one.low is not None and one.high is not None and one.low <= mean <= one.high for one in drawn]
        shares[name] = round(float(np.mean(held)), 4)
    return shares


def main(num_draws: int) -> None:
    result = {"draws": num_draws, "covered": {name: covered(law, num_draws) for name, law in LAWS.items()}}
    FILE.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
