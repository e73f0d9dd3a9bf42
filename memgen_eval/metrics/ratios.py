"""The ratio of the distances to the two nearest neighbours, d1/d2, and its comparison with a threshold."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.neighbours.topk import Neighbours

Bools = NDArray[np.bool_]


def ratio_below(squared_first: NDArray[Any], squared_second: NDArray[Any], threshold: float) -> Bools:
    """``first == 0`` or ``first / second < threshold`` from squared distances, (N,) and (N,) -> (N,).

    Integers are compared as integers where the threshold is a fraction of small numbers (1/3 is), so that no rounding
    decides a tie.
    """
    fraction = Fraction(threshold).limit_denominator(1000)
    if squared_first.dtype.kind != "i" or float(fraction) != threshold:
        below = np.sqrt(squared_first.astype(np.float64)) < threshold * np.sqrt(squared_second.astype(np.float64))
    else:
        p2, q2 = fraction.numerator**2, fraction.denominator**2
        largest = max(int(squared_first.max(initial=0)), int(squared_second.max(initial=0)))
        exact: type = np.int64 if largest * q2 < 2**63 else object  # python integers never overflow
        below = (squared_first.astype(exact) * q2 < squared_second.astype(exact) * p2).astype(bool)
    zero: Bools = squared_first == 0
    return zero | below


def distance_ratios(neighbours: Neighbours, *, squared: bool = False) -> NDArray[np.float64]:
    """``d1 / d2`` of each image, or its square, in [0, 1], (N, K >= 2) -> (N,); 0 where ``d1 = 0``.

    Where every training image is a duplicate of the first: 0 for a copy, 1 otherwise. Equal ratios of integers have
    equal squares, since a quotient is rounded once: a root before it would be rounded too.
    """
    first, second = (neighbours.squared_distances if squared else neighbours.distances)[:, :2].T
    alone = (neighbours.indices[:, 1] < 0) & ~undefined_ratios(neighbours)
    ratios = np.zeros(len(neighbours))
    np.divide(first, second, out=ratios, where=(first > 0) & ~alone)
    return ratios


def undefined_ratios(neighbours: Neighbours) -> Bools:
    """Images that have no distinct second neighbour and are not copies either, (N,)."""
    first, second = neighbours.squared_distances[:, 0], neighbours.squared_distances[:, 1]
    undefined: Bools = (neighbours.indices[:, 1] < 0) & (first == second) & (first > 0)
    return undefined
