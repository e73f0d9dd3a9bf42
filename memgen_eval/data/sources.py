"""The door for images that are given: whatever says what a set of images is becomes an `ImageSet` here."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from memgen_eval.data import archives, arrays, batches, datasets, pictures, tensors
from memgen_eval.data.canonical import checked_range
from memgen_eval.data.files import Stamp, stamp_of
from memgen_eval.data.images import Expected, Images, ImageSet, Shape
from memgen_eval.data.intake import take_array, take_stream
from memgen_eval.data.tensors import TensorRows, check_plain, is_tensor, to_numpy
from memgen_eval.errors import InputError, place, quoted, reading
from memgen_eval.runtime import member, misplaced
from memgen_eval.shell import as_path

ARRAY_FILES: Mapping[str, Callable[[Path, Stamp], Images]] = {
    ".npz": arrays.read_npz,
    ".npy": arrays.read_npy,
    ".pt": tensors.read_pt,
    ".pth": tensors.read_pt,
    ".safetensors": tensors.read_safetensors,
}
READABLE = f"{', '.join(ARRAY_FILES)}, .zip, a folder of images, or CIFAR-10 batches"
SPECIAL = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


def load_images(
    source: object,
    *,
    argument: str,
    value_range: tuple[float, float] | None = None,
    like: Shape | None = None,
    quantize: bool = True,
    data_dir: str | Path | None = None,
    num_images: int | None = None,
) -> ImageSet:
    """The images of a source, in canonical form.

    uint8 grey levels are taken as they are. Floats map linearly from their range to [0, 255] and are rounded to the
    nearest level, ``rint((x + 1) * 127.5)`` for [-1, 1]; what lies beyond a given range is clipped and noted.
    Values are judged over the whole set in one pass. Sets up to 512 MiB are converted in that pass, if they are not
    canonical already; larger ones stay in their files and are converted block by block, or once where all of them are
    wanted. What is unpacked or converted lies in memory up to 16 MiB, and beyond in a temporary file; batches of an
    iterable lie in memory.

    Parameters
    ----------
    source : array, tensor, path, known name, Dataset, iterable of batches, or Images
        A text is a path if it has a separator or a suffix, or if it is not a known name; a known name wins over a file
        of the same name (write ``./cifar10`` for the file).
    argument : {"samples", "train", "test"}
        The word for the set in messages; a folder of CIFAR-10 batches gives its test batch as "test".
    value_range : (float, float), optional
        The values of black and white, unless `source` says them.
    like : (C, H, W), optional
        The shape that the images must have; it decides where an array can be read in two ways.
    quantize : bool
        False keeps floats, as float32 in [0, 255].
    data_dir : path, optional
        Where named sets lie.
    num_images : int, optional
        How many to take, from the first on; all by default.

    Raises
    ------
    InputError
        For whatever cannot be used: what arrived, what was expected, what to do.
    """
    given = source if isinstance(source, Images) else Images(source)
    own = given.value_range
    if own is not None and value_range is not None and tuple(own) != tuple(value_range):
        raise InputError(f"{argument}: range {own} in Images and {value_range} as value_range; leave one of them out")
    if num_images is not None and num_images < 1:
        raise InputError(f"{argument}: {num_images} images asked for; expected at least one")
    expected = Expected(argument, checked_range(own or value_range, argument=argument), like, quantize, num_images)
    if isinstance(given.array, str | os.PathLike):
        read = _read_text(given.array, expected, data_dir)
        given = replace(read, names=given.names if given.names is not None else read.names)
    return _taken(given, expected)


def _read_text(text: str | os.PathLike[str], expected: Expected, data_dir: str | Path | None) -> Images:
    """The images of a known set, or those at a path. Raises InputError if there is nothing that can be read."""
    path = as_path(text)
    may_be_name = isinstance(text, str) and os.sep not in text and "/" not in text and not path.suffix
    if may_be_name and (datasets.is_known(text) or not path.exists()):
        return datasets.load_named(str(text), data_dir=data_dir, argument=expected.argument)
    label = place(expected.argument, path)
    with reading(label, f"not a readable {path.suffix.lower()} file", "it may be cut or altered: write it again"):
        if not path.exists():
            raise InputError(f"{expected.argument}: {quoted(path)} does not exist; expected {READABLE}")
        if special := SPECIAL.get(stat.S_IFMT(path.stat().st_mode)):
            raise InputError(f"{label}: is {special}, which is never opened; expected {READABLE}")
        return replace(_read_path(path, expected, label), path=str(path))


def _read_path(path: Path, expected: Expected, label: str) -> Images:
    """The images of a folder or a file, by its name."""
    split: datasets.Split = "test" if expected.argument == "test" else "train"
    if path.is_dir():
        if datasets.is_batch_folder(path):
            return datasets.read_batches(path, split=split, argument=expected.argument)
        return archives.read_folder(path, expected)
    if path.stat().st_size == 0:
        raise InputError(f"{label}: the file is empty; expected {READABLE}")
    suffix, stamp = path.suffix.lower(), stamp_of(label, path.parent, (path.name,))
    if suffix in ARRAY_FILES:
        images = ARRAY_FILES[suffix](path, stamp)
    elif suffix == ".zip":
        images = replace(archives.read_zip(path, expected), stamp=stamp)
    elif path.name in datasets.PUBLISHED or path.name.lower().endswith((".bin", ".tar.gz", ".tgz")):
        images = datasets.read_batches(path, split=split, argument=expected.argument)
    else:
        hint = "; put a single image into a folder" if suffix in pictures.PICTURE_SUFFIXES else ""
        raise InputError(f"{label}: not a known format; expected {READABLE}{hint}")
    stamp.check()
    return images


def _taken(given: Images, expected: Expected) -> ImageSet:
    """The set of what now is an array, rows, a Dataset or an iterable."""
    source: Any = given.array
    like, argument = expected.like, expected.argument
    check_plain(source, label=argument)
    if batches.is_array(source):
        array = source if is_tensor(source) else to_numpy(source, label=argument)
        return take_array(replace(given, array=array), expected)
    if isinstance(source, archives.Pictures | TensorRows):
        return take_array(given, expected)
    form = type(source).__name__
    if batches.is_dataset(source) or (hasattr(type(source), "__iter__") and not isinstance(source, Mapping)):
        form = f"{'Dataset' if batches.is_dataset(source) else 'iterable'} ({form})"
        stream = batches.batches_of(source, like=like, most=expected.num_images, label=argument)
    elif isinstance(source, Mapping) or member(source, "images") is not None or batches.is_picture(source):
        stream = iter([batches.batch_of(source, like=like, label=argument)])
    elif what := misplaced(source):
        raise InputError(f"{argument}: {what}")
    else:
        remedy = "expected an array, a tensor, a path, a known name, a Dataset, or an iterable of batches"
        if callable(source) and argument != "samples":
            remedy = "only samples may be drawn from a sampler: give the images"
        raise InputError(f"{argument}: a {form} is not an image set; {remedy}")
    return take_stream(stream, replace(given, form=form), expected, label=argument, unit="batch")
