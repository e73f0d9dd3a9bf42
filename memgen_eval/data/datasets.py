"""Sets that have a name: `digits`, which comes with scikit-learn, and `cifar10`, from a folder or the web."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import numpy as np

from memgen_eval.data import cifar
from memgen_eval.data.download import fetch
from memgen_eval.data.images import Images
from memgen_eval.data.messages import listed, quoted
from memgen_eval.errors import InputError
from memgen_eval.paths import as_path

KNOWN = ("cifar10", "digits")

CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
CIFAR10_MD5 = "c58f30108f718f92721af3b95e74349a"
NUM_TEST_DIGITS = 500

_SPLITS: dict[str, cifar.Split] = {"train": "train", "test": "test", "val": "test"}


def is_known(name: object) -> bool:
    """Whether this is the name of a set, in any of its spellings: `cifar10`, `CIFAR10:train`, `cifar10-test`."""
    return isinstance(name, str) and _parse(name) is not None


def test_split(name: str) -> str | None:
    """The name of the held-out part that a named set brings: `digits:test` for `digits`, None for a test set itself."""
    parsed = _parse(name)
    return f"{parsed[0]}:test" if parsed is not None and parsed[1] == "train" else None


def known_names() -> str:
    """The names, for messages."""
    return listed([spelling for name in KNOWN for spelling in (name, f"{name}:train", f"{name}:test")])


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
        raise InputError(f"{argument}: {quoted(name)} is not a known set; known are {known_names()}")
    known, split = parsed
    return _digits(split) if known == "digits" else _cifar10(split, data_dir, argument)


def _parse(name: str) -> tuple[str, cifar.Split] | None:
    """The set and its split."""
    known, separator, split = name.lower().replace("cifar-10", "cifar10").replace("-", ":").partition(":")
    if known not in KNOWN or (separator and split not in _SPLITS):
        return None
    return known, _SPLITS[split] if separator else "train"


def _digits(split: cifar.Split) -> Images:
    from sklearn.datasets import load_digits

    levels = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)[:, None]  # (N, 1, 8, 8)
    order = sorted(range(len(levels)), key=lambda i: hashlib.sha256(f"digits {i}".encode()).digest())
    chosen = order[-NUM_TEST_DIGITS:] if split == "test" else order[:-NUM_TEST_DIGITS]
    return Images(levels[sorted(chosen)], form=f"digits:{split}")


def _cifar10(
    split: cifar.Split, data_dir: str | Path | None, argument: str, *, url: str = CIFAR10_URL, md5: str = CIFAR10_MD5
) -> Images:
    named = data_dir or os.environ.get("MEMGEN_DATA") or None
    folder = as_path(named) if named else cache_folder()
    found = cifar.find(folder)
    if found is None and named:
        raise InputError(
            f"{argument}: no CIFAR-10 in {quoted(folder)}; expected {cifar.PYTHON_FOLDER}/, {cifar.BINARY_FOLDER}/ or "
            f"{cifar.ARCHIVES[0]} there"
        )
    if found is None:
        found = _downloaded(folder, argument, url=url, md5=md5)
    return cifar.read(found, split=split, argument=argument)


def _downloaded(folder: Path, argument: str, *, url: str, md5: str) -> Path:
    """The archive in the cache folder, or in the system's temporary one where the cache cannot be written to."""
    target = _writable(folder) / cifar.ARCHIVES[0]
    if not target.is_file():
        try:
            fetch(url, target, md5=md5)
        except InputError as error:
            raise InputError(
                f"{argument}: {error}; provide {cifar.ARCHIVES[0]} or {cifar.PYTHON_FOLDER}/ in {quoted(folder)}, or "
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
