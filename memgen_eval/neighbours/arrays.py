"""What may be searched: arrays of any trailing shape, seen as rows, checked once at the door."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.errors import InputError

_CHUNK_BYTES = 8 * 2**20
_SMALLEST, _LARGEST = 1e-140, 1e140  # squares of such values, and their sums, are normal float64 numbers


def as_array(array: Any, name: str) -> NDArray[Any]:
    """A numpy array (N, ...) of uint8, float16, float32 or float64; torch tensors are brought to the host."""
    if type(array).__module__.partition(".")[0] == "torch":
        import torch

        tensor = array.detach().cpu()
        array = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    if not isinstance(array, np.ndarray):
        raise InputError(f"{name} is a {type(array).__name__}: give a numpy array or a torch tensor of shape (N, ...)")
    if array.ndim == 0 or math.prod(array.shape[1:]) == 0:
        raise InputError(f"{name} has shape {array.shape}: give rows of at least one value each, (N, ...)")
    if array.dtype != np.uint8 and array.dtype not in (np.float16, np.float32, np.float64):
        raise InputError(f"{name} holds {array.dtype}: give uint8, float16, float32 or float64")
    return array


def check_pair(queries: NDArray[Any], references: NDArray[Any], *, flip: bool) -> float:
    """Refuse rows of different shapes, rows that have no width to mirror, and floats that cannot be compared.

    Returns the largest magnitude in both.
    """
    if queries.shape[1:] != references.shape[1:]:
        raise InputError(
            f"queries have rows of shape {queries.shape[1:]}, references of {references.shape[1:]}: give equal shapes"
        )
    if flip and queries.ndim < 2:
        raise InputError("flip=True mirrors the last axis, and queries have none: give images (N, ..., W)")
    largest = max(_largest(queries, "queries"), _largest(references, "references"))
    if largest > _LARGEST or 0 < largest < _SMALLEST:
        raise InputError(
            f"the largest magnitude in queries and references is {largest:.3g}, and its square leaves float64: "
            f"scale the values into [{_SMALLEST:g}, {_LARGEST:g}]"
        )
    return largest


def dimension(array: NDArray[Any]) -> int:
    """Number of values in a row."""
    return math.prod(array.shape[1:])


def rows(array: NDArray[Any], start: int, stop: int) -> NDArray[Any]:
    """Rows start to stop as a matrix; only these are read where the array lies on disk."""
    block = np.asarray(array[start:stop])
    return np.ascontiguousarray(block.reshape(len(block), dimension(array)))


def row_blocks(array: NDArray[Any], num_rows: int) -> Iterator[tuple[int, NDArray[Any]]]:
    """All rows in order, in blocks of `num_rows`, each with the index of its first row."""
    for start in range(0, len(array), num_rows):
        yield start, rows(array, start, min(start + num_rows, len(array)))


def chunk_rows(array: NDArray[Any]) -> int:
    """Rows of `array` that are converted to float64 at once."""
    return max(16, _CHUNK_BYTES // (8 * dimension(array)))


def mirrored(array: NDArray[Any]) -> NDArray[Any]:
    """The same images, left and right exchanged."""
    return array[..., ::-1]


def _largest(array: NDArray[Any], name: str) -> float:
    if array.dtype == np.uint8:
        return 255.0 if len(array) else 0.0
    largest = 0.0
    for start, block in row_blocks(array, chunk_rows(array)):
        magnitude = float(max(block.max(), -block.min()))  # NaN and infinity survive
        if not math.isfinite(magnitude):
            row = start + int(np.flatnonzero(~np.isfinite(block).all(axis=1))[0])
            raise InputError(f"{name} row {row} holds NaN or infinity: remove it or give finite values")
        largest = max(largest, magnitude)
    return largest
