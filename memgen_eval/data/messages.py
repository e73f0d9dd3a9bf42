"""How this room words its errors: files, sets, shapes and ranges, on one line."""

from __future__ import annotations

import os
from collections.abc import Sequence


def quoted(path: str | os.PathLike[str]) -> str:
    """The path in quotes, control characters escaped, so that it stays on one line whatever its name."""
    return repr(os.fspath(path))


def place(argument: str, path: str | os.PathLike[str]) -> str:
    """What messages about a file begin with."""
    return f"{argument} ({quoted(path)})"


def shape_text(shape: Sequence[int]) -> str:
    """Such as `3 x 32 x 32`."""
    return " x ".join(str(size) for size in shape)


def which_image(index: int, names: Sequence[str] | None) -> str:
    """Such as `image 7 ('cats/7.png')`."""
    return f"image {index} ({quoted(names[index])})" if names is not None else f"image {index}"


def listed(entries: Sequence[str], most: int = 8) -> str:
    """The first few of many, and how many there are."""
    return ", ".join(entries[:most]) + (f", ... ({len(entries)} in all)" if len(entries) > most else "")


def range_remedy(argument: str) -> str:
    """How to say what the values mean, in the shell and in Python."""
    if argument == "samples":
        return "say what they mean: --range 0,1 or --range 0,255 or --range -1,1 (in Python value_range=(0, 1))"
    flag = f"--{argument}-range"
    return (
        f"say what they mean: {flag} 0,1 or {flag} 0,255 or {flag} -1,1 (in Python Images(array, value_range=(0, 1)))"
    )
