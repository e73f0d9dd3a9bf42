"""The space in which novelty is measured: pixels, or what a callable makes of images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.data.images import ImageSet
from memgen_eval.errors import InputError


def features_name(features: str | Callable[..., Any]) -> str:
    """How the space is called in a report."""
    if isinstance(features, str):
        return features
    return getattr(features, "__qualname__", type(features).__qualname__)


def embed(images: ImageSet, features: Callable[..., Any], *, argument: str) -> NDArray[np.float32]:
    """Features of a set, block by block, (N, F) float32.

    Parameters
    ----------
    images : ImageSet
        The set.
    features : callable
        Called with a uint8 tensor (B, C, H, W) of at least one image; returns a tensor or array (B, F) of floats.
    argument : str
        The word for the set in messages.

    Raises
    ------
    InputError
        If the features are no (B, F) array, of another width than before, or not finite.
    """
    import torch

    with torch.inference_mode():
        parts = [_checked(features(torch.from_numpy(block)), len(block), argument) for block in images.blocks()]
    widths = {part.shape[1] for part in parts}
    if len(widths) != 1:
        raise InputError(
            f"features of {argument} have {sorted(widths)} columns in different blocks, expected one width"
        )
    return np.concatenate(parts)


def _checked(result: Any, num_images: int, argument: str) -> NDArray[np.float32]:
    array = result.detach().float().cpu().numpy() if hasattr(result, "detach") else np.asarray(result, dtype=np.float32)
    if array.ndim != 2 or len(array) != num_images:
        raise InputError(
            f"features of {argument} have shape {array.shape} for {num_images} images, expected ({num_images}, F)"
        )
    if not np.isfinite(array).all():
        raise InputError(f"features of {argument} hold NaN or infinity; check the extractor")
    return np.ascontiguousarray(array, dtype=np.float32)
