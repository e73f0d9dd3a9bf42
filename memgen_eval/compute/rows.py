"""Arrays of any trailing shape, seen as rows and checked once; transforms prepare rows so that products lose little."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from memgen_eval.compute.products import EXACT_FLOAT32_TERMS, SLICE, installed
from memgen_eval.compute.resources import blocks
from memgen_eval.errors import InputError

_CHUNK_BYTES = 8 * 2**20
_SMALLEST, _LARGEST = 1e-140, 1e140  # squares of such values, and their sums, are normal float64 numbers
_UNIT_ROUNDOFF = 2.0**-24
_CENTRE_ROWS = 1024


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
    largest = max(_magnitude(queries, "queries"), _magnitude(references, "references"))
    if largest > _LARGEST or 0 < largest < _SMALLEST:
        raise InputError(
            f"the largest magnitude in queries and references is {largest:.3g}, and its square leaves float64: "
            f"scale the values into [{_SMALLEST:g}, {_LARGEST:g}]"
        )
    return largest


def dimension(array: NDArray[Any]) -> int:
    """Number of values in a row."""
    return math.prod(array.shape[1:])


def read_rows(array: NDArray[Any], rows: slice) -> NDArray[Any]:
    """A slice of rows as a matrix; no others are read where the array lies on disk."""
    block = np.asarray(array[rows])
    return np.ascontiguousarray(block.reshape(len(block), dimension(array)))


def row_blocks(array: NDArray[Any], num_rows: int) -> Iterator[tuple[int, NDArray[Any]]]:
    """All rows in order, in blocks of `num_rows`, each with the index of its first row."""
    for block in blocks(len(array), num_rows):
        yield block.start, read_rows(array, block)


def chunk_rows(array: NDArray[Any]) -> int:
    """Rows that are held as float64 at once."""
    return max(16, _CHUNK_BYTES // (8 * dimension(array)))


def largest_of(dtype: DTypeLike) -> Any:
    """The largest value of a type: infinity for floats."""
    dtype = np.dtype(dtype)
    return np.inf if dtype.kind == "f" else np.iinfo(dtype).max


def mirrored(array: NDArray[Any]) -> NDArray[Any]:
    """The same images, left and right exchanged."""
    return array[..., ::-1]


def _magnitude(array: NDArray[Any], name: str) -> float:
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


@dataclass(frozen=True)
class IntegerTransform:
    """uint8 minus 128 as int8: distances stay the same, norms and products are exact."""

    dtype: Any = np.int8
    distance_dtype: Any = np.int64
    discount: int = 0

    def apply(self, block: NDArray[Any]) -> NDArray[Any]:
        """Prepared values of a block (B, D)."""
        return np.asarray(np.bitwise_xor(block, 128)).view(np.int8)

    def norms(self, prepared: NDArray[Any]) -> NDArray[Any]:
        """Squared norms of prepared values, int64, (B,)."""
        total = np.zeros(len(prepared), dtype=np.int64)
        for columns in blocks(prepared.shape[1], SLICE if installed("numkong") else EXACT_FLOAT32_TERMS):
            total += _squares(prepared[:, columns])
        return total

    def key_dtype(self, width: int) -> Any:
        """The smaller integer that holds keys ``|y|^2 - 2 q.y`` of rows of `width` values."""
        return np.int32 if width <= SLICE else np.int64

    def bounds_of_keys(self, keys: NDArray[Any], query_norms: NDArray[Any]) -> NDArray[Any]:
        """Squared distances themselves, given keys (N, J): no key is rounded."""
        return np.asarray(keys + query_norms[:, None])


def _squares(part: NDArray[np.int8]) -> NDArray[np.int64]:
    """Sums of the squares of a few values of each row, exact, (B,)."""
    if not installed("numkong") or len(part) == 0:
        wide = part.astype(np.float32)
        return np.asarray(np.einsum("ij,ij->i", wide, wide).astype(np.int64))
    import numkong

    part = np.ascontiguousarray(part)
    return np.asarray(numkong.dot(part, part)).astype(np.int64)


@dataclass(frozen=True)
class FloatTransform:
    """float32 of the values less a centre, times a power of two that brings all magnitudes below 1.

    With ``u = 2^-24`` and ``g = n u / (1 - n u)``, ``n = D + 16``: a key ``(1 - g) |y|^2 - 2 q.y`` computed from
    prepared rows is at most ``|q - y|^2 - (1 - g) |q|^2`` plus what underflow takes. For g covers the product in any
    order of summation (D u), the rounding of norm and key (3 u) and of both rows to float32 (4 u), all of them at most
    that multiple of ``|q|^2 + |y|^2 >= 2 |q| |y|``. So a reference far out loosens no bound but its own.
    """

    centre: NDArray[np.float64]  # (D,)
    exponent: int
    dtype: Any = np.float32
    distance_dtype: Any = np.float64

    @staticmethod
    def around(references: NDArray[Any], largest: float) -> FloatTransform:
        """The transform about the mean of about 1,000 references, for values of magnitude at most `largest`."""
        sample = references[:: max(1, len(references) // _CENTRE_ROWS)][:_CENTRE_ROWS]
        total = np.zeros(dimension(references))
        for _, block in row_blocks(sample, chunk_rows(sample)):
            total += block.sum(axis=0, dtype=np.float64)
        return FloatTransform(total / len(sample), -math.frexp(2 * largest)[1])

    def apply(self, block: NDArray[Any]) -> NDArray[Any]:
        """Prepared values of a block (B, D)."""
        return np.ldexp(block.astype(np.float64) - self.centre, self.exponent).astype(np.float32)

    def norms(self, prepared: NDArray[Any]) -> NDArray[Any]:
        """Squared norms of prepared values, float64, (B,)."""
        wide = prepared.astype(np.float64)
        return np.asarray(np.einsum("ij,ij->i", wide, wide))

    @property
    def discount(self) -> float:
        """The fraction g of the squared norms that rounding can take; 1, which gives no bound, from 2^23 dimensions."""
        rounding = (len(self.centre) + 16) * _UNIT_ROUNDOFF
        return rounding / (1 - rounding) if rounding < 0.5 else 1.0

    def key_dtype(self, _width: int) -> Any:
        """The type of keys."""
        return np.float32

    def bounds_of_keys(self, keys: NDArray[Any], query_norms: NDArray[Any]) -> NDArray[np.float64]:
        """Lower bounds of the squared distances, in the squared units of the arrays, given keys (N, J)."""
        return self._bounds(keys.astype(np.float64) + (1 - self.discount) * query_norms[:, None])

    def slack(self, norms: NDArray[Any]) -> NDArray[np.float64]:
        """The part of a row in what its lower bounds may fall short by, given its norms, (B,).

        A squared distance exceeds the lower bound that `bounds_of_keys` gives by at most the parts of both rows, for g
        bounds the rounding of a key either way.
        """
        return np.asarray(np.ldexp(2 * self.discount * norms + len(self.centre) * 2.0**-120, -2 * self.exponent))

    def bounds_of_distances(
        self, distances: NDArray[Any], query_norms: NDArray[Any], largest_norm: float
    ) -> NDArray[np.float64]:
        """Lower bounds of the squared distances, given those (N, J) that float32 gave, in any order of summation."""
        return self._bounds(distances.astype(np.float64) - 2 * self.discount * (query_norms[:, None] + largest_norm))

    def _bounds(self, scaled: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.discount >= 1:
            return np.full(scaled.shape, -np.inf)
        underflow = len(self.centre) * 2.0**-120  # more than flushed denormals take
        return np.ldexp(scaled - underflow, -2 * self.exponent)


Transform = IntegerTransform | FloatTransform
