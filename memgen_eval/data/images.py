"""What a set of images is: `Images` as it is given, `ImageSet` as everything downstream sees it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from memgen_eval.data.files import Stamp, scratch
from memgen_eval.errors import InputError, quoted

Shape = tuple[int, int, int]  # (C, H, W)
IMAGE_BLOCK_VALUES = 2**23  # values in a block: 8 MiB of uint8, 32 MiB once it is float32
LARGEST_IMAGE = 2**24  # values: a block of 16 larger ones, as float32, leaves no memory for anything else
IN_MEMORY = 2**29  # bytes: larger sets stay where they are and are converted block by block, or once to a file
HELD_BYTES = 2**24  # of an array: larger ones lie in a temporary file, whose pages the system takes back at need
Bools = NDArray[np.bool_]


class Rows(Protocol):
    """Images that can be read a few at a time: those of a slice, or of an array of indices."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the whole, N first."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of what is read."""

    def __getitem__(self, key: Any, /) -> Any: ...


@dataclass(frozen=True, eq=False)
class Images:
    """A set of images as it is given, with what its values mean.

    Wrap a set in `Images` to say the range of its values, where the set itself does not: uint8 needs none,
    floats with negative values and none beyond 1.1 are taken to be in [-1, 1], anything else has to be said.

    Parameters
    ----------
    array : numpy.ndarray, torch.Tensor, path, Dataset or iterable
        The images: (N, H, W), (N, C, H, W) or (N, H, W, C) with C = 1 or 3, or whatever else `evaluate` takes as a set.
    value_range : (float, float), optional
        The values of black and of white, such as ``(-1, 1)``, ``(0, 1)`` or ``(0, 255)``. What lies beyond is clipped.
    names : sequence of str, optional
        A file name for each image, shown where the image is.
    form, path, notes, stamp
        How the set arrived, filled in by the readers of files; `stamp` is that of files that will be read again.
    """

    array: Any
    value_range: tuple[float, float] | None = None
    names: Sequence[str] | None = None
    form: str = "array"
    path: str | None = None
    notes: tuple[str, ...] = ()
    stamp: Stamp | None = None


@dataclass(frozen=True)
class Expected:
    """What is asked of a set, and the word for it in messages: the parameters of `load_images`, the range checked."""

    argument: str
    value_range: tuple[float, float] | None = None
    like: Shape | None = None
    quantize: bool = True
    num_images: int | None = None


def check_image_size(num_values: int, label: str) -> None:
    """Raise InputError for images too large for a block of them to fit into memory."""
    if num_values > LARGEST_IMAGE:
        raise InputError(
            f"{label}: images of {num_values} values; expected at most {LARGEST_IMAGE}: scale all sets down alike"
        )


def room(shape: tuple[int, ...], dtype: np.dtype[Any], *, label: str) -> NDArray[Any]:
    """An array to be filled: in memory up to 16 MiB, beyond in a temporary file.

    Where no file can be written, up to 512 MiB lie in memory. Raises InputError if an array is larger.
    """
    num_bytes = prod(shape) * dtype.itemsize
    if num_bytes > HELD_BYTES:
        try:
            return scratch(shape, dtype, label=label)
        except InputError:
            if num_bytes > IN_MEMORY:
                raise
    return np.empty(shape, dtype=dtype)


def block_rows(num_values: int, *, fewest: int = 16) -> int:
    """How many images of `num_values` values make a block: a function of the image size alone, at least 16."""
    return max(fewest, IMAGE_BLOCK_VALUES // num_values)


def block_bounds(num_images: int, num_values: int, *, fewest: int = 16) -> Iterator[tuple[int, int]]:
    """Start and stop of each block, in order; the last one may be short."""
    rows = block_rows(num_values, fewest=fewest)
    for start in range(0, num_images, rows):
        yield start, min(start + rows, num_images)


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images in the one form that everything downstream sees: grey levels, N x C x H x W.

    uint8, or float32 in [0, 255] where the floats were to be kept. What is read is contiguous and may be written to.
    In memory, mapped from a file, or decoded block by block: `source` is canonical and knows which.

    Parameters
    ----------
    source : Rows, (N, C, H, W)
        The canonical images.
    names : sequence of str, optional
        A file name for each image.
    arrival : mapping of JSON types
        How the set arrived: form, path, dtype, shape, layout, value_range, rounding, clipped, notes.
    stamp : Stamp, optional
        Of the files that `source` reads, unless it lies in memory.
    """

    source: Rows
    names: Sequence[str] | None
    arrival: Mapping[str, Any]
    stamp: Stamp | None = None

    def __len__(self) -> int:
        return self.source.shape[0]

    @property
    def shape(self) -> Shape:
        """C, H, W of every image."""
        _, channels, height, width = self.source.shape
        return channels, height, width

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type uint8, or float32 where the floats were kept."""
        return self.source.dtype

    @property
    def num_values(self) -> int:
        """Values of an image, C * H * W."""
        return prod(self.shape)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Images `start` to `stop`, (B, C, H, W)."""
        return self._own(self._known[start:stop])

    def take(self, indices: NDArray[np.integer[Any]]) -> NDArray[Any]:
        """The images of these indices, in this order, (B, C, H, W)."""
        return self._own(self._known[np.asarray(indices)])

    def blocks(self) -> Iterator[NDArray[Any]]:
        """Yield all images in order, in blocks whose size depends on the image size alone."""
        for start, stop in block_bounds(len(self), self.num_values):
            yield self.read(start, stop)

    def array(self) -> NDArray[Any]:
        """All images: the source itself where it is an array (read-only if its file is mapped), else one kept copy.

        The copy lies where `room` puts it. Raises InputError if there is none.
        """
        return self.source if isinstance(self.source, np.ndarray) else self._whole

    def check_unchanged(self) -> None:
        """Raise InputError if files of this set have changed since they were opened: figures would mix two sets."""
        if self.stamp is not None:
            self.stamp.check()

    @property
    def _known(self) -> Rows:
        """The source, or its copy once there is one: nothing is decoded twice then."""
        copy: Rows = self.__dict__.get("_whole", self.source)
        if copy is self.source and self.stamp is not None and len(self.stamp.files) == 1:
            self.stamp.check()  # the pages of a mapped file that was cut would end the process
        return copy

    @cached_property
    def _whole(self) -> NDArray[Any]:
        path = self.arrival["path"]
        label = quoted(path) if path else str(self.arrival["form"])
        whole = room(self.source.shape, self.dtype, label=label)
        for start, stop in block_bounds(len(self), self.num_values):
            whole[start:stop] = self.source[start:stop]
        return whole

    @cached_property
    def survey(self) -> Survey:
        """What one pass over all images finds."""
        return Survey.of(self)

    @property
    def distinct(self) -> NDArray[Any]:
        """The images that equal no earlier one, in order."""
        repeats = self.survey.repeats
        return self.take(np.flatnonzero(~repeats)) if repeats.any() else self.array()

    @property
    def checksum(self) -> str:
        """SHA-256 of type, shape and canonical pixels: the same whatever form the images arrived in."""
        return self.survey.checksum

    @staticmethod
    def _own(block: Any) -> NDArray[Any]:
        # Pages of a read-only file are copied: torch warns of arrays that it could not write to.
        return np.require(block, requirements=["C", "W"])


@dataclass(frozen=True, eq=False)
class Survey:
    """What is known of a set once all of it was read.

    Attributes
    ----------
    checksum : SHA-256 of type, shape and canonical pixels: the same whatever form the images arrived in
    originals : the first image that equals each in every value, itself if there is no earlier one, (N,)
    constant : of a single colour, (N,)
    grey : whether all channels of every image are equal; False for one channel
    minimum, maximum : the darkest and the brightest value, in grey levels
    """

    checksum: str
    originals: NDArray[np.int64]
    constant: Bools
    grey: bool
    minimum: float
    maximum: float

    @property
    def repeats(self) -> Bools:
        """Whether each image equals an earlier one, (N,)."""
        return self.originals < np.arange(len(self.originals))

    @property
    def duplicated(self) -> Bools:
        """Whether each image equals another one, (N,)."""
        return np.bincount(self.originals, minlength=len(self.originals))[self.originals] > 1

    @classmethod
    def of(cls, images: ImageSet) -> Survey:
        """What is found in one pass over all images."""
        shape, dtype = images.source.shape, images.dtype
        checksum = hashlib.sha256(f"{dtype.name} {shape}\n".encode())
        first: dict[bytes, int] = {}
        originals: list[int] = []
        ranges: list[NDArray[Any]] = []  # the darkest and the brightest value of every channel, (2, B, C)
        grey = shape[1] > 1
        for block in images.blocks():
            stored = block.astype(dtype.newbyteorder("<"), copy=False)
            checksum.update(stored.data)
            for image in stored:
                originals.append(first.setdefault(hashlib.sha256(image.data).digest(), len(originals)))
            planes = block.reshape(*block.shape[:2], -1)  # (B, C, H * W)
            ranges.append(np.stack([planes.min(axis=2), planes.max(axis=2)]))
            grey = grey and bool((planes == planes[:, :1]).all())
        lows, highs = np.concatenate(ranges, axis=1)
        return cls(
            checksum=checksum.hexdigest(),
            originals=np.array(originals),
            constant=(lows == highs).all(axis=1),
            grey=grey,
            minimum=float(lows.min()),
            maximum=float(highs.max()),
        )
