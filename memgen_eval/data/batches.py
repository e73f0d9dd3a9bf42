"""What Datasets, iterables and samplers hand over (tensors, tuples, dicts, Pillow images, `.images`) as arrays."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from itertools import chain, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.data import pictures
from memgen_eval.data.images import Shape
from memgen_eval.data.tensors import check_plain, is_tensor, to_numpy
from memgen_eval.errors import InputError, shape_text
from memgen_eval.runtime import member, misplaced

KEYS = ("img", "image", "images", "pixel_values")
FEW_ITEMS = 48  # items of a Dataset that are looked at by themselves
TOGETHER = 256  # items of a Dataset that are stacked before they are looked at


def is_picture(value: object) -> bool:
    """Whether a value is a Pillow image."""
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(value, module.Image)


def is_array(value: object) -> bool:
    """Whether a value is a tensor, an array, or something that turns into one."""
    kind = type(value)  # of which Python asks too: an instance may answer for any name
    return is_tensor(value) or isinstance(value, np.ndarray) or (hasattr(kind, "__array__") and not is_picture(value))


def is_dataset(value: object) -> bool:
    """Whether a value is a set whose items are read by index, one image each."""
    by_index = hasattr(type(value), "__len__") and hasattr(type(value), "__getitem__")
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
    if is_array(value):
        return to_numpy(value, label=label)
    items = [value] if is_picture(value) else value
    if isinstance(items, list | tuple) and items:
        if not _are_images(items, label):
            return batch_of(items[0], like=like, label=label)
        return stack([image_of(item, colour=_is_colour(like), label=label) for item in items], label=label)
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


def batches_of(source: Any, *, like: Shape | None, most: int | None, label: str) -> Iterator[NDArray[Any]]:
    """Yield the batches of a Dataset or an iterable: single images are stacked, of a Dataset the first `most`.

    Raises
    ------
    InputError
        For items that are no images, and for those of a Dataset that differ when they are read again.
    """
    if is_dataset(source):
        num_items = len(source) if most is None else min(most, len(source))
        _check_repeatable(source, num_items, label)
        yield from _stacked((source[i] for i in range(num_items)), first=0, like=like, label=label)
        return
    _check_repeatable(source, sys.maxsize, label)
    if member(source, "_iterator") is not None:  # a DataLoader whose workers are in the middle of the caller's epoch
        source = copy(source)
        vars(source)["_iterator"] = None
    items = iter(source)
    head = list(islice(items, 1))
    items = chain(head, items)
    if head and _is_image(head[0], streamed=_streams_items(source), like=like, label=f"{label}, item 1"):
        yield from _stacked(items, first=1, like=like, label=label)
    else:
        for number, value in enumerate(items, start=1):
            yield batch_of(value, like=like, label=f"{label}, batch {number}")


def _stacked(items: Iterable[Any], *, first: int, like: Shape | None, label: str) -> Iterator[NDArray[Any]]:
    """Yield the images of items, a few hundred together; items that are batches by themselves."""
    colour, numbered = _is_colour(like), enumerate(items, start=first)
    while images := [
        image_of(item, colour=colour, label=f"{label}, item {i}") for i, item in islice(numbered, TOGETHER)
    ]:
        if all(image.ndim == 4 for image in images):
            yield from images
        else:
            together = stack(images, label=f"{label}, items {first} to {first + len(images) - 1}")
            colour = colour or (together.ndim == 4 and together.shape[-1] == 3)
            yield together
        first += len(images)


def few_items(source: Any, *, most: int = sys.maxsize, label: str) -> Iterator[tuple[int, Callable[[int], bytes]]]:
    """Yield the indices of a few dozen items of a Dataset, the last one among them; of another source none.

    With each comes what reads its shape, type and values as bytes. A DataLoader counts as its Dataset: items come in
    pairs through its collate function, which may change them too.
    """
    collate = None if is_dataset(source) else member(source, "collate_fn")
    dataset = source if collate is None else member(source, "dataset")
    if not is_dataset(dataset) or not len(dataset):
        return
    alone = member(source, "batch_sampler") is None

    def read(i: int) -> bytes:
        here = f"{label}, item {i}"
        if collate is None:
            array = image_of(dataset[i], colour=False, label=here)
        else:
            items = dataset[i] if alone else [dataset[i], dataset[len(dataset) - 1 - i]]
            array = batch_of(collate(items), like=None, label=here)
        return f"{array.shape} {array.dtype.str} ".encode() + array.tobytes()

    for i in np.unique(np.linspace(0, min(most, len(dataset)) - 1, FEW_ITEMS).astype(int)).tolist():
        yield i, read


def _check_repeatable(source: Any, most: int, label: str) -> None:
    """Read a few dozen items of a Dataset twice. Raises InputError if one differs: copies of it would not be found."""
    for i, read in few_items(source, most=most, label=label):
        if read(i) != read(i):
            raise InputError(
                f"{label}, item {i}: differs when it is read again, so copies of it cannot be found; leave the random "
                "transforms out of the Dataset (crops, flips, noise)"
            )


def _is_image(item: Any, *, streamed: bool, like: Shape | None, label: str) -> bool:
    """Whether an item of a stream is one image, not a batch. Raises InputError where it may be either."""
    item = _unwrapped(item, label)
    if isinstance(item, list | tuple) and item:
        return not _are_images(item, label) and _is_image(item[0], streamed=streamed, like=like, label=label)
    if is_picture(item):
        return True
    shape = to_numpy(item, label=label).shape if is_array(item) else ()
    if len(shape) != 3 or streamed:
        return len(shape) in (2, 3)
    if like is not None:
        channels, height, width = like
        return shape in ((channels, height, width), (height, width, channels))
    if shape[0] == 3 or shape[2] in (1, 3):
        grey = f"{shape[0]} grey images of {shape_text(shape[1:])}"
        raise InputError(
            f"{label}: shape {shape} can be one colour image or {grey}; wrap batches as (B, 3, H, W) or (B, 1, H, W), "
            "or give the images as a list"
        )
    return False


def _unwrapped(value: Any, label: str) -> Any:
    """The images in a dict or in an object with `.images`; anything else as it is, if its values are plain."""
    check_plain(value, label=label)
    if isinstance(value, Mapping):
        for key in KEYS:
            if key in value:
                return value[key]
        raise InputError(f"{label}: {_what(value)}; expected images, in a dict under one of {', '.join(KEYS)}")
    images = member(value, "images")
    return value if images is None else images


def _is_colour(like: Shape | None) -> bool:
    """Whether the images must have three channels."""
    return like is not None and like[0] == 3


def _as_rgb(image: NDArray[Any]) -> NDArray[Any]:
    return np.repeat(image[..., None], 3, axis=-1)


def _what(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"an empty {type(value).__name__}"
    return misplaced(value) or f"a {type(value).__name__}"


def _are_images(values: Any, label: str) -> bool:
    """Whether a list is one of Pillow images, or of images of one shape, and not a batch with its labels."""
    if not all(is_array(value) for value in values):
        return all(is_picture(value) for value in values)
    shapes = {to_numpy(value, label=label).shape for value in values}
    return len(shapes) == 1 and len(next(iter(shapes))) in (2, 3)


def _streams_items(value: object) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.utils.data.IterableDataset)
