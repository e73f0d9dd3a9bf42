"""A bar on a terminal for work that knows how much of it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

Shown = Callable[[float, str], None]  # how much is done, and a remark


@contextmanager
def bar(title: str, *, total: float, stream: TextIO) -> Iterator[Shown]:
    """A bar with the time left, if `stream` is a terminal; nothing otherwise."""
    if not stream.isatty():
        yield _show_nothing
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    texts = TextColumn("{task.description}"), TextColumn("{task.fields[remark]}")
    columns = (texts[0], BarColumn(), TimeElapsedColumn(), TimeRemainingColumn(), texts[1])
    with Progress(*columns, console=Console(file=stream), transient=True) as progress:
        task = progress.add_task(title, total=total, remark="")
        yield lambda done, remark: progress.update(task, completed=done, remark=remark)


def _show_nothing(done: float, remark: str) -> None:
    """Stand in for a bar where there is no terminal."""
    del done, remark
