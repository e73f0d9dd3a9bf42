"""From what was given to an `ImageSet`: values are judged in one pass, and small sets are converted in the same one."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.data.canonical import (
    DARK,
    Conversion,
    Tally,
    ValueKind,
    conversion_for,
    judge_values,
    kind_of,
    layout_of,
    out_of_hand,
    refuse_range,
    tally,
)
from memgen_eval.data.images import IN_MEMORY, Images, ImageSet, Rows, Shape, block_bounds
from memgen_eval.data.tensors import TensorRows, is_tensor
from memgen_eval.errors import InputError, place, range_remedy, shape_text

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Expected:
    """What is asked of a set: the word for it in messages, its range if one was given, the shape it must have."""

    argument: str
    value_range: tuple[float, float] | None
    like: Shape | None
    quantize: bool


@dataclass(frozen=True, eq=False)
class Converted:
    """Rows that become canonical when they are read."""

    rows: Rows
    conversion: Conversion
    shape: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The canonical type."""
        return self.conversion.dtype

    def __getitem__(self, key: Any, /) -> NDArray[Any]:
        if isinstance(key, slice):
            key = slice(*key.indices(self.shape[0]))
        return self.conversion(np.asarray(self.rows[key]))


def take_array(images: Images, expected: Expected, *, num_images: int | None) -> ImageSet:
    """The image set of an array, a tensor, or rows on disk; the array itself where it is canonical already.

    Raises
    ------
    InputError
        For layouts, types, values, ranges and shapes that cannot be used.
    """
    label = expected.argument if images.path is None else place(expected.argument, images.path)
    rows: Rows = TensorRows(images.array) if is_tensor(images.array) else images.array
    layout, chw = layout_of(rows.shape, like=expected.like, label=label)
    kind = kind_of(rows.dtype, label=label)
    conversion = conversion_for(layout, kind, value_range=expected.value_range, quantize=expected.quantize, label=label)
    total = _checked_count(rows.shape[0], num_images, label)
    shape = (total, *chw)
    names = _names(images, total, cut=num_images is not None, label=label)
    source, seen = _converted(rows, shape, kind, conversion, images.names, label)
    notes, clipped = (
        ((), None)
        if seen is None
        else judge_values(seen, kind, expected.value_range, argument=expected.argument, label=label)
    )
    if images.stamp is not None:
        images.stamp.check()
    return ImageSet(
        source,
        names,
        _arrival(
            images, rows, shape, kind, conversion, (*images.notes, *notes), clipped, expected.value_range is not None
        ),
        None if isinstance(source, np.ndarray) and source.flags.owndata else images.stamp,
    )


def take_stream(
    batches: Iterable[NDArray[Any]],
    images: Images,
    expected: Expected,
    *,
    label: str,
    unit: str,
    num_images: int | None = None,
) -> ImageSet:
    """The image set of batches that come one after the other, each converted at once and then let go.

    `unit` is what a batch is called in messages. At most `num_images` are taken, and at least as many are expected.
    """
    whole: NDArray[Any] | None = None
    first: _Opening | None = None
    seen: Tally | None = None
    count = 0
    for number, batch in enumerate(batches, start=1):
        raw = batch if num_images is None else batch[: num_images - count]
        here = f"{label}, {unit} {number}"
        if first is None:
            first = _opening(raw, expected, here)
        _check_alike(raw, first, here)
        if first.kind != "uint8":
            measured = tally(raw, first.conversion.value_range, first=count, label=here)
            seen = measured if seen is None else seen + measured
            _check_early(seen, first.kind, expected, here, is_first=number == 1)
        whole = _appended(whole, first.conversion(raw), count)
        count += len(raw)
        if count == num_images:
            break
    if first is None or whole is None:
        raise InputError(f"{label}: holds no images; expected at least one")
    _checked_count(count, num_images, label)
    whole.resize((count, *whole.shape[1:]), refcheck=False)
    notes, clipped = (
        ((), None)
        if seen is None
        else judge_values(seen, first.kind, expected.value_range, argument=expected.argument, label=label)
    )
    notes, given = (*images.notes, *notes), expected.value_range is not None
    arrival = _arrival(images, first.raw, whole.shape, first.kind, first.conversion, notes, clipped, given)
    return ImageSet(whole, _names(images, count, cut=num_images is not None, label=label), arrival)


def _appended(whole: NDArray[Any] | None, rows: NDArray[Any], count: int) -> NDArray[Any]:
    """One array whose first `count` rows are followed by these: it grows where it lies.

    Thousands of small arrays, kept one by one, would lie between the large ones that a sampler lets go, and the memory
    of these could not be used again.
    """
    if whole is None:
        return np.array(rows, order="C")
    if count + len(rows) > len(whole):
        whole.resize((max(count + len(rows), 3 * len(whole) // 2), *whole.shape[1:]), refcheck=False)
    whole[count : count + len(rows)] = rows
    return whole


@dataclass(frozen=True, eq=False)
class _Opening:
    """What the first batch settles for all."""

    raw: NDArray[Any]
    kind: ValueKind
    conversion: Conversion


def _opening(raw: NDArray[Any], expected: Expected, label: str) -> _Opening:
    layout, _ = layout_of(raw.shape, like=expected.like, label=label)
    kind = kind_of(raw.dtype, label=label)
    conversion = conversion_for(layout, kind, value_range=expected.value_range, quantize=expected.quantize, label=label)
    return _Opening(raw[:0], kind, conversion)


def _check_alike(raw: NDArray[Any], first: _Opening, label: str) -> None:
    if raw.shape[1:] != first.raw.shape[1:]:
        raise InputError(
            f"{label}: images of {shape_text(raw.shape[1:])}, those before of {shape_text(first.raw.shape[1:])}; "
            "expected one shape"
        )
    if not len(raw):
        raise InputError(f"{label}: holds no images; expected at least one")
    if kind_of(raw.dtype, label=label) != first.kind:
        raise InputError(f"{label}: values of type {raw.dtype}, those before were {first.raw.dtype}; expected one type")


def _check_early(seen: Tally, kind: ValueKind, expected: Expected, label: str, *, is_first: bool) -> None:
    """What need not wait for the last image: values that no later ones can make right, and a hint where they might."""
    if kind == "integer" and seen.num_beyond:
        judge_values(seen, kind, None, argument=expected.argument, label=label)
    if kind != "float" or expected.value_range is not None:
        return
    if out_of_hand(seen):
        raise refuse_range(seen, argument=expected.argument, label=label)
    if is_first and not seen.num_dark:
        logger.warning(
            "%s: no value below %g so far; if that stays so, the whole set will be refused: %s",
            label,
            DARK,
            range_remedy(expected.argument),
        )


def _checked_count(available: int, num_images: int | None, label: str) -> int:
    if num_images is None:
        return available
    if num_images < 1:
        raise InputError(f"{label}: {num_images} images asked for; expected at least one")
    if num_images > available:
        raise InputError(f"{label}: {num_images} images asked for, {available} are there; ask for fewer or give more")
    return num_images


def _names(images: Images, count: int, *, cut: bool, label: str) -> Sequence[str] | None:
    """The names of the images taken; a set that is cut may have more."""
    if images.names is None:
        return None
    if len(images.names) < count or (len(images.names) > count and not cut):
        raise InputError(f"{label}: {len(images.names)} names for {count} images; expected one for each")
    return images.names[:count]


def _converted(
    rows: Rows, shape: tuple[int, ...], kind: ValueKind, conversion: Conversion, names: Sequence[str] | None, label: str
) -> tuple[Rows, Tally | None]:
    """The canonical source, and what its values were if they had to be looked at."""
    total, num_values = shape[0], int(np.prod(shape[1:]))
    if kind == "uint8" and (isinstance(rows, np.ndarray) or (isinstance(rows, TensorRows) and rows.on_host)):
        raw = np.asarray(rows[:total])
        if conversion.is_identity(raw):
            return conversion(raw), None
    whole = None
    if total * num_values * conversion.dtype.itemsize <= IN_MEMORY:
        whole = np.empty(shape, dtype=conversion.dtype)
    seen: Tally | None = None
    for start, stop in block_bounds(total, num_values, fewest=1):  # nothing is summed here
        if kind == "uint8" and whole is None:
            break
        raw = np.asarray(rows[start:stop])
        if kind != "uint8":
            measured = tally(raw, conversion.value_range, first=start, names=names, label=label)
            seen = measured if seen is None else seen + measured
        if whole is not None:
            whole[start:stop] = conversion(raw)
    return (Converted(rows, conversion, shape) if whole is None else whole), seen


def _arrival(
    images: Images,
    rows: Rows,
    shape: tuple[int, ...],
    kind: ValueKind,
    conversion: Conversion,
    notes: tuple[str, ...],
    clipped: dict[str, Any] | None,
    given: bool,
) -> dict[str, Any]:
    """How a set arrived, in JSON types; `given`: whether the user said what its values mean."""
    low, high = conversion.value_range or (0.0, 255.0)
    rounding = "none: grey levels"
    if kind == "float":
        rounding = "to the nearest of 256 levels" if conversion.quantize else "none: quantize is off"
    return {
        "form": images.form,
        "path": images.path,
        "dtype": getattr(rows, "stored_as", None) or str(rows.dtype),
        "num_images": shape[0],
        "shape": list(shape[1:]),
        "layout": " ".join(conversion.layout),
        "value_range": [low, high],
        "range_given": given or kind != "float",
        "rounding": rounding,
        "clipped": clipped,
        "notes": list(notes),
    }
