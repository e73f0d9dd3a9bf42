"""Sets that have a name: `digits`, which comes with scikit-learn, and `cifar10`, from a folder or the web.

A python batch of CIFAR-10 is a pickle: it is opened only if its MD5 is the published one, and even then nothing is
unpickled; the pixels and the names are strings in it. Of a binary batch size and labels are checked.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import pickletools
import re
import tarfile
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from memgen_eval.data.files import fetch
from memgen_eval.data.images import Images, room
from memgen_eval.errors import InputError, place, quoted, reading
from memgen_eval.shell import as_path

KNOWN_NAMES = "cifar10, cifar10:train, cifar10:test, digits, digits:train, digits:test"
SPELLING = re.compile(r"(cifar-?10|digits)(?:[:-](train|test|val))?")
CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
CIFAR10_MD5 = "c58f30108f718f92721af3b95e74349a"
NUM_TEST_DIGITS = 500
Split = Literal["train", "test"]
PYTHON_FOLDER, BINARY_FOLDER = "cifar-10-batches-py", "cifar-10-batches-bin"
ARCHIVES = ("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz")
PUBLISHED: Mapping[str, str] = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
SPLITS: Mapping[Split, tuple[str, ...]] = {
    "train": tuple(name for name in PUBLISHED if name.startswith("data_")),
    "test": ("test_batch",),
}
SHAPE = (3, 32, 32)
NUM_PIXELS = 3 * 32 * 32
RECORD = 1 + NUM_PIXELS  # a label and the pixels
LARGEST_BATCH = 2**26  # bytes; a published batch has 31 million
LARGEST_ARCHIVE = 2**28  # bytes unpacked; the published ones have 186 million
MOST_MEMBERS = 1000  # of an archive; the published ones have 9
PIECE = 2**14  # bytes that are unpacked at once


def is_known(name: object) -> bool:
    """Whether this is the name of a set, in any of its spellings: `cifar10`, `CIFAR10:train`, `cifar10-test`."""
    return isinstance(name, str) and _parse(name) is not None


def test_split(name: str) -> str | None:
    """The name of the held-out part that a named set brings: `digits:test` for `digits`, None for a test set itself."""
    parsed = _parse(name)
    return f"{parsed[0]}:test" if parsed is not None and parsed[1] == "train" else None


def load_named(name: str, *, data_dir: str | Path | None, argument: str = "train") -> Images:
    """The images of a named set; without a split in its name, the training images.

    ``digits``: 1,797 images of 8 x 8, uint8 ``round(v * 255 / 16)``. Index i goes by the SHA-256 of the text
    ``"digits i"``: the 500 largest are the test set, the other 1,297 the training set, both in their original order.
    ``cifar10``: 50,000 training and 10,000 test images of 3 x 32 x 32. Looked for in `data_dir`, else in the folder
    that the environment's MEMGEN_DATA names; where neither is given, in a cache folder, into which the official
    archive is downloaded if need be. A folder that was named is never written to.

    Raises
    ------
    InputError
        For unknown names, and where the files are not to be had: the message says which to provide, and where.
    """
    parsed = _parse(name)
    if parsed is None:
        raise InputError(
            f"{argument}: {quoted(name)} is neither a known set ({KNOWN_NAMES}) nor a path "
            f"({quoted(as_path(name).absolute())} does not exist)"
        )
    known, split = parsed
    return _digits(split) if known == "digits" else _cifar10(split, data_dir, argument)


def _parse(name: str) -> tuple[str, Split] | None:
    """The set and its split."""
    found = SPELLING.fullmatch(name.lower())
    return (found[1].replace("-", ""), "train" if found[2] in (None, "train") else "test") if found else None


def _digits(split: Split) -> Images:
    from sklearn.datasets import load_digits

    levels = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)[:, None]  # (N, 1, 8, 8)
    order = sorted(range(len(levels)), key=lambda i: hashlib.sha256(f"digits {i}".encode()).digest())
    chosen = order[-NUM_TEST_DIGITS:] if split == "test" else order[:-NUM_TEST_DIGITS]
    return Images(levels[sorted(chosen)], form=f"digits:{split}")


def _cifar10(split: Split, data_dir: str | Path | None, argument: str) -> Images:
    named = data_dir or os.environ.get("MEMGEN_DATA") or None
    folder = as_path(named) if named else cache_folder()
    found = find_batches(folder)
    if found is None and named:
        raise InputError(
            f"{argument}: no CIFAR-10 in {quoted(folder)}; expected {PYTHON_FOLDER}/, {BINARY_FOLDER}/ or "
            f"{ARCHIVES[0]} there"
        )
    return read_batches(found or _downloaded(folder, argument), split=split, argument=argument)


def _downloaded(folder: Path, argument: str) -> Path:
    """The archive in the cache folder, or in the system's temporary one where the cache cannot be written to."""
    target = _writable(folder) / ARCHIVES[0]
    if not target.is_file():
        try:
            fetch(CIFAR10_URL, target, md5=CIFAR10_MD5)
        except InputError as error:
            raise InputError(
                f"{argument}: {error}; provide {ARCHIVES[0]} or {PYTHON_FOLDER}/ in {quoted(folder)}, or "
                "name the folder that holds it (--data-dir, MEMGEN_DATA)"
            ) from error
    return target


def cache_folder() -> Path:
    """Where downloads are kept: `memgen-eval` in the user's cache folder."""
    named = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(named) if named else Path.home() / ".cache") / "memgen-eval"
    except RuntimeError:  # a user without a home
        return _temporary_folder()


def _writable(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        own = _temporary_folder()
        own.mkdir(exist_ok=True)
        return own


def _temporary_folder() -> Path:
    return Path(tempfile.gettempdir()) / f"memgen-eval-{os.getuid() if hasattr(os, 'getuid') else 'cache'}"


def find_batches(folder: Path) -> Path | None:
    """The batches in or below a folder: a folder of batches or an archive; None if there are none."""
    places = (folder / PYTHON_FOLDER, folder, folder / BINARY_FOLDER)
    archives = (folder / name for name in ARCHIVES if (folder / name).is_file())
    return next(filter(is_batch_folder, places), None) or next(archives, None)


def is_batch_folder(folder: Path) -> bool:
    """Whether a folder holds batches of either version."""
    return any((folder / name).is_file() for batch in PUBLISHED for name in (batch, f"{batch}.bin"))


def read_batches(path: Path, *, split: Split, argument: str) -> Images:
    """One split from a folder of batches or from an archive of them, or all images of a single batch.

    Raises
    ------
    InputError
        If a batch is missing, cut or altered: the message names it, with the checksum found and the published one.
    """
    notes: tuple[str, ...] = (f"the {split} batches",)
    contents: Iterable[tuple[Path, bytes]]
    with reading(place(argument, path), "cut or altered", "fetch it again"):
        if path.is_dir():
            binary = not any((path / name).is_file() for name in PUBLISHED)
            form = "CIFAR-10 binary batches" if binary else "CIFAR-10 python batches"
            batches = [path / (f"{name}.bin" if binary else name) for name in SPLITS[split]]
            contents = ((batch, _bytes(batch, argument)) for batch in batches)
        elif path.suffix.lower() in (".gz", ".tgz"):
            form, contents = "CIFAR-10 archive", _unpack(path, SPLITS[split], argument)
        else:
            form, contents, notes = "CIFAR-10 batch", [(path, _bytes(path, argument))], ()
        parts = [_batch(batch, data, place(argument, batch)) for batch, data in contents]
    images = room((sum(len(part) for part, _ in parts), *SHAPE), np.dtype(np.uint8), label=place(argument, path))
    np.concatenate([part for part, _ in parts], out=images)
    names = [name for _, names in parts for name in names]
    return Images(images, names=names or None, form=form, path=str(path), notes=notes)


def _batch(path: Path, data: bytes, label: str) -> tuple[NDArray[np.uint8], Sequence[str]]:
    """The images of a batch and their names; of a binary one, which has no names, none."""
    if path.suffix.lower() == ".bin":
        return _binary_batch(data, label), ()
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if found != PUBLISHED[path.name]:
        raise InputError(
            f"{label}: MD5 {found}, expected the published {PUBLISHED[path.name]}; the file is cut or altered and "
            "is not opened: fetch it again"
        )
    return _python_batch(data, label)


def _python_batch(data: bytes, label: str) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """The longest string of the pickle is all pixels; the strings that end in .png are the names."""
    strings: list[Any] = [
        argument for opcode, argument, _ in pickletools.genops(data) if opcode.name in ("BINSTRING", "SHORT_BINSTRING")
    ]
    names = tuple(text for text in strings if text.endswith(".png"))
    pixels = max(strings, key=len, default="").encode("latin-1")
    if not names or len(pixels) != NUM_PIXELS * len(names):
        raise InputError(f"{label}: {len(names)} names, {len(pixels)} pixels; it is cut or not a CIFAR-10 batch")
    return np.frombuffer(pixels, dtype=np.uint8).reshape(-1, *SHAPE), names


def _binary_batch(data: bytes, label: str) -> NDArray[np.uint8]:
    records = np.frombuffer(data, dtype=np.uint8)
    if not len(records) or len(records) % RECORD:
        raise InputError(
            f"{label}: {len(data)} bytes; expected a multiple of {RECORD}: it is cut or not a CIFAR-10 batch"
        )
    records = records.reshape(-1, RECORD)
    if records[:, 0].max() > 9:
        raise InputError(f"{label}: a label of {records[:, 0].max()}; expected 0 to 9: it is not a CIFAR-10 batch")
    return records[:, 1:].reshape(-1, *SHAPE)


def _bytes(path: Path, argument: str) -> bytes:
    if not path.is_file():
        raise InputError(f"{argument}: {quoted(path)} is missing; fetch {ARCHIVES[0]} again and unpack it")
    if path.stat().st_size > LARGEST_BATCH:
        raise InputError(f"{place(argument, path)}: {path.stat().st_size} bytes; no CIFAR-10 batch is as large")
    return path.read_bytes()


def _unpack(path: Path, batches: Sequence[str], argument: str) -> list[tuple[Path, bytes]]:
    """The wanted members of an archive, in the order of the batches; nothing is written to disk."""
    found: dict[str, tuple[Path, bytes]] = {}
    with gzip.open(path) as unpacked:
        bounded: Any = _Bounded(unpacked)  # all of a file that tarfile asks for
        archive = tarfile.TarFile(fileobj=bounded)
        for member in islice(archive, MOST_MEMBERS):
            name = Path(member.name).name
            batch = name.removesuffix(".bin")
            if batch in batches and member.isfile() and member.size <= LARGEST_BATCH:
                stream = archive.extractfile(member)
                assert stream is not None  # it is a file
                found[batch] = path / name, b"".join(iter(partial(stream.read, PIECE), b""))
                if len(found) == len(batches):
                    break
    missing = [batch for batch in batches if batch not in found]
    if missing:
        raise InputError(f"{place(argument, path)}: holds no {missing[0]}; expected {ARCHIVES[0]} as published")
    return [found[batch] for batch in batches]


class _Bounded:
    """An unpacked archive as tarfile reads it: to a length that no published one has, and never much at once."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self.stream = stream

    def read(self, size: int) -> bytes:
        if size > PIECE:
            raise tarfile.ReadError(f"a header of {size} bytes")
        self._check(self.tell() + size)
        return self.stream.read(size)

    def seek(self, position: int) -> int:
        self._check(position)
        return self.stream.seek(position)

    def tell(self) -> int:
        return self.stream.tell()

    def _check(self, position: int) -> None:
        if position > LARGEST_ARCHIVE:
            raise tarfile.ReadError(f"more than {LARGEST_ARCHIVE} bytes unpacked")
