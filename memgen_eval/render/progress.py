"""Progress on a terminal, drawn from the log records of the library; nothing anywhere else."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

LOGGER = "memgen_eval"


class _Bars(logging.Handler):
    """A bar for each stage: log records carry `stage` when one begins, `done` and `total` as it goes on."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(logging.INFO)
        self.progress = progress
        self.task: TaskID | None = None

    def emit(self, record: logging.LogRecord) -> None:
        stage, done = getattr(record, "stage", None), getattr(record, "done", None)
        if stage is not None:
            self.finish()
            self.task = self.progress.add_task(stage, total=None)
        elif done is not None and self.task is not None:
            self.progress.update(self.task, completed=done, total=record.__dict__["total"])

    def finish(self) -> None:
        """Show the present stage as done."""
        if self.task is not None:
            task = self.progress.tasks[self.task]
            self.progress.update(self.task, total=task.total or 1, completed=task.total or 1)


@contextmanager
def shown_on_terminal(stream: TextIO) -> Iterator[None]:
    """Draw bars with the time left while what is inside runs, if `stream` is a terminal; else leave it alone."""
    if not stream.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=Console(file=stream), transient=True)
    bars, logger = _Bars(progress), logging.getLogger(LOGGER)
    level = logger.level
    with progress:
        logger.addHandler(bars)
        logger.setLevel(logging.INFO)
        try:
            yield
        finally:
            bars.finish()
            logger.removeHandler(bars)
            logger.setLevel(level)


def profile_table(seconds: Mapping[str, float], total: float) -> str:
    """A line for each stage with its seconds and share of `total`, in ASCII; the time outside all stages is "else"."""
    rows = [*seconds.items(), ("else", max(total - sum(seconds.values()), 0.0)), ("all", total)]
    width = max(map(len, ("stage", *seconds)))
    lines = [f"{name:<{width}}  {value:7.2f}  {100 * value / total if total else 0:3.0f} %" for name, value in rows]
    return "\n".join([f"{'stage':<{width}}  seconds  share", *lines])
