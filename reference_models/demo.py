"""The demo: two sets made from digits, one of noisy copies and one of digits never shown, and a page for each."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memgen_eval import Report, evaluate

NUM_SAMPLES = 500
NOISE = 4.0  # grey levels: invisible, yet no copy is exact

Pixels = NDArray[np.uint8]


def digits() -> tuple[Pixels, Pixels]:
    """Digits to train on and digits held out, uint8 (N, 1, 8, 8)."""
    from memgen_eval.data.sources import load_images

    train = load_images("digits:train", argument="train").array()
    test = load_images("digits:test", argument="test").array()
    return train, test


def noisy_copies(train: Pixels, num_samples: int, *, seed: int) -> Pixels:
    """Training images, drawn with replacement, with a little Gaussian noise."""
    generator = np.random.default_rng(seed)
    drawn = train[generator.integers(0, len(train), num_samples)].astype(np.float64)
    return np.rint(np.clip(drawn + NOISE * generator.standard_normal(drawn.shape), 0, 255)).astype(np.uint8)


def evaluated(name: str, samples: Pixels, train: Pixels, folder: Path) -> Report:
    """Evaluate one set, write its page, and say in one sentence what was found."""
    report = evaluate(samples, train=train)
    page = folder / f"{name}.html"
    report.save(page)
    print(f"{page}\n  {report.displayed_sentence}")
    return report


def main(folder: Path = Path("demo")) -> int:
    """Evaluate both sets; 0 if the copies were called copies and the unseen digits were not."""
    folder.mkdir(parents=True, exist_ok=True)
    train, test = digits()
    copies = evaluated("copies", noisy_copies(train, NUM_SAMPLES, seed=0), train, folder)
    unseen = evaluated("unseen", test, train, folder)
    assert copies.verdict is not None and unseen.verdict is not None
    print("Open these pages in a browser. The first set copies its training images, the second does not.")
    return 0 if copies.verdict.label == "copies" and unseen.verdict.label != "copies" else 1


if __name__ == "__main__":
    sys.exit(main())
