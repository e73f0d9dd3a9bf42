"""Finished blocks of long work, kept on disk: one file each, under a checksum of all that determines what is in it.

A file appears when it is whole, and holds a checksum of itself: one that is cut or damaged is made again. Nothing is
unpickled. A folder that cannot be written to costs a warning, never an evaluation.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.errors import InputError, one_line, quoted

log = logging.getLogger("memgen_eval")
FORMAT = 1  # counts up when the same key would give another block
OWN_NAME = re.compile(r"[0-9a-f]{64}\.(kept|npy)")  # .npy: features that earlier versions kept
HASHED_ROWS = 4096  # of an array, at a time
DIGEST_BYTES, HEADER_BYTES = 32, 2**20
KEPT_KINDS = "biuf"  # kinds of types that are kept
ADVICE = "this run goes on, but what it does from here on is done again after a kill"

Arrays = tuple[NDArray[Any] | None, ...]


@dataclass(frozen=True)
class KeptFile:
    """A file of a folder: what it is a block of, its size in bytes, and when it was last used (seconds since 1970)."""

    path: Path
    label: str
    key: str
    num_bytes: int
    used: float


class Folder:
    """Where blocks lie, during one evaluation: the oldest that it does not use go first where room is bounded."""

    def __init__(self, path: Path, *, size: int | None, owner: str, advice: str = ADVICE) -> None:
        """A folder that need not exist; `size` in bytes bounds it, `advice` ends the warning if it is of no use.

        Blocks that the same owner, the evaluation, has kept before count as used.
        """
        self.path, self._size, self._owner, self._advice = path, size, owner, advice
        self._used: set[str] = set()
        self._writable = True

    def read(self, key: str) -> Arrays | None:
        """The block of a key; None where there is none, or a damaged one."""
        path = self._place(key)
        try:
            header, body = _opened(path)
            if header["key"] != key:
                raise ValueError("it is the block of another key")
            found = _arrays(header["arrays"], body)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s cannot be used (%s): it is made again", quoted(path), one_line(error))
            return None
        self._used.add(path.name)
        with suppress(OSError):  # a folder that can only be read serves too
            os.utime(path)
        return found

    def write(self, key: str, label: str, arrays: Arrays) -> None:
        """Keep a block; the first that cannot be written is warned of, and none is tried afterwards."""
        if not self._writable:
            return
        from memgen_eval.shell import write_whole

        content = _content({"key": key, "label": label, "owner": self._owner}, arrays)
        path = self._place(key)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._make_room(len(content))
            write_whole(path, content)
        except OSError as error:
            self._give_up(one_line(error))
        except InputError as error:
            self._give_up(str(error))
        else:
            self._used.add(path.name)

    def _place(self, key: str) -> Path:
        return self.path / f"{hashlib.sha256(key.encode()).hexdigest()}.kept"

    def _give_up(self, why: str) -> None:
        self._writable = False
        warnings.warn(f"nothing more can be kept in {quoted(self.path)} ({why}); {self._advice}", stacklevel=2)

    def _make_room(self, wanted: int) -> None:
        """Remove the longest unused blocks of others until there is room. Raises InputError if that is not enough."""
        if self._size is None:
            return
        found = sorted(entries_in(self.path), key=lambda entry: entry.used)
        total = sum(entry.num_bytes for entry in found) + wanted
        for entry in found:
            if total <= self._size:
                break
            if entry.path.name not in self._used and _owner_of(entry.path) != self._owner:
                entry.path.unlink(missing_ok=True)
                total -= entry.num_bytes
        if total > self._size:
            raise InputError(f"cache_size, {self._size:,} bytes, is less than what this run uses")


@dataclass(frozen=True, eq=False)
class Kept:
    """A folder, and what all keys asked of it begin with; without a folder everything is made and nothing kept.

    Attributes
    ----------
    folder : Folder or None
    facts : tuple of str
        What is known to determine the blocks.
    """

    folder: Folder | None = None
    facts: tuple[str, ...] = ()

    @property
    def active(self) -> bool:
        """Whether anything is kept, so that checksums are worth their time."""
        return self.folder is not None

    def under(self, *facts: object) -> Kept:
        """The same for blocks that these determine too: arrays by their checksum, all else by its text."""
        return self if self.folder is None else replace(self, facts=(*self.facts, *map(as_fact, facts)))

    def holds_others_alone(self, label: str) -> bool:
        """Whether the folder has blocks of this label, all of them determined by other facts."""
        own = self._key(label, ()).removesuffix("]") + ","
        keys = [] if self.folder is None else [e.key for e in entries_in(self.folder.path) if e.label == label]
        return bool(keys) and not any(key.startswith(own) for key in keys)

    def read(self, label: str, *facts: object) -> Arrays | None:
        """The block that was kept, if there is one."""
        return None if self.folder is None else self.folder.read(self._key(label, facts))

    def write(self, arrays: Arrays, label: str, *facts: object) -> None:
        """Keep a block; `label` says what it is one of."""
        if self.folder is not None:
            self.folder.write(self._key(label, facts), label, arrays)

    def block(self, make: Callable[[], Arrays], label: str, *facts: object) -> Arrays:
        """The block that was kept, or else made now, and kept."""
        found = self.read(label, *facts)
        if found is None:
            found = make()
            self.write(found, label, *facts)
        return found

    def _key(self, label: str, facts: tuple[object, ...]) -> str:
        return json.dumps([FORMAT, label, *self.facts, *map(as_fact, facts)])


NOWHERE = Kept()


def as_fact(value: object) -> str:
    """What stands for a value in a key."""
    if isinstance(value, np.ndarray):
        return checksum_of(value)
    parts = value if isinstance(value, tuple) else (value,)
    assert all(part is None or isinstance(part, str | int | float) for part in parts), "its text may not be all of it"
    return repr(value)


def checksum_of(array: NDArray[Any]) -> str:
    """A checksum of type, shape and values, read in blocks."""
    digest = hashlib.blake2b(f"{array.dtype.str} {array.shape}\n".encode(), digest_size=DIGEST_BYTES)
    for start in range(0, len(array) if array.ndim else 1, HASHED_ROWS):
        rows = array[start : start + HASHED_ROWS] if array.ndim else array
        digest.update(np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def json_array(value: object) -> NDArray[np.uint8]:
    """What JSON can say, as an array."""
    return np.frombuffer(json.dumps(value).encode(), dtype=np.uint8)


def from_json_array(array: NDArray[Any]) -> Any:
    """What `json_array` was given."""
    return json.loads(array.tobytes())


def entries_in(folder: Path) -> Iterator[KeptFile]:
    """Yield the files of a folder that are blocks; others are none of ours."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if OWN_NAME.fullmatch(path.name):
            with suppress(OSError):
                state = path.stat()
                header = _header(path)
                yield KeptFile(
                    path, header.get("label", "unknown"), header.get("key", ""), state.st_size, state.st_mtime
                )


def listing(folder: Path) -> list[str]:
    """What is kept in a folder, in lines: the number of blocks of each kind, their bytes, and their last use."""
    kinds: dict[str, list[KeptFile]] = {}
    for entry in entries_in(folder):
        kinds.setdefault(entry.label, []).append(entry)
    everything = [entry for entries in kinds.values() for entry in entries]
    rows = [_row(label, entries) for label, entries in sorted(kinds.items())]
    return [f"{folder}:", *rows, _row("in all", everything)] if rows else [f"{folder}: nothing is kept here"]


def _row(label: str, entries: list[KeptFile]) -> str:
    size = sum(entry.num_bytes for entry in entries) / 2**20
    used = time.strftime("%Y-%m-%d %H:%M", time.localtime(max(entry.used for entry in entries)))
    noun = "block" if len(entries) == 1 else "blocks"
    return f"  {label:20} {len(entries):8,} {noun:6} {size:12,.1f} MiB   last used {used}"


def clear(folder: Path) -> int:
    """Remove all blocks, and what killed runs have left half written; how many blocks there were."""
    from memgen_eval.shell import remove_leftovers

    found = list(entries_in(folder))
    for entry in found:
        entry.path.unlink(missing_ok=True)
    remove_leftovers(folder)
    return len(found)


def _content(header: dict[str, Any], arrays: Arrays) -> bytes:
    """A block as it lies on disk: the checksum of what follows; a line of JSON; the values, one array after another."""
    assert all(array is None or array.dtype.kind in KEPT_KINDS for array in arrays)
    kinds = [None if array is None else [array.dtype.str, list(array.shape)] for array in arrays]
    parts = [json.dumps(header | {"arrays": kinds}).encode(), b"\n"]
    parts += [array.tobytes() for array in arrays if array is not None]
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        digest.update(part)
    return b"".join([digest.hexdigest().encode(), b"\n", *parts])


def _opened(path: Path) -> tuple[dict[str, Any], memoryview]:
    """The header of a block, and its values. Raises ValueError if its checksum is another one."""
    content = memoryview(path.read_bytes())
    digest, rest = bytes(content[: 2 * DIGEST_BYTES]), content[2 * DIGEST_BYTES + 1 :]
    if hashlib.blake2b(rest, digest_size=DIGEST_BYTES).hexdigest().encode() != digest:
        raise ValueError("its checksum does not fit")
    end = bytes(rest[:HEADER_BYTES]).index(b"\n")
    return json.loads(bytes(rest[:end])), rest[end + 1 :]


def _arrays(kinds: list[Any], body: memoryview) -> Arrays:
    found: list[NDArray[Any] | None] = []
    start = 0
    for kind in kinds:
        if kind is None:
            found.append(None)
            continue
        dtype, shape = np.dtype(kind[0]), tuple(kind[1])
        if dtype.kind not in KEPT_KINDS:
            raise ValueError(f"it holds {dtype}")
        stop = start + prod(shape) * dtype.itemsize
        found.append(np.frombuffer(body[start:stop], dtype=dtype).reshape(shape).copy())
        start = stop
    return tuple(found)


def _header(path: Path) -> dict[str, Any]:
    """The first line of a block alone; empty where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(2 * DIGEST_BYTES + 1)
            header = json.loads(file.readline(HEADER_BYTES))
    except (OSError, ValueError):
        return {}
    return header if isinstance(header, dict) else {}


def _owner_of(path: Path) -> str | None:
    return _header(path).get("owner")
