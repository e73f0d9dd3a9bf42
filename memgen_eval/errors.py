"""What can go wrong, as a tree.

::

    MemgenError
    ├── InputError (also a ValueError)       something given cannot be used; the shell exits with 2
    ├── GateError  (also an AssertionError)  a requirement on a report does not hold; the shell exits with 1
    └── RankError                            another process of the same run is lost; the shell exits with 3

Every message is one line: what arrived, what was expected, what to do.
"""

from __future__ import annotations

import errno
import operator
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

LONGEST_ERROR = 300  # characters of a foreign error's text
NO_MEMORY = ("MemoryError", "allocate memory", "out of memory", "bad_alloc", "failed to map", "start new thread")


class MemgenError(Exception):
    """Base of every error that this library raises on purpose."""


class InputError(MemgenError, ValueError):
    """An argument, a file, an array or a sampler that cannot be used."""


class GateError(MemgenError, AssertionError):
    """A requirement on a report that does not hold, or that rests on something not measured."""


class RankError(MemgenError):
    """Another process of the same run ended, did not answer, or is at something else."""


def one_line(error: BaseException) -> str:
    """Kind and text of an exception on one line, cut after 300 characters."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:LONGEST_ERROR]}" if text else type(error).__name__


def lacks_memory(error: Exception) -> bool:
    """Whether memory or threads were short: NumPy, torch and the dynamic linker each say so in their own way."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return isinstance(error, RuntimeError | ImportError) and any(words in str(error) for words in NO_MEMORY)


@contextmanager
def reading(label: str, problem: str, remedy: str) -> Iterator[None]:
    """Turn whatever is raised while a foreign file is read into an InputError: libraries raise anything at all.

    The message is ``label: problem (kind: text); remedy``. Errors of this library pass unchanged.
    """
    try:
        yield
    except MemgenError:
        raise
    except MemoryError as error:
        raise InputError(f"{label}: reading it takes more memory than there is; {remedy}") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's refusal, not the file's content
            raise InputError(f"{label}: cannot be read ({one_line(error)})") from error
        raise InputError(f"{label}: {problem} ({one_line(error)}); {remedy}") from error


def optional_package(name: str, *, extra: str, otherwise: str = "") -> Any:
    """A module of a package that an extra brings. Raises InputError naming the extra where it cannot be imported.

    A package may be installed and still fail, with any error at all: torchvision beside another build of torch raises
    RuntimeError, and takes with it whatever imports it. What it warns of while it is imported is nobody's concern here.
    """
    import warnings
    from importlib import import_module

    try:
        with warnings.catch_warnings(action="ignore"):
            return import_module(name)
    except Exception as error:
        package = name.partition(".")[0].replace("_", "-")
        remedy = f"install it: pip install 'memgen-eval[{extra}]'{f', {otherwise}' if otherwise else ''}"
        raise InputError(f"{package} cannot be imported ({one_line(error)}); {remedy}") from error


def check_count(name: str, value: Any, *, least: int = 1) -> int:
    """An integer of any type (numpy's too) as int. Raises InputError naming it if it is none, or below `least`."""
    try:
        count = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        count = None
    if count is None or count < least:
        raise InputError(f"{name} is {value!r}, expected an integer of at least {least}")
    return count


def quoted(path: str | os.PathLike[str]) -> str:
    """The path in quotes, control characters escaped, so that it stays on one line whatever its name."""
    return repr(os.fspath(path))


def place(argument: str, path: str | os.PathLike[str]) -> str:
    """What messages about a file begin with."""
    return f"{argument} ({quoted(path)})"


def shape_text(shape: Sequence[int]) -> str:
    """Such as `3 x 32 x 32`."""
    return " x ".join(str(size) for size in shape)


def p_text(p_value: float) -> str:
    """`p = ...` as it is written in sentences."""
    return f"p = {p_value:.2g}".replace("e-0", "e-") if p_value >= 1e-300 else "p < 1e-300"


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
