"""What the verdict says of altered copies and of unseen images on CIFAR-10, over many draws.

``python -m benchmarks.altered_copies FOLDER OUTPUT.json`` with the folder that holds `cifar-10-batches-py`; an hour on
two cores. Neighbours are searched once for each kind of alteration; samples are then drawn again and again from images
whose neighbours are known, and judged by the library's own rules.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import num_threads, processor
from memgen_eval import __version__
from memgen_eval.battery.catalogue import COUNTED, altered
from memgen_eval.battery.draws import CIFAR10, Divided, Draw
from memgen_eval.battery.innocents import AWKWARD, NUMBERS_REPEATED, innocents
from memgen_eval.controls import Controls
from memgen_eval.copying.baseline import Baseline, Scale, num_left_out
from memgen_eval.copying.copy_rules import Copying, CopyRules
from memgen_eval.copying.evened import Evened, even_out
from memgen_eval.copying.memorization import copying, is_fair, judged, search
from memgen_eval.copying.rules import joined_ratings
from memgen_eval.copying.witnesses import Control, Witness, findings, near_unseen, unlike_train
from memgen_eval.data.datasets import test_split
from memgen_eval.data.sources import load_images
from memgen_eval.neighbours.index import Index
from memgen_eval.neighbours.topk import Neighbours
from memgen_eval.reference import Prepared

NUM_SPLITS = {5_000: 100, 50_000: 1_000}  # by the number of training images
NUM_SAMPLES, NUM_COPIES, NUM_TEST, NUM_SOURCES = 1_000, 50, 1_000, 1_000
NUM_DRAWS, NUM_CLASS_DRAWS, NUM_INNOCENT = 40, 10, 100
SPLITS = ((300, 5_000), (1_000, 1_000), (5_000, 5_000))  # samples and test images, disjoint halves of the test images


class Court:
    """A training set with its controls, and witnesses for sets of images."""

    def __init__(self, train: NDArray[Any], test: NDArray[Any]) -> None:
        loaded, of_test = (load_images(images, argument="train") for images in (train, test))
        self.known = Prepared(loaded, of_test, 0)
        self.index = Index(self.known.references)
        self.rules = CopyRules(1 / 3, self.known.tolerance(self.index), flip=True)
        self.scale = Scale.of(self.index.rows)
        self.controls = Controls(self.known, self.index, self.rules, Index)
        self.even = self.controls.even_train()
        left_out = self.controls.left_out()
        assert left_out is not None
        self.left_out = self.controls.control(left_out, self.even)

    def witness(self, images: NDArray[Any]) -> Witness:
        """What is known of some images."""
        found = copying(search(images, self.index), self.index, self.rules)
        return Witness(found, even_out(images, self.even), self.controls.kinds(images))

    def verdict(self, samples: Witness, test: Witness) -> tuple[str, float]:
        """The label and the p-value; no two samples are taken for one picture."""
        of_test = Baseline(
            np.empty((len(test), 1)), np.arange(len(test)), None, "test images", "test", copying=test.copying
        )
        controls = [Control(of_test, test), first_of(self.left_out, num_left_out(len(test)))]
        unlike = unlike_train(controls)
        fair = is_fair(of_test, self.rules, self.scale) and not unlike
        found = findings(samples, samples.copying.repeats, controls, threshold=1 / 3, fair=fair)
        given: dict[str, Any] = {"findings": found, "unlike": unlike, "near_unseen": near_unseen(controls)}
        verdict = judged(samples.copying, of_test, self.rules, self.scale, **given)
        return verdict.label, verdict.p_value


def taken(table: Neighbours, rows: NDArray[np.int64]) -> Neighbours:
    """Some rows of a table, without its images."""
    flipped = None if table.flipped is None else table.flipped[rows]
    return Neighbours(table.squared_distances[rows], table.indices[rows], flipped=flipped)


def stacked(first: Neighbours, second: Neighbours) -> Neighbours:
    """One table after the other, without their images."""
    squared = np.concatenate([first.squared_distances, second.squared_distances])
    indices = np.concatenate([first.indices, second.indices])
    known = first.flipped is not None and second.flipped is not None
    return Neighbours(squared, indices, flipped=np.concatenate([first.flipped, second.flipped]) if known else None)


def some(witness: Witness, rows: NDArray[np.int64]) -> Witness:
    """What is known of some of its images."""
    known, evened = witness.copying, witness.evened
    plain, nearest = taken(known.plain, rows), taken(known.nearest, rows)
    distinct, closest = taken(known.distinct, rows), taken(known.closest, rows)
    aligned = None if evened.aligned is None else evened.aligned[rows]
    near = None if known.relatively_near is None else known.relatively_near[rows]
    found = Copying(plain, nearest, distinct, closest, known.near_identical[rows], known.repeats[rows], near)
    return Witness(found, Evened(evened.standardized[rows], aligned, None), witness.kinds[rows])


def first_of(control: Control, number: int) -> Control:
    """A control with the first of its images."""
    held, rows = control.baseline, np.arange(min(number, len(control.witness)))
    assert held.excluded is not None
    witness = some(control.witness, rows)
    baseline = replace(held, images=held.images[rows], rows=held.rows[rows], excluded=held.excluded[rows])
    return Control(replace(baseline, copying=witness.copying), witness)


def both(first: Witness, second: Witness) -> Witness:
    """One set after the other."""
    one, other = first.copying, second.copying
    assert one.relatively_near is not None and other.relatively_near is not None
    found = Copying(
        plain=stacked(one.plain, other.plain),
        nearest=stacked(one.nearest, other.nearest),
        distinct=stacked(one.distinct, other.distinct),
        closest=stacked(one.closest, other.closest),
        near_identical=np.concatenate([one.near_identical, other.near_identical]),
        repeats=np.concatenate([one.repeats, other.repeats]),
        relatively_near=np.concatenate([one.relatively_near, other.relatively_near]),
    )
    of_first, of_second = first.evened, second.evened
    assert of_first.aligned is not None and of_second.aligned is not None
    standardized = joined_ratings([of_first.standardized, of_second.standardized])
    evened = Evened(standardized, joined_ratings([of_first.aligned, of_second.aligned]), None)
    return Witness(found, evened, np.concatenate([first.kinds, second.kinds]))


def told(verdicts: Iterable[tuple[str, float]]) -> dict[str, Any]:
    """How often each label was given, and the smallest and the largest p-value."""
    labels, p_values = zip(*verdicts, strict=True)
    return {**Counter(labels), "p_values": [float(f"{end(p_values):.2g}") for end in (min, max)]}


def altered_copies(court: Court, unseen: Witness, train: NDArray[Any], others: NDArray[Any]) -> dict[str, Any]:
    """By alteration: what is said where 50 of 1,000 samples are altered copies, and where all are."""
    generator = np.random.default_rng(0)
    sources = train[generator.choice(len(train), NUM_SOURCES, replace=False)]
    borrowed = others[generator.choice(len(others), NUM_SOURCES, replace=False)]
    test, fresh = some(unseen, np.arange(NUM_TEST)), np.arange(NUM_TEST, len(unseen))
    found = {}
    for name in ("exact", *COUNTED):
        images = sources if name == "exact" else altered(name, sources, borrowed, np.random.default_rng(1))
        copies = court.witness(images)

        def drawn(seed: int, copies: Witness = copies) -> tuple[str, float]:
            rng = np.random.default_rng(seed)
            own = some(unseen, rng.choice(fresh, NUM_SAMPLES - NUM_COPIES, replace=False))
            return court.verdict(both(own, some(copies, rng.choice(NUM_SOURCES, NUM_COPIES, replace=False))), test)

        found[name] = {"5 %": told(map(drawn, range(NUM_DRAWS))), "100 %": told([court.verdict(copies, test)])}
        print(name, found[name], flush=True)
    return found


def unseen_images(court: Court, unseen: Witness, labels: NDArray[np.int64], num_splits: int) -> dict[str, Any]:
    """What is said of unseen images: of all classes, of one, and of all but one."""

    def split(num_samples: int, num_test: int, seed: int, keep: Callable[[Any], Any] | None = None) -> Any:
        order = np.random.default_rng(seed).permutation(len(labels))
        pool = order[: len(order) // 2] if keep is not None else order
        own = pool if keep is None else pool[keep(labels[pool])]
        test = order[-num_test:]
        return court.verdict(some(unseen, own[:num_samples]), some(unseen, test))

    found = {f"{n} samples, {m} test images": told(split(n, m, seed) for seed in range(num_splits)) for n, m in SPLITS}
    seeds = range(NUM_CLASS_DRAWS)
    kinds = [(k, lambda held, k=k: held == k) for k in range(10)]
    found["one class"] = told(split(500, 5_000, s, keep) for _, keep in kinds for s in seeds)
    lost = [(k, lambda held, k=k: held != k) for k in range(10)]
    found["one class missing"] = told(split(5_000, 5_000, s, keep) for _, keep in lost for s in seeds)
    print(found, flush=True)
    return found


def innocent_sets(court: Court, unseen: Witness, train: NDArray[Any], images: NDArray[Any]) -> dict[str, Any]:
    """What is said of awkward images that are not copied, and of a few unseen images repeated, a hundred times each.

    Every set is 1,000 of 2,000 awkward images, which the sets share; repeated images are one picture each.
    """
    test = some(unseen, np.arange(NUM_TEST))
    division = Divided(replace(CIFAR10, num_samples=2 * NUM_SAMPLES), train, images[:NUM_TEST], images[NUM_TEST:])
    found = {}
    for case in (case for case in innocents() if case.group == AWKWARD):
        sets = case.make(Draw(division, np.random.default_rng(0)))
        if sets.train is not train:
            continue
        awkward = court.witness(sets.samples)

        def drawn(seed: int, among: Witness = awkward) -> tuple[str, float]:
            rows = np.random.default_rng(seed).choice(len(among), min(NUM_SAMPLES, len(among) // 2), replace=False)
            return court.verdict(some(among, rows), test)

        found[case.name] = told(map(drawn, range(NUM_INNOCENT)))
        print(case.name, found[case.name], flush=True)
    fresh = np.arange(NUM_TEST, len(unseen))
    for number in NUMBERS_REPEATED[1:]:
        draws = [np.random.default_rng(seed).choice(fresh, number, replace=False) for seed in range(NUM_INNOCENT)]
        found[f"{number} new images repeated"] = told(court.verdict(some(unseen, rows), test) for rows in draws)
    return found


def main(folder: str, output: str) -> None:
    """Measure and write the results."""
    whole = load_images("cifar10", argument="train", data_dir=folder).array()
    test = load_images(test_split("cifar10"), argument="test", data_dir=folder).array()
    labels = class_labels(Path(folder))
    results: dict[str, Any] = {}
    for size, num_splits in NUM_SPLITS.items():
        train = np.ascontiguousarray(whole[:size])
        court = Court(train, test[:NUM_TEST])
        unseen = court.witness(test)
        results[f"{size} training images"] = {
            "altered copies": altered_copies(court, unseen, train, test[NUM_TEST:]),
            "unseen images": unseen_images(court, unseen, labels, num_splits),
            "innocent sets": innocent_sets(court, unseen, train, test),
        }
    record = {
        "command": f"python -m benchmarks.altered_copies FOLDER {Path(output).name}",
        "date": datetime.now(UTC).date().isoformat(),
        "processor": processor().name,
        "threads": num_threads(),
        "version": __version__,
        "results": results,
    }
    Path(output).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def class_labels(folder: Path) -> NDArray[np.int64]:
    """The class of each test image of CIFAR-10, from its published file."""
    import pickle

    with (folder / "cifar-10-batches-py" / "test_batch").open("rb") as file:
        return np.array(pickle.load(file, encoding="bytes")[b"labels"])


if __name__ == "__main__":
    main(*sys.argv[1:])
