"""The closest images next to their training images: the words for each pair, and its pictures inline."""

from __future__ import annotations

import base64
import io
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from memgen_eval.render.headlines import baseline_is_test
from memgen_eval.report import Report
from memgen_eval.results import AlteredMatch, Gallery, Match

Side = Literal["samples", "baseline"]
Key = tuple[str, int]
NOUNS = {"samples": "sample", "train": "training image", "test": "test image"}
# Side in px and form, best first; a page takes the first whose pictures fit: without loss, or as large as possible.
SIZES = ((256, "PNG"), *((side, "JPEG") for side in (256, 192, 128, 96, 64, 48, 32)))
JPEG_QUALITY = 88
MOST_CHARACTERS, MOST_OF_ALTERED, MOST_OF_GLIMPSE = 3_000_000, 500_000, 300_000
GLIMPSE: dict[Side, int] = {"samples": 4, "baseline": 2}  # pairs on the first screen
SMALL = 96  # px; smaller pictures are shown as the pixels they are


@dataclass(frozen=True)
class Picture:
    """An image by its number, its file's name where it has one, and its pixels where they are shown."""

    words: str
    file: str | None
    source: str | None
    pixelated: bool


@dataclass(frozen=True)
class Pair:
    """An image and the training image nearest to it; `altered` says what differs where both were aligned first."""

    image: Picture
    train: Picture
    distance: str
    ratio: str
    flipped: bool
    flagged: bool
    altered: str = ""


def pairs(report: Report, *, images: bool) -> dict[Side, list[Pair]]:
    """Both galleries, closest first; with pixels if `images` and the report still holds them."""
    family = report.memorization
    if family is None:
        return {"samples": [], "baseline": []}
    return _pairs(report, {"samples": family.closest, "baseline": family.test_closest}, images=images)


def glimpse(report: Report, *, images: bool) -> dict[Side, list[Pair]]:
    """The few closest of both, small: for the first screen; none without pixels."""
    family = report.memorization
    if family is None or not images or not report.gallery:
        return {"samples": [], "baseline": []}
    closest: dict[Side, tuple[Match, ...]] = {"samples": family.closest, "baseline": family.test_closest}
    few = {side: listed[: GLIMPSE[side]] for side, listed in closest.items()}
    return _pairs(report, few, images=images, most=MOST_OF_GLIMPSE)


def _pairs(
    report: Report, matches: Mapping[Side, tuple[Match, ...]], *, images: bool, most: int = MOST_CHARACTERS
) -> dict[Side, list[Pair]]:
    """Pairs of both sides, their pictures as large as `most` characters allow."""
    shown = report.gallery if images else None
    keys: list[Key] = [
        key
        for side, listed in matches.items()
        for match in listed
        for key in ((side, match.sample_index), ("train", match.train_index))
    ]
    sources = {} if shown is None else _sources(shown, keys, most=most)
    return {
        side: [_pair(report, match, side, sources, place=place) for place, match in enumerate(listed)]
        for side, listed in matches.items()
    }


def altered_pairs(report: Report, *, images: bool) -> list[Pair]:
    """Samples beside the training images that they fit once aligned, these shown as altered; the nearest fit first."""
    family, shown = report.memorization, report.gallery if images else None
    if family is None:
        return []
    sources: dict[Key, tuple[str, bool]] = {}
    if shown is not None:
        shape = report.settings.image_shape
        fitted = {m.sample_index: laid(shown.train[m.train_index], m, shape) for m in family.altered}
        own = {m.sample_index: shown.samples[m.sample_index] for m in family.altered}
        keys = [(part, index) for index in own for part in ("samples", "train")]
        sources = _sources(Gallery(samples=own, train=fitted, baseline={}), keys, most=MOST_OF_ALTERED)
    return [
        Pair(
            image=_picture(report, "samples", match.sample_index, sources.get(("samples", match.sample_index))),
            train=_picture(report, "train", match.train_index, sources.get(("train", match.sample_index))),
            distance=f"{match.grey_levels:.2f} grey levels apart otherwise",
            ratio=f"{match.ratio:.3f}",
            flipped=False,
            flagged=False,
            altered=match.words,
        )
        for match in family.altered
    ]


def laid(pixels: Any, match: AlteredMatch, image_shape: tuple[int, ...]) -> Any:
    """A training image, uint8 (C, H, W), altered as a sample is: mirrored, scaled, turned, shifted, brightened."""
    from PIL import Image

    height, width = pixels.shape[1:]
    angle, centre = math.radians(match.turn), np.array([width, height]) / 2
    inverse = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]) / match.scale
    shift = np.array([match.right * width / image_shape[2], match.down * height / image_shape[1]])
    start = centre - inverse @ (centre + shift)
    matrix = (*inverse[0], start[0], *inverse[1], start[1])  # from places in what is shown to those in the image
    drawn = [Image.fromarray(plane[:, ::-1] if match.flipped else plane) for plane in pixels]
    resampled = (
        plane.transform((width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR) for plane in drawn
    )
    moved = np.stack([np.asarray(plane) for plane in resampled])
    levels = moved.mean() + match.brightness + match.contrast * (moved - moved.mean())
    return np.rint(levels).clip(0, 255).astype(np.uint8)


def _pair(report: Report, match: Match, side: Side, sources: Mapping[Key, tuple[str, bool]], *, place: int) -> Pair:
    origin = "samples" if side == "samples" else "test" if baseline_is_test(report) else "train"
    mirrored = ", mirrored" if match.flipped else ""
    return Pair(
        image=_picture(report, origin, match.sample_index, sources.get((side, match.sample_index))),
        train=_picture(report, "train", match.train_index, sources.get(("train", match.train_index)), mirrored),
        distance=f"{match.grey_levels:.2f} grey levels ({match.distance:.4f})",
        ratio=f"{match.ratio:.3f}",
        flipped=match.flipped,
        flagged=place < _num_flagged(report, side) and match.ratio < report.settings.threshold,
    )


def _num_flagged(report: Report, side: Side) -> int:
    """The number of a side's images that the ratio rule flags; it compares exactly, a report's ratios are rounded."""
    if report.verdict is None:
        return 0
    evidence = report.verdict.evidence
    return evidence.num_flagged if side == "samples" else evidence.num_flagged_baseline


def _picture(report: Report, origin: str, index: int, source: tuple[str, bool] | None, mirrored: str = "") -> Picture:
    file = report.provenance.names.get(origin, {}).get(str(index))
    uri, pixelated = source or (None, False)
    return Picture(f"{NOUNS[origin]} {index:,}{mirrored}", file, uri, pixelated)


def _sources(gallery: Gallery, keys: list[Key], *, most: int = MOST_CHARACTERS) -> dict[Key, tuple[str, bool]]:
    """Pictures as data URIs, with whether to show them as pixels; as large as the page's weight allows."""
    shown = Counter(key for key in keys if key[1] in getattr(gallery, key[0]))
    for size in SIZES:
        sources, left = {}, most
        for (part, index), times in shown.items():
            sources[part, index] = _source(getattr(gallery, part)[index], *size)
            left -= times * len(sources[part, index][0])
            if left < 0:
                break
        else:
            return sources
    raise AssertionError("pictures of the smallest size do not fit into a page")


def _source(pixels: Any, side: int, form: str) -> tuple[str, bool]:
    """An image, uint8 of shape (C, H, W) with C of 1 or 3, as a data URI no larger than `side`."""
    from PIL import Image

    image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0).copy())
    image.thumbnail((side, side))
    stream = io.BytesIO()
    image.save(stream, format=form, quality=JPEG_QUALITY)
    uri = f"data:image/{form.lower()};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
    return uri, max(image.size) < SMALL
