"""Tables of neighbours compared with the oracle and with each other, and the engines that are installed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import oracles
from memgen_eval.compute.products import installed
from memgen_eval.neighbours import bound, candidates, pruning, quantizers
from memgen_eval.neighbours.topk import Neighbours

ENGINES = [
    pytest.param(name, marks=pytest.mark.skipif(not installed(name), reason=f"{name} is not installed"))
    for name in candidates.ENGINES
    if name not in ("auto", "cuda")
] + [pytest.param("cuda", id="cuda" if torch.cuda.is_available() else "cuda's code on the processor")]

# With these, searches of any size take quantizers, in small tiles.
EVERYTHING_CODED: list[tuple[Any, str, float]] = [
    (quantizers, "_LEADING_WORK", 0),
    (quantizers, "_MORE_LEADING_WORK", 0),
    (quantizers, "_LIMITED_WORK", 0),
    (quantizers, "_FEWEST_ROWS", 0),
    (quantizers, "_WHOLE_WORK", 0),
    (quantizers, "_FEWEST_VALUES", 1),
    (quantizers, "_REFERENCES_PER_NEIGHBOUR", 1),
    (quantizers, "_VALUES_PER_DIRECTION", 0),
    (quantizers, "_DIRECTIONS", 12),
    (quantizers, "_MORE_DIRECTIONS", 20),
    (pruning, "_MOST_TILE_ROWS", 70),
    (pruning, "_FEWEST_TILE_ROWS", 1),
    (bound, "_MOST_COMPARED", 2),
    (bound, "_MOST_PASSING", 2),
]


def check(found: Neighbours, queries: Any, references: Any, k: int, **how: Any) -> None:
    """Compare with the oracle, to the bit."""
    exclude = how.pop("exclude", None)
    for row, query in enumerate(queries):
        left_out = None if exclude is None else int(exclude[row])
        expected = oracles.nearest(query, references, k, exclude=left_out, **how)
        assert found.indices[row].tolist() == [index for _, index, _ in expected]
        assert found.squared_distances[row].tolist() == [squared for squared, _, _ in expected]
        if found.flipped is not None:
            assert found.flipped[row].tolist() == [flipped for _, _, flipped in expected]


def same(left: Neighbours, right: Neighbours) -> bool:
    pairs = [(left.squared_distances, right.squared_distances), (left.indices, right.indices)]
    if left.flipped is not None and right.flipped is not None:
        pairs.append((left.flipped, right.flipped))
    return all(a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in pairs)
