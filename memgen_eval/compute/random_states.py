"""Generators of random numbers that code of others draws from: their states, to be given back or kept as JSON."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class StateHolder:
    """One generator: its kind, and how its state is read and set."""

    kind: str
    read: Callable[[], Any]
    write: Callable[[Any], Any]


def state_holders(held: Iterable[object]) -> Iterator[StateHolder]:
    """Yield the global generators, then those among the objects."""
    torch = sys.modules.get("torch")
    yield StateHolder("random", random.getstate, random.setstate)
    yield StateHolder("numpy", np.random.get_state, np.random.set_state)
    if torch is not None:
        yield StateHolder("torch", torch.get_rng_state, torch.set_rng_state)
        if torch.cuda.is_initialized():
            yield StateHolder("cuda", torch.cuda.get_rng_state_all, torch.cuda.set_rng_state_all)
    for thing in held:
        kind = type(thing).__name__
        if isinstance(thing, np.random.BitGenerator):
            yield StateHolder(kind, partial(getattr, thing, "state"), partial(setattr, thing, "state"))
        elif isinstance(thing, np.random.RandomState):
            yield StateHolder(kind, thing.get_state, thing.set_state)
        elif isinstance(thing, random.Random) and not isinstance(thing, random.SystemRandom):
            yield StateHolder(kind, thing.getstate, thing.setstate)
        elif torch is not None and isinstance(thing, torch.Generator):
            yield StateHolder(kind, thing.get_state, thing.set_state)


@dataclass(frozen=True, eq=False)
class RandomStates:
    """Several generators, in an order that is the same in every process."""

    holders: tuple[StateHolder, ...]

    def kept(self) -> list[list[Any]]:
        """All states as JSON types."""
        return [[holder.kind, _plain(holder.read())] for holder in self.holders]

    def restore(self, kept: list[list[Any]]) -> bool:
        """Set all states; False, and none is set, where they are those of other generators."""
        if [kind for kind, _ in kept] != [holder.kind for holder in self.holders]:
            return False
        for holder, (_, state) in zip(self.holders, kept, strict=True):
            holder.write(_state(state))
        return True


def _plain(state: Any) -> Any:
    """A state as JSON types: what JSON lacks becomes a pair of its kind and its content."""
    if isinstance(state, tuple | list):
        return [type(state).__name__, [_plain(value) for value in state]]
    if isinstance(state, dict):
        return ["dict", {name: _plain(value) for name, value in state.items()}]
    if isinstance(state, np.ndarray):
        return ["array", state.dtype.str, state.tolist()]
    if isinstance(state, np.generic):
        return state.item()
    if type(state).__module__ == "torch":
        return ["tensor", state.tolist()]
    return state


def _state(plain: Any) -> Any:
    """What `_plain` was given."""
    if not isinstance(plain, list):
        return plain
    kind, content = plain[0], plain[-1]
    if kind in ("tuple", "list"):
        values = [_state(value) for value in content]
        return tuple(values) if kind == "tuple" else values
    if kind == "dict":
        return {name: _state(value) for name, value in content.items()}
    if kind == "array":
        return np.array(content, dtype=plain[1])
    import torch

    return torch.tensor(content, dtype=torch.uint8, device="cpu")
