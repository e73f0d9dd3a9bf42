"""How far a run is, from the log records of the library: bars on a terminal, lines where they are asked for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from memgen_eval.terminal.estimate import Course, spoken

if TYPE_CHECKING:
    from rich.console import RenderableType

LOGGER = "memgen_eval"
WHOLE = "all stages"
WAITS = {
    "imports": "the libraries",
    "reading the training set": "the training set's files",
    "reading the samples": "the samples' files",
    "drawing samples": "the sampler",
    "features": "the network of the features",
    "denoiser": "the model's denoiser",
    "training": "the optimizer",
}
TIMES_A_SECOND = 4  # that bars are drawn anew
NARROW_BARS, LONGEST_BAR = 60, 40  # columns


class _Follower(logging.Handler):
    """Keeps a course: log records carry `stage` when one begins, `done` and `total` as it goes on.

    Records of other threads are ignored: what they do is shown as one stage, that of waiting for them.
    """

    def __init__(self, course: Course, changed: Callable[[], None]) -> None:
        super().__init__(logging.INFO)
        self.course, self.changed, self.thread = course, changed, threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread != self.thread:
            return
        stage, done = getattr(record, "stage", None), getattr(record, "done", None)
        if stage is not None:
            self.course.begin(stage)
            self.changed()
        elif done is not None:
            self.course.proceed(done, record.__dict__["total"])


class _Lines(logging.Handler):
    """Tells each stage as it begins, and its seconds at its end; not what is chosen for each of its products."""

    def __init__(self, tell: Callable[[str], object]) -> None:
        super().__init__(logging.DEBUG)
        self.tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == LOGGER and getattr(record, "done", None) is None:
            waits = WAITS.get(getattr(record, "stage", None) or "")
            self.tell(record.getMessage() + (f": waits for {waits}" if waits else ""))


@contextmanager
def shown_on_terminal(stream: TextIO, plan: Mapping[str, float] | None = None) -> Iterator[None]:
    """Draw bars with rate and time left while what is inside runs, if `stream` is a terminal; else leave it alone.

    `plan` holds the stages that are known beforehand and their usual seconds: with it there is a bar for the whole.
    """
    if not stream.isatty():
        yield
        return
    from rich.console import Console
    from rich.live import Live

    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    ascii_only = not (console.encoding or "").lower().startswith("utf")
    course = Course(plan or {})

    def drawn() -> RenderableType:
        from rich.text import Text

        lines = [Text(line, style=style, no_wrap=True, overflow="crop") for style, line in bars(course, console.width)]
        text = Text("\n").join(lines)
        return Text(text.plain.replace("━", "#").replace("─", "-")) if ascii_only else text

    live = Live(
        get_renderable=drawn,
        console=console,
        transient=True,
        refresh_per_second=TIMES_A_SECOND,
        redirect_stdout=False,
    )
    with live, kept_up(course, live.refresh):
        yield


@contextmanager
def kept_up(course: Course, changed: Callable[[], None]) -> Iterator[None]:
    """Keep a course by what this thread does, and call `changed` when a stage begins."""
    with _listening(_Follower(course, changed), logging.INFO):
        yield


@contextmanager
def told_in_lines(tell: Callable[[str], object]) -> Iterator[None]:
    """Tell every stage that begins while what is inside runs, and how many seconds it took."""
    with _listening(_Lines(tell), logging.DEBUG):
        yield


@contextmanager
def _listening(handler: logging.Handler, level: int) -> Iterator[None]:
    logger = logging.getLogger(LOGGER)
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def bars(course: Course, width: int) -> list[tuple[str, str]]:
    """The lines to draw now, none longer than `width`, each with its style."""
    if course.stage is None:
        return []
    steps, rate, left = course.steps, course.rate(), course.stage_left()
    parts = [f"{steps[0]:,} of {steps[1]:,}"] if steps is not None else []
    parts += [_rate(rate)] if rate else []
    parts += [f"{'about ' if steps is None else ''}{spoken(left)} left"] if left else []
    told, lines = ", ".join(parts), []
    done = None if steps is None else steps[0] / max(1, steps[1])
    lines += [("", line) for line in _bar(course.stage, done, told, width)]
    if steps is None and course.stage in WAITS:
        lines.append(("dim", f"  waits for {WAITS[course.stage]}"))
    if course.plan:
        left, share = course.seconds_left(), course.share()
        unknown = "longer than usual" if course.is_late() else "time left not known yet"
        rest = unknown if left is None else f"about {spoken(left)} left"
        percent = min(99, int(100 * share))  # the whole is done when nothing is drawn any more
        lines += [("bold", line) for line in _bar(WHOLE, share, f"{percent} %, {rest}", width)]
    return [(style, line[:width]) for style, line in lines]


def _bar(name: str, share: float | None, told: str, width: int) -> list[str]:
    """A name, a bar and what is told: in one line, or on a narrow terminal in two without a bar."""
    if width < NARROW_BARS:
        return [name, f"  {told}"] if told else [name]
    room = min(LONGEST_BAR, width - 32 - len(told) - 2)
    if share is None or room < 5:
        return [f"{name:<30}  {told}".rstrip()]
    full = round(room * min(1.0, share))
    return [f"{name:<30}  {'━' * full}{'─' * (room - full)}  {told}"]


def _rate(rate: float) -> str:
    """Such as `830/s`, or `4/min` for what is slow."""
    if rate >= 1:
        return f"{rate:,.0f}/s"
    return f"{60 * rate:.0f}/min" if rate >= 1 / 60 else f"{3600 * rate:.0f}/h"


def profile_table(seconds: Mapping[str, float], total: float) -> str:
    """A line for each stage with its seconds and share of `total`, in ASCII; the time outside all stages is "else"."""
    rows = [*seconds.items(), ("else", max(total - sum(seconds.values()), 0.0)), ("all", total)]
    width = max(map(len, ("stage", *seconds)))
    lines = [f"{name:<{width}}  {value:7.2f}  {100 * value / total if total else 0:3.0f} %" for name, value in rows]
    return "\n".join([f"{'stage':<{width}}  seconds  share", *lines])
