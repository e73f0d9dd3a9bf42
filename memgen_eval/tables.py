"""Every search that an evaluation makes: one table of neighbours for each pair of sets, at the largest k needed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from memgen_eval.data.images import ImageSet, repeats_among
from memgen_eval.distributed import ALONE, Ranks
from memgen_eval.metrics.copy_rules import CARLINI_NEIGHBOURS, Copying, largest_patch_distances, repeated
from memgen_eval.metrics.memorization import Baseline
from memgen_eval.metrics.statistics import permutation, proportion
from memgen_eval.neighbours.duplicates import distinct_neighbours, neighbours_within
from memgen_eval.neighbours.index import Index
from memgen_eval.neighbours.pruning import References
from memgen_eval.neighbours.search import both_orientations, mirrored
from memgen_eval.neighbours.table import Neighbours
from memgen_eval.report import Estimate

MAX_BASELINE = 10_000
TOLERANCE_IMAGES = 1_000
TOLERANCE_NEIGHBOUR = 5  # the first may be a duplicate itself
TOLERANCE_SHARE = 0.25
PAIR_VALUES = 2**20  # of the images whose patches are compared at once, in float64

Pixels = NDArray[np.uint8] | NDArray[np.float32]
Rows = NDArray[np.int64]


def shared_neighbours(
    queries: Pixels,
    references: Pixels | References,
    k: int,
    *,
    exclude: Rows | None = None,
    flip: bool = False,
    memory_budget: str | int,
    ranks: Ranks,
) -> Neighbours:
    """`nearest_neighbours`, each rank searching for its own queries."""
    index = Index(References.of(references), memory_budget, ranks)
    return index.search(queries, k, exclude=exclude, flip=flip)


def _gathered(part: Neighbours, ranks: Ranks, queries: Pixels | None, excluded: Rows | None) -> Neighbours:
    """The whole table, of which each rank has its own rows."""
    return replace(
        part,
        squared_distances=ranks.gather(part.squared_distances),
        indices=ranks.gather(part.indices),
        flipped=None if part.flipped is None else ranks.gather(part.flipped),
        queries=queries,
        excluded=excluded,
    )


def some(table: Neighbours, rows: slice | NDArray[np.bool_] | Rows) -> Neighbours:
    """These rows of a table."""
    return replace(
        table,
        squared_distances=table.squared_distances[rows],
        indices=table.indices[rows],
        flipped=None if table.flipped is None else table.flipped[rows],
        queries=None if table.queries is None else table.queries[rows],
        excluded=None if table.excluded is None else table.excluded[rows],
    )


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The baseline's images (m, C, H, W), no two of them equal.

    `rows` are their indices in the set they come from, `excluded` the training images that they are not compared with;
    `notes` say what was left out.
    """

    images: Pixels
    rows: Rows
    excluded: Rows | None
    name: str
    setting: str
    notes: tuple[str, ...] = ()


def held_out(train: ImageSet, test: ImageSet | None, *, seed: int) -> HeldOut | None:
    """The test set, or training images drawn with the seed, each to be left out of train; None for fewer than two.

    Test images that repeat an earlier one are left out. So are training images that have an exact duplicate: it would
    stay in train, and pass for what an unseen image finds there.
    """
    if test is not None:
        left_out, name = test.survey.repeats, "test images"
        rows = np.flatnonzero(~left_out)
        images = test.take(rows) if left_out.any() else test.array()
        return HeldOut(images, rows, None, name, "test", _left_out(left_out, "test images repeat an earlier one"))
    left_out = train.survey.duplicated
    single = np.flatnonzero(~left_out)
    if len(single) < 2:
        return None
    rows = single[draw_rows(len(single), MAX_BASELINE, seed=seed)]
    notes = _left_out(left_out, "training images have an exact duplicate")
    name = "training images left out of train"
    return HeldOut(train.take(rows), rows, rows, name, "train, leave one out", notes)


def _left_out(images: NDArray[np.bool_], what: str) -> tuple[str, ...]:
    count = np.count_nonzero(images)
    return (f"{count:,} of {len(images):,} {what}; the baseline leaves them out",) if count else ()


def draw_rows(num_images: int, most: int, *, seed: int) -> Rows:
    """Rows of at most `most` images, in order, drawn without replacement."""
    return np.sort(np.random.default_rng(seed).choice(num_images, min(most, num_images), replace=False))


def duplicate_tolerance(train: ImageSet, *, seed: int, memory_budget: str | int, ranks: Ranks = ALONE) -> float:
    """A quarter of the median distance of training images to their fifth nearest other one, in the units of the images.

    Over 1,000 images drawn with the seed, exact duplicates counted once; the farthest if there are fewer others; 0 for
    one training image.
    """
    repeats = train.survey.repeats
    images = train.take(np.flatnonzero(~repeats)) if repeats.any() else train.array()
    if len(images) < 2:
        return 0.0
    rows = draw_rows(len(images), TOLERANCE_IMAGES, seed=seed)
    k = min(TOLERANCE_NEIGHBOUR, len(images) - 1)
    table = shared_neighbours(images[rows], images, k, exclude=rows, memory_budget=memory_budget, ranks=ranks)
    return TOLERANCE_SHARE * float(np.median(table.distances[:, -1]))


def plain_table(
    images: Pixels, train: References, *, excluded: Rows | None, memory_budget: str | int, ranks: Ranks = ALONE
) -> Neighbours:
    """Training neighbours in the orientation given, enough of them for every figure."""
    k = min(CARLINI_NEIGHBOURS + 1, len(train.rows) - (excluded is not None))
    return shared_neighbours(images, train, k, exclude=excluded, memory_budget=memory_budget, ranks=ranks)


def copying(
    plain: Neighbours,
    train: References,
    *,
    flip: bool,
    tolerance: float,
    repeats: NDArray[np.bool_] | None = None,
    memory_budget: str | int,
    ranks: Ranks = ALONE,
) -> Copying:
    """What the memorization family needs to know of the images that `plain` was searched for.

    `repeats` marks those that equal an earlier one of them; none if it is left out.
    """
    mine = some(plain, ranks.share(len(plain)))
    both = both_orientations(mine, train, memory_budget=memory_budget)
    closest = _gathered(both, ranks, plain.queries, plain.excluded)
    own = distinct_neighbours(both if flip else mine, train.rows, tolerance=tolerance)
    distinct = _gathered(own, ranks, plain.queries, plain.excluded)
    near_identical = closest.squared_distances[:, 0] <= tolerance**2
    marked = np.zeros(len(plain), dtype=bool) if repeats is None else repeats
    return Copying(plain, closest if flip else plain, distinct, closest, near_identical, marked)


def baseline(images: HeldOut, known: Copying) -> Baseline:
    """The held-out images with those marked that the training set holds all the same."""
    if images.excluded is None:
        leak = "are identical to a training image"
        return Baseline(known, images.rows, known.identical, images.name, leak, images.notes)
    leak = "have another training image within the duplicate tolerance"
    return Baseline(known, images.rows, known.near_identical, images.name, leak, images.notes)


def patch_share(known: Copying, train: ImageSet, *, tolerance: float, flip: bool, ranks: Ranks = ALONE) -> Estimate:
    """Share of images with a training image whose worst patch differs by less than the duplicate tolerance.

    The worst patch differs at least as much as the whole, so that only training images within the tolerance matter.
    """
    if tolerance == 0:
        return Estimate.undefined("the duplicate tolerance is 0: no distance is below it")
    own = some(known.nearest, ranks.share(len(known)))
    assert own.queries is not None
    rows, indices = neighbours_within(own, train.array(), radius=tolerance)
    grey = tolerance / np.sqrt(train.num_values)
    hits = np.zeros(len(own), dtype=bool)
    step = max(1, PAIR_VALUES // train.num_values)
    for start in range(0, len(rows), step):
        row, index = rows[start : start + step], indices[start : start + step]
        images, references = own.queries[row], train.take(index)  # (P, C, H, W)
        worst = largest_patch_distances(images, references)
        if flip:
            worst = np.minimum(worst, largest_patch_distances(images, mirrored(references)))
        hits[row[worst < grey]] = True
    notes = (f"threshold {grey:.3g} grey levels in the worst of 16 patches",)
    return proportion(ranks.gather(hits), repeats=known.repeats, notes=notes)


def repetition(
    samples: Pixels,
    others: Pixels,
    *,
    originals: Rows,
    threshold: float,
    flip: bool,
    seed: int,
    memory_budget: str | int,
    ranks: Ranks = ALONE,
) -> tuple[Estimate, Estimate]:
    """`repeated` for samples, and for one half of the baseline against the other, all at one size.

    `originals` are `Survey.originals` of the samples.
    """
    size = min(len(samples), len(others) // 2)
    if size < 2:
        undefined = Estimate.undefined("needs two samples and four baseline images")
        return undefined, undefined
    halves, rows = permutation(len(others), seed=seed), permutation(len(samples), seed=seed)[:size]
    drawn, first, second = samples[rows], others[halves[:size]], others[halves[size : 2 * size]]

    def share(images: Pixels, repeats: NDArray[np.bool_] | None) -> Estimate:
        to_others, to_baseline = (
            shared_neighbours(
                images, references, 1, exclude=left_out, flip=flip, memory_budget=memory_budget, ranks=ranks
            )
            for references, left_out in ((images, np.arange(size)), (second, None))
        )
        return repeated(to_others, to_baseline, threshold=threshold, repeats=repeats)

    return share(drawn, repeats_among(originals[rows])), share(first, None)


def own_distances(
    tables: list[Neighbours], train: References, *, memory_budget: str | int, ranks: Ranks = ALONE
) -> list[NDArray[np.float64]]:
    """From the nearest training image of each image to that one's own nearest other, (N,) for each table.

    An image left out of train may be that other one: both distances are then equal, and only a larger one is authentic.
    """
    firsts = np.unique(np.concatenate([table.indices[:, 0] for table in tables]))
    found = shared_neighbours(train.rows[firsts], train, 1, exclude=firsts, memory_budget=memory_budget, ranks=ranks)
    own = found.distances[:, 0]
    return [own[np.searchsorted(firsts, table.indices[:, 0])] * table.factor for table in tables]
