"""Rows as codes of a few int8 values each, with rigorous bounds of what the codes leave out.

A quantizer is a map z that brings no two rows farther apart, and a step to which the values of z are rounded. With
codes a and b of rows q and y: ``|q - y| >= |z(q) - z(y)| >= step * |a - b| - error(q) - error(y)``, where ``|a - b|^2``
is an integer that an int8 product gives. All but a few errors are at most `usual_error`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.compute.products import SLICE, Products
from memgen_eval.compute.resources import CHUNK_ROWS, Workers, blocks, single_thread
from memgen_eval.compute.rows import IntegerTransform, chunk_rows, dimension, read_rows

_BYTES = IntegerTransform()
_SAMPLE_ROWS = 2048
_MEDIAN_ROWS = 512
_STEP_VALUES = 2**20  # values that are rounded to try out a step
_SAMPLE_VALUE_BYTES = 64  # held for each value of the sample while a code is fitted
_DIRECTIONS, _MORE_DIRECTIONS, _FEW_NEIGHBOURS = 256, 384, 16
_SOME_NEIGHBOURS = 32  # for which few directions pay too where rows have too few values for more
_VALUES_PER_DIRECTION = 3
_LEADING_WORK, _MORE_LEADING_WORK, _WHOLE_WORK = 4e11, 1.5e12, 1e10  # operations from which a code pays
_LIMITED_WORK = 1e11  # the same where distances have a limit, so that no first radii are looked for
_FEWEST_ROWS = 500  # on either side
_SMALLEST_SCALE = 1e-140  # where squares are normal numbers
_REFERENCES_PER_NEIGHBOUR = 64
_FEWEST_VALUES = 64
_RANGES = (3, 4, 5, 6, 7, 8, 11, 16, 32, 64, 128)  # of the codes, in root mean squares of the values of a row
_MOST_ROWS = 0.995  # the fraction of rows whose errors choose the step and are called usual
_ROUNDING = 2.0**-36  # above the relative rounding of a float64 sum of at most 2**15 terms, its root and a product


@dataclass(frozen=True)
class Codes:
    """Rows as codes.

    Attributes
    ----------
    values : int8, (B, P)
    norms : squared norms of the values, int64, (B,)
    errors : upper bounds of ``|z(x) - step * values|``, float64, (B,)
    """

    values: NDArray[np.int8]
    norms: NDArray[np.int64]
    errors: NDArray[np.float64]

    def __getitem__(self, rows: Any) -> Codes:
        """The codes of some rows."""
        return Codes(self.values[rows], self.norms[rows], self.errors[rows])

    @staticmethod
    def joined(parts: list[Codes]) -> Codes:
        """All codes, one part after the other, contiguous."""
        arrays = zip(*((part.values, part.norms, part.errors) for part in parts), strict=True)
        return Codes(*(np.concatenate(array) for array in arrays))


@dataclass(frozen=True)
class ScalarQuantizer:
    """z(x) = x less a centre, for float rows; its values are multiples of the step, so that zeros are coded exactly."""

    centre: NDArray[np.float64]  # (D,)
    step: float
    usual_error: float

    @property
    def width(self) -> int:
        """Number of values in a code."""
        return len(self.centre)

    @staticmethod
    def fit(sample: NDArray[Any]) -> ScalarQuantizer | None:
        """A step that suits nearly all rows of a sample; None where they are all the same."""
        sample = sample.astype(np.float64)
        middle = np.median(sample[:: -(-len(sample) // _MEDIAN_ROWS)], axis=0)  # an outlier would move the mean
        best = _best_step(sample - middle)
        return None if best is None else ScalarQuantizer(best[0] * np.rint(middle / best[0]), *best)

    def encode(self, block: NDArray[Any]) -> Codes:
        """Codes of rows (B, D); the error covers the rounding of centred values, of its own sum, and of the step."""
        offsets = block.astype(np.float64)
        largest = np.maximum(offsets.max(axis=1), -offsets.min(axis=1)) + np.abs(self.centre).max()
        offsets -= self.centre
        offsets /= self.step
        return _codes(offsets, self.step, largest * np.sqrt(block.shape[1]) * 2.0**-50)

    def with_products(self, _: Products, /) -> ScalarQuantizer:
        """Itself: nothing is multiplied."""
        return self


@dataclass(frozen=True)
class ProjectedQuantizer:
    """z(x) = (B^T x / s, the root of |x|^2 - |B^T x|^2 / s^2): leading directions, and the norm of what is left.

    x is a uint8 row less 128 and B a matrix of int8, so that ``B^T x`` is an exact integer. The norm s of B is at least
    its largest singular value, so ``A = 1 - B B^T / s^2`` is positive and ``sqrt(x^T A x)`` a seminorm, of which
    differences obey the triangle inequality: ``|z(q) - z(y)|^2 <= |B^T (q - y)|^2 / s^2 + (q - y)^T A (q - y)``, which
    is ``|q - y|^2``. B need not be orthonormal, nor fit the data, for the bound to hold. Its columns are nearest to
    random mixtures of the leading directions, not these themselves: so all coordinates have about the same range.
    """

    basis: NDArray[np.int8]  # the transpose of B, (width - 1, D)
    norm: float
    centre: NDArray[np.float64]  # of B^T x, integers, and of the norm of what is left, (width,)
    step: float
    usual_error: float
    products: Products

    @property
    def width(self) -> int:
        """Number of values in a code."""
        return len(self.centre)

    @staticmethod
    def fit(
        sample: NDArray[Any], num_directions: int, products: Products, workers: Workers
    ) -> ProjectedQuantizer | None:
        """Leading principal directions of a sample; None where its rows are all the same."""
        mixtures = _mixtures(_BYTES.apply(sample), min(num_directions, dimension(sample), len(sample) // 2), products)
        if mixtures is None:
            return None
        with single_thread():  # as fast when the machine does nothing else, and many times when it does
            directions = _orthonormal(mixtures)
            basis = np.rint(directions.T * (127 / np.abs(directions).max())).astype(np.int8, order="C")  # (P, D)
            gram = products.multiply(basis, products.pack(basis)).astype(np.float64)  # exact
            norm = float(np.sqrt(np.linalg.eigvalsh(gram)[-1] * (1 + 1e-9)))
        raw = ProjectedQuantizer(basis, norm, np.zeros(len(basis) + 1), 1, 0, products)
        parts = workers.map(lambda rows: raw._project(sample[rows]), blocks(len(sample), CHUNK_ROWS))
        leading, left, _ = (np.concatenate(part) for part in zip(*parts, strict=True))
        centre = np.append(np.rint(leading.mean(axis=0)), left.mean())
        best = _best_step(np.column_stack([(leading - centre[:-1]) / norm, left - centre[-1]]))
        return None if best is None else replace(raw, centre=centre, step=best[0], usual_error=best[1])

    def encode(self, block: NDArray[Any]) -> Codes:
        """Codes of uint8 rows (B, D)."""
        leading, left, norms = self._project(block)
        offsets = np.empty((len(block), self.width))
        np.subtract(leading, self.centre[:-1], out=offsets[:, :-1])
        offsets[:, :-1] /= self.norm * self.step
        offsets[:, -1] = (left - self.centre[-1]) / self.step
        return _codes(offsets, self.step, norms * np.sqrt(self.width * 2.0**-50))  # the root of a difference

    def with_products(self, products: Products, /) -> ProjectedQuantizer:
        """The same quantizer with another library that multiplies."""
        return replace(self, products=products)

    @cached_property
    def _packed(self) -> Any:
        return self.products.pack(self.basis)

    def _project(self, block: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.float64]]:
        """``B^T x``, integers, (B, P); the norms of what is left, (B,), and of x, (B,)."""
        rows = _BYTES.apply(block)
        leading = self.products.multiply(rows, self._packed)  # (B, P)
        wide = leading.astype(np.float64)
        squared = _BYTES.norms(rows)
        left = np.sqrt(np.maximum(squared - np.einsum("ij,ij->i", wide, wide) / self.norm**2, 0))
        return leading, left, np.sqrt(squared)


Quantizer = ScalarQuantizer | ProjectedQuantizer


@dataclass(frozen=True)
class CodeKind:
    """What a code holds: a norm and projections on `num_directions` directions, or all values where it is None."""

    width: int
    num_directions: int | None = None

    def fit(self, sample: NDArray[Any], products: Products, workers: Workers) -> Quantizer | None:
        """A quantizer that suits a sample of the references; None where its rows are all the same."""
        if self.num_directions is None:
            return ScalarQuantizer.fit(sample)
        return ProjectedQuantizer.fit(sample, self.num_directions, products, workers)


def kind_of_code(queries: NDArray[Any], references: NDArray[Any], k: int, *, limited: bool = False) -> CodeKind | None:
    """The code for a search of this shape; None where the whole product is done before a code would have paid.

    `limited`: only references within a distance are looked for.
    """
    width = dimension(queries)
    work = 2.0 * len(queries) * len(references) * width
    if width > SLICE or min(len(queries), len(references)) < _FEWEST_ROWS or not are_few(k, references):
        return None
    if queries.dtype == references.dtype == np.uint8:
        too_narrow = width < _VALUES_PER_DIRECTION * _MORE_DIRECTIONS
        few = k <= (_SOME_NEIGHBOURS if too_narrow else _FEW_NEIGHBOURS)
        num_directions = _DIRECTIONS if few else _MORE_DIRECTIONS
        least = _MORE_LEADING_WORK if not few else _LIMITED_WORK if limited else _LEADING_WORK
        if work < least or width < _VALUES_PER_DIRECTION * num_directions:
            return None
        return CodeKind(num_directions + 1, num_directions)
    return None if work < _WHOLE_WORK or width < _FEWEST_VALUES else CodeKind(width)


def are_few(k: int, references: NDArray[Any]) -> bool:
    """Whether K neighbours are so few of the references that a bound can skip most of these."""
    return k * _REFERENCES_PER_NEIGHBOUR <= len(references)


def sample_rows(references: NDArray[Any], budget: int) -> NDArray[Any]:
    """Rows of the references, far apart, to fit a code to within this many bytes."""
    wanted = max(1, min(_SAMPLE_ROWS, budget // (_SAMPLE_VALUE_BYTES * dimension(references)), len(references)))
    sample = references[:: -(-len(references) // wanted)]
    return read_rows(sample, slice(0, len(sample)))


def encode(quantizer: Quantizer, array: NDArray[Any], rows: slice, workers: Workers) -> Codes:
    """Codes of a slice of rows; each worker holds only a chunk of them as float64."""
    size = rows.stop - rows.start
    values, norms, errors = np.empty((size, quantizer.width), np.int8), np.empty(size, np.int64), np.empty(size)

    def fill(chunk: slice) -> None:
        part = quantizer.encode(read_rows(array, slice(rows.start + chunk.start, rows.start + chunk.stop)))
        values[chunk], norms[chunk], errors[chunk] = part.values, part.norms, part.errors

    workers(fill, size, chunk_rows=min(CHUNK_ROWS, chunk_rows(array)))
    return Codes(values, norms, errors)


def _mixtures(rows: NDArray[np.int8], count: int, products: Products) -> NDArray[np.float32] | None:
    """Random mixtures of the leading principal directions of rows (B, D), (D, count); None where all rows are the same.

    They are the columns of ``X^T X R``, X the centred rows and R random: a second pass costs what it saves.
    Between both products, columns are rounded to int8: other mixtures, but as good.
    """
    random = np.random.default_rng(0).integers(-128, 128, (count, rows.shape[1]), dtype=np.int8)
    projected = products.multiply(rows, products.pack(random))  # (B, count)
    offsets = projected - projected.mean(axis=0)  # the mean of equal int32 values is exact
    largest = np.abs(offsets).max()
    if largest == 0:
        return None
    small = np.ascontiguousarray(np.rint(offsets.T * (127 / largest)), dtype=np.int8)  # (count, B)
    return np.ascontiguousarray(products.multiply(small, products.pack(rows.T)).T, dtype=np.float32)


def _orthonormal(columns: NDArray[np.float32]) -> NDArray[np.float32]:
    """The nearest columns that are orthonormal, up to rounding: all of them alike, and by few calls of BLAS."""
    wide = columns.astype(np.float64)
    values, vectors = np.linalg.eigh(wide.T @ wide)
    scaled = vectors / np.sqrt(np.maximum(values, values[-1] * 1e-13))
    return np.asarray(columns @ (scaled @ vectors.T).astype(np.float32))


def _take_out_codes(offsets: NDArray[np.float64]) -> NDArray[np.float64]:
    """The nearest codes of values in steps, whole numbers; the values become what these leave."""
    values = np.rint(offsets)
    np.clip(values, -127, 127, out=values)
    offsets -= values
    return values


def _codes(offsets: NDArray[np.float64], step: float, slack: NDArray[np.float64]) -> Codes:
    """Codes of values in steps, (B, P), overwritten, with upper bounds of what rounding added to the rows, (B,)."""
    values = _take_out_codes(offsets).astype(np.int8)
    left_out = np.sqrt(np.einsum("ij,ij->i", offsets, offsets)) * (1 + _ROUNDING)
    left_out += 127 * np.sqrt(values.shape[1]) * 2.0**-48  # of values in steps
    return Codes(values, _BYTES.norms(values), step * left_out + slack)


def _best_step(offsets: NDArray[np.float64]) -> tuple[float, float] | None:
    """The step that gives most rows (B, P) the smallest errors, and a bound of these; None where all are zero."""
    squared = np.square(offsets).mean(axis=1)
    scale = np.sqrt(np.median(squared) or squared.mean())
    if scale < _SMALLEST_SCALE:
        return None
    few = offsets[:: -(-offsets.size // _STEP_VALUES)]
    step = min((float(reach * scale / 127) for reach in _RANGES), key=lambda step: _usual_error(few, step))
    return step, _usual_error(offsets, step)


def _usual_error(offsets: NDArray[np.float64], step: float) -> float:
    """An upper bound of the errors of most rows (B, P)."""
    scaled = offsets / step
    _take_out_codes(scaled)
    return step * float(np.quantile(np.sqrt(np.einsum("ij,ij->i", scaled, scaled)), _MOST_ROWS))
