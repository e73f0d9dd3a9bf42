"""Kinds of image, and a test that compares samples with unseen images kind by kind.

Some kinds lie near single training images more often than others, flat ones above all. A model that draws only these
would be taken for a copier otherwise.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.altered.standardized import averaged, coarse_side
from memgen_eval.metrics.data_copying import Partition, partition

NUM_KINDS = 30  # with three, a set of one kind of image was called copies
IMAGES_OF_A_KIND = 50  # of the training images drawn, on average
NUM_DRAWN = 5_000

Counts = NDArray[np.int64]


def coarse_rows(images: NDArray[Any]) -> NDArray[np.float32]:
    """Images, (B, C, H, W), averaged over squares, (B, D)."""
    return averaged(images, coarse_side(images.shape)).reshape(len(images), -1)


def kinds_of_images(train: NDArray[Any], *, seed: int) -> Partition:
    """k-means cells of training images, averaged over squares; about fifty images each, at most 30."""
    return partition(coarse_rows(train), num_cells=max(1, min(NUM_KINDS, len(train) // IMAGES_OF_A_KIND)), seed=seed)


def stratified_p_value(found: Counts, trials: Counts, base_found: Counts, base_trials: Counts) -> float:
    """The exact one-sided p-value that proportions of a first set exceed those of a second, by kind, (L,) each.

    Given the successes of both sets of each kind, those of the first follow hypergeometric laws if nothing differs;
    their sum over kinds is compared with what was found. Kinds that one of the sets lacks tell nothing.

    References
    ----------
    .. [1] Mantel & Haenszel, "Statistical aspects of the analysis of data from retrospective studies of disease",
       Journal of the National Cancer Institute 22, 1959; Gart, "Point and interval estimation of the common odds
       ratio", Biometrika 57, 1970, for the exact law.
    """
    from scipy.stats import hypergeom

    law = np.ones(1)  # of the successes of the first set, all kinds so far
    for own, tried, base, base_tried in zip(found, trials, base_found, base_trials, strict=True):
        total = own + base
        if total == 0:  # a kind that decides nothing, or is empty: scipy has no law of no images
            continue
        law = np.convolve(law, hypergeom.pmf(np.arange(total + 1), tried + base_tried, total, tried))
    return float(min(1.0, law[int(found.sum()) :].sum()))
