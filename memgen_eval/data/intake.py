"""From what was given to an `ImageSet`: values are judged in one pass, and small sets are converted in the same one."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.data.canonical import Conversion, Values, conversion_for
from memgen_eval.data.images import IN_MEMORY, Expected, Images, ImageSet, Rows, block_bounds, room
from memgen_eval.data.tensors import TensorRows, is_tensor
from memgen_eval.errors import InputError, place


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


def take_array(images: Images, expected: Expected) -> ImageSet:
    """The image set of an array, a tensor, or rows on disk; the array itself where it is canonical already.

    Raises
    ------
    InputError
        For layouts, types, values, ranges and shapes that cannot be used.
    """
    label = expected.argument if images.path is None else place(expected.argument, images.path)
    rows: Rows = TensorRows(images.array) if is_tensor(images.array) else images.array
    conversion = conversion_for(rows, expected, label)
    images, count = _cut(images, rows.shape[0], expected, label)
    values = Values(conversion, expected, images.names)
    source = _canonical(rows, count, values, label)
    return _finished(source, images, values, label)


def _canonical(rows: Rows, count: int, values: Values, label: str) -> Rows:
    """The first rows in canonical form, and all values counted that have to be looked at.

    They are the array itself if nothing is to be done, a new one up to 512 MiB, beyond converted when they are read.
    """
    conversion, shape = values.conversion, (count, *values.conversion.shape)
    if conversion.kind == "uint8" and (isinstance(rows, np.ndarray) or getattr(rows, "on_host", False)):
        raw = np.asarray(rows[:count])
        if conversion.is_identity(raw):
            return conversion(raw)
    fits = prod(shape) * conversion.dtype.itemsize <= IN_MEMORY
    whole = room(shape, conversion.dtype, label=label) if fits else None
    if whole is None and conversion.kind == "uint8":
        return Converted(rows, conversion, shape)
    for start, stop in block_bounds(count, prod(shape[1:]), fewest=1):  # nothing is summed here
        raw = np.asarray(rows[start:stop])
        values.count(raw, label)
        if whole is not None:
            whole[start:stop] = conversion(raw)
    return Converted(rows, conversion, shape) if whole is None else whole


def take_stream(
    batches: Iterable[NDArray[Any]], images: Images, expected: Expected, *, label: str, unit: str
) -> ImageSet:
    """The image set of batches that come one after the other, each converted at once and then let go.

    `unit` is what a batch is called in messages.
    """
    values: Values | None = None
    whole: NDArray[Any] = np.empty(0)
    for number, batch in enumerate(batches, start=1):
        here = f"{label}, {unit} {number}"
        if values is None:
            conversion = conversion_for(batch, expected, here)
            values, whole = Values(conversion, expected), np.empty((0, *conversion.shape), conversion.dtype)
        values.conversion.check_alike(batch, here)
        raw = batch[: (expected.num_images or sys.maxsize) - values.num_images]
        values.count(raw, here)
        values.judge_early(here, is_first=number == 1)
        _append(whole, values.conversion(raw), values.num_images)
        if values.num_images == expected.num_images:
            break
    if values is None:
        raise InputError(f"{label}: holds no images; expected at least one")
    images, count = _cut(images, values.num_images, expected, label)
    whole.resize((count, *whole.shape[1:]), refcheck=False)
    return _finished(whole, images, values, label)


def _append(whole: NDArray[Any], rows: NDArray[Any], count: int) -> None:
    """Make these the last of the first `count` rows of one array, which grows where it lies.

    Thousands of small arrays, kept one by one, would lie between the large ones that a sampler lets go, and the memory
    of these could not be used again.
    """
    if count > len(whole):
        whole.resize((max(count, 3 * len(whole) // 2), *whole.shape[1:]), refcheck=False)
    whole[count - len(rows) : count] = rows


def _cut(images: Images, available: int, expected: Expected, label: str) -> tuple[Images, int]:
    """With the names of the images taken alone, and how many these are.

    Raises InputError if there are fewer images than were asked for, or other than one name for each.
    """
    count = expected.num_images or available
    if count > available:
        raise InputError(f"{label}: {count} images asked for, {available} are there; ask for fewer or give more")
    if images.names is None:
        return images, count
    if len(images.names) < count or (len(images.names) > count and expected.num_images is None):
        raise InputError(f"{label}: {len(images.names)} names for {count} images; expected one for each")
    return replace(images, names=images.names[:count]), count


def _finished(source: Rows, images: Images, values: Values, label: str) -> ImageSet:
    """The set once all of its values are known, with how it arrived in JSON types."""
    notes, clipped = values.judge(label)
    if images.stamp is not None:
        images.stamp.check()
    conversion, asked = values.conversion, values.expected.value_range
    rounding = "none: grey levels"
    if conversion.kind == "float":
        rounding = "to the nearest of 256 levels" if conversion.quantize else "none: quantize is off"
    arrival = {
        "form": images.form,
        "path": images.path,
        "dtype": conversion.raw_type,
        "num_images": source.shape[0],
        "shape": list(source.shape[1:]),
        "layout": " ".join(conversion.layout),
        "value_range": list(conversion.value_range or (0.0, 255.0)),
        "range_given": asked is not None or conversion.kind != "float",
        "rounding": rounding,
        "clipped": clipped,
        "notes": [*images.notes, *notes],
    }
    in_memory = isinstance(source, np.ndarray) and source.flags.owndata
    return ImageSet(source, images.names, arrival, None if in_memory else images.stamp)
