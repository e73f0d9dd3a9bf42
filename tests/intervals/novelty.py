"""How often intervals of novelty figures hold: ``python tests/intervals/novelty.py``, half a minute.

Samples and test images are drawn anew each time beside one training set of 2,000 Gaussian images of 8 values. An
interval should hold the mean of its figure over all draws in 95 of 100. Written to novelty.json.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from memgen_eval import data_copying_test, partition
from memgen_eval.metrics.data_copying import Partition
from memgen_eval.metrics.statistics import auc
from memgen_eval.results import Estimate

FILE = Path(__file__).with_suffix(".json")
NUM_TRAIN, WIDTH = 2000, 8
FIGURES = ("auc", "relative_auc", "ct", "relative_ct")
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Law:
    """Samples shifted against train and test, each a copy with probability `copied`, to which noise is added."""

    size: int
    test_size: int
    shift: float = 0.0
    copied: float = 0.0
    noise: float = 0.0


LAWS = {
    "fresh, 100": Law(100, 100),
    "fresh, 400": Law(400, 400),
    "shifted, 400": Law(400, 400, shift=0.3),
    "half copies, 400": Law(400, 400, copied=0.5),
    "nearly all copies, 100": Law(100, 100, copied=0.97),
    "nearly all copies, 400": Law(400, 400, copied=0.97),
    "nearly all copies, 400 against 2,000": Law(400, 2000, copied=0.97),
    "noisy copies, 100": Law(100, 100, copied=1.0, noise=0.2),
    "noisy copies, 400": Law(400, 400, copied=1.0, noise=0.2),
}


@cache
def known() -> tuple[Floats, cKDTree, Partition]:
    train = np.random.default_rng(0).standard_normal((NUM_TRAIN, WIDTH))
    return train, cKDTree(train), partition(train)


def measured(law: Law, seed: int) -> dict[str, Estimate]:
    train, tree, cells = known()
    rng = np.random.default_rng((1, seed))
    samples, test = rng.standard_normal((law.size, WIDTH)) + law.shift, rng.standard_normal((law.test_size, WIDTH))
    copied = rng.random(law.size) < law.copied
    originals = train[rng.integers(0, len(train), int(copied.sum()))]
    samples[copied] = originals + law.noise * rng.standard_normal(originals.shape)
    own, unseen = (tree.query(images, 2)[0] for images in (samples, test))  # (N, 2), (M, 2)
    places = {"sample_cells": cells.assign(samples), "test_cells": cells.assign(test)}
    ratios = [distances[:, 0] / distances[:, 1] for distances in (own, unseen)]
    return {
        "auc": auc(own[:, 0], unseen[:, 0]),
        "relative_auc": auc(*ratios),
        "ct": data_copying_test(own[:, 0], unseen[:, 0], **places),
        "relative_ct": data_copying_test(*ratios, **places),
    }


def covered(law: Law, num_draws: int) -> dict[str, float | None]:
    """The share of draws in which each figure's interval holds its mean; None where the figure is always the same."""
    found = [measured(law, seed) for seed in range(num_draws)]
    shares: dict[str, float | None] = {}
    for name in FIGURES:
        drawn: list[Estimate] = [one[name] for one in found]
        values = [one.value for one in drawn if one.value is not None]
        mean = float(np.mean(values))
        held = [one.low is not None and one.high is not None and one.low <= mean <= one.high for one in drawn]
        shares[name] = round(float(np.mean(held)), 4) if len(set(values)) > 1 else None
    return shares


def main(num_draws: int) -> None:
    result = {"draws": num_draws, "covered": {name: covered(law, num_draws) for name, law in LAWS.items()}}
    FILE.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 400)
