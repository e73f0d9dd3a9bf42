"""Threads that share each batch of a process: every worker puts its share through the network from end to end.

Torch's own threads share every single operation instead, and wait for each other after each: small networks spend a
third of their time so, and on a busy machine most of it. Workers wait once a step. When and in which order they run
changes no bit: each computes with its own share, and gradients are added in the order of the shares.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)
Share = TypeVar("Share")


class Workers(Generic[Network]):
    """A module, and for each worker but the first a twin of it: the same weights, and gradients of its own.

    Parameters
    ----------
    module : nn.Module
        Its gradients are those of all shares together.
    number : int
        Of workers. Each has as many threads of torch's as there are when it first works.
    """

    def __init__(self, module: Network, number: int) -> None:
        self.module = module
        self.twins = [_twin(module) for _ in range(number - 1)]
        self.pool = ThreadPoolExecutor(number - 1) if number > 1 else None

    def add_up(self, backward: Callable[[Network, Share], Tensor], shares: Sequence[Share]) -> Tensor:
        """The sum of what `backward` returns for each worker's module and share; their gradients are added too."""
        if self.pool is None:
            return backward(self.module, shares[0])
        others = [self.pool.submit(backward, *work) for work in zip(self.twins, shares[1:], strict=True)]
        total = backward(self.module, shares[0])
        for twin, other in zip(self.twins, others, strict=True):
            total = total + other.result()
            for parameter, its in zip(self.module.parameters(), twin.parameters(), strict=True):
                assert parameter.grad is not None and its.grad is not None
                parameter.grad += its.grad
        return total


def share(whole: slice, place: int, number: int) -> slice:
    """A worker's share of a part of a batch: all are of one size, give or take one."""
    size = whole.stop - whole.start
    return slice(whole.start + size * place // number, whole.start + size * (place + 1) // number)


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Let torch compute with this number of threads of its own, and with those of before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _twin(module: Network) -> Network:
    """A copy whose parameters lie in the memory of the module's."""
    same = {id(parameter): nn.Parameter(parameter.detach()) for parameter in module.parameters()}
    return copy.deepcopy(module, memo=dict(same))
