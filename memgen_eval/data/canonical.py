"""From an array as it arrived to grey levels, N x C x H x W: its layout, its kind of values, its range."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite, prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from memgen_eval.data.images import Expected, Rows, Shape, check_image_size
from memgen_eval.errors import InputError, range_remedy, shape_text, which_image

logger = logging.getLogger(__name__)
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


def conversion_for(raw: Rows, expected: Expected, label: str) -> Conversion:
    """The conversion of a set that begins with these images.

    Raises
    ------
    InputError
        If no layout fits, if two do and nothing decides, if there are no images, or if their shape is not the one
        expected; for types that images do not have; and if integers come with a range that is not theirs.
    """
    layout, chw = _layout(raw.shape, expected.like, label)
    kind, value_range = _kind(raw.dtype, label), expected.value_range
    if kind == "float":
        value_range = value_range or UNASKED
    elif value_range not in (None, (0.0, 255.0)):
        raise InputError(
            f"{label}: integers are grey levels from 0 to 255, the range given is {value_range}; leave the range out, "
            "or give floats"
        )
    else:
        value_range = None
    stored_as = getattr(raw, "stored_as", str(raw.dtype))
    return Conversion(raw.shape[1:], stored_as, layout, chw, kind, value_range, expected.quantize)


def _layout(shape: Sequence[int], like: Shape | None, label: str) -> tuple[Layout, Shape]:
    """The layout of an array and its C, H, W; where two fit, the one that gives the shape `like`."""
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


def _kind(dtype: np.dtype[Any], label: str) -> ValueKind:
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

    Attributes
    ----------
    raw_shape, raw_type : of each image as it arrived
    layout, shape : how it is read, and the C, H, W that this gives
    kind : of its values
    value_range : (float, float) or None
        None for integers that are grey levels already. Floats map linearly, the lower end to 0 and the upper one to
        255, are clipped, and are rounded to the nearest level (ties to the even one) if `quantize` is on.
    """

    raw_shape: tuple[int, ...]
    raw_type: str
    layout: Layout
    shape: Shape
    kind: ValueKind
    value_range: tuple[float, float] | None
    quantize: bool

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of canonical images."""
        return np.dtype(np.uint8 if self.quantize else np.float32)

    def __call__(self, raw: NDArray[Any]) -> NDArray[Any]:
        """Raw images of any number to (B, C, H, W), contiguous; a view where nothing is to be done."""
        return np.ascontiguousarray(self._channels_first(self._levels(raw)))

    def check_alike(self, raw: NDArray[Any], label: str) -> None:
        """Raise InputError for later images of another shape or another kind of values than the first."""
        if raw.shape[1:] != self.raw_shape:
            raise InputError(
                f"{label}: images of {shape_text(raw.shape[1:])}, those before of {shape_text(self.raw_shape)}; "
                "expected one shape"
            )
        if not len(raw):
            raise InputError(f"{label}: holds no images; expected at least one")
        if _kind(raw.dtype, label) != self.kind:
            kinds = f"values of type {raw.dtype}, those before were {self.raw_type}"
            raise InputError(f"{label}: {kinds}; expected one type")

    def is_identity(self, raw: NDArray[Any]) -> bool:
        """Whether the raw images already are canonical, but perhaps for an axis of size one."""
        return self.kind == "uint8" and self.quantize and self._channels_first(raw).flags.c_contiguous

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


class Values:
    """The raw values of a set, counted as they are read, and judged once all of them were.

    Counted are all values of floats and of integers, those outside the range, those far outside it and those below
    -0.1. Every value of uint8 is a grey level: of these nothing but the number of images is kept.
    """

    def __init__(self, conversion: Conversion, expected: Expected, names: Sequence[str] | None = None) -> None:
        self.conversion, self.expected, self.names = conversion, expected, names
        self.minimum, self.maximum = inf, -inf
        self.num_images = self.num_values = self.num_beyond = self.num_far = self.num_dark = 0

    def count(self, raw: NDArray[Any], label: str) -> None:
        """Count those of the next images. Raises InputError naming the first image with a NaN or an infinity."""
        first, self.num_images = self.num_images, self.num_images + len(raw)
        if self.conversion.kind == "uint8":
            return
        minimum, maximum = float(raw.min()), float(raw.max())
        if not (isfinite(minimum) and isfinite(maximum)):
            wrong = ~np.isfinite(raw).reshape(len(raw), -1).all(axis=1)
            which = which_image(first + int(wrong.argmax()), self.names)
            raise InputError(f"{label}: {which} holds NaN or infinity; expected finite values: leave it out or fix it")
        self.minimum, self.maximum = min(self.minimum, minimum), max(self.maximum, maximum)
        self.num_values += raw.size
        low, high = self.conversion.value_range or (0.0, 255.0)
        if minimum < low or maximum > high:
            far = FAR_OUTSIDE * (high - low)
            self.num_beyond += int(np.count_nonzero((raw < low) | (raw > high)))
            self.num_far += int(np.count_nonzero((raw < low - far) | (raw > high + far)))
        if minimum < DARK:
            self.num_dark += int(np.count_nonzero(raw < DARK))

    def judge_early(self, label: str, *, is_first: bool) -> None:
        """Raise InputError for values that no later images can make right; after the first, warn where they have to."""
        if self._out_of_hand:
            raise self._refusal(label)
        if is_first and self._is_unasked and not self.num_dark:
            logger.warning(
                "%s: no value below %g so far; if that stays so, the whole set will be refused: %s",
                label,
                DARK,
                range_remedy(self.expected.argument),
            )

    def judge(self, label: str) -> tuple[tuple[str, ...], dict[str, Any] | None]:
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
        if self._out_of_hand or (self._is_unasked and self.num_dark < DARK_SHARE * self.num_values):
            raise self._refusal(label)
        if not self.num_beyond:
            return (), None
        low, high = self.conversion.value_range or UNASKED
        share = self.num_beyond / self.num_values
        clipped = {
            "count": self.num_beyond,
            "share": share,
            "far_share": self.num_far / self.num_values,
            "minimum": self.minimum,
            "maximum": self.maximum,
        }
        note = (
            f"clipped to [{low:g}, {high:g}]: {self.num_beyond:,} of {self.num_values:,} values ({100 * share:.2g} %), "
            f"from {self.minimum:.4g} to {self.maximum:.4g}"
        )
        if share > WARN_SHARE:
            warnings.warn(f"{label}: {note}; is the range right?", UserWarning, stacklevel=2)
        return (note,), clipped

    @property
    def _is_unasked(self) -> bool:
        """Whether these are floats whose range nobody gave."""
        return self.conversion.kind == "float" and self.expected.value_range is None

    @property
    def _out_of_hand(self) -> bool:
        """Whether values lie so far out that no further image can make the set acceptable."""
        if self._is_unasked:
            return self.minimum < -NONE_BEYOND or self.maximum > NONE_BEYOND
        return self.conversion.kind == "integer" and self.num_beyond > 0

    def _refusal(self, label: str) -> InputError:
        if self.conversion.kind == "integer":
            extremes = f"integers from {self.minimum:.0f} to {self.maximum:.0f}"
            return InputError(f"{label}: {extremes}; expected grey levels from 0 to 255")
        dark = f", {self.num_dark:,} of {self.num_values:,} values below {DARK}" if self.minimum < 0 else ""
        return InputError(
            f"{label}: floats from {self.minimum:.4g} to {self.maximum:.4g}{dark}; without a range only [-1, 1] is "
            f"accepted ({DARK_SHARE:.1%} of the values below {DARK}, none beyond {NONE_BEYOND}): "
            f"{range_remedy(self.expected.argument)}"
        )
