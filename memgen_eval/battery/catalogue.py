"""The kinds of alteration, each at three strengths or more, by the names that the page gives them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from memgen_eval.battery.alterations import (
    Pixels,
    blended,
    blurred,
    brightened,
    compressed,
    cropped,
    cut_out,
    exchanged,
    framed,
    joined_to,
    median_filtered,
    noisy,
    paletted,
    posterised,
    quarter_turned,
    reduced,
    reversed_sideways,
    rotated,
    saturated,
    set_into,
    sharpened,
    shifted,
    smeared,
    solarised,
    speckled,
    stretched,
    tinted,
    upside_down,
    with_contrast,
    with_gamma,
)


@dataclass(frozen=True, eq=False)
class Material:
    """What an alteration may use: the images to alter, as many others, and what it draws from."""

    images: Pixels
    others: Pixels
    generator: np.random.Generator


@dataclass(frozen=True)
class Alteration:
    """A way to alter copies.

    Attributes
    ----------
    kind, name : str
        What is done, and what is done how strongly.
    change : callable
        From material to uint8 images of the same shape.
    in_colour : bool
        Whether it changes nothing in grey images.
    visible : bool
        Whether any figure is made to see it. What is not visible is copied all the same.
    """

    kind: str
    name: str
    change: Callable[[Material], Pixels]
    in_colour: bool = False
    visible: bool = True


Change = Callable[[Material], Pixels]
_STRENGTHS: dict[str, dict[str, Change]] = {
    "noise": {
        "noise 1": lambda m: noisy(m.images, 1, m.generator),
        "noise 5": lambda m: noisy(m.images, 5, m.generator),
        "noise 10": lambda m: noisy(m.images, 10, m.generator),
        "noise 15": lambda m: noisy(m.images, 15, m.generator),
        "noise 20": lambda m: noisy(m.images, 20, m.generator),
        "noise 30": lambda m: noisy(m.images, 30, m.generator),
    },
    "salt and pepper": {
        "salt and pepper 1 %": lambda m: speckled(m.images, 0.01, m.generator),
        "salt and pepper 5 %": lambda m: speckled(m.images, 0.05, m.generator),
        "salt and pepper 10 %": lambda m: speckled(m.images, 0.1, m.generator),
    },
    "brighter": {
        "brightness x1.1": lambda m: brightened(m.images, 1.1),
        "brightness x1.3": lambda m: brightened(m.images, 1.3),
        "brightness x1.6": lambda m: brightened(m.images, 1.6),
    },
    "darker": {
        "brightness x0.9": lambda m: brightened(m.images, 0.9),
        "brightness x0.7": lambda m: brightened(m.images, 0.7),
        "brightness x0.5": lambda m: brightened(m.images, 0.5),
    },
    "less contrast": {
        "contrast 0.8": lambda m: with_contrast(m.images, 0.8),
        "contrast 0.6": lambda m: with_contrast(m.images, 0.6),
        "contrast 0.4": lambda m: with_contrast(m.images, 0.4),
    },
    "more contrast": {
        "contrast 1.2": lambda m: with_contrast(m.images, 1.2),
        "contrast 1.5": lambda m: with_contrast(m.images, 1.5),
        "contrast 2": lambda m: with_contrast(m.images, 2),
    },
    "gamma up": {
        "gamma 1.2": lambda m: with_gamma(m.images, 1.2),
        "gamma 1.5": lambda m: with_gamma(m.images, 1.5),
        "gamma 2": lambda m: with_gamma(m.images, 2),
    },
    "gamma down": {
        "gamma 0.8": lambda m: with_gamma(m.images, 0.8),
        "gamma 0.65": lambda m: with_gamma(m.images, 0.65),
        "gamma 0.5": lambda m: with_gamma(m.images, 0.5),
    },
    "made grey": {
        "half grey": lambda m: saturated(m.images, 0.5),
        "nearly grey": lambda m: saturated(m.images, 0.2),
        "grey": lambda m: saturated(m.images, 0),
    },
    "more colour": {
        "colour x1.3": lambda m: saturated(m.images, 1.3),
        "colour x1.6": lambda m: saturated(m.images, 1.6),
        "colour x2": lambda m: saturated(m.images, 2),
    },
    "colour cast": {
        "colour cast 10": lambda m: tinted(m.images, 10),
        "colour cast 20": lambda m: tinted(m.images, 20),
        "colour cast 40": lambda m: tinted(m.images, 40),
    },
    "channels exchanged": {
        "red and green exchanged": lambda m: exchanged(m.images, (1, 0, 2)),
        "red and blue exchanged": lambda m: exchanged(m.images, (2, 1, 0)),
        "all channels exchanged": lambda m: exchanged(m.images, (1, 2, 0)),
    },
    "solarised": {
        "solarised above 200": lambda m: solarised(m.images, 200),
        "solarised above 128": lambda m: solarised(m.images, 128),
        "negative": lambda m: solarised(m.images, 0),
    },
    "fewer grey levels": {
        "16 grey levels": lambda m: posterised(m.images, 4),
        "8 grey levels": lambda m: posterised(m.images, 3),
        "4 grey levels": lambda m: posterised(m.images, 2),
    },
    "palette": {
        "palette 16": lambda m: paletted(m.images, 16),
        "palette 8": lambda m: paletted(m.images, 8),
        "palette 4": lambda m: paletted(m.images, 4),
    },
    "JPEG": {
        "JPEG 75": lambda m: compressed(m.images, 75),
        "JPEG 30": lambda m: compressed(m.images, 30),
        "JPEG 10": lambda m: compressed(m.images, 10),
    },
    "blur": {
        "blur 0.7": lambda m: blurred(m.images, 0.7),
        "blur 1": lambda m: blurred(m.images, 1),
        "blur 1.5": lambda m: blurred(m.images, 1.5),
    },
    "motion blur": {
        "motion blur 3": lambda m: smeared(m.images, 3),
        "motion blur 5": lambda m: smeared(m.images, 5),
        "motion blur 7": lambda m: smeared(m.images, 7),
    },
    "sharpened": {
        "sharpened 50 %": lambda m: sharpened(m.images, 50),
        "sharpened 150 %": lambda m: sharpened(m.images, 150),
        "sharpened 300 %": lambda m: sharpened(m.images, 300),
    },
    "median filter": {
        "median 3": lambda m: median_filtered(m.images, 3),
        "median 5": lambda m: median_filtered(m.images, 5),
        "median 7": lambda m: median_filtered(m.images, 7),
    },
    "scaled down and up": {
        "scaled to 24": lambda m: reduced(m.images, 24 / 32),
        "scaled to 16": lambda m: reduced(m.images, 16 / 32),
        "scaled to 8": lambda m: reduced(m.images, 8 / 32),
    },
    "shift": {
        "shift 1 px": lambda m: shifted(m.images, 1),
        "shift 2 px": lambda m: shifted(m.images, 2),
        "shift 4 px": lambda m: shifted(m.images, 4),
    },
    "diagonal shift": {
        "shift 1+1 px": lambda m: shifted(m.images, 1, 1),
        "shift 2+2 px": lambda m: shifted(m.images, 2, 2),
        "shift 3+3 px": lambda m: shifted(m.images, 3, 3),
    },
    "crop": {
        "crop 30": lambda m: cropped(m.images, 30 / 32),
        "crop 28": lambda m: cropped(m.images, 28 / 32),
        "crop 24": lambda m: cropped(m.images, 24 / 32),
    },
    "random crop": {
        "random crop 30": lambda m: cropped(m.images, 30 / 32, m.generator),
        "random crop 28": lambda m: cropped(m.images, 28 / 32, m.generator),
        "random crop 24": lambda m: cropped(m.images, 24 / 32, m.generator),
    },
    "stretched": {
        "stretched by 1/15": lambda m: stretched(m.images, 30 / 32),
        "stretched by 1/7": lambda m: stretched(m.images, 28 / 32),
        "stretched by 1/3": lambda m: stretched(m.images, 24 / 32),
    },
    "rotation": {
        "rotate 3 degrees": lambda m: rotated(m.images, 3),
        "rotate 6 degrees": lambda m: rotated(m.images, 6),
        "rotate 10 degrees": lambda m: rotated(m.images, 10),
    },
    "mirrored": {
        "mirrored": lambda m: reversed_sideways(m.images),
        "mirrored, noise 5": lambda m: noisy(reversed_sideways(m.images), 5, m.generator),
        "mirrored, noise 15": lambda m: noisy(reversed_sideways(m.images), 15, m.generator),
    },
    "upside down or turned": {
        "upside down": lambda m: upside_down(m.images),
        "turned by 90 degrees": lambda m: quarter_turned(m.images, 1),
        "turned by 180 degrees": lambda m: quarter_turned(m.images, 2),
    },
    "cut-out": {
        "cutout 8": lambda m: cut_out(m.images, 8 / 32, m.generator),
        "cutout 12": lambda m: cut_out(m.images, 12 / 32, m.generator),
        "cutout 16": lambda m: cut_out(m.images, 16 / 32, m.generator),
    },
    "frame": {
        "frame 1 px": lambda m: framed(m.images, 1),
        "frame 2 px": lambda m: framed(m.images, 2),
        "frame 3 px": lambda m: framed(m.images, 3),
    },
    "blend": {
        "blend 0.9": lambda m: blended(m.images, m.others, 0.9),
        "blend 0.8": lambda m: blended(m.images, m.others, 0.8),
        "blend 0.7": lambda m: blended(m.images, m.others, 0.7),
        "blend 0.5": lambda m: blended(m.images, m.others, 0.5),
    },
    "part of two": {
        "three quarters of one": lambda m: joined_to(m.images, m.others, 0.75),
        "two thirds of one": lambda m: joined_to(m.images, m.others, 2 / 3),
        "halves of two": lambda m: joined_to(m.images, m.others, 0.5),
    },
    "centre in another": {
        "28 x 28 centre in another": lambda m: set_into(m.images, m.others, 28 / 32),
        "24 x 24 centre in another": lambda m: set_into(m.images, m.others, 24 / 32),
        "20 x 20 centre in another": lambda m: set_into(m.images, m.others, 20 / 32),
    },
    "several at once": {
        "JPEG 75 and shift 1 px": lambda m: shifted(compressed(m.images, 75), 1),
        "crop 30, brightness x1.1 and noise 5": lambda m: noisy(
            brightened(cropped(m.images, 30 / 32), 1.1), 5, m.generator
        ),
        "shift 2 px, contrast 0.8 and blur 0.7": lambda m: blurred(with_contrast(shifted(m.images, 2), 0.8), 0.7),
    },
}
_IN_COLOUR = ("made grey", "more colour", "channels exchanged")
_INVISIBLE = (
    *("negative", "solarised above 128", "upside down", "turned by 90 degrees", "turned by 180 degrees"),
    *("halves of two", "two thirds of one", "24 x 24 centre in another", "20 x 20 centre in another"),
)
ALTERATIONS = {
    name: Alteration(kind, name, change, in_colour=kind in _IN_COLOUR, visible=name not in _INVISIBLE)
    for kind, strengths in _STRENGTHS.items()
    for name, change in strengths.items()
}
SLIGHT = (
    *("noise 1", "noise 5", "noise 10", "mirrored", "mirrored, noise 5", "JPEG 75", "palette 16", "blur 0.7"),
    "blend 0.9",
)  # the published rule sees these
COUNTED = (
    *("noise 15", "noise 20", "noise 30", "brightness x1.1", "contrast 0.8", "brightness x1.3", "brightness x0.7"),
    *("gamma 1.2", "grey", "shift 1 px", "shift 2 px", "shift 1+1 px", "shift 4 px", "crop 30", "crop 28"),
    *("random crop 28", "rotate 3 degrees", "rotate 10 degrees", "JPEG 30", "JPEG 10", "blur 1.5", "cutout 8"),
    *("cutout 16", "blend 0.8", "blend 0.7", "blend 0.5", "upside down", "halves of two", "20 x 20 centre in another"),
)  # and hardly any of these


def altered(name: str, images: Pixels, others: Pixels, generator: np.random.Generator) -> Pixels:
    """Images (B, C, H, W) altered in the way of that name; `others` are as many, to mix them with."""
    changed = ALTERATIONS[name].change(Material(images, others, generator))
    return np.ascontiguousarray(changed)
