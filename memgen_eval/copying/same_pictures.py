"""Which samples are one picture: within the duplicate tolerance of an earlier one, or of one that is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.copying.copy_rules import CopyRules
from memgen_eval.neighbours.index import Index

Bools = NDArray[np.bool_]
Rows = NDArray[np.int64]


def same_pictures(samples: NDArray[Any], repeats: Bools, index: Index, rules: CopyRules) -> Bools:
    """Samples that show the picture of an earlier sample, (N,): tests and bounds count each picture once.

    Samples are joined with their nearest other one if it lies within the duplicate tolerance, and the first of those
    that hang together stands for them; so on among these, until no two lie within the tolerance.

    Parameters
    ----------
    samples : (N, C, H, W)
    repeats : bool, (N,)
        Equal to an earlier sample.
    index : Index
        It lends its budget and ranks.
    rules : CopyRules
        The tolerance, and whether a mirrored picture is the same one.
    """
    open_rows, kept = np.flatnonzero(~repeats), np.zeros(len(samples), dtype=bool)
    while rules.tolerance > 0 and len(open_rows) > 1:
        own = samples[open_rows]
        limits = np.full(len(own), rules.tolerance**2)
        table = index.among(own).nearest_within(own, limits, exclude=np.arange(len(own)), flip=rules.flip)
        near = table.squared_distances[:, 0] <= limits
        kept[open_rows[~near]] = True
        open_rows = open_rows[_first_of_joined(near, table.indices[:, 0])]
    kept[open_rows] = True
    return ~kept


def _first_of_joined(joined: Bools, others: Rows) -> Rows:
    """The first row of each group of rows that are joined with others, (N,) and (N,) -> ascending rows."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows = np.flatnonzero(joined)
    links = coo_array((np.ones(len(rows)), (rows, others[rows])), shape=(len(joined), len(joined)))
    _, groups = connected_components(links, directed=False)
    _, first = np.unique(groups[rows], return_index=True)
    return np.sort(rows[first])
