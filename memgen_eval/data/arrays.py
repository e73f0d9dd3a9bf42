"""The arrays of a file by their headers, and which of them are the images."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.data.canonical import layouts
from memgen_eval.data.images import Rows, room
from memgen_eval.data.messages import listed
from memgen_eval.errors import InputError

USUAL_NAMES = ("arr_0", "images", "samples")
STATISTICS = frozenset(("mu", "sigma", "mu_s", "sigma_s"))
NUMBERED = re.compile(r"(?:arr_)?(\d+)", re.ASCII)  # what numpy.savez and the items of a list are called


@dataclass(frozen=True)
class Entry:
    """An array of a file by its header: its shape, its type in words, and how to read it."""

    shape: tuple[int, ...]
    dtype: str
    is_object: bool
    read: Callable[[], Rows]

    @property
    def is_image_shaped(self) -> bool:
        """Whether it could be a set of images."""
        return not self.is_object and 0 not in self.shape and bool(layouts(self.shape))

    @property
    def may_be_one_image(self) -> bool:
        """Whether it could be a single image as well as a set of grey ones."""
        return len(self.shape) == 3 and (self.shape[0] in (1, 3) or self.shape[2] in (1, 3))


def read_images(entries: Mapping[str, Entry], label: str) -> tuple[Rows, tuple[str, ...]]:
    """The images among the arrays of a file, and notes on what was left out or joined.

    Raises
    ------
    InputError
        If none can be the images, or several could; the message lists names and shapes.
    """
    names, notes = choose(entries, label)
    if len(names) == 1:
        return entries[names[0]].read(), notes
    return _joined([entries[name] for name in names], label), notes


def choose(entries: Mapping[str, Entry], label: str) -> tuple[Sequence[str], tuple[str, ...]]:
    """Which arrays of a file hold the images, and a note if they had to be found or are joined.

    `arr_0` or the only array; else the one with a usual name or with the shape of images. Numbered arrays of one kind,
    as ``numpy.savez(file, *batches)`` and lists of tensors have them, are all of them images.

    Raises
    ------
    InputError
        If none can be the images, or several could; the message lists names and shapes.
    """
    contents = listed([f"{name} {entry.dtype} {entry.shape}" for name, entry in entries.items()]) or "nothing"
    if not entries.keys() - STATISTICS and "mu" in entries:
        raise InputError(f"{label}: holds statistics alone ({contents}); expected the images themselves")
    candidates = [name for name, entry in entries.items() if entry.is_image_shaped]
    numbered = [name for name in candidates if NUMBERED.fullmatch(name)]
    only = _only(entries)
    if only is None:
        found = [name for name in candidates if name in USUAL_NAMES] or candidates
    elif entries[only].is_object:
        raise InputError(f"{label}: holds Python objects ({contents}), which are never unpickled; save an array")
    else:
        found = numbered if only in numbered else [name for name in candidates if name == only]
    if len(found) == 1:
        others = listed([name for name in entries if name != found[0]])
        return found, () if found[0] == only else (f"read {found[0]}, not {others}",)
    if found and set(found) <= set(numbered) and _are_alike([entries[name] for name in found]):
        found.sort(key=_number)
        return found, (f"joined {found[0]} to {found[-1]}: {len(found)} arrays",)
    problem = "several arrays could be the images" if found else "holds no array of images"
    raise InputError(
        f"{label}: {problem} ({contents}); expected arr_0 or one array of (N, H, W), (N, C, H, W) or (N, H, W, C) "
        "with C = 1 or 3"
    )


def _only(entries: Mapping[str, Entry]) -> str | None:
    """The array that is read whatever others there are."""
    if "arr_0" in entries and (len(entries) == 1 or not entries["arr_0"].is_object):
        return "arr_0"
    return next(iter(entries)) if len(entries) == 1 else None


def _number(name: str) -> int:
    return int(name.removeprefix("arr_"))


def _are_alike(entries: Sequence[Entry]) -> bool:
    """Whether arrays are batches of one set: one type, one shape of image, and no single images."""
    kinds = {(entry.dtype, entry.shape[1:]) for entry in entries}
    return len(kinds) == 1 and not any(entry.may_be_one_image for entry in entries)


def _joined(entries: Sequence[Entry], label: str) -> NDArray[Any]:
    """The images of all arrays in one, in memory or beyond 512 MiB in a temporary file."""
    whole: NDArray[Any] | None = None
    filled = 0
    for entry in entries:
        rows = np.asarray(entry.read()[:])
        if whole is None:
            whole = room((sum(entry.shape[0] for entry in entries), *rows.shape[1:]), rows.dtype, label=label)
        whole[filled : filled + len(rows)] = rows
        filled += len(rows)
    assert whole is not None  # there are several
    return whole
