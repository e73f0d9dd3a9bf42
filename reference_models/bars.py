"""Progress of work that knows how much of it is done: a bar on a terminal, lines in a log."""

from __future__ import annotations

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

    def show(done: float, remark: str) -> None:
        nonlocal parts_written
        parts = min(int(NUM_LINES * done / total), NUM_LINES)
        if parts > parts_written:
            parts_written = parts
            print(", ".join(filter(None, (f"{title}: {done / total:.0%} done", remark))), file=stream, flush=True)

    return show
