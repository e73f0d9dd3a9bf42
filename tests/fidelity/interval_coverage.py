"""How often intervals of fidelity figures hold the figures' means: ``python tests/fidelity/interval_coverage.py``.

Samples, train and test are drawn anew each time, so that the mean of a figure over all draws, at this number of images,
is what its interval should hold in 95 % of them. The result is written to interval_coverage.json beside this file.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memgen_eval.fidelity.family import NAMES, Cloud, Compared, Ground, Space, measure_fidelity
from memgen_eval.metrics.gaussian_samples import MatchedSets
from memgen_eval.neighbours.index import Index
from memgen_eval.neighbours.pruning import References
from memgen_eval.results import Estimate, Fidelity

FILE = Path(__file__).with_suffix(".json")
FIGURES = tuple(f"{against}{name}" for name in NAMES for against in ("", "gap_"))
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Law:
    """Samples of a Gaussian that is shifted and stretched against that of train and test, some of them copies."""

    size: int
    width: int
    shift: float = 0.0
    stretch: float = 1.0
    copied: float = 0.0

    def draw(self, rng: np.random.Generator) -> MatchedSets:
        train, test, own = (rng.standard_normal((self.size, self.width)) for _ in range(3))
        samples = self.stretch * own + self.shift
        count = round(self.copied * self.size)
        copied, originals = (rng.permutation(self.size)[:count] for _ in range(2))
        samples[copied] = train[originals]
        return MatchedSets(samples, test, train, test)


LAWS = {
    "equal laws": Law(300, 8),
    "shifted": Law(300, 8, shift=0.4),
    "narrower": Law(300, 8, stretch=0.7),
    "a third copied": Law(300, 8, stretch=1.2, copied=1 / 3),
    "many dimensions": Law(300, 32, shift=0.25),
    "more images": Law(800, 8, shift=0.3, stretch=0.9),
}


def measured(law: Law, seed: int, wanted: frozenset[str] = frozenset(NAMES)) -> Fidelity:
    sets = law.draw(np.random.default_rng(seed))
    space = Space(Index(References.of(np.asarray(sets.train))), False, 1.0, wanted, seed=0)
    unseen = Compared(dict.fromkeys(NAMES, "not measured"))
    train, test = (Cloud.of(np.asarray(rows), space, "references") for rows in (sets.train, sets.test))
    return measure_fidelity(np.asarray(sets.samples), Ground(train, test, unseen, ()), space)


def covered(law: Law, num_draws: int, wanted: frozenset[str] = frozenset(NAMES)) -> dict[str, float]:
    """The share of draws in which each figure's interval holds its mean over all draws."""
    found = [measured(law, seed, wanted) for seed in range(num_draws)]
    shares = {}
    for name in (name for name in FIGURES if name.removeprefix("gap_") in wanted):
        drawn: list[Estimate] = [getattr(one, name) for one in found]
        mean = float(np.mean([one.value for one in drawn if one.value is not None]))
        held = [one.low is not None and one.high is not None and one.low <= mean <= one.high for one in drawn]
        shares[name] = round(float(np.mean(held)), 4)
    return shares


def main(num_draws: int) -> None:
    """KID takes the most time: it is drawn half as often."""
    kid = frozenset({"kid"})
    found = {}
    for name, law in LAWS.items():
        found[name] = covered(law, num_draws, frozenset(NAMES) - kid) | covered(law, num_draws // 2, kid)
        result = {"draws": num_draws, "draws of kid": num_draws // 2, "covered": found}
        FILE.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
