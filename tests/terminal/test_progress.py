"""Bars and tables at the widths that terminals have: nothing wider, nothing lost, no colour where none is wanted."""

from __future__ import annotations

import errno
import fcntl
import io
import logging
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path

import pytest

from memgen_eval.runtime import Stages, report_progress
from memgen_eval.terminal.estimate import Course, planned
from memgen_eval.terminal.progress import NARROW_BARS, WAITS, WHOLE, bars, kept_up, told_in_lines

ROOT = Path(__file__).parent.parent.parent
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-9][0-9;]*m")
WIDTHS = (40, 80, 120)

SHOWN = """
import sys, time
from memgen_eval.render.table import print_table
from memgen_eval.runtime import Stages, report_progress
from memgen_eval.terminal.estimate import planned
from memgen_eval.terminal.progress import shown_on_terminal
from render.conftest import every_figure
stages = Stages()
with shown_on_terminal(sys.stderr, planned({"memorization", "features"})):
    for name in ("reading the training set", "neighbours of samples", "features"):
        with stages.stage(name):
            time.sleep(0.3)
            for done in range(0, 50_001, 25_000):
                report_progress(done, 50_000)
                time.sleep(0.3)
print_table(every_figure())
"""


def on_a_terminal(width: int, script: str, variables: dict[str, str] | None = None) -> str:
    """What a script writes to a terminal of this width, all of it."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR", "LINES")}
    environment = kept | {"TERM": "xterm-256color", "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", script]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment | (variables or {}))
    os.close(theirs)
    shown = bytearray()
    while part := _some(ours):
        shown += part
    os.close(ours)
    assert process.wait() == 0, shown.decode()
    return shown.decode()


def _some(stream: int) -> bytes:
    try:
        return os.read(stream, 65536)
    except OSError as error:
        if error.errno == errno.EIO:  # how Linux says that the other end of a terminal is closed
            return b""
        raise


def lines_of(shown: str) -> list[str]:
    """What was written, line by line, without orders to the terminal."""
    return [line for line in re.split(r"[\r\n]+", ESCAPE.sub("", shown)) if line.strip()]


@pytest.mark.parametrize("width", WIDTHS)
def test_bars_and_table_fit_every_terminal(width: int) -> None:
    shown = on_a_terminal(width, SHOWN)
    lines = lines_of(shown)
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    for said in ("neighbours of samples", "waits for the network of the features", WHOLE, "25,000 of 50,000", "/s"):
        assert said in text
    assert "Verdict: copies." in text and COLOUR.search(shown)
    titles = [line.strip() for line in lines if line.strip() in ("Memorization", "Novelty", "Fidelity", "Denoiser")]
    assert titles == ["Memorization", "Novelty", "Fidelity", "Denoiser"]  # the groups, each once, in order
    for cell in ("3.2 %", "2.1 to 4.3 %", "test images: 0.11 %"):
        assert cell in text
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h")  # the cursor is there again


def test_no_colour_is_drawn_where_none_is_wanted() -> None:
    shown = on_a_terminal(80, SHOWN, {"NO_COLOR": "1"})
    assert not COLOUR.search(shown) and "Verdict: copies." in shown


def test_a_terminal_of_few_characters_has_bars_too() -> None:
    shown = on_a_terminal(80, SHOWN, {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"})
    assert "##" in shown and "━" not in shown


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("width", range(20, 200, 9))
def test_no_bar_is_wider_than_the_terminal(width: int) -> None:
    clock = Clock()
    course = Course(planned({"memorization", "features"}), clock)
    assert bars(course, width) == []
    for stage in (*course.plan, "a stage that nobody planned"):
        course.begin(stage)
        for steps in (None, (0, 10**9), (123_456_789, 10**9), (10**9, 10**9)):
            clock.now += 1e5
            if steps is not None:
                course.proceed(*steps)
            drawn = [line for _, line in bars(course, width)]
            assert all(len(line) <= width for line in drawn)
            assert drawn[0].startswith(stage[:width]) and any(line.startswith(WHOLE) for line in drawn)
            if width < NARROW_BARS:
                assert not any("━" in line for line in drawn)


def test_a_bar_tells_steps_rate_and_both_times() -> None:
    clock = Clock()
    course = Course({"drawing samples": 60.0, "novelty": 40.0}, clock)
    course.begin("drawing samples")
    assert [line for _, line in bars(course, 100)][1] == f"  waits for {WAITS['drawing samples']}"
    clock.now = 20.0
    course.proceed(1_000, 5_000)
    stage, whole = (line for _, line in bars(course, 100))
    assert stage.endswith("1,000 of 5,000, 50/s, 1 min left")
    assert whole.endswith("12 %, about 2 min left")  # 20 s for 12 of 100: 147 s
    assert stage.count("━") / (stage.count("━") + stage.count("─")) == pytest.approx(0.2, abs=0.03)


def test_a_stage_without_steps_is_foreseen_at_the_pace_so_far() -> None:
    clock = Clock()
    course = Course({"checksums": 10.0, "novelty": 40.0}, clock)
    course.begin("checksums")
    assert bars(course, 100)[0][1].split() == ["checksums"]
    clock.now = 20.0
    course.begin("novelty")
    clock.now = 40.0
    assert bars(course, 100)[0][1].split(None, 1) == ["novelty", "about 1 min left"]  # 80 s in all, 20 of them gone
    clock.now = 101.0
    assert bars(course, 100)[0][1].split() == ["novelty"]


def test_a_stage_beyond_its_time_makes_no_promise() -> None:
    clock = Clock()
    course = Course({"checksums": 10.0, "novelty": 10.0}, clock)
    course.begin("checksums")
    clock.now = 10.0
    course.begin("novelty")
    clock.now = 1000.0
    assert bars(course, 100)[-1][1].endswith("99 %, longer than usual")


def test_lines_tell_stages_and_their_seconds() -> None:
    lines: list[str] = []
    logger = logging.getLogger("memgen_eval")
    before = (logger.level, list(logger.handlers))
    with told_in_lines(lines.append), Stages().stage("drawing samples"):
        report_progress(1, 2)
    assert lines[0] == "drawing samples: waits for the sampler"
    assert re.fullmatch(r"drawing samples: \d+\.\d{3} seconds", lines[1]) and len(lines) == 2
    assert (logger.level, list(logger.handlers)) == before


def test_bars_show_what_the_thread_that_asked_for_them_does() -> None:
    course = Course(planned({"memorization"}))
    with kept_up(course, lambda: None), Stages().stage("checksums"):
        thread = threading.Thread(target=report_progress, args=(1, 2))
        thread.start()
        thread.join()
        assert (course.stage, course.steps) == ("checksums", None)
        report_progress(1, 2)
        assert course.steps == (1, 2)


def test_nothing_is_drawn_in_a_pipe() -> None:
    from memgen_eval.terminal.progress import shown_on_terminal

    stream = io.StringIO()
    with shown_on_terminal(stream, planned({"memorization"})), Stages().stage("checksums"):
        pass
    assert stream.getvalue() == ""
