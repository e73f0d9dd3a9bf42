"""Several processes at one evaluation: whose rows are whose, rows gathered in order, and errors that all of them raise.

One process is rank 0 of 1 and runs the same code. All that travels are arrays in the memory of hosts, over gloo, beside
the caller's NCCL too: models and searches run on a GPU of each rank, and no rank needs a tensor of another's GPU.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from memgen_eval.errors import InputError, MemgenError, RankError

TIMEOUT = timedelta(minutes=30)  # how long ranks wait for one another; a process that dies is noticed at once
PATIENCE = 30.0  # seconds without the other ranks before the log says who is waited for
LAUNCHED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # what torchrun tells a process
EVERY_RANK = "call evaluate on every rank of the process group, with the same arguments"

log = logging.getLogger("memgen_eval")

Value = TypeVar("Value")


@dataclass(frozen=True)
class _Failure:
    """What the other ranks are told of an error."""

    text: str
    is_input: bool
    trace: str

    @classmethod
    def of(cls, error: Exception) -> _Failure:
        is_input = isinstance(error, InputError)
        text = str(error) if is_input else f"{type(error).__name__}: {error}"
        return cls(text, is_input, "".join(traceback.format_exception(error)).rstrip())


@dataclass(frozen=True, eq=False)
class Ranks:
    """Which process of those that share an evaluation, and how they speak.

    Attributes
    ----------
    rank, size : which of how many
    group : what they speak through; None in one process
    """

    rank: int = 0
    size: int = 1
    group: Any = None
    _agreed: list[Exception] = field(default_factory=list, init=False, repr=False)  # errors that every rank knows of

    def shard(self, num_rows: int, block: int = 1) -> slice:
        """The rows, of `num_rows`, that are this rank's: whole blocks in a row; no rank has two more than another."""
        num_blocks = -(-num_rows // block)
        start, stop = (min(num_rows, block * (num_blocks * rank // self.size)) for rank in (self.rank, self.rank + 1))
        return slice(start, stop)

    def gather(self, rows: Any, *, axis: int = 0) -> Any:
        """The arrays of all ranks as one, joined along an axis in the order of ranks, C-contiguous; of any type.

        Where a rank has no rows, its other axes and its type do not matter.
        """
        if self.size == 1:
            return rows
        import numpy as np

        if axis != 0:
            return np.ascontiguousarray(np.moveaxis(self.gather(np.moveaxis(rows, axis, 0)), 0, axis))
        shapes = self.exchange("rows", (rows.shape, rows.dtype.str))
        kinds = {(shape[1:], dtype) for shape, dtype in shapes if shape[0]} or {(rows.shape[1:], rows.dtype.str)}
        if len(kinds) > 1:
            raise self._known(RankError(f"ranks hold rows of different kinds, {sorted(kinds)}: {EVERY_RANK}"))
        ((rest, dtype),) = kinds
        whole = np.empty((sum(shape[0] for shape, _ in shapes), *rest), dtype=dtype)
        start = 0
        for source, (shape, _) in enumerate(shapes):
            part = whole[start : start + shape[0]]
            if part.size and source == self.rank:
                part[...] = rows
            self._broadcast(part, source)
            start += shape[0]
        return whole

    def exchange(self, what: str, value: Value) -> list[Value]:
        """The values of all ranks, in order. Raises on all of them if one has failed, or is not at `what`."""
        answers = self._ask(what, value)
        failures = {rank: answer for rank, (_, answer) in enumerate(answers) if isinstance(answer, _Failure)}
        if failures:
            raise self._known(_first_of(failures))
        steps = [step for step, _ in answers]
        if len(set(steps)) > 1:
            raise self._known(RankError(f"ranks have come to different steps ({', '.join(steps)}): {EVERY_RANK}"))
        return [answer for _, answer in answers]

    def same(self, values: dict[str, str]) -> None:
        """Raise InputError naming the first of these that another rank has otherwise."""
        everyone = self.exchange("arguments", values)
        for name in values:
            for rank, theirs in enumerate(everyone):
                if theirs[name] != everyone[0][name]:
                    difference = f"{theirs[name]} on rank {rank} and {everyone[0][name]} on rank 0"
                    raise self._known(InputError(f"{name} differs between ranks, {difference}: {EVERY_RANK}"))

    @contextmanager
    def together(self) -> Iterator[None]:
        """Left by all ranks or by none: an error inside one of them is raised by all."""
        try:
            yield
        except Exception as error:
            agreed = error if any(error is known for known in self._agreed) else self._tell(error)
            if agreed is error:
                raise
            raise agreed from error
        self.exchange("the end", None)

    def _tell(self, error: Exception) -> Exception:
        """The error that all ranks raise: this one where all have the same, else that of the first that failed."""
        try:
            answers = self._ask("failed", _Failure.of(error))
        except RankError:
            return error  # nobody is left to be told
        failures = {rank: answer for rank, (_, answer) in enumerate(answers) if isinstance(answer, _Failure)}
        alike = len(failures) == self.size and len({failure.text for failure in failures.values()}) == 1
        return self._known(error if alike else _first_of(failures))

    def _known(self, error: Exception) -> Exception:
        self._agreed.append(error)
        return error

    def _ask(self, what: str, value: Any) -> list[tuple[str, Any]]:
        if self.size == 1:
            return [(what, value)]
        import torch.distributed as dist

        answers: list[Any] = [None] * self.size
        with self.losing_none():
            dist.all_gather_object(answers, (what, value), group=self.group)
        return answers

    def _broadcast(self, part: Any, source: int) -> None:
        """Fill a contiguous array with that of another rank."""
        if part.nbytes == 0:
            return
        import numpy as np
        import torch
        import torch.distributed as dist

        with self.losing_none():
            dist.broadcast(torch.from_numpy(part.reshape(-1).view(np.uint8)), src=source, group=self.group)

    @contextmanager
    def losing_none(self) -> Iterator[None]:
        """Raise RankError where the others are not reached."""
        try:
            yield
        except RuntimeError as error:
            what = f"rank {self.rank} of {self.size} has lost another process, which ended or did not answer"
            raise self._known(RankError(f"{what}: look at what it wrote, and start the run again")) from error


ALONE = Ranks()


def _first_of(failures: dict[int, _Failure]) -> Exception:
    rank, failure = min(failures.items())
    if failure.is_input:
        return InputError(failure.text if rank == 0 else f"rank {rank}: {failure.text}")
    error = RuntimeError(f"rank {rank}: {failure.text}")
    error.add_note(f"On rank {rank}:\n{failure.trace}")
    return error


def _process_group() -> Any:
    """`torch.distributed` where a group of several processes is initialised, else None; never imports torch."""
    dist = sys.modules.get("torch.distributed")  # whoever has initialised a group has imported it
    if dist is None or not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return None
    return dist


@contextmanager
def _reminder(rank: int) -> Iterator[None]:
    """Say in the log who is waited for, if what is inside takes long."""
    timer = threading.Timer(PATIENCE, log.warning, (f"rank {rank} waits for the others: {EVERY_RANK}",))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def _connected(dist: Any) -> Iterator[Ranks]:
    """The ranks of the caller's group, through gloo: its own where it speaks it, else another one."""
    ranks = Ranks(dist.get_rank(), dist.get_world_size())
    if dist.get_backend() == "gloo":
        yield ranks
        return
    with _reminder(ranks.rank), ranks.losing_none():
        group = dist.new_group(backend="gloo", timeout=TIMEOUT)
    try:
        yield replace(ranks, group=group)
    finally:
        dist.destroy_process_group(group)


@contextmanager
def joined() -> Iterator[Ranks]:
    """All ranks of the process group, if the caller has initialised one, at the work inside; else rank 0 of 1.

    Every rank has to come. What is raised inside one is raised in all; ranks other than 0 do not warn.
    """
    dist = _process_group()
    if dist is None:
        yield Ranks()
        return
    with _connected(dist) as ranks, ExitStack() as quiet:
        with _reminder(ranks.rank):
            ranks.exchange("the start", None)
        if ranks.rank > 0:
            quiet.enter_context(warnings.catch_warnings(action="ignore"))
        with ranks.together():
            yield ranks


def _use_own_gpu() -> None:
    """Make one of the GPUs of this machine torch's current one: ranks take them in turn."""
    import torch

    place = os.environ.get("LOCAL_RANK", "")
    if place.isdecimal() and torch.cuda.is_available():
        torch.cuda.set_device(int(place) % torch.cuda.device_count())


def on_every_rank(command: Callable[[], int]) -> int:
    """The exit status of a command that torchrun may have started several times: only rank 0 is heard, and decides.

    Raises
    ------
    RankError
        If the processes that torchrun tells of cannot be reached.
    """
    named = [os.environ.get(name, "") for name in LAUNCHED]
    size = int(named[1]) if all(named) and named[1].isdecimal() else 1
    if size == 1 or _process_group() is not None:
        return command()
    import torch.distributed as dist

    try:
        dist.init_process_group("gloo", timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        where = f"rank {named[0]} cannot reach the other processes at {named[2]}:{named[3]}"
        raise RankError(f"{where} ({reason}); unset RANK and WORLD_SIZE to run in one process") from error
    try:
        _use_own_gpu()
        with ExitStack() as stack:
            if dist.get_rank() > 0:
                nowhere = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
                stack.enter_context(redirect_stdout(nowhere))
                stack.enter_context(redirect_stderr(nowhere))
            status = command()
            try:
                return Ranks(dist.get_rank(), size).exchange("status", status)[0]
            except MemgenError:  # interrupted, or the others are gone
                return status
    finally:
        dist.destroy_process_group()
