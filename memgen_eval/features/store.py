"""Where features lie: kept on disk in blocks of some hundred images, and put together in memory or a temporary file."""

from __future__ import annotations

import os
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memgen_eval.compute.kept import Folder, Kept
from memgen_eval.data.datasets import cache_folder
from memgen_eval.data.images import room
from memgen_eval.errors import InputError

ADVICE_FOR_FEATURES = "features are computed anew each time, set MEMGEN_CACHE to a folder that can be written to"
Rows = NDArray[np.float32]


def feature_folder() -> Path:
    """Where features are kept: the environment's MEMGEN_CACHE, or `features` in the user's cache of this library."""
    named = os.environ.get("MEMGEN_CACHE")
    return Path(named) if named else cache_folder() / "features"


def kept_features(*, size: int | None = None) -> Kept:
    """The features of networks, for every evaluation of this user; `size` in bytes bounds them."""
    return Kept(Folder(feature_folder(), size=size, owner="", advice=ADVICE_FOR_FEATURES))


def feature_room(shape: tuple[int, ...]) -> Rows:
    """An array to be filled, in memory or in a temporary file. Raises InputError if there is no room for it."""
    try:
        return room(shape, np.dtype(np.float32), label="features")
    except InputError as error:
        size = f"features of {shape[0]:,} images take {prod(shape) * 4 / 2**30:.1f} GiB"
        raise InputError(f"{size}, which no temporary file could hold; set TMPDIR to a folder with room") from error
