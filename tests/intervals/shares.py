"""What the intervals of shares hold, computed exactly from binomial laws: ``python tests/intervals/shares.py``.

Of a share, and of the difference of two shares, over 0.1 to 100 expected hits among 30 to 10,000 images. Beside what
the library gives stands Wilson's interval, which does not hold rare events. Written to shares.json.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from memgen_eval.metrics.statistics import clopper_pearson_interval, wilson_interval

FILE = Path(__file__).with_suffix(".json")
SIZES = (30, 100, 300, 1000, 10_000)
EXPECTED = tuple(np.geomspace(0.1, 100, 241).tolist())
PAIRS = ((434, 300), (434, 10_000), (1000, 1000), (1000, 10_000), (10_000, 10_000))
MULTIPLES = (0.0, 0.1, 1.0)  # of the first share, which the second one is
Floats = NDArray[np.float64]
Interval = Callable[[float, float], tuple[float, float]]
INTERVALS: dict[str, Interval] = {"Clopper-Pearson": clopper_pearson_interval, "Wilson": wilson_interval}


@cache
def ends(method: str, trials: int, most: int) -> tuple[Floats, Floats, Floats]:
    """Shares of 0 to `most` hits, (K,), with the ends of their intervals."""
    shares = np.arange(most + 1) / trials
    pairs = [INTERVALS[method](share, trials) for share in shares.tolist()]
    low, high = np.array(pairs).T
    return shares, low, high


def possible(trials: int, rate: float) -> int:
    """More hits than this have a chance below 1e-9."""
    return int(binom.isf(1e-9, trials, rate)) if rate > 0 else 0


def share_covered(method: str, trials: int, rate: float) -> tuple[float, float]:
    """The chance that the interval holds `rate`, and that its lower end lies above it."""
    most = possible(trials, rate)
    _, low, high = ends(method, trials, most)
    chances = binom.pmf(np.arange(most + 1), trials, rate)
    return float(chances @ ((low <= rate) & (rate <= high))), float(chances @ (low > rate))


def difference_covered(method: str, sizes: tuple[int, int], rates: tuple[float, float]) -> float:
    """The chance that Newcombe's combination of both intervals holds the difference of the rates."""
    (p1, l1, u1), (p2, l2, u2) = (ends(method, n, possible(n, p)) for n, p in zip(sizes, rates, strict=True))
    first, second = (
        binom.pmf(np.arange(len(shares)), n, p) for shares, n, p in zip((p1, p2), sizes, rates, strict=True)
    )
    difference = p1[:, None] - p2
    low = difference - np.hypot((p1 - l1)[:, None], u2 - p2)
    high = difference + np.hypot((u1 - p1)[:, None], p2 - l2)
    truth = rates[0] - rates[1]
    return float(first @ ((low <= truth) & (truth <= high)) @ second)


def of_shares(method: str, trials: int) -> dict[str, float]:
    found = [share_covered(method, trials, mean / trials) for mean in EXPECTED if mean <= trials / 2]
    covered, above = (np.array(side) for side in zip(*found, strict=True))
    return {
        "smallest": round(float(covered.min()), 4),
        "mean": round(float(covered.mean()), 4),
        "largest": round(float(covered.max()), 4),
        "low too high, at most": round(float(above.max()), 4),
    }


def of_differences(method: str, sizes: tuple[int, int]) -> dict[str, float]:
    rates = [(mean / sizes[0], times * mean / sizes[0]) for mean in EXPECTED[::8] for times in MULTIPLES]
    covered = [difference_covered(method, sizes, pair) for pair in rates if max(pair) <= 0.5]
    return {
        "smallest": round(min(covered), 4),
        "mean": round(math.fsum(covered) / len(covered), 4),
        "largest": round(max(covered), 4),
    }


def main() -> None:
    result = {
        "expected hits": [EXPECTED[0], EXPECTED[-1]],
        "share": {method: {str(n): of_shares(method, n) for n in SIZES} for method in INTERVALS},
        "difference": {method: {f"{n}, {m}": of_differences(method, (n, m)) for n, m in PAIRS} for method in INTERVALS},
    }
    FILE.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
