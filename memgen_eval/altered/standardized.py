"""Images with their brightness, colour cast and contrast evened out, so that copies in which these differ lie near."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MIDDLE, DEVIATION = 128.0, 32.0  # grey levels of a standardized image, so that four deviations on each side fit
LEAST_DEVIATION = 4.0  # grey levels: what varies less holds little but rounding and noise
FEWEST_COARSE = 16  # squares along the longer side, over which noise and compression are averaged out

Pixels = NDArray[np.uint8]
Bools = NDArray[np.bool_]


def standardized(images: NDArray[Any]) -> Pixels:
    """Each channel about its mean, divided by the deviation of the whole image; as grey levels, to be searched.

    Averaged first over squares so large that 16 remain along the longer side, or more: that takes out noise, and most
    of compression and blur. A deviation becomes 32 grey levels about 128, so that an image and the same image with
    another brightness, colour cast or contrast become equal but for rounding and clipping. Images that deviate by less
    than 4 grey levels are divided by 4.

    Parameters
    ----------
    images : uint8 or float32, (B, C, H, W)
        In grey levels.

    Returns
    -------
    uint8, (B, C, h, w)
    """
    centred = averaged(images, coarse_side(images.shape))
    centred -= centred.mean(axis=(2, 3), keepdims=True, dtype=np.float64).astype(np.float32)
    deviations = np.sqrt(np.square(centred).mean(axis=(1, 2, 3), keepdims=True, dtype=np.float64))  # (B, 1, 1, 1)
    centred *= (DEVIATION / np.maximum(deviations, LEAST_DEVIATION)).astype(np.float32)
    grey_levels: Pixels = np.rint(centred + np.float32(MIDDLE)).clip(0, 255).astype(np.uint8)
    return grey_levels


def lacks_contrast(standardized_images: Pixels) -> Bools:
    """Which of standardized images, (B, C, H, W), have so little contrast that nothing can be told of them, (B,)."""
    centred = standardized_images.astype(np.float32) - np.float32(MIDDLE)
    flat: Bools = np.square(centred).mean(axis=(1, 2, 3)) < (DEVIATION / 2) ** 2
    return flat


def averaged(images: NDArray[Any], side: int) -> NDArray[np.float32]:
    """Images, (B, C, H, W), averaged over squares of `side` pixels; rows and columns that fill no square are cut."""
    if images.dtype == np.uint8:
        return averaged_levels(images, side)
    height, width = (size // side for size in images.shape[2:])
    cut = images[:, :, : height * side, : width * side].astype(np.float32)
    if side == 1:
        return cut
    return np.asarray(cut.reshape(*images.shape[:2], height, side, width, side).mean(axis=(3, 5)))


def averaged_levels(levels: NDArray[Any], side: int) -> NDArray[np.float32]:
    """The same of whole numbers, uint8 or float32, whose sums are exact in any order: 5 times as fast."""
    height, width = (size // side * side for size in levels.shape[2:])
    total = np.zeros((*levels.shape[:2], height // side, width // side), dtype=np.float32)
    for down, right in np.ndindex(side, side):
        total += levels[:, :, down:height:side, right:width:side]
    total /= np.float32(side * side)
    return total


def coarse_side(shape: tuple[int, ...], *, fewest: int = FEWEST_COARSE) -> int:
    """The largest squares over which images (..., H, W) are averaged so that `fewest` remain along the longer side."""
    height, width = shape[-2:]
    return max(1, min(max(height, width) // fewest, height, width))
