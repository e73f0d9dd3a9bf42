"""Samples of checkpoints from the same noise, each above the training image nearest to it, as pictures for a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.render import numbers

MOST_STRIPS = 16  # on a page: a PNG of 16 pairs of 32 x 32 colour pixels has some hundred thousand characters
PAIRS_OF_A_PICTURE = 8  # so that a strip is two pictures, which stand below each other where the page is narrow
SPACE_BETWEEN = 1  # pixels between images
PAPER = 128


@dataclass(frozen=True, eq=False)
class Strip:
    """The first samples of a checkpoint, and the training image nearest to each, uint8 (B, C, H, W) both."""

    samples: NDArray[np.uint8]
    nearest: NDArray[np.uint8]


def strips_shown(strips: Sequence[Strip], steps: Sequence[float]) -> list[dict[str, Any]]:
    """For the page: the step of each strip that is shown and its pictures; the first, the last, others between."""
    chosen = np.unique(np.linspace(0, len(strips) - 1, min(len(strips), MOST_STRIPS)).round().astype(int))
    return [{"step": numbers.number(steps[i]), "pictures": _pictures(strips[i])} for i in chosen]


def _pictures(strip: Strip) -> list[dict[str, Any]]:
    starts = range(0, len(strip.samples), PAIRS_OF_A_PICTURE)
    parts = [slice(start, start + PAIRS_OF_A_PICTURE) for start in starts]
    sheets = [_sheet(strip.samples[part], strip.nearest[part]) for part in parts]
    words = [f"samples {part.start} to {min(part.stop, len(strip.samples)) - 1}" for part in parts]
    return [{"source": _png(sheet), "words": said} for sheet, said in zip(sheets, words, strict=True)]


def _sheet(samples: NDArray[np.uint8], nearest: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Samples in a row, the nearest training images in the row below; (C, H', W')."""
    padding = ((0, 0), (0, 0), (0, SPACE_BETWEEN), (0, SPACE_BETWEEN))
    rows = [np.concatenate(list(np.pad(row, padding, constant_values=PAPER)), axis=2) for row in (samples, nearest)]
    return np.concatenate(rows, axis=1)[:, :-SPACE_BETWEEN, :-SPACE_BETWEEN]


def _png(pixels: NDArray[np.uint8]) -> str:
    from PIL import Image

    channels = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
    stream = io.BytesIO()
    Image.fromarray(channels).save(stream, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
