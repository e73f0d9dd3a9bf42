"""Novelty against loops over all pairs, sklearn, and null values known in closed form."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special
from sklearn.metrics import roc_auc_score

import oracles
from memgen_eval import authenticity, data_copying_test, partition
from memgen_eval.diffusion.moments import principal
from memgen_eval.errors import InputError
from memgen_eval.metrics.novelty import QUANTILES, Distances, known_distances, measure_novelty, with_notes
from memgen_eval.metrics.statistics import NO_BASELINE
from memgen_eval.neighbours.index import Index
from memgen_eval.neighbours.pruning import References
from memgen_eval.neighbours.topk import Neighbours
from memgen_eval.results import Novelty
from metric_tables import brute_force, known, table, torus


def distances(
    values: NDArray[Any], *, own: NDArray[np.float64] | str = "no others", cells: NDArray[np.int64] | str = "no cells"
) -> Distances:
    """Training neighbours at these distances (N, K)."""
    return Distances(table(values**2, dtype=np.float64), own, cells)


def novelty(
    seed: int = 0, *, num_samples: int = 300, num_test: int = 200
) -> tuple[Novelty, NDArray[Any], NDArray[Any]]:
    rng = np.random.default_rng(seed)
    first, second = (np.sort(rng.gamma(4.0, 1.0, (n, 2)), axis=1) for n in (num_samples, num_test))
    cells = [rng.integers(0, 3, n) for n in (num_samples, num_test)]
    own = [rng.gamma(3.0, 1.0, n) for n in (num_samples, num_test)]
    sets = [distances(d, own=o, cells=c) for d, o, c in zip((first, second), own, cells, strict=True)]
    return measure_novelty(*sets, seed=0), first, second


@pytest.mark.parametrize("kind", ["bytes", "ties", "floats", "left out"])
@pytest.mark.parametrize("k", [1, 2, 7])
def test_own_distances_say_what_those_of_a_search_would(kind: str, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few neighbours of an image stand for a search where they are near enough."""
    rng = np.random.default_rng(0)
    most, width, dtype = {"ties": (7, 3, np.uint8), "floats": (256, 8, np.float32)}.get(kind, (256, 8, np.uint8))
    train, samples = (rng.integers(0, most, (count, width)).astype(dtype) for count in (120, 90))
    rows = np.arange(50) if kind == "left out" else None
    queries = samples if rows is None else train[rows]
    index = Index(References.of(train))
    neighbours = index.search(queries, k, exclude=rows).scaled(0.5)
    searched: list[int] = []
    search = Index.search

    def counting(self: Index, those: NDArray[Any], *given: Any, **how: Any) -> Neighbours:
        searched.append(len(those))
        return search(self, those, *given, **how)

    monkeypatch.setattr(Index, "search", counting)
    (found,) = known_distances([neighbours], index, "no cells")
    monkeypatch.undo()
    full = index.search(train, 1, exclude=np.arange(len(train))).scaled(0.5).distances[:, 0]
    wanted = full[neighbours.indices[:, 0]]
    assert not isinstance(found.own_distances, str)
    first = neighbours.distances[:, 0]
    assert np.array_equal(first > found.own_distances, first > wanted)
    assert (found.own_distances >= wanted).all()
    num_firsts = len(np.unique(neighbours.indices[:, 0]))
    assert sum(searched) < num_firsts if k == 7 else sum(searched) <= num_firsts
    assert sum(searched) == num_firsts or k > 1


def test_quantiles_and_medians() -> None:
    family, first, second = novelty()
    for curve, median, values in (
        (family.distance_quantiles, family.distance_median, first[:, 0].tolist()),
        (family.test_distance_quantiles, family.test_distance_median, second[:, 0].tolist()),
    ):
        assert curve.x is not None and curve.x.values == QUANTILES
        assert curve.value == pytest.approx([oracles.quantile(values, q) for q in QUANTILES], rel=1e-12)
        assert known(median)[0] == curve.value[49] == pytest.approx(sorted(values)[len(values) // 2], abs=0.1)
        assert curve.low is not None and curve.high is not None and curve.count == median.count == len(values)
        assert (known(median)[1], known(median)[2]) == (curve.low[49], curve.high[49])
        assert all(a <= b <= c for a, b, c in zip(curve.low, curve.value, curve.high, strict=True))
    ratio = known(family.distance_ratio)
    assert ratio[0] == pytest.approx(known(family.distance_median)[0] / known(family.test_distance_median)[0])
    assert ratio[1] < 1 < ratio[2] and family.distance_ratio.count == 200


def test_the_interval_of_a_median_covers() -> None:
    """The median of exponential distances is log 2."""
    hits = 0
    for seed in range(20):
        sample = np.random.default_rng(seed).standard_exponential((150, 1))
        family = measure_novelty(distances(sample), None, seed=seed)
        low, high = known(family.distance_median)[1:]
        hits += low <= math.log(2) <= high
    assert 16 <= hits <= 20


@pytest.mark.parametrize("seed", [0, 1])
def test_areas_are_those_of_sklearn(seed: int) -> None:
    family, first, second = novelty(seed)
    labels = np.repeat([1, 0], [len(first), len(second)])
    both = np.concatenate([first, second])
    assert known(family.auc)[0] == pytest.approx(roc_auc_score(labels, both[:, 0]), abs=1e-12)
    assert known(family.relative_auc)[0] == pytest.approx(roc_auc_score(labels, both[:, 0] / both[:, 1]), abs=1e-12)
    assert known(family.auc)[1] < 0.5 < known(family.auc)[2]


def test_copies_lie_below_all_else() -> None:
    fresh = np.array([[3.0, 4], [2, 3], [5, 6]])
    family = measure_novelty(distances(np.zeros((3, 2))), distances(fresh), seed=0)
    assert family.auc.value == family.relative_auc.value == family.distance_median.value == 0
    assert family.distance_ratio.value == 0


@pytest.mark.parametrize("levels", [3, 10_000])
def test_data_copying_is_meehans(levels: int) -> None:
    rng = np.random.default_rng(levels)
    first, second = rng.integers(0, levels, 140).astype(float), rng.integers(0, levels, 160).astype(float)
    cells, test_cells = rng.integers(0, 3, 140), rng.integers(0, 3, 160)
    found = data_copying_test(first, second, sample_cells=cells, test_cells=test_cells)
    expected = oracles.data_copying(first.tolist(), second.tolist(), cells.tolist(), test_cells.tolist())
    assert known(found)[0] == pytest.approx(expected, rel=1e-12)
    assert found.notes == ("140 samples, 160 test images, 3 cells",)


def test_the_floor_of_data_copying() -> None:
    n = m = 1000
    one = np.zeros(n, dtype=int)
    found = data_copying_test(np.zeros(n), np.ones(m), sample_cells=one, test_cells=one)
    floor = -(n * m / 2 - 0.5) / math.sqrt(n * m * (n + m + 1) / 12)
    assert known(found)[0] == known(found)[1] == pytest.approx(floor, rel=1e-14)
    assert found.value == pytest.approx(-38.720, abs=5e-4)
    assert floor < known(found)[2] < floor + 1
    equal = data_copying_test(np.ones(n), np.ones(m), sample_cells=one, test_cells=one)
    assert equal.value == pytest.approx(0.5 / math.sqrt(n * m * (n + m + 1) / 12))


def test_data_copying_of_fresh_samples_is_standard_normal() -> None:
    rng, cells = np.random.default_rng(0), np.arange(300) % 3
    found = [known(data_copying_test(*rng.random((2, 300)), sample_cells=cells, test_cells=cells)) for _ in range(300)]
    scores = math.sqrt(3) * np.array([value for value, _, _ in found])  # the mean of three cells
    assert abs(scores.mean()) < 0.25 and 0.85 < scores.std() < 1.15
    assert 0.9 < np.mean([low <= 0 <= high for _, low, high in found]) <= 0.99


def test_cells_left_out_are_named() -> None:
    rng = np.random.default_rng(0)
    cells, test_cells = np.repeat([0, 1, 2], [100, 19, 100]), np.repeat([0, 1, 2, 4], [20, 100, 19, 61])
    first, second = rng.random(219), rng.random(200)
    found = data_copying_test(first, second, sample_cells=cells, test_cells=test_cells)
    assert found.notes == (
        "cell 1 left out: 19 samples, 100 test images",
        "cell 2 left out: 100 samples, 19 test images",
        "cell 4 left out: 0 samples, 61 test images",
        "219 samples, 200 test images, 1 cells",
    )
    alone = data_copying_test(first[:100], second[:20], sample_cells=cells[:100], test_cells=test_cells[:20])
    assert known(alone) == known(found)
    none = data_copying_test(first[:19], second, sample_cells=cells[:19], test_cells=test_cells)
    assert none.value is None and none.notes == ("every cell has fewer than 20 samples or test images",)


def test_the_interval_of_data_copying_is_that_of_the_area() -> None:
    """Of an area next to 1, whose interval is longer on its lower side."""
    rng, one = np.random.default_rng(0), np.zeros(25, dtype=int)
    first, second = rng.random(25) + 0.9, rng.random(25)
    value, low, high = known(data_copying_test(first, second, sample_cells=one, test_cells=one))
    area, variance = oracles.delong(first, second)
    spread = 25 * 25 / math.sqrt(25 * 25 * 51 / 12)
    half = 1.959964 * math.sqrt(variance) / (area * (1 - area))
    ends = special.expit(special.logit(area) + np.array([-half, half]))
    assert (low - value, high - value) == pytest.approx(tuple((ends - area) * spread), rel=1e-6)
    assert high - value < value - low


def test_what_cannot_be_compared() -> None:
    cells = np.zeros(30, dtype=int)
    with pytest.raises(InputError, match=r"sample_distances have shape \(29,\), expected one for each of 30"):
        data_copying_test(np.ones(29), np.ones(30), sample_cells=cells, test_cells=cells)
    with pytest.raises(InputError, match="test_distances hold NaN at 3"):
        data_copying_test(
            np.ones(30), np.where(cells == np.arange(30) - 3, np.nan, 1), sample_cells=cells, test_cells=cells
        )
    with pytest.raises(InputError, match="own_distances have shape"):
        authenticity(table([[1, 2], [1, 2]]), own_distances=np.ones(3))
    with pytest.raises(InputError, match="own_distances hold NaN"):
        authenticity(table([[1, 2]]), own_distances=[math.nan])


def test_authenticity_is_strict() -> None:
    near = table([[0], [4], [9], [9]])
    found = authenticity(near, own_distances=[0.0, 2.0, 2.5, 4.0])
    assert found.value == 0.25 and found.count == 4
    halved = authenticity(near.scaled(0.5), own_distances=[0.0, 1.0, 1.25, 2.0])
    assert halved == found


def test_authenticity_of_fresh_points_in_one_dimension_is_a_third() -> None:
    neighbours, among = torus(4000, 2000, 1, seed=3)
    fresh = authenticity(neighbours, own_distances=among.distances[neighbours.indices[:, 0], 0])
    assert fresh.value == pytest.approx(1 / 3, abs=0.03)


def test_authenticity_of_gaussian_data_is_far_above_a_half() -> None:
    """0.816 in 64 dimensions at n = 2,000, as independently tabulated; exact copies give 0."""
    rng = np.random.default_rng(0)
    train = rng.standard_normal((2000, 64))
    neighbours = brute_force(np.concatenate([rng.standard_normal((400, 64)), train[:100]]), train, 1)
    firsts = np.unique(neighbours.indices[:, 0])
    among = np.full(2000, np.nan)
    among[firsts] = brute_force(train[firsts], train, 1, exclude=firsts.tolist()).distances[:, 0]
    own = among[neighbours.indices[:, 0]]
    authentic = neighbours.distances[:, 0] > own
    assert authenticity(neighbours, own_distances=own).value == authentic.mean()
    assert authentic[:400].mean() == pytest.approx(0.816, abs=0.06)
    assert not authentic[400:].any()


def blobs(seed: int = 0) -> NDArray[np.uint8]:
    centres = np.array([20, 120, 220])[np.arange(300) % 3]
    noise = np.random.default_rng(seed).integers(-9, 10, (300, 2, 3, 4))
    return (centres[:, None, None, None] + noise).astype(np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_cells_are_the_clusters_that_are_there(dtype: type) -> None:
    cells = partition(blobs().astype(dtype))
    assigned = cells.assign(blobs(1))
    assert all(len(set(assigned[i::3])) == 1 for i in range(3)) and len(set(assigned)) == 3
    centres = cells.mean + cells.centres @ cells.directions.T
    assert sorted(centres.mean(axis=1)) == pytest.approx([20, 120, 220], abs=1)


def test_cells_are_the_nearest_centres() -> None:
    images = np.random.default_rng(0).integers(0, 256, (400, 30), dtype=np.uint8)
    cells = partition(images, num_cells=5, num_components=4)
    assert cells.centres.shape == (5, 4) and cells.directions.shape == (30, 4)
    coordinates = (images - cells.mean) @ cells.directions
    expected = [min(range(5), key=lambda c: float(((row - cells.centres[c]) ** 2).sum())) for row in coordinates]
    assert cells.assign(images).tolist() == expected
    centroids = [coordinates[np.array(expected) == c].mean(axis=0) for c in range(5)]
    assert np.abs(cells.centres - centroids).max() < 1.0  # where k-means has settled


def test_a_partition_is_the_same_every_time() -> None:
    images = np.random.default_rng(0).integers(0, 256, (400, 30), dtype=np.uint8)
    first, again = partition(images, seed=4), partition(images, seed=4, reference_moments=principal(images))
    assert first.centres.tobytes() == again.centres.tobytes()
    assert first.assign(images).tolist() == again.assign(images).tolist()
    assert first.centres.tobytes() != partition(images, seed=5).centres.tobytes()


@pytest.mark.parametrize("value", [0.0, 7.0, 0.1])
@pytest.mark.parametrize("num_images", [1, 2, 1500])
def test_equal_images_share_one_cell(value: float, num_images: int) -> None:
    images = np.full((num_images, 5, 7), value)
    assert set(partition(images).assign(images)) == {0}


def test_more_cells_than_images() -> None:
    images = np.array([[0.0, 0], [1, 1], [1, 1]])
    cells = partition(images, num_cells=3)
    assert len(cells.centres) == 2
    assert len(set(cells.assign(images))) == 2


def test_what_cannot_be_divided() -> None:
    with pytest.raises(InputError, match="no images"):
        partition(np.zeros((0, 3)))
    with pytest.raises(InputError, match="num_cells=0"):
        partition(np.zeros((4, 3)), num_cells=0)
    with pytest.raises(InputError, match="num_components=0"):
        partition(np.zeros((4, 3)), num_components=0)


def test_figures_without_what_they_need_say_why() -> None:
    one = distances(np.array([[2.0], [3.0]]))
    family = measure_novelty(one, one, seed=0)
    assert family.relative_auc.notes == family.relative_ct.notes == ("needs two training neighbours of each image",)
    assert family.ct.notes == ("no cells",)
    assert family.authenticity.notes == family.test_authenticity.notes == ("no others",)
    alone = measure_novelty(one, None, seed=0)
    names = ("distance_ratio", "auc", "relative_auc", "ct", "relative_ct", "test_authenticity", "test_distance_median")
    assert {getattr(alone, name).notes for name in (*names, "test_distance_quantiles")} == {(NO_BASELINE,)}
    assert alone.distance_median.value == 2.5


def test_notes_stand_at_the_figures_that_rest_on_what_they_tell_of() -> None:
    family, _, _ = novelty()
    noted = with_notes(family, samples=("of samples",), baseline=("of the baseline",))
    alone = {"distance_quantiles"} | {name for name, caption in Novelty.captions().items() if caption.beside}
    for name in Novelty.captions():
        before, after = getattr(family, name).notes, getattr(noted, name).notes
        expected = ("of samples", "of the baseline")
        assert after == (*before, *(expected[1:] if name.startswith("test_") else expected[: 1 + (name not in alone)]))


def test_one_sample_has_figures_without_intervals() -> None:
    """A bootstrap of one image would promise an interval of no width."""
    one, many = distances(np.array([[2.0, 3.0]])), distances(np.array([[4.0, 5.0], [4.0, 6.0], [4.0, 7.0]]))
    family = measure_novelty(one, many, seed=0)
    for estimate, value in ((family.distance_median, 2), (family.distance_ratio, 0.5), (family.auc, 0)):
        assert (estimate.value, estimate.low, estimate.high, estimate.method) == (value, None, None, "no interval")
        assert estimate.notes
    assert set(family.distance_quantiles.value or ()) == {2.0} and family.distance_quantiles.low is None
    assert known(family.test_distance_median) == (4, 4, 4)


def test_a_baseline_that_lies_on_the_training_set() -> None:
    leaked = distances(np.zeros((5, 2)))
    family = measure_novelty(leaked, leaked, seed=0)
    assert family.distance_ratio.notes == ("the median distance of the baseline is 0",)
    assert family.auc.value == 0.5
    half = distances(np.repeat([[0.0, 1], [1, 1]], [4, 5], axis=0))
    ratio = measure_novelty(half, half, seed=0).distance_ratio
    assert (ratio.value, ratio.low, ratio.method) == (1, None, "no interval")


def test_intervals_depend_on_the_seed_alone() -> None:
    assert novelty()[0] == novelty()[0]
    rng = np.random.default_rng(0)
    sample = rng.random((50, 2))
    first, other = (measure_novelty(distances(sample), None, seed=seed) for seed in (0, 1))
    assert first.distance_median.value == other.distance_median.value
    assert first.distance_quantiles.low != other.distance_quantiles.low
