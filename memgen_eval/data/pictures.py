"""A picture's true colours, as uint8: what Pillow changes in silence is refused here, by name, or read as it looks."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.data.images import check_image_size
from memgen_eval.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")  # none that runs a program, as EPS does
PICTURE_SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".pbm", ".pnm", ".tif", ".tiff")
)
SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*")
PNG_END = b"IEND\xaeB`\x82"
ORIENTATION = 0x0112  # the EXIF tag; 1 is upright

GREY = frozenset(("1", "L", "LA"))
COLOUR = frozenset(("P", "PA", "RGB", "RGBA"))
WITH_ALPHA = frozenset(("LA", "PA", "RGBA"))


@dataclass(frozen=True)
class Header:
    """What is known of a picture before it is decoded."""

    size: tuple[int, int]  # H, W
    grey: bool
    alpha: bool
    turned: bool  # EXIF asks viewers to turn it
    animated: bool  # or a stack of pictures
    whole: bool  # False where the file's end is missing


@contextmanager
def strict_pillow() -> Iterator[None]:
    """Cut files are errors even where the caller told Pillow to fill them with grey; so are decompression bombs."""
    from PIL import Image, ImageFile

    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def looks_like_picture(start: bytes) -> bool:
    """Whether a file beginning with these 16 bytes is an image, whatever its name."""
    return start.startswith(SIGNATURES) or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")


def peek(file: IO[bytes], label: str) -> Header:
    """Size and kind of a picture, decoding none of it. Call under `strict_pillow`; Pillow may raise anything."""
    from PIL import Image

    with Image.open(file, formats=FORMATS) as image:
        check_image_size(image.width * image.height, label)
        check_mode(image, label)
        return Header(
            size=(image.height, image.width),
            grey=_is_grey(image),
            alpha=_may_be_transparent(image),
            turned="exif" in image.info and image.getexif().get(ORIENTATION, 1) != 1,
            animated=bool(getattr(image, "is_animated", False)),
            whole=image.format != "PNG" or _tail(file) == PNG_END,
        )


def decode(file: IO[bytes], label: str) -> NDArray[np.uint8]:
    """The pixels, (H, W) if they are grey, else (H, W, 3). Call under `strict_pillow`; Pillow may raise anything."""
    from PIL import Image

    with Image.open(file, formats=FORMATS) as image:
        check_image_size(image.width * image.height, label)
        return pixels(image, label)


def pixels(image: Image, label: str) -> NDArray[np.uint8]:
    """The pixels of a Pillow image, (H, W) if it is grey, else (H, W, 3), without the rotation that EXIF asks for.

    Palettes and bilevel images are read as they look; an alpha channel that is opaque throughout is dropped.

    Raises
    ------
    InputError
        For 16 bits a channel, for real transparency, and for colour spaces other than grey and RGB.
    """
    check_mode(image, label)
    grey = _is_grey(image)
    if not _may_be_transparent(image):
        return np.asarray(image.convert("L" if grey else "RGB"), dtype=np.uint8)
    full = np.asarray(image.convert("RGBA"), dtype=np.uint8)
    if full[..., 3].min() < 255:
        raise InputError(
            f"{label}: has transparent pixels, whose colour depends on what lies behind; flatten it onto a background "
            "and save it without alpha"
        )
    return np.ascontiguousarray(full[..., 0] if grey else full[..., :3])


def check_mode(image: Image, label: str) -> None:
    """Raises InputError for pictures that 8 bits of grey or RGB cannot hold as they are."""
    if _is_deep(image):
        raise InputError(
            f"{label}: 16 bits a channel (mode {image.mode}); expected 8: divide by 257, round, and save as 8-bit"
        )
    if image.mode not in GREY | COLOUR:
        raise InputError(f"{label}: colour mode {image.mode}; expected grey or RGB: convert it and save it again")


def _is_deep(image: Image) -> bool:
    """Whether a channel has more than 8 bits; Pillow opens 16-bit RGB as RGB and drops the lower half."""
    if image.mode.startswith(("I", "F")):
        return True
    arguments: list[Any] = []
    for tile in getattr(image, "tile", None) or ():
        arguments.extend(tile[3] if isinstance(tile[3], tuple) else (tile[3],))
    if image.format == "PPM" and any(isinstance(value, int) and value > 255 for value in arguments):
        return True
    return any(isinstance(value, str) and ";16" in value and value != "BGR;16" for value in arguments)


def _is_grey(image: Image) -> bool:
    if image.mode != "P":
        return image.mode in GREY
    palette = np.asarray(image.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
    return bool((palette == palette[:, :1]).all())


def _may_be_transparent(image: Image) -> bool:
    return image.mode in WITH_ALPHA or "transparency" in image.info


def _tail(file: IO[bytes]) -> bytes:
    file.seek(-len(PNG_END), 2)
    return file.read()
