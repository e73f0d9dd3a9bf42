"""Ways to alter a copy: each takes uint8 images (B, C, H, W) with 1 or 3 channels and gives back as many.

Lengths that are shares are shares of a side; lengths in pixels are pixels, whatever the size of the images.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Pixels = NDArray[np.uint8]
Redraw = Callable[[Image.Image], Image.Image]

MID_GREY = 128
LUMA = np.array([0.299, 0.587, 0.114])[:, None, None]  # of red, green and blue, ITU-R BT.601


def levels(values: NDArray[np.floating]) -> Pixels:
    """Values rounded to grey levels, and cut at 0 and 255."""
    rounded: Pixels = np.rint(values).clip(0, 255).astype(np.uint8)
    return rounded


def redrawn(images: Pixels, redraw: Redraw) -> Pixels:
    """Each image by a function of Pillow's."""
    drawn = [redraw(as_picture(image)) for image in images]
    arrays = [
        np.asarray(picture, dtype=np.uint8).reshape(*picture.size[::-1], -1).transpose(2, 0, 1) for picture in drawn
    ]
    return np.stack(arrays) if arrays else images.copy()


def as_picture(image: Pixels) -> Image.Image:
    """One image (C, H, W) as Pillow's, grey or RGB."""
    return Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))


# Values


def noisy(images: Pixels, deviation: float, generator: np.random.Generator) -> Pixels:
    """With Gaussian noise of standard deviation `deviation`, in grey levels."""
    return levels(images + generator.normal(0, deviation, images.shape))


def speckled(images: Pixels, share: float, generator: np.random.Generator) -> Pixels:
    """With a share of the pixels black or white, salt and pepper."""
    drawn = generator.random((len(images), 1, *images.shape[2:]))
    return np.where(drawn < share, np.where(drawn < share / 2, np.uint8(0), np.uint8(255)), images)


def brightened(images: Pixels, factor: float) -> Pixels:
    """All values times a factor."""
    return levels(factor * images.astype(np.float64))


def with_contrast(images: Pixels, factor: float) -> Pixels:
    """The distance of all values from mid-grey times a factor."""
    return levels(MID_GREY + factor * (images - float(MID_GREY)))


def with_gamma(images: Pixels, gamma: float) -> Pixels:
    """Values on [0, 1] to the power of gamma."""
    return levels(255 * (images / 255) ** gamma)


def saturated(images: Pixels, factor: float) -> Pixels:
    """The distance of all colours from their grey times a factor, 0 for none; grey images stay as they are."""
    if images.shape[1] == 1:
        return images.copy()
    grey = (LUMA * images).sum(axis=1, keepdims=True)
    return levels(grey + factor * (images - grey))


def tinted(images: Pixels, amount: float) -> Pixels:
    """`amount` grey levels more red and as many less blue; grey images become brighter by as many."""
    cast = np.array([amount, 0, -amount] if images.shape[1] == 3 else [amount])
    return levels(images + cast[:, None, None])


def exchanged(images: Pixels, order: Sequence[int]) -> Pixels:
    """With channels in another order. Grey images stay as they are."""
    return images[:, list(order)] if images.shape[1] == 3 else images.copy()


def solarised(images: Pixels, above: int) -> Pixels:
    """With all values from `above` on turned into their negative; 0 makes the negative of the whole."""
    return np.where(images >= above, 255 - images, images)


def posterised(images: Pixels, bits: int) -> Pixels:
    """Rounded to the nearest of 2**bits evenly spaced grey levels in each channel."""
    steps = 2**bits - 1
    return levels(np.rint(images / 255 * steps) * (255 / steps))


def paletted(images: Pixels, colours: int) -> Pixels:
    """Each with a palette of `colours` colours, by Pillow."""
    return redrawn(images, lambda picture: picture.quantize(colours).convert(picture.mode))


def compressed(images: Pixels, quality: int) -> Pixels:
    """Written as JPEG by Pillow and read again."""

    def once(picture: Image.Image) -> Image.Image:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return redrawn(images, once)


# Detail


def blurred(images: Pixels, radius: float) -> Pixels:
    """By Pillow's Gaussian blur, the radius in pixels."""
    return redrawn(images, lambda picture: picture.filter(ImageFilter.GaussianBlur(radius)))


def smeared(images: Pixels, length: int) -> Pixels:
    """Motion blur: the mean over `length` pixels in a row, an odd number; the border is repeated."""
    half = length // 2
    columns = (np.arange(images.shape[3])[:, None] + np.arange(-half, half + 1)).clip(0, images.shape[3] - 1)
    return levels(images[..., columns].mean(axis=-1))


def sharpened(images: Pixels, percent: int) -> Pixels:
    """By Pillow's unsharp mask of radius 1."""
    return redrawn(images, lambda picture: picture.filter(ImageFilter.UnsharpMask(1, percent, 0)))


def median_filtered(images: Pixels, size: int) -> Pixels:
    """Each value the median of a square of `size` pixels a side, by Pillow."""
    return redrawn(images, lambda picture: picture.filter(ImageFilter.MedianFilter(size)))


def reduced(images: Pixels, share: float) -> Pixels:
    """Scaled down to a share of the side, and up again."""

    def once(picture: Image.Image) -> Image.Image:
        small = tuple(max(1, round(share * side)) for side in picture.size)
        return picture.resize((small[0], small[1]), Image.Resampling.BOX).resize(picture.size, Image.Resampling.BICUBIC)

    return redrawn(images, once)


# Places


def shifted(images: Pixels, right: int, down: int = 0) -> Pixels:
    """Moved to the right and down, in pixels; the border is repeated."""
    height, width = images.shape[2:]
    rows = (np.arange(height) - down).clip(0, height - 1)
    columns = (np.arange(width) - right).clip(0, width - 1)
    return images[:, :, rows[:, None], columns]


def cropped(images: Pixels, share: float, generator: np.random.Generator | None = None) -> Pixels:
    """A part of such a share of each side, scaled up to the whole: the centre, or with a generator a part anywhere."""
    places = np.full((len(images), 2), 0.5) if generator is None else generator.random((len(images), 2))
    drawn = [_box_of(image[None], share, share, place) for image, place in zip(images, places, strict=True)]
    return np.concatenate(drawn) if drawn else images.copy()


def stretched(images: Pixels, share: float) -> Pixels:
    """The middle columns, such a share of all, stretched to the whole width."""
    return _box_of(images, share, 1.0, np.array([0.5, 0.5]))


def _box_of(images: Pixels, wide: float, high: float, place: NDArray[np.float64]) -> Pixels:
    """A box of such shares of the sides, scaled up; `place` goes from 0 for left and top to 1 for right and bottom."""

    def once(picture: Image.Image) -> Image.Image:
        left, top = (1 - wide) * picture.width * place[0], (1 - high) * picture.height * place[1]
        box = (left, top, left + wide * picture.width, top + high * picture.height)
        return picture.resize(picture.size, Image.Resampling.BILINEAR, box=box)

    return redrawn(images, once)


def rotated(images: Pixels, degrees: float) -> Pixels:
    """Turned about the centre, counterclockwise; what comes into the picture repeats its border."""
    around = max(images.shape[2:])
    padded = np.pad(images, ((0, 0), (0, 0), (around, around), (around, around)), mode="edge")
    drawn = redrawn(padded, lambda picture: picture.rotate(degrees, Image.Resampling.BILINEAR))
    return drawn[:, :, around:-around, around:-around]


def reversed_sideways(images: Pixels) -> Pixels:
    """Mirrored, left and right exchanged."""
    return images[..., ::-1]


def upside_down(images: Pixels) -> Pixels:
    """Mirrored, top and bottom exchanged."""
    return images[:, :, ::-1]


def quarter_turned(images: Pixels, turns: int) -> Pixels:
    """Turned by `turns` right angles, counterclockwise; images that are not square by two of them at a time."""
    if images.shape[2] != images.shape[3]:
        turns = 2
    return np.rot90(images, turns, axes=(2, 3))


# Parts


def cut_out(images: Pixels, share: float, generator: np.random.Generator) -> Pixels:
    """With a mid-grey box of such a share of each side, anywhere."""
    height, width = images.shape[2:]
    high, wide = max(1, round(share * height)), max(1, round(share * width))
    holed = images.copy()
    for image in holed:
        top, left = generator.integers(0, height - high + 1), generator.integers(0, width - wide + 1)
        image[:, top : top + high, left : left + wide] = MID_GREY
    return holed


def framed(images: Pixels, width: int) -> Pixels:
    """With a black frame, `width` pixels wide, over the border."""
    inside = images.copy()
    inside[:, :, :width] = inside[:, :, -width:] = 0
    inside[..., :width] = inside[..., -width:] = 0
    return inside


def blended(images: Pixels, others: Pixels, weight: float) -> Pixels:
    """Mixed with other images: `weight` of each image, the rest of the other."""
    return levels(weight * images + (1 - weight) * others)


def joined_to(images: Pixels, others: Pixels, share: float) -> Pixels:
    """The left part of each image, such a share of its width, and the rest of another."""
    columns = round(share * images.shape[3])
    return np.concatenate([images[..., :columns], others[..., columns:]], axis=3)


def set_into(images: Pixels, others: Pixels, share: float) -> Pixels:
    """The centre of each image, such a share of each side, in the place of another's."""
    placed = others.copy()
    (top, bottom), (left, right) = (_middle(side, share) for side in images.shape[2:])
    placed[:, :, top:bottom, left:right] = images[:, :, top:bottom, left:right]
    return placed


def _middle(side: int, share: float) -> tuple[int, int]:
    start = round((1 - share) * side / 2)
    return start, side - start
