"""Blocks on their way to a GPU while it works on those before."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

_IN_USE = 2  # blocks whose work may be unfinished when another one is sent


def to_device(block: NDArray[Any], device: torch.device) -> Tensor:
    """A copy of an array on the device; where that is a GPU, by way of pinned memory, and without waiting for it."""
    kind = torch.from_numpy(block[:0].copy()).dtype
    staged = torch.empty(block.shape, dtype=kind, device="cpu", pin_memory=device.type == "cuda")
    staged.numpy()[...] = block
    return staged.to(device, non_blocking=True)


def one_ahead(blocks: Iterable[NDArray[Any]], device: torch.device) -> Iterator[Tensor]:
    """The blocks on the device, in order; a GPU receives each one while it works on the one before.

    Whoever takes a block has to enqueue all work on it before asking for the next.
    """
    if device.type != "cuda":
        yield from (to_device(block, device) for block in blocks)
        return
    copying = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    working = torch.cuda.current_stream(device)
    coming: tuple[Tensor, torch.cuda.Event] | None = None
    used: deque[torch.cuda.Event] = deque()
    for block in blocks:
        if len(used) == _IN_USE:
            used.popleft().synchronize()  # so that no more blocks than these lie on the device
        with torch.cuda.stream(copying):
            sent = to_device(block, device), copying.record_event()
        if coming is not None:
            yield _received(*coming, working)
            used.append(working.record_event())
        coming = sent
    if coming is not None:
        yield _received(*coming, working)


def _received(block: Tensor, arrival: torch.cuda.Event, working: torch.cuda.Stream) -> Tensor:
    """A block that the working stream may use, and that is not overwritten before it has."""
    working.wait_event(arrival)
    block.record_stream(working)
    return block
