"""What can go wrong, as a tree.

::

    MemgenError
    ├── InputError (also a ValueError)       something given cannot be used; the shell exits with 2
    ├── GateError  (also an AssertionError)  a requirement on a report does not hold; the shell exits with 1
    └── RankError                            another process of the same run is lost; the shell exits with 3

Every message is one line: what arrived, what was expected, what to do.
"""

from __future__ import annotations


class MemgenError(Exception):
    """Base of every error that this library raises on purpose."""


class InputError(MemgenError, ValueError):
    """An argument, a file, an array or a sampler that cannot be used."""


class GateError(MemgenError, AssertionError):
    """A requirement on a report that does not hold, or that rests on something not measured."""


class RankError(MemgenError):
    """Another process of the same run ended, did not answer, or is at something else."""
