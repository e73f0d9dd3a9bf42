"""What a pickle would build, found without building it: the pickles that torch writes, and no others."""

from __future__ import annotations

import pickle
import pickletools
from typing import IO, Any

LARGEST = 2**21  # bytes; the pickle of ten thousand tensors has a million and a half
MOST_PARTS = 2**24  # of all values together
NAME = 0  # what stands on the stack for a class or a function: no value has so few parts
PLAIN = frozenset(
    f"{module}.{name}"
    for module, names in {
        "collections": ("OrderedDict", "Counter"),
        "_codecs": ("encode",),
        "builtins": ("set", "complex"),
        "__builtin__": ("set", "complex"),
    }.items()
    for name in names
)


def check_pickle(file: IO[bytes]) -> None:
    """Follow one pickle to its end, in time that grows with its length, and see that torch may be asked to load it.

    Raises
    ------
    pickle.UnpicklingError
        If it names anything outside torch but plain containers, calls what it has not named, or holds values that are
        small in the file and endless when they are walked through, as tuples of shared tuples are.
    ValueError, and others of pickletools
        If it is not a pickle.
    """
    stack: list[int] = []  # how many parts each value has, those that are shared each time
    marks: list[int] = []
    memo: dict[int, int] = {}
    total = 0
    argument: Any
    for opcode, argument, position in pickletools.genops(file):
        if position is not None and position > LARGEST:
            raise pickle.UnpicklingError(f"a pickle of more than {LARGEST} bytes")
        name = opcode.name
        if name == "MARK":
            marks.append(len(stack))
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "GLOBAL":
            _check_name(argument)
            stack.append(NAME)
        else:
            parts = _popped(opcode, stack, marks)
            if name in ("REDUCE", "NEWOBJ") and parts[0] != NAME:
                raise pickle.UnpicklingError("calls what is not a function")
            size = 1 + sum(parts)
            total += size
            if total > MOST_PARTS:
                raise pickle.UnpicklingError(f"values of more than {MOST_PARTS} parts")
            stack.extend([size] * len(opcode.stack_after))


def _check_name(argument: str) -> None:
    module, _, name = argument.partition(" ")
    if module.split(".")[0] != "torch" and f"{module}.{name}" not in PLAIN:
        raise pickle.UnpicklingError(f"names {argument!r}")


def _popped(opcode: pickletools.OpcodeInfo, stack: list[int], marks: list[int]) -> list[int]:
    """The values that an opcode takes from the stack, the deepest first."""
    before = opcode.stack_before
    depth = len(before)
    if pickletools.markobject in before:
        depth = len(stack) - marks.pop() + before.index(pickletools.markobject)
    if depth > len(stack):
        raise pickle.UnpicklingError("takes more than the stack holds")
    parts = stack[len(stack) - depth :]
    del stack[len(stack) - depth :]
    return parts
