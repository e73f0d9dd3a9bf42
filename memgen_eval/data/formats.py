"""Which reader a path wants, by its suffix or by what a folder holds; whatever it raises becomes one line."""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from memgen_eval.data import archives, cifar, numpy_files, pictures, torch_files
from memgen_eval.data.images import Images, Shape
from memgen_eval.data.messages import place, quoted
from memgen_eval.errors import InputError, reading

EXPECTED = ".npz, .npy, .pt, .safetensors, .zip, a folder of images, or CIFAR-10 batches"
WRITE_AGAIN = "it may be cut or altered: write it again"

Reader = Callable[..., Images]
ARRAY_FILES: Mapping[str, Reader] = {
    ".npz": numpy_files.read_npz,
    ".npy": numpy_files.read_npy,
    ".pt": torch_files.read_pt,
    ".pth": torch_files.read_pt,
    ".safetensors": torch_files.read_safetensors,
}
SPECIAL: Mapping[int, str] = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read_path(path: Path, *, argument: str, like: Shape | None) -> Images:
    """The images at a path, as they are given there.

    Raises
    ------
    InputError
        If there is nothing, or nothing that can be read.
    """
    label = place(argument, path)
    with reading(label, f"not a readable {path.suffix.lower()} file", WRITE_AGAIN):
        if not path.exists():
            raise InputError(f"{argument}: {quoted(path)} does not exist; expected {EXPECTED}")
        status = path.stat()
        if special := SPECIAL.get(stat.S_IFMT(status.st_mode)):
            raise InputError(f"{label}: is {special}, which is never opened; expected {EXPECTED}")
        if path.is_dir():
            return _read_folder(path, argument=argument, like=like)
        if status.st_size == 0:
            raise InputError(f"{label}: the file is empty; expected {EXPECTED}")
        return _read_file(path, argument=argument, like=like)


def _read_folder(path: Path, *, argument: str, like: Shape | None) -> Images:
    if cifar.is_batch_folder(path):
        return cifar.read(path, split=_split(argument), argument=argument)
    return archives.read_folder(path, argument=argument, like=like)


def _read_file(path: Path, *, argument: str, like: Shape | None) -> Images:
    name, suffix = path.name.lower(), path.suffix.lower()
    if suffix in ARRAY_FILES:
        return ARRAY_FILES[suffix](path, argument=argument)
    if suffix == ".zip":
        return archives.read_zip(path, argument=argument, like=like)
    if name.endswith((".tar.gz", ".tgz")):
        return cifar.read(path, split=_split(argument), argument=argument)
    if suffix == ".bin" or cifar.is_python_batch(path):
        return cifar.read_file(path, argument=argument)
    hint = "; put a single image into a folder" if suffix in pictures.SUFFIXES else ""
    raise InputError(f"{place(argument, path)}: not a known format; expected {EXPECTED}{hint}")


def _split(argument: str) -> cifar.Split:
    return "test" if argument == "test" else "train"
