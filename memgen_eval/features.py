"""The space in which novelty is measured: pixels, or what a callable makes of images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.data.batches import is_array
from memgen_eval.data.images import ImageSet, block_rows
from memgen_eval.data.tensors import is_tensor
from memgen_eval.distributed import ALONE, Ranks
from memgen_eval.errors import InputError, MemgenError, one_line
from memgen_eval.runtime import modules_of

FEW_IMAGES = 32  # images by whose features an extractor is known again


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
        Called with a uint8 tensor (B, C, H, W) of at least one image; returns a tensor or array (B, F) of floats, or a
        tuple, a dict or an object that holds one.
    argument : str
        The word for the set in messages.
    ranks : Ranks
        They share the blocks.

    Raises
    ------
    InputError
        If the extractor fails, or its features are not (B, F), of another width than before, or not finite.
    """
    num_rows = block_rows(images.num_values)
    mine = ranks.shard(len(images), num_rows)
    blocks = (images.read(at, min(at + num_rows, mine.stop)) for at in range(mine.start, mine.stop, num_rows))
    parts = [_embedded(block, features, argument) for block in blocks]
    widths = {part.shape[1] for part in parts}
    if len(widths) > 1:
        raise InputError(
            f"features of {argument} have {sorted(widths)} columns in different blocks, expected one width"
        )
    whole: NDArray[np.float32] = ranks.gather(np.concatenate(parts or [np.empty((0, 0), dtype=np.float32)]))
    return whole


def extractor_checksum(features: Callable[..., Any], images: ImageSet) -> str:
    """Of what an extractor makes of a few of the images, and of the weights and buffers of its modules."""
    few = np.unique(np.linspace(0, len(images) - 1, FEW_IMAGES).astype(int))
    digest = hashlib.sha256(_embedded(images.take(few), features, "train").tobytes())
    for module in modules_of(features):
        for tensor in (*module.parameters(False), *module.buffers(False)):
            digest.update(_raw_bytes(tensor))
    return digest.hexdigest()


def _raw_bytes(tensor: Any) -> Any:
    import torch

    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _embedded(block: NDArray[Any], features: Callable[..., Any], argument: str) -> NDArray[np.float32]:
    import torch

    try:
        returned = features(torch.from_numpy(block))
    except MemgenError:
        raise
    except Exception as error:
        raise InputError(
            f"features failed on images of {argument}, {block.dtype} {block.shape} on cpu: {one_line(error)}"
        ) from error
    found = _only_tensor(returned, argument)
    array = found.detach().float().cpu().numpy() if is_tensor(found) else np.asarray(found, dtype=np.float32)
    if array.ndim != 2 or len(array) != len(block):
        raise InputError(
            f"features of {argument} have shape {array.shape} for {len(block)} images, expected ({len(block)}, F)"
        )
    if not np.isfinite(array).all():
        raise InputError(f"features of {argument} hold NaN or infinity; check the extractor")
    return np.ascontiguousarray(array, dtype=np.float32)


def _only_tensor(returned: Any, argument: str) -> Any:
    """The features in a tuple, a dict or a model's output that holds one tensor; an array or tensor as it is."""
    if is_array(returned) or isinstance(returned, list):
        return returned
    held = dict(enumerate(returned)) if isinstance(returned, tuple) else getattr(returned, "__dict__", {})
    held = returned if isinstance(returned, Mapping) else held
    tensors = {name: value for name, value in held.items() if is_array(value)}
    if len(tensors) == 1:
        return next(iter(tensors.values()))
    found = ", ".join(f"{name} {tuple(value.shape)}" for name, value in tensors.items()) or "no tensor"
    raise InputError(
        f"features of {argument} are a {type(returned).__name__} ({found}), expected one tensor (B, F): return it alone"
    )
