"""Slow twins of the library's figures: plain loops, Python integers, float64. They share no code with it."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

Number = int | float
NO_NEIGHBOUR = -1


def squared_distance(left: NDArray[Any], right: NDArray[Any]) -> Number:
    """One squared distance: Python integers for uint8, the float64 sum of squared float64 differences otherwise."""
    if left.dtype == right.dtype == np.uint8:
        return sum((int(a) - int(b)) ** 2 for a, b in zip(left.ravel(), right.ravel(), strict=True))
    gaps = np.asarray(left, dtype=np.float64).ravel() - np.asarray(right, dtype=np.float64).ravel()
    return float(np.sum(gaps * gaps))


def nearest(
    query: NDArray[Any], references: NDArray[Any], k: int, *, exclude: int | None = None, flip: bool = False
) -> list[tuple[Number, int, bool]]:
    """(squared distance, index, flipped) of the K nearest references, sorted by distance, then index."""
    found = []
    for index, reference in enumerate(references):
        plain = squared_distance(query, reference)
        mirror = squared_distance(query, reference[..., ::-1]) if flip else plain
        if index != exclude:
            found.append((min(plain, mirror), index, mirror < plain))
    return sorted(found)[:k]


def second_distinct(
    query: NDArray[Any],
    references: NDArray[Any],
    tolerance: float,
    *,
    exclude: int | None = None,
    flip: bool = False,
) -> tuple[Number, int]:
    """The nearest reference farther than `tolerance` from the first neighbour, or what stands for none."""
    ranked = nearest(query, references, len(references), exclude=exclude, flip=flip)
    first_squared, first, _ = ranked[0]
    for squared, index, _ in ranked[1:]:
        between = [squared_distance(references[first], references[index])]
        if flip:
            between.append(squared_distance(references[first], references[index][..., ::-1]))
        if min(between) > tolerance**2:
            return squared, index
    if first_squared > tolerance**2:
        return first_squared, NO_NEIGHBOUR
    return (math.inf if isinstance(first_squared, float) else 2**63 - 1), NO_NEIGHBOUR


def wilson(successes: int, trials: int, z: float = 1.9599639845400545) -> tuple[float, float]:
    """Where ``|share - p| = z * sqrt(p (1 - p) / N)``: the two roots of Wilson's quadratic."""
    share = successes / trials
    a, b, c = 1 + z * z / trials, -(2 * share + z * z / trials), share * share
    root = math.sqrt(max(b * b - 4 * a * c, 0.0))
    return (-b - root) / (2 * a), (-b + root) / (2 * a)


def newcombe(first: tuple[int, int], second: tuple[int, int]) -> tuple[float, float]:
    """Newcombe 1998, method 10, from the roots of Wilson's quadratic."""
    (l1, u1), (l2, u2) = wilson(*first), wilson(*second)
    p1, p2 = first[0] / first[1], second[0] / second[1]
    below = math.sqrt((p1 - l1) ** 2 + (u2 - p2) ** 2)
    return p1 - p2 - below, p1 - p2 + math.sqrt((u1 - p1) ** 2 + (p2 - l2) ** 2)


def fisher(successes: int, trials: int, base_successes: int, base_trials: int) -> Fraction:
    """The share of all ways to draw `trials` images in which at least `successes` are hits, in whole numbers."""
    hits, others = successes + base_successes, trials + base_trials - successes - base_successes
    ways = sum(math.comb(hits, i) * math.comb(others, trials - i) for i in range(successes, min(hits, trials) + 1))
    return Fraction(ways, math.comb(hits + others, trials))


def at_least(successes: int, trials: int, rate: float) -> float:
    """The probability of at least this number of successes, summed term by term, 0 < rate < 1."""
    odds = math.log(rate), math.log1p(-rate)
    terms = ((math.log(math.comb(trials, i)), i, trials - i) for i in range(successes, trials + 1))
    return math.fsum(math.exp(ways + hits * odds[0] + misses * odds[1]) for ways, hits, misses in terms)


def is_copy(first: int, second: int, threshold: Fraction) -> bool:
    """The ratio rule on squared distances of uint8 images, in whole numbers: ``d1 = 0`` or ``d1 / d2 < c``."""
    return first == 0 or first * threshold.denominator**2 < second * threshold.numerator**2


def delong(first: NDArray[np.float64], second: NDArray[np.float64]) -> tuple[float, float]:
    """The area and DeLong's variance from the table of all pairs: structural components by rows and by columns."""
    wins = [[(x > y) + (x == y) / 2 for y in second] for x in first]
    rows = [sum(row) / len(second) for row in wins]
    columns = [sum(row[j] for row in wins) / len(first) for j in range(len(second))]
    area = sum(rows) / len(rows)
    spread1 = sum((v - area) ** 2 for v in rows) / (len(rows) - 1)
    spread2 = sum((v - area) ** 2 for v in columns) / (len(columns) - 1)
    return area, spread1 / len(rows) + spread2 / len(columns)


def data_copying(
    samples: list[float], test: list[float], sample_cells: list[int], test_cells: list[int], least: int = 20
) -> float:
    """Meehan's C_T: the U of each cell counted pair by pair, z-scored, averaged by the cells' shares of test."""
    total, weight = 0.0, 0
    for cell in sorted(set(test_cells)):
        mine = [d for d, c in zip(samples, sample_cells, strict=True) if c == cell]
        theirs = [d for d, c in zip(test, test_cells, strict=True) if c == cell]
        n, m = len(mine), len(theirs)
        if min(n, m) < least:
            continue
        pairs = sum((x > y) + (x == y) / 2 for x in mine for y in theirs)
        total += m * (pairs - (n * m / 2 - 0.5)) / math.sqrt(n * m * (n + m + 1) / 12)
        weight += m
    return total / weight


def quantile(values: list[float], share: float) -> float:
    """Linear between order statistics, the smallest at 0 and the largest at 1."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def gaussian_wasserstein(first: NDArray[Any], second: NDArray[Any]) -> float:
    """W2 of the Gaussians with the moments (1/n) of two sets of rows, by scipy's matrix square root."""
    from scipy.linalg import sqrtm

    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    s1, s2 = np.cov(x.T, ddof=0), np.cov(y.T, ddof=0)
    means = float(np.sum((x.mean(axis=0) - y.mean(axis=0)) ** 2))
    return math.sqrt(max(means + float(np.trace(s1 + s2 - 2 * sqrtm(s1 @ s2).real)), 0.0))


def in_balls(points: NDArray[Any], centres: NDArray[Any], k: int, *, closed: bool) -> list[list[bool]]:
    """Which balls, each up to its centre's k-th nearest other one, hold each point, one by one; see `inside`."""
    radii = []
    for j, centre in enumerate(centres):
        own = sorted(squared_distance(centre, other) for i, other in enumerate(centres) if i != j)
        radii.append(own[k - 1])
    balls = list(zip(centres, radii, strict=True))
    return [[inside(squared_distance(point, centre), radius, closed) for centre, radius in balls] for point in points]


def inside(squared: Number, squared_radius: Number, closed: bool) -> bool:
    """Whether a ball holds a point: its border only if it is closed, its centre always."""
    return squared <= squared_radius if closed else squared < squared_radius or squared == 0


def precision(samples: NDArray[Any], references: NDArray[Any], k: int) -> float:
    """Share of samples in the ball of some reference."""
    table = in_balls(samples, references, k, closed=True)
    return sum(any(row) for row in table) / len(table)


def density(samples: NDArray[Any], references: NDArray[Any], k: int) -> float:
    """Balls that hold a sample, mean over samples, over k."""
    table = in_balls(samples, references, k, closed=False)
    return sum(sum(row) for row in table) / (k * len(table))


def coverage(samples: NDArray[Any], references: NDArray[Any], k: int) -> float:
    """Share of references whose ball holds some sample."""
    table = in_balls(samples, references, k, closed=False)
    return sum(any(column) for column in zip(*table, strict=True)) / len(table[0])


def sliced_wasserstein(first: NDArray[Any], second: NDArray[Any], directions: NDArray[np.float64]) -> float:
    """The root mean square over directions (D, P) of W2, each by sorting one list of numbers."""
    total = 0.0
    for direction in directions.T:
        x = sorted(math.fsum(float(a) * b for a, b in zip(row.ravel(), direction, strict=True)) for row in first)
        y = sorted(math.fsum(float(a) * b for a, b in zip(row.ravel(), direction, strict=True)) for row in second)
        total += math.fsum((a - b) ** 2 for a, b in zip(x, y, strict=True)) / len(x)
    return math.sqrt(total / directions.shape[1])


def kernel_distance(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """The unbiased squared MMD with the kernel ``(x.y / F + 1)^3``, pair by pair."""
    size, width = first.shape

    def kernel(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
        return (float(np.dot(x, y)) / width + 1) ** 3

    pairs = [(i, j) for i in range(size) for j in range(size)]
    own = math.fsum(kernel(side[i], side[j]) for side in (first, second) for i, j in pairs if i != j)
    cross = math.fsum(kernel(first[i], second[j]) for i, j in pairs)
    return own / (size * (size - 1)) - 2 * cross / size**2
