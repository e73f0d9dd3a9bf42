"""Runs a reader on mutated files in this process and holds it to three promises: our error or none, time, memory."""

from __future__ import annotations

import contextlib
import re
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import NoReturn

from memgen_eval import InputError

MOST_SECONDS, MOST_MEMORY = 2.0, 300  # MiB above the start
HUNG = 20  # seconds
REHEARSED = 50  # cases that are read once before any counts


@dataclass(frozen=True)
class Target:
    """A reader: how a case is drawn, and what reads it."""

    make: Callable[[Random], bytes]
    read: Callable[[Path], object]
    name: str  # of the file


@dataclass
class Outcome:
    """What became of the cases so far."""

    executions: int = 0
    accepted: int = 0
    seconds: float = 0.0  # of the slowest case
    memory: int = 0  # MiB above the start, at most
    findings: dict[str, tuple[int, bytes]] = field(default_factory=dict)  # the first case of each kind

    def __str__(self) -> str:
        kinds = "".join(f"\n  case {case}: {kind}" for kind, (case, _) in self.findings.items())
        return (
            f"{self.executions} executions, {self.accepted} of them accepted, at most {self.seconds:.2f} s and "
            f"{self.memory} MiB; {len(self.findings)} findings{kinds}"
        )


class Hung(BaseException):
    """Raised by the alarm, which no reader may catch."""


def fuzz(
    target: Target, folder: Path, *, executions: int, seed: int = 0, first: int = 0, rehearsed: int = REHEARSED
) -> Outcome:
    """Read `executions` cases, numbered from `first`; a case depends on its number and the seed alone.

    Each lies at `folder / target.name` while it is read, so that it is at hand should the process end.
    """
    outcome, path = Outcome(), folder / target.name
    for case in range(rehearsed):  # for what is imported or kept at first use
        path.write_bytes(target.make(Random(f"{seed} {case}")))
        _kind(target, path, Outcome())
    start = _rewound()
    for case in range(first, first + executions):
        data = target.make(Random(f"{seed} {case}"))
        path.write_bytes(data)
        before = time.process_time()
        kind = _kind(target, path, outcome)
        outcome.seconds = max(outcome.seconds, taken := time.process_time() - before)
        outcome.memory = max(outcome.memory, held := _memory() - start)
        outcome.executions += 1
        if kind is None and taken > MOST_SECONDS:
            kind = f"took {taken:.1f} s"
        if kind is None and held > MOST_MEMORY:
            kind = f"took {held} MiB"
            start = _rewound()
        if kind is not None:
            outcome.findings.setdefault(kind, (case, data))
    return outcome


def _kind(target: Target, path: Path, outcome: Outcome) -> str | None:
    """What is wrong with how a file was read, in a line that is alike for cases of one cause."""
    try:
        with _alarm():
            target.read(path)
        outcome.accepted += 1
    except InputError as error:
        message = str(error)
        if "\n" in message or len(message) > 2000:
            return f"message of {len(message)} characters: {message[:200]!r}"
    except (Exception, Hung) as error:  # noqa: BLE001 - every one is a finding
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "memgen" in frame.filename]
        place = frames[-1] if frames else None
        text = re.sub(r"\d+", "#", str(error))[:60]
        return f"{type(error).__name__} ({text!r}) at {place and Path(place.filename).name}:{place and place.lineno}"
    return None


@contextmanager
def _alarm() -> Iterator[None]:
    def ring(number: int, frame: object) -> NoReturn:
        raise Hung(f"no answer in {HUNG} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(HUNG)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _rewound() -> int:
    """The memory that this process holds now, in MiB, from which its record begins anew."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return _memory()


def _memory() -> int:
    """The most memory that this process ever held, in MiB, as Linux tells it; 0 elsewhere."""
    status = Path("/proc/self/status")
    match = re.search(r"VmHWM:\s+(\d+)", status.read_text(encoding="utf-8")) if status.exists() else None
    return int(match[1]) // 1024 if match else 0
