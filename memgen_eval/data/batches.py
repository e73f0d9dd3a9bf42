"""What Datasets, iterables and samplers hand over (tensors, tuples, dicts, Pillow images, `.images`) as arrays."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.data import pictures
from memgen_eval.data.images import Shape
from memgen_eval.data.messages import shape_text
from memgen_eval.data.tensors import is_tensor, to_numpy
from memgen_eval.errors import InputError

KEYS = ("img", "image", "images", "pixel_values")
TOGETHER = 256  # items of a Dataset that are stacked before they are looked at


def is_picture(value: object) -> bool:
    """Whether a value is a Pillow image."""
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(value, module.Image)


def is_array(value: object) -> bool:
    """Whether a value is a tensor, an array, or something that turns into one."""
    return is_tensor(value) or isinstance(value, np.ndarray) or (hasattr(value, "__array__") and not is_picture(value))


def is_dataset(value: object) -> bool:
    """Whether a value is a set whose items are read by index, one image each."""
    by_index = hasattr(value, "__len__") and hasattr(value, "__getitem__")
    return by_index and not isinstance(value, Mapping) and not _streams_items(value)


def batch_of(value: Any, *, like: Shape | None, label: str) -> NDArray[Any]:
    """The images of a batch, (B, H, W), (B, C, H, W) or (B, H, W, C).

    A batch is an array or a tensor; a Pillow image or a list of images; a dict with one of the keys img, image,
    images, pixel_values; an object with `.images`; or a tuple or list with one of these in front.

    Raises
    ------
    InputError
        For anything else.
    """
    value = _unwrapped(value, label)
    if is_picture(value):
        value = [value]
    if is_array(value):
        return to_numpy(value, label=label)
    if isinstance(value, list | tuple) and value:
        if all(is_picture(item) for item in value) or _are_images(value, label):
            colour = like is not None and like[0] == 3
            return stack([image_of(item, colour=colour, label=label) for item in value], label=label)
        return batch_of(value[0], like=like, label=label)
    raise InputError(
        f"{label}: {_what(value)}; expected images: an array, a tensor, a list of Pillow images, a tuple with one of "
        f"these in front, a dict with one of {', '.join(KEYS)}, or an object with .images"
    )


def image_of(item: Any, *, colour: bool, label: str) -> NDArray[Any]:
    """The image of one item of a Dataset, (H, W), (C, H, W) or (H, W, C); grey Pillow images as RGB if `colour`."""
    item = _unwrapped(item, label)
    if isinstance(item, list | tuple) and item:
        return image_of(item[0], colour=colour, label=label)
    if is_picture(item):
        with pictures.strict_pillow():
            array = pictures.pixels(item, label)
        return _as_rgb(array) if colour and array.ndim == 2 else array
    if is_array(item):
        return to_numpy(item, label=label)
    raise InputError(
        f"{label}: {_what(item)}; expected an image: an array, a tensor, a Pillow image, a tuple with one of these in "
        f"front, or a dict with one of {', '.join(KEYS)}"
    )


def stack(images: list[NDArray[Any]], *, label: str) -> NDArray[Any]:
    """Images of one shape as a batch; grey ones among images of H x W x 3 become RGB."""
    if any(image.ndim == 3 and image.shape[-1] == 3 for image in images):
        images = [_as_rgb(image) if image.ndim == 2 else image for image in images]
    for image in images:
        if image.shape != images[0].shape:
            raise InputError(
                f"{label}: images of {shape_text(images[0].shape)} and of {shape_text(image.shape)} in one set; "
                "expected one shape"
            )
    return np.stack(images)


def dataset_batches(dataset: Any, *, like: Shape | None, most: int | None, label: str) -> Iterator[NDArray[Any]]:
    """Yield the images of a Dataset, or the first so many; each is asked for once. A list of batches is one too."""
    colour = like is not None and like[0] == 3
    num_items = len(dataset) if most is None else min(most, len(dataset))
    for start in range(0, num_items, TOGETHER):
        stop = min(start + TOGETHER, num_items)
        images = [image_of(dataset[i], colour=colour, label=f"{label}, item {i}") for i in range(start, stop)]
        if all(image.ndim == 4 for image in images):
            yield from images
            continue
        together = stack(images, label=f"{label}, items {start} to {stop - 1}")
        colour = colour or (together.ndim == 4 and together.shape[-1] == 3)
        yield together


def iterable_batches(source: Iterable[Any], *, like: Shape | None, label: str) -> Iterator[NDArray[Any]]:
    """Yield the batches of an iterable; an iterable Dataset of torch gives single images instead."""
    if not _streams_items(source):
        for number, value in enumerate(source, start=1):
            yield batch_of(value, like=like, label=f"{label}, batch {number}")
        return
    colour = like is not None and like[0] == 3
    items = iter(source)
    while together := list(islice(items, TOGETHER)):
        yield stack([image_of(item, colour=colour, label=f"{label}, an item") for item in together], label=label)


def _unwrapped(value: Any, label: str) -> Any:
    """The images in a dict or in an object with `.images`; anything else as it is."""
    if isinstance(value, Mapping):
        for key in KEYS:
            if key in value:
                return value[key]
        raise InputError(f"{label}: a dict of {', '.join(map(str, value))}; expected one of {', '.join(KEYS)}")
    return value.images if hasattr(value, "images") else value


def _as_rgb(image: NDArray[Any]) -> NDArray[Any]:
    return np.repeat(image[..., None], 3, axis=-1)


def _what(value: object) -> str:
    return f"a {type(value).__name__}" if not isinstance(value, list | tuple) else f"an empty {type(value).__name__}"


def _are_images(values: Any, label: str) -> bool:
    """Whether a list is one of images of one shape, and not a batch with its labels."""
    if not all(is_array(value) for value in values):
        return False
    shapes = {to_numpy(value, label=label).shape for value in values}
    return len(shapes) == 1 and len(next(iter(shapes))) in (2, 3)


def _streams_items(value: object) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.utils.data.IterableDataset)
