"""Several processes at one training: each takes its part of every batch, and all take the same step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from memgen_eval.distributed import ALONE, Ranks
from memgen_eval.errors import InputError


@dataclass(frozen=True, eq=False)
class Team:
    """The processes of a training; one process is rank 0 of 1 and runs the same code.

    Attributes
    ----------
    ranks : Ranks
        Which of how many, and how they agree.
    gradients : process group, optional
        What gradients travel through: NCCL between GPUs; the default group otherwise.
    """

    ranks: Ranks = ALONE
    gradients: Any = field(default=None, repr=False)

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes."""
        return self.ranks.rank == 0

    def parts(self, batch_size: int, accumulation: int) -> list[slice]:
        """The parts of a batch that are this rank's, one after the other, all of one size.

        Raises
        ------
        InputError
            If the batch cannot be divided into equal parts.
        """
        size, left = divmod(batch_size, self.ranks.size * accumulation)
        if left or not size:
            what = f"{self.ranks.size} processes of {accumulation} accumulated parts each"
            raise InputError(f"--batch-size is {batch_size}, which has no equal parts for {what}: give a multiple")
        first = self.ranks.rank * accumulation * size
        return [slice(first + place * size, first + (place + 1) * size) for place in range(accumulation)]

    def share(self, objective: nn.Module) -> nn.Module:
        """The module, its gradients the mean over all ranks'."""
        if self.ranks.size == 1:
            return objective
        return nn.parallel.DistributedDataParallel(objective, process_group=self.gradients)

    def mean(self, value: Tensor) -> Tensor:
        """The mean of all ranks' values."""
        if self.ranks.size == 1:
            return value
        with self.ranks.losing_none():
            dist.all_reduce(value, group=self.gradients)
        return value / self.ranks.size

    def of_first(self, value: float) -> float:
        """Rank 0's number, on every rank: what time it is, for example."""
        if self.ranks.size == 1:
            return value
        number = torch.tensor(value, dtype=torch.float64)
        with self.ranks.losing_none():
            dist.broadcast(number, src=0)
        return number.item()


def kept_back(objective: nn.Module) -> AbstractContextManager[None]:
    """While gradients are added up that are not to travel yet."""
    if isinstance(objective, nn.parallel.DistributedDataParallel):
        return objective.no_sync()
    return nullcontext()


@contextmanager
def joined_team() -> Iterator[Team]:
    """All processes that torchrun has started and `memgen_eval.distributed.on_every_rank` has joined through gloo."""
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        yield Team()
        return
    ranks = Ranks(dist.get_rank(), dist.get_world_size())
    if not torch.cuda.is_available():
        yield Team(ranks)
        return
    group = dist.new_group(backend="nccl")
    try:
        yield Team(ranks, group)
    finally:
        dist.destroy_process_group(group)
