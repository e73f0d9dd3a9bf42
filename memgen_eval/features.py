"""The space in which novelty is measured: pixels, or what a callable makes of images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.data.images import ImageSet, block_rows
from memgen_eval.distributed import ALONE, Ranks
from memgen_eval.errors import InputError


def features_name(features: str | Callable[..., Any]) -> str:
    """How the space is called in a report."""
    if isinstance(features, str):
        return features
    return getattr(features, "__qualname__", type(features).__qualname__)


def embed(
    images: ImageSet, features: Callable[..., Any], *, argument: str, ranks: Ranks = ALONE
) -> NDArray[np.float32]:
    """Features of a set, block by block, (N, F) float32.

    Parameters
    ----------
    images : ImageSet
        The set.
    features : callable
        Called with a uint8 tensor (B, C, H, W) of at least one image; returns a tensor or array (B, F) of floats.
    argument : str
        The word for the set in messages.
    ranks : Ranks
        They share the blocks.

    Raises
    ------
    InputError
        If the features are no (B, F) array, of another width than before, or not finite.
    """
    import torch

    num_rows = block_rows(images.num_values)
    mine = ranks.share(len(images), num_rows)
    blocks = (images.read(at, min(at + num_rows, mine.stop)) for at in range(mine.start, mine.stop, num_rows))
    with torch.inference_mode():
        parts = [_checked(features(torch.from_numpy(block)), len(block), argument) for block in blocks]
    widths = {part.shape[1] for part in parts}
    if len(widths) > 1:
        raise InputError(
            f"features of {argument} have {sorted(widths)} columns in different blocks, expected one width"
        )
    whole: NDArray[np.float32] = ranks.gather(np.concatenate(parts or [np.empty((0, 0), dtype=np.float32)]))
    return whole


def _checked(result: Any, num_images: int, argument: str) -> NDArray[np.float32]:
    array = result.detach().float().cpu().numpy() if hasattr(result, "detach") else np.asarray(result, dtype=np.float32)
    if array.ndim != 2 or len(array) != num_images:
        raise InputError(
            f"features of {argument} have shape {array.shape} for {num_images} images, expected ({num_images}, F)"
        )
    if not np.isfinite(array).all():
        raise InputError(f"features of {argument} hold NaN or infinity; check the extractor")
    return np.ascontiguousarray(array, dtype=np.float32)
