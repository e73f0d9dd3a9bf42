"""Which reader a path wants: by its suffix, or by what a folder holds."""

from __future__ import annotations

from pathlib import Path

from memgen_eval.data import archives, arrays, cifar, pictures
from memgen_eval.data.images import Images, Shape
from memgen_eval.data.messages import one_line, place, quoted
from memgen_eval.errors import InputError

EXPECTED = ".npz, .npy, .pt, .safetensors, .zip, a folder of images, or CIFAR-10 batches"


def read_path(path: Path, *, argument: str, like: Shape | None) -> Images:
    """The images at a path, as they are given there.

    Raises
    ------
    InputError
        If there is nothing, or nothing that can be read.
    """
    try:
        if path.is_dir():
            return _read_folder(path, argument=argument, like=like)
        if not path.exists():
            raise InputError(f"{argument}: {quoted(path)} does not exist; expected {EXPECTED}")
        if path.stat().st_size == 0:
            raise InputError(f"{place(argument, path)}: the file is empty; expected {EXPECTED}")
        return _read_file(path, argument=argument, like=like)
    except OSError as error:
        raise InputError(f"{place(argument, path)}: cannot be read ({one_line(error)})") from error


def _read_folder(path: Path, *, argument: str, like: Shape | None) -> Images:
    if cifar.is_batch_folder(path):
        return cifar.read(path, split=_split(argument), argument=argument)
    return archives.read_folder(path, argument=argument, like=like)


def _read_file(path: Path, *, argument: str, like: Shape | None) -> Images:
    name, suffix = path.name.lower(), path.suffix.lower()
    if suffix == ".npz":
        return arrays.read_npz(path, argument=argument)
    if suffix == ".npy":
        return arrays.read_npy(path, argument=argument)
    if suffix in (".pt", ".pth"):
        return arrays.read_pt(path, argument=argument)
    if suffix == ".safetensors":
        return arrays.read_safetensors(path, argument=argument)
    if suffix == ".zip":
        return archives.read_zip(path, argument=argument, like=like)
    if name.endswith((".tar.gz", ".tgz")):
        return cifar.read(path, split=_split(argument), argument=argument)
    if suffix == ".bin" or cifar.is_python_batch(path):
        return cifar.read_file(path, argument=argument)
    hint = "; put a single image into a folder" if suffix in pictures.SUFFIXES else ""
    raise InputError(f"{place(argument, path)}: no format that is known here; expected {EXPECTED}{hint}")


def _split(argument: str) -> cifar.Split:
    return "test" if argument == "test" else "train"
