"""From an array as it arrived to grey levels, N x C x H x W: its layout, its kind of values, its range."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from memgen_eval.data.images import Shape, check_image_size
from memgen_eval.errors import InputError, range_remedy, shape_text, which_image

Layout = Literal["NHW", "NCHW", "NHWC"]
ValueKind = Literal["uint8", "integer", "float"]

UNASKED: tuple[float, float] = (-1.0, 1.0)  # the range of floats that nobody gave one for, if they pass the next two
NONE_BEYOND = 1.1
DARK, DARK_SHARE = -0.1, 1e-3  # a smaller share of values this low may be the overshoot of images in [0, 1]
WARN_SHARE = 0.05
FAR_OUTSIDE = 0.1  # of the range's width: excursions of a trained model seldom are as large


def layouts(shape: Sequence[int]) -> dict[Layout, Shape]:
    """How an array of this shape can be read as images, and the C, H, W that each reading gives."""
    if len(shape) == 3:
        return {"NHW": (1, shape[1], shape[2])}
    fits: dict[Layout, Shape] = {}
    if len(shape) == 4 and shape[1] in (1, 3):
        fits["NCHW"] = (shape[1], shape[2], shape[3])
    if len(shape) == 4 and shape[3] in (1, 3):
        fits["NHWC"] = (shape[3], shape[1], shape[2])
    return fits


def layout_of(shape: Sequence[int], *, like: Shape | None, label: str) -> tuple[Layout, Shape]:
    """The layout of an array and its C, H, W; where two fit, the one that gives the shape `like`.

    Raises
    ------
    InputError
        If no layout fits, if two do and nothing decides, if there are no images, or if their shape is not `like`.
    """
    fits = layouts(shape)
    if not fits:
        raise InputError(
            f"{label}: shape ({', '.join(map(str, shape))}) is not an image set; expected (N, H, W), (N, C, H, W) or "
            "(N, H, W, C) with C = 1 or 3"
        )
    if 0 in shape:
        raise InputError(f"{label}: shape {tuple(shape)} holds no images; expected at least one, of at least one pixel")
    check_image_size(prod(shape[1:]), label)
    matching = {layout: chw for layout, chw in fits.items() if like is None or chw == like}
    if not matching:
        seen = " or ".join(shape_text(chw) for chw in dict.fromkeys(fits.values()))
        raise InputError(
            f"{label}: images of {seen} (C x H x W), expected those of the training set, {shape_text(like or ())}"
        )
    if len(matching) > 1 and prod(shape[1:]) > 1:
        raise InputError(
            f"{label}: shape {tuple(shape)} can be read as (N, C, H, W) and as (N, H, W, C); give grey images as "
            "(N, H, W), or colour images as files"
        )
    return next(iter(matching.items()))


def kind_of(dtype: np.dtype[Any], *, label: str) -> ValueKind:
    """The kind of values of an array. Raises InputError for values that images do not have."""
    if dtype == np.uint8:
        return "uint8"
    if dtype.kind in "ui":
        return "integer"
    if dtype.kind == "f":
        return "float"
    if dtype.kind == "b":
        raise InputError(f"{label}: boolean values; expected grey levels: multiply by 255 and convert to uint8")
    if dtype.kind == "O":
        raise InputError(f"{label}: Python objects, which are never unpickled; expected an array of uint8 or floats")
    raise InputError(f"{label}: values of type {dtype}; expected uint8, integers from 0 to 255, or floats")


def checked_range(value_range: object, *, argument: str) -> tuple[float, float] | None:
    """Two finite increasing numbers, or None. Raises InputError otherwise."""
    if value_range is None:
        return None
    try:
        low, high = (float(value) for value in value_range)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        low = high = float("nan")
    if not (isfinite(low) and isfinite(high) and low < high):
        raise InputError(f"{argument}: range {value_range!r}; expected two finite increasing numbers, such as (-1, 1)")
    return low, high


@dataclass(frozen=True)
class Conversion:
    """How the raw images of a set become canonical ones.

    `value_range` is None for integers that are grey levels already; floats map linearly, `low` to 0 and `high` to 255,
    clipped, and are rounded to the nearest level (ties to the even one) unless `quantize` is off.
    """

    layout: Layout
    value_range: tuple[float, float] | None
    quantize: bool

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of canonical images."""
        return np.dtype(np.uint8 if self.quantize else np.float32)

    def __call__(self, raw: NDArray[Any]) -> NDArray[Any]:
        """Raw images of any number to (B, C, H, W), contiguous; a view where nothing is to be done."""
        return np.ascontiguousarray(self._channels_first(self._levels(raw)))

    def is_identity(self, raw: NDArray[Any]) -> bool:
        """Whether the raw images already are canonical, but perhaps for an axis of size one."""
        untouched = self.value_range is None and raw.dtype == self.dtype and raw.dtype.isnative
        return untouched and self._channels_first(raw).flags.c_contiguous

    def _levels(self, raw: NDArray[Any]) -> NDArray[Any]:
        if self.value_range is None:
            return raw.astype(self.dtype, copy=False)
        low, high = self.value_range
        levels = raw.astype(np.float64)
        levels -= low
        levels /= high - low
        levels *= 255.0
        if self.quantize:
            np.rint(levels, out=levels)
        return np.clip(levels, 0.0, 255.0, out=levels).astype(self.dtype)

    def _channels_first(self, levels: NDArray[Any]) -> NDArray[Any]:
        if self.layout == "NHW":
            return levels[:, None]
        return np.moveaxis(levels, -1, 1) if self.layout == "NHWC" else levels


def conversion_for(
    layout: Layout, kind: ValueKind, *, value_range: tuple[float, float] | None, quantize: bool, label: str
) -> Conversion:
    """The conversion of a set. Raises InputError if integers come with a range that is not theirs."""
    if kind == "float":
        return Conversion(layout, value_range or UNASKED, quantize)
    if value_range not in (None, (0.0, 255.0)):
        raise InputError(
            f"{label}: integers are grey levels from 0 to 255, the range given is {value_range}; leave the range out, "
            "or give floats"
        )
    return Conversion(layout, None, quantize)


@dataclass(frozen=True)
class Tally:
    """Extremes of the raw values, and how many there are: in all, outside the range, far outside it, below -0.1."""

    minimum: float
    maximum: float
    num_values: int
    num_beyond: int
    num_far: int
    num_dark: int

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            min(self.minimum, other.minimum),
            max(self.maximum, other.maximum),
            self.num_values + other.num_values,
            self.num_beyond + other.num_beyond,
            self.num_far + other.num_far,
            self.num_dark + other.num_dark,
        )


def tally(
    raw: NDArray[Any],
    value_range: tuple[float, float] | None,
    *,
    first: int = 0,
    names: Sequence[str] | None = None,
    label: str,
) -> Tally:
    """Count the values of raw images. Raises InputError naming the first image with a NaN or an infinity."""
    minimum, maximum = float(raw.min()), float(raw.max())
    if not (isfinite(minimum) and isfinite(maximum)):
        wrong = ~np.isfinite(raw).reshape(len(raw), -1).all(axis=1)
        which = which_image(first + int(wrong.argmax()), names)
        raise InputError(f"{label}: {which} holds NaN or infinity; expected finite values: leave it out or fix it")
    low, high = value_range or (0.0, 255.0)

    def num_outside(margin: float) -> int:
        if minimum >= low - margin and maximum <= high + margin:
            return 0
        return int(np.count_nonzero((raw < low - margin) | (raw > high + margin)))

    dark = int(np.count_nonzero(raw < DARK)) if minimum < DARK else 0
    return Tally(minimum, maximum, raw.size, num_outside(0), num_outside(FAR_OUTSIDE * (high - low)), dark)


def out_of_hand(seen: Tally) -> bool:
    """Whether values lie so far out that no further image can make floats without a range acceptable."""
    return seen.minimum < -NONE_BEYOND or seen.maximum > NONE_BEYOND


def refuse_range(seen: Tally, *, argument: str, label: str) -> InputError:
    """The error for floats whose range nobody gave and nobody can tell."""
    dark = f", {seen.num_dark:,} of {seen.num_values:,} values below {DARK}" if seen.minimum < 0 else ""
    return InputError(
        f"{label}: floats from {seen.minimum:.4g} to {seen.maximum:.4g}{dark}; without a range only [-1, 1] is "
        f"accepted ({DARK_SHARE:.1%} of the values below {DARK}, none beyond {NONE_BEYOND}): {range_remedy(argument)}"
    )


def judge_values(
    seen: Tally, kind: ValueKind, value_range: tuple[float, float] | None, *, argument: str, label: str
) -> tuple[tuple[str, ...], dict[str, Any] | None]:
    """Whether the values of the whole set are what they are taken for; notes, and what was clipped if anything was.

    Warns
    -----
    UserWarning
        If more than 5 % of the values lie outside a range that was given.

    Raises
    ------
    InputError
        For integers outside 0 to 255, and for floats without a range that are not plainly in [-1, 1].
    """
    if kind != "float":
        if seen.num_beyond:
            raise InputError(
                f"{label}: integers from {seen.minimum:.0f} to {seen.maximum:.0f}; expected grey levels from 0 to 255"
            )
        return (), None
    if value_range is None and (out_of_hand(seen) or seen.num_dark < DARK_SHARE * seen.num_values):
        raise refuse_range(seen, argument=argument, label=label)
    if not seen.num_beyond:
        return (), None
    low, high = value_range or UNASKED
    share = seen.num_beyond / seen.num_values
    clipped = {
        "count": seen.num_beyond,
        "share": share,
        "far_share": seen.num_far / seen.num_values,
        "minimum": seen.minimum,
        "maximum": seen.maximum,
    }
    note = (
        f"clipped to [{low:g}, {high:g}]: {seen.num_beyond:,} of {seen.num_values:,} values ({100 * share:.2g} %), "
        f"from {seen.minimum:.4g} to {seen.maximum:.4g}"
    )
    if share > WARN_SHARE:
        warnings.warn(f"{label}: {note}; is the range right?", UserWarning, stacklevel=2)
    return (note,), clipped
