"""The calibrated ratio on CIFAR-10: which disguised copies it finds, and what unseen images give, altered or not.

``python -m benchmarks.calibrated_ratio FOLDER OUTPUT.json`` with the folder that holds `cifar-10-batches-py`. The
training set is all of CIFAR-10's. The baseline is the first 5,000 test images, or 10,000 training images left out.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import num_threads, processor
from memgen_eval import __version__
from memgen_eval.battery.alterations import Pixels, blurred, compressed, noisy, shifted, with_contrast
from memgen_eval.copying.calibration import Calibration, calibrate, preset_ranks
from memgen_eval.copying.copy_rules import CopyRules, copied
from memgen_eval.copying.memorization import copying, search
from memgen_eval.data.sources import load_images
from memgen_eval.metrics.ratios import distance_ratios
from memgen_eval.metrics.statistics import fisher_greater
from memgen_eval.neighbours.index import Index
from memgen_eval.reference import Prepared

THRESHOLD = 1 / 3
NUM_BASELINE = 5000  # test images; samples are drawn from the others
NUM_SAMPLES, NUM_COPIES, NUM_SOURCES = 1000, 50, 1000
NUM_DRAWS, NUM_FRESH_DRAWS = 20, 500


def noise(images: Pixels, deviation: float) -> Pixels:
    """Gaussian noise of `deviation` grey levels, the same at each call."""
    return noisy(images, deviation, np.random.default_rng(1))


DISGUISES: dict[str, Callable[[Pixels], Pixels]] = {
    "none": lambda images: images,
    "noise of 10 grey levels": lambda images: noise(images, 10),
    "noise of 20 grey levels": lambda images: noise(images, 20),
    "noise of 30 grey levels": lambda images: noise(images, 30),
    "shift by 1 pixel": lambda images: shifted(images, 1),
    "shift by 2 pixels": lambda images: shifted(images, 2),
    "JPEG, quality 10": lambda images: compressed(images, 10),
    "blur of radius 1": lambda images: blurred(images, 1),
    "blur of radius 1.5": lambda images: blurred(images, 1.5),
}
ALTERED = {name: DISGUISES[name] for name in list(DISGUISES)[2:]} | {
    "contrast 0.3": lambda images: with_contrast(images, 0.3),
    "contrast 0.1": lambda images: with_contrast(images, 0.1),
    "one grey level an image": lambda images: np.broadcast_to(images[:, :1, :1, :1], images.shape),
}
WIDER = (0.01, 0.02, 0.05)  # shares of the baseline, of which only the first is used


@dataclass(frozen=True, eq=False)
class Rated:
    """What is known of images: squared ratios, nearest training images, flags of the rule at 1/3, (N,) each."""

    ratios: NDArray[np.float64]
    nearest: NDArray[np.int64]
    flagged: NDArray[np.bool_]

    def __getitem__(self, rows: Any) -> Rated:
        return Rated(self.ratios[rows], self.nearest[rows], self.flagged[rows])

    def __add__(self, other: Rated) -> Rated:
        parts = zip(vars(self).values(), vars(other).values(), strict=True)
        return Rated(*(np.concatenate(pair) for pair in parts))


def calibrated(samples: Rated, baseline: Rated) -> Calibration:
    """With every sample a draw of its own."""
    repeats = np.zeros(len(samples.ratios), dtype=bool)
    return calibrate(samples.ratios, baseline.ratios, repeats=repeats, nearest=samples.nearest)


def with_copies(fresh: Rated, copies: Rated, baseline: Rated) -> dict[str, Any]:
    """P-values where 50 of 1,000 samples are copies, over 20 draws of both: the smallest, the median, the largest."""
    p_values, published = [], []
    for seed in range(NUM_DRAWS):
        generator = np.random.default_rng(seed)
        own = generator.choice(len(fresh.ratios), NUM_SAMPLES - NUM_COPIES, replace=False)
        samples = fresh[own] + copies[generator.choice(len(copies.ratios), NUM_COPIES, replace=False)]
        p_values.append(calibrated(samples, baseline).p_value)
        counts = [(int(np.count_nonzero(rated.flagged)), len(rated.flagged)) for rated in (samples, baseline)]
        published.append(fisher_greater(*counts[0], *counts[1]))
    return {"calibrated": spread(p_values), "at 1/3 (Fisher)": spread(published)}


def spread(p_values: list[float]) -> list[float]:
    """The smallest, the median and the largest."""
    return [float(f"{p:.2g}") for p in np.quantile(p_values, [0, 0.5, 1], method="higher")]


def without_copies(fresh: Rated, baseline: Rated) -> dict[str, Any]:
    """P-values of disjoint sets of 1,000 fresh images, and how many of 500 drawn sets have one of at most 0.05."""
    sets = [fresh[i : i + NUM_SAMPLES] for i in range(0, len(fresh.ratios), NUM_SAMPLES)]
    draws = [
        np.random.default_rng(i).choice(len(fresh.ratios), NUM_SAMPLES, replace=False) for i in range(NUM_FRESH_DRAWS)
    ]
    drawn = [calibrated(fresh[rows], baseline).p_value for rows in draws]
    return {
        "disjoint": [float(f"{calibrated(part, baseline).p_value:.2g}") for part in sets],
        "share of draws with p <= 0.05": float(np.mean(np.array(drawn) <= 0.05)),
        "smallest of all draws": float(f"{min(drawn):.2g}"),
    }


def below(sets: dict[str, Rated], baseline: Rated) -> dict[str, list[float]]:
    """The share of each set below the values that certain shares of the baseline fall below."""
    cuts = np.quantile(baseline.ratios, WIDER)
    return {kind: [round(float(np.mean(held.ratios < cut)), 3) for cut in cuts] for kind, held in sets.items()}


def measured(train: Pixels, test: Pixels) -> dict[str, Any]:
    """All tables."""
    known = Prepared(load_images(train, argument="train"), None, seed=0)
    index, left_out = Index(known.references), known.baseline
    rules = CopyRules(THRESHOLD, known.tolerance(index), flip=True)
    assert left_out is not None

    def rated(images: Pixels, excluded: NDArray[np.int64] | None = None) -> Rated:
        found = copying(search(np.ascontiguousarray(images), index, excluded=excluded), index, rules)
        flagged = copied(found.distinct, threshold=THRESHOLD)
        return Rated(distance_ratios(found.distinct, squared=True), found.nearest.indices[:, 0], flagged)

    unseen = rated(test)
    fresh = unseen[NUM_BASELINE:]
    baselines = {"5,000 test images": unseen[:NUM_BASELINE]}
    baselines["10,000 training images left out"] = rated(left_out.images, left_out.excluded)
    sources = train[np.random.default_rng(0).choice(len(train), NUM_SOURCES, replace=False)]
    copies = {name: rated(disguise(sources)) for name, disguise in DISGUISES.items()}
    altered = test[NUM_BASELINE : NUM_BASELINE + NUM_SAMPLES]
    innocent = {name: rated(change(altered)) for name, change in ALTERED.items()}
    results: dict[str, Any] = {}
    for name, baseline in baselines.items():
        ascending, ranks = np.sqrt(np.sort(baseline.ratios)), preset_ranks(len(baseline.ratios))
        results[name] = {
            "thresholds": {rank: round(float(ascending[rank - 1]), 3) for rank in ranks},
            "5 % copies": {kind: with_copies(fresh, held, baseline) for kind, held in copies.items()},
            "no copies": without_copies(fresh, baseline),
            "no copies, altered": {
                kind: float(f"{calibrated(held, baseline).p_value:.2g}") for kind, held in innocent.items()
            },
        }
    results["shares below the thresholds that 1, 2 and 5 % of the test images fall below"] = {
        "copies": below(copies, baselines["5,000 test images"]),
        "no copies, altered": below({"none": fresh} | innocent, baselines["5,000 test images"]),
    }
    return results


def main(folder: str, output: str) -> None:
    """Measure, and write figures with command, processor, version and date."""
    train, test = (
        load_images(name, argument=name, data_dir=folder).array() for name in ("cifar10:train", "cifar10:test")
    )
    start = time.perf_counter()
    results: dict[str, Any] = {
        "command": "python -m benchmarks.calibrated_ratio FOLDER OUTPUT.json",
        "date": datetime.now(UTC).date().isoformat(),
        "processor": processor().name,
        "threads": num_threads(),
        "version": __version__,
        **measured(train, test),
    }
    results["seconds"] = round(time.perf_counter() - start, 1)
    Path(output).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
