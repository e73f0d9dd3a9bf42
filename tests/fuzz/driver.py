"""Runs a reader on mutated files in this process and holds it to three promises: our error or none, time, memory."""

from __future__ import annotations

import contextlib
import re
import resource
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, NoReturn

from memgen_eval import InputError

MOST_SECONDS, MOST_MEMORY = 2.0, 300  # MiB above the start
HUNG, PATIENCE = 20, 30  # seconds of the processor, and how many times as many on the clock
FEW_FAULTS = 100  # even of huge pages, of 2 MiB, fewer are no finding
LONGEST_MESSAGE = 2000  # characters
DIGITS, OURS = re.compile(r"\d+"), re.compile(r"memgen_eval/|reference_models/")
REHEARSED = 50  # cases that are read once before any counts


@dataclass(frozen=True)
class Target:
    """A reader: what it is given to begin from, how that is changed, and what reads it."""

    seeds: Sequence[bytes]
    mutate: Callable[[bytes, Random], bytes]
    read: Callable[[Any], object]
    name: str  # of the file whose path is read; without one, bytes are

    def make(self, random: Random) -> bytes:
        """One of the seeds, changed."""
        return self.mutate(random.choice(self.seeds), random)


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
        _kind(target, _laid(target, target.make(Random(f"{seed} {case}")), path), Outcome())
    start = rewound()
    for case in range(first, first + executions):
        start = execute(target, target.make(Random(f"{seed} {case}")), path, outcome, start)
    return outcome


def execute(target: Target, data: bytes, path: Path, outcome: Outcome, start: int) -> int:
    """Have `data` read from `path` and note what became of it; the memory at the start goes in and comes back."""
    given = _laid(target, data, path)
    before, faults = time.process_time(), _page_faults()
    kind = _kind(target, given, outcome)
    outcome.seconds = max(outcome.seconds, taken := time.process_time() - before)
    held = most_memory() - start if _page_faults() > faults + FEW_FAULTS else 0  # to ask takes as long as a small case
    outcome.memory = max(outcome.memory, held)
    if kind is None and taken > MOST_SECONDS:
        kind = f"took more than {MOST_SECONDS:.0f} s"
    if kind is None and held > MOST_MEMORY:
        kind = f"took more than {MOST_MEMORY} MiB"
        start = rewound()
    if kind is not None:
        outcome.findings.setdefault(kind, (outcome.executions, data))
    outcome.executions += 1
    return start


def _laid(target: Target, data: bytes, path: Path) -> Path | bytes:
    """What the reader is given: a file of the data, or the data."""
    if not target.name:
        return data
    path.write_bytes(data)
    return path


def _kind(target: Target, given: Path | bytes, outcome: Outcome) -> str | None:
    """What is wrong with how a file was read, in a line that is alike for cases of one cause."""
    try:
        with _alarm():
            target.read(given)
        outcome.accepted += 1
    except InputError as error:
        message = str(error)
        if "\n" in message or len(message) > LONGEST_MESSAGE:
            return f"a message of {'several lines' if chr(10) in message else 'great length'} {_place(error)}"
    except (Exception, Hung) as error:  # noqa: BLE001 - every one is a finding
        return f"{type(error).__name__} ({re.sub(DIGITS, '#', str(error))[:60]!r}) {_place(error)}"
    return None


def _place(error: BaseException) -> str:
    """The last place in our own code that an error came through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if OURS.search(frame.filename)]
    return f"at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "at no place of ours"


@contextmanager
def _alarm() -> Iterator[None]:
    def ring(number: int, frame: object) -> NoReturn:
        raise Hung(f"no answer in {HUNG} s")

    signals = (signal.SIGPROF, signal.SIGALRM)
    before = [signal.signal(number, ring) for number in signals]
    signal.setitimer(signal.ITIMER_PROF, HUNG)  # of processor time: a busy machine hangs nobody
    signal.alarm(PATIENCE * HUNG)  # for what waits without computing
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def rewound() -> int:
    """The memory that this process holds now, in MiB, from which its record begins anew."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return most_memory()


def _page_faults() -> int:
    """Pages that this process was given without a look at the disk: each is memory that it did not hold before."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def most_memory() -> int:
    """The most memory that this process ever held, in MiB, as Linux tells it; 0 elsewhere."""
    status = Path("/proc/self/status")
    match = re.search(r"VmHWM:\s+(\d+)", status.read_text(encoding="utf-8")) if status.exists() else None
    return int(match[1]) // 1024 if match else 0
