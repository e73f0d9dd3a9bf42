"""Features of a set of images, in batches of one shape, streamed to disk."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.compute.kept import NOWHERE, Kept
from memgen_eval.data.batches import is_array
from memgen_eval.data.images import ImageSet, block_rows
from memgen_eval.data.tensors import is_tensor
from memgen_eval.distributed import ALONE, Ranks
from memgen_eval.errors import InputError, MemgenError, one_line
from memgen_eval.features.network_files import Extractor
from memgen_eval.features.store import Rows, feature_room
from memgen_eval.runtime import report_progress, weights_checksum

log = logging.getLogger("memgen_eval")
FEW_IMAGES = 32  # images by whose features a callable is known again
BATCH = 64  # images that a callable is given at a time
BATCHES_AT_ONCE = 8  # of each rank, before what was computed is gathered
UNIT_ROWS = 1024
FEATURES = "features"  # what blocks are kept as


def embed(
    images: ImageSet, extractor: Extractor, *, argument: str, ranks: Ranks = ALONE, kept: Kept = NOWHERE
) -> NDArray[np.float32]:
    """Features of a set, (N, F) float32; blocks that were kept on disk are read from there.

    Every batch holds the same number of images, the last one filled up with its last image: so an image has the same
    features wherever it stands, and no figure depends on a batch. More than 16 MiB of them lie in a file.

    Parameters
    ----------
    images : ImageSet
        The set.
    extractor : Extractor
        Its `compute` is called with a uint8 tensor (B, C, H, W); it returns a tensor or array (B, F) of floats, or a
        tuple, a dict or an object that holds one.
    argument : str
        The word for the set in messages.
    ranks : Ranks
        They share the batches.
    kept : Kept
        Where the features are kept.

    Raises
    ------
    InputError
        If the extractor fails, or its features are not (B, F), of another width than before, or not finite.
    """
    log.info("features of %s", argument, extra={"stage": f"features of {argument}"})
    size = _batch_size(extractor, images)
    if kept.active:
        kept = kept.under(images.checksum, extractor_checksum(extractor, images), size)
    step, found = size * BATCHES_AT_ONCE, None
    for first in range(0, len(images), step * ranks.size):
        stop = min(first + step * ranks.size, len(images))
        rows = _read(kept, first, stop, step, ranks)
        if rows is None:
            rows = _computed(images, slice(first, stop), extractor, argument, ranks)
            for start in range(first, stop, step):
                kept.write((rows[start - first : start - first + step],), FEATURES, start, min(start + step, stop))
        if found is None:
            found = feature_room((len(images), rows.shape[1]))
        if rows.shape[1] != found.shape[1]:
            columns = sorted({rows.shape[1], found.shape[1]})
            raise InputError(f"features of {argument} have {columns} columns in different blocks, expected one width")
        found[first:stop] = rows
        report_progress(stop, len(images))
    assert found is not None
    return found


def _read(kept: Kept, first: int, stop: int, step: int, ranks: Ranks) -> Rows | None:
    """The features of images `first` to `stop`, where every rank has kept all of their blocks."""
    if not kept.active:
        return None
    parts = []
    for start in range(first, stop, step):
        block = kept.read(FEATURES, start, min(start + step, stop))
        parts += [] if block is None or block[0] is None else [block[0]]
    known = len(parts) == -(-(stop - first) // step)
    return np.concatenate(parts) if all(ranks.exchange("features", known)) else None


def _computed(images: ImageSet, rows: slice, extractor: Extractor, argument: str, ranks: Ranks) -> Rows:
    """Features of some batches of each rank, gathered."""
    batch_size = _batch_size(extractor, images)
    mine = ranks.shard(rows.stop - rows.start, batch_size)
    stop = rows.start + mine.stop
    parts = [
        _embedded(images.read(at, min(at + batch_size, stop)), extractor, argument, batch_size)
        for at in range(rows.start + mine.start, stop, batch_size)
    ]
    widths = sorted({part.shape[1] for part in parts})
    if len(widths) > 1:
        raise InputError(f"features of {argument} have {widths} columns in different blocks, expected one width")
    gathered: Rows = ranks.gather(np.concatenate(parts or [np.empty((0, 0), dtype=np.float32)]))
    return gathered


def _batch_size(extractor: Extractor, images: ImageSet) -> int:
    """A network's own; else 64, and fewer of large images: a function of the image size alone."""
    return extractor.batch_size or min(BATCH, block_rows(images.num_values))


def extractor_checksum(extractor: Extractor, images: ImageSet) -> str:
    """By which features are known again: a network's identity, else what a callable makes of a few of the images.

    And of the weights and buffers of the modules that the callable holds.
    """
    if extractor.identity is not None:
        return extractor.identity
    few = np.unique(np.linspace(0, len(images) - 1, FEW_IMAGES).astype(int))
    batch_size = _batch_size(extractor, images)
    parts = [few[at : at + batch_size] for at in range(0, len(few), batch_size)]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(_embedded(images.take(part), extractor, "train", batch_size).tobytes())
    digest.update(weights_checksum(extractor.compute).encode())
    return digest.hexdigest()


def unit_rows(rows: Rows, chosen: NDArray[np.int64] | None = None, *, argument: str) -> NDArray[np.float32]:
    """All rows, or the chosen ones, at length 1, (N, F): the nearest by distance are then the nearest by cosine.

    Raises InputError for a row of zeros, which has no direction.
    """
    wanted = np.arange(len(rows)) if chosen is None else chosen
    found = feature_room((len(wanted), *rows.shape[1:]))
    for start in range(0, len(wanted), UNIT_ROWS):
        block = rows[wanted[start : start + UNIT_ROWS]].astype(np.float64)
        lengths = np.linalg.norm(block, axis=1)
        if not lengths.all():
            image = wanted[start + int(np.flatnonzero(lengths == 0)[0])]
            raise InputError(f"features of {argument} are all zero for image {image}: no cosine similarity is defined")
        found[start : start + UNIT_ROWS] = block / lengths[:, None]
    return found


def _embedded(block: NDArray[Any], extractor: Extractor, argument: str, batch_size: int) -> NDArray[np.float32]:
    """Features of up to `batch_size` images, computed in a batch of that size."""
    import torch

    missing = batch_size - len(block)
    batch = np.concatenate([block, np.repeat(block[-1:], missing, axis=0)]) if missing else block
    try:
        returned = extractor.compute(torch.from_numpy(batch))
    except MemgenError:
        raise
    except Exception as error:
        raise InputError(
            f"features failed on images of {argument}, {block.dtype} {batch.shape} on cpu: {one_line(error)}"
        ) from error
    found = _only_tensor(returned, argument)
    array = found.detach().float().cpu().numpy() if is_tensor(found) else np.asarray(found, dtype=np.float32)
    if array.ndim != 2 or len(array) != len(batch):
        raise InputError(
            f"features of {argument} have shape {array.shape} for {len(batch)} images, expected ({len(batch)}, F)"
        )
    if not np.isfinite(array[: len(block)]).all():
        raise InputError(f"features of {argument} hold NaN or infinity; check the extractor")
    return np.ascontiguousarray(array[: len(block)], dtype=np.float32)


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
