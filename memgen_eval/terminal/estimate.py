"""How far a run is and how long the rest takes, from stages known beforehand and their usual seconds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

# In the order in which they begin: usual time, and the families of which one must be asked for; none: always there.
# 10,000 samples against CIFAR-10 on two cores, in tenths of a second; other sets take other times, of which the shares
# are much alike. The duplicate tolerance is found at the beginning of the other readings, which go on once it is there.
USUAL: Mapping[str, tuple[float, Collection[str]]] = {
    "reading the training set": (10.0, ()),
    "reading the samples": (2.0, ()),
    "checksums": (4.0, ()),
    "comparing the sets": (6.0, ()),
    "neighbours of samples": (42.0, ("memorization", "novelty in pixels")),
    "neighbours of the baseline": (24.0, ("memorization", "novelty in pixels")),
    "other readings of the samples": (8.0, ("memorization",)),
    "duplicate tolerance": (7.0, ("memorization",)),
    "copies among samples": (51.0, ("memorization",)),
    "copies among the baseline": (33.0, ("memorization",)),
    "features": (1500.0, ("features",)),
    "neighbours among features": (50.0, ("features",)),
    "similarity of features": (20.0, ("features",)),
    "altered copies": (267.0, ("memorization",)),
    "patches and repetition": (16.0, ("memorization",)),
    "novelty, fidelity, Gaussian structure": (2.0, ("memorization",)),
    "novelty": (70.0, ("novelty",)),
    "fidelity of unseen images": (75.0, ("fidelity",)),
    "fidelity": (35.0, ("fidelity",)),
    "denoiser": (600.0, ("denoiser",)),
    "gaussian structure": (100.0, ("gaussian",)),
}
BESIDE = {"novelty", "fidelity of unseen images", "fidelity", "gaussian structure"}  # memorization, mostly
LEAST_SHARE, LEAST_SECONDS = 0.03, 2.0  # with less done nothing can be said of the rest
KNEE = 0.85  # of its expected time; a stage that takes longer comes ever slower to its end
LATE = 1.5  # times the expected time, from which on nothing is said of the rest
HOUR, DAY = 3600.0, 86400.0
LONGEST_TIME = 100 * DAY


def planned(families: Collection[str], *, in_turn: bool = False) -> dict[str, float]:
    """The stages of an evaluation of these families in the order of their beginning, with their usual times.

    Those that are measured beside memorization take no time of their own, unless all families are measured `in_turn`.
    """
    beside = set() if in_turn or "features" in families or "memorization" not in families else BESIDE
    return {
        name: usual
        for name, (usual, needs) in USUAL.items()
        if name not in beside and (not needs or not set(needs).isdisjoint(families))
    }


@dataclass
class Course:
    """Where a run is among its stages.

    A stage counts with its usual seconds. While it runs, its own progress says how much of it is done; where it tells
    none, that much as a stage of its usual length would have done at the pace so far, never all.
    """

    plan: Mapping[str, float]
    clock: Callable[[], float] = time.monotonic
    start: float = field(init=False)
    place: int = field(default=-1, init=False)  # of the stage that has come furthest
    stage: str | None = field(default=None, init=False)
    begun: float = field(default=0.0, init=False)
    steps: tuple[int, int] | None = field(default=None, init=False)
    best: float = field(default=0.0, init=False)
    pace: float = field(default=0.0, init=False)  # seconds that a usual second took so far

    def __post_init__(self) -> None:
        self.start = self.begun = self.clock()

    @property
    def names(self) -> Sequence[str]:
        """The stages of the plan."""
        return list(self.plan)

    def begin(self, stage: str) -> None:
        """Note that a stage begins; those before it in the plan are done or passed over."""
        self.stage, self.begun, self.steps = stage, self.clock(), None
        place = self.names.index(stage) if stage in self.plan else -1
        if place > self.place:
            self.place = place
            before = sum(list(self.plan.values())[:place])
            self.pace = (self.begun - self.start) / before if before else 0.0

    def proceed(self, done: int, total: int) -> None:
        """Note how far the present stage is."""
        self.steps = (done, total)

    def share(self) -> float:
        """How much of the whole is done, from 0 to 1; it never falls."""
        usual = list(self.plan.values())
        if self.place < 0 or not usual:
            return 0.0
        done = sum(usual[: self.place])
        if self.stage == self.names[self.place]:
            done += usual[self.place] * self._share_of_stage(usual[self.place])
        self.best = max(self.best, done / sum(usual))
        return self.best

    def _share_of_stage(self, usual: float) -> float:
        if self.steps is not None:
            return min(1.0, self.steps[0] / max(1, self.steps[1]))
        share = self._of_expected(usual)
        return share if share < KNEE else 1 - (1 - KNEE) * math.exp((KNEE - share) / (1 - KNEE))

    def _of_expected(self, usual: float) -> float:
        """How long the present stage has taken, in the time that it would take at the pace so far; 0 if unknown."""
        expected = usual * self.pace
        return (self.clock() - self.begun) / expected if expected else 0.0

    def is_late(self) -> bool:
        """Whether a stage that tells no steps takes much longer than it would at the pace so far."""
        usual = self.plan.get(self.stage or "")
        if usual is None or self.steps is not None or self.clock() - self.begun < LEAST_SECONDS:
            return False
        return self._of_expected(usual) > LATE

    def seconds_left(self) -> float | None:
        """Until the end, if what is left goes on as what is done did; None where that tells too little."""
        share, taken = self.share(), self.clock() - self.start
        if self.is_late():
            return None
        return taken * (1 - share) / share if share >= LEAST_SHARE and taken >= LEAST_SECONDS else None

    def rate(self) -> float | None:
        """Steps a second of the present stage; None where it tells none, or has told none yet."""
        taken = self.clock() - self.begun
        return None if self.steps is None or not self.steps[0] or taken <= 0 else self.steps[0] / taken

    def stage_left(self) -> float | None:
        """Seconds until the end of the present stage: at its rate, or where it tells no steps at the pace so far."""
        if self.steps is not None:
            rate = self.rate()
            return None if rate is None else max(0, self.steps[1] - self.steps[0]) / rate
        expected, taken = self.plan.get(self.stage or "", 0.0) * self.pace, self.clock() - self.begun
        return expected - taken if taken < expected else None


def spoken(seconds: float) -> str:
    """A time as it is said of what is only about known: steps of 5 s, of minutes, of half hours, of hours."""
    if seconds > LONGEST_TIME:
        return "over 100 days"
    if seconds <= 55:
        return f"{max(5, 5 * math.ceil(seconds / 5))} s"
    if seconds < 59.5 * 60:
        return f"{max(1, round(seconds / 60))} min"
    if seconds < 9.75 * HOUR:
        return f"{round(2 * seconds / HOUR) / 2:g} h"
    return f"{round(seconds / HOUR)} h" if seconds < 2 * DAY else f"{round(seconds / DAY)} days"
