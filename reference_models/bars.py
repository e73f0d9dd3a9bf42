"""Progress of work that knows how much of it is done: a bar on a terminal, lines in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

Shown = Callable[[float, str], None]  # how much is done, and a remark
NUM_LINES = 5


@contextmanager
def bar(title: str, *, total: float, stream: TextIO) -> Iterator[Shown]:
    """A bar with the time left, if `stream` is a terminal; a line for each fifth of the work otherwise."""
    if not stream.isatty():
        yield _lines(title, total, stream)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    texts = TextColumn("{task.description}"), TextColumn("{task.fields[remark]}")
    columns = (texts[0], BarColumn(), TimeElapsedColumn(), TimeRemainingColumn(), texts[1])
    with Progress(*columns, console=Console(file=stream), transient=True) as progress:
        task = progress.add_task(title, total=total, remark="")
        yield lambda done, remark: progress.update(task, completed=done, remark=remark)


def _lines(title: str, total: float, stream: TextIO) -> Shown:
    """Write a line each time another part of the work is done."""
    parts_written = 0
    first: tuple[float, float] | None = None  # how much was done at what time: work may begin in its middle

    def show(done: float, remark: str) -> None:
        nonlocal parts_written, first
        first = first or (done, time.monotonic())
        parts = min(int(NUM_LINES * done / total), NUM_LINES)
        if parts > parts_written:
            parts_written = parts
            elapsed = time.monotonic() - first[1]
            left = _time_left(elapsed * (total - done) / (done - first[0])) if first[0] < done < total else ""
            print(", ".join(filter(None, (f"{title}: {done / total:.0%} done", remark, left))), file=stream, flush=True)

    return show


def _time_left(seconds: float) -> str:
    return f"{seconds:.0f} s left" if seconds < 100 else f"{seconds / 60:.0f} min left"
