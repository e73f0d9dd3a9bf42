"""The benchmarks' own answers, their peers and their table, at sizes where nothing is timed."""

from __future__ import annotations

import json
import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import oracles
from benchmarks import calibrated_ratio, sscd_similarity, summary, truth
from benchmarks.data import features, made_sets
from benchmarks.evaluation_probe import of_features
from benchmarks.memory_probe import STATUS, watched
from benchmarks.peers import DENOISERS, OURS, SEARCHES
from denoiser_oracles import in_model_units, optimal
from memgen_eval.compute.products import installed

NEEDS_FAISS = pytest.mark.skipif(not installed("faiss"), reason="faiss is not installed")
METHODS = [pytest.param(name, marks=NEEDS_FAISS if "faiss" in name else ()) for name in SEARCHES]


def agrees(found: truth.Found, queries: Any, references: Any, k: int) -> bool:
    expected = [oracles.nearest(query, references, k) for query in queries]
    indices = [[index for _, index, _ in row] for row in expected]
    squared = [[squared for squared, _, _ in row] for row in expected]
    return found.indices.tolist() == indices and np.allclose(found.squared, squared, rtol=1e-14, atol=0)


def test_the_truth_about_integers_is_the_oracle_s() -> None:
    generator = np.random.default_rng(0)
    references = generator.integers(0, 3, (truth.BLOCK + 100, 7), dtype=np.uint8) * 127  # many ties, over two blocks
    queries = np.concatenate([references[[5, 1050]], generator.integers(0, 256, (6, 7), dtype=np.uint8)])
    assert agrees(truth.nearest_integers(queries, references, 5), queries, references, 5)


def test_the_truth_about_floats_is_the_oracle_s() -> None:
    references, queries = features("relu", 12, num_train=300, num_queries=20)
    assert agrees(truth.nearest_floats(queries, references, 5), queries, references, 5)


def test_replicated_neighbours_are_those_in_the_replicated_set() -> None:
    generator = np.random.default_rng(1)
    references = generator.integers(0, 2, (40, 5), dtype=np.uint8)
    queries = generator.integers(0, 2, (30, 5), dtype=np.uint8)
    once = truth.nearest_integers(queries, references, 6)
    found = truth.replicated(once, num_references=40, copies=3)
    expected = truth.nearest_integers(queries, np.concatenate([references] * 3), 6)
    assert np.array_equal(found.squared, expected.squared)
    assert np.array_equal(found.indices, expected.indices)


def test_the_evaluation_whose_memory_is_watched_measures_what_it_should(tmp_path: Path) -> None:
    for _ in range(2):  # the second time the files are there
        report = of_features(60, 16, tmp_path)()
    for path in ("novelty.auc", "memorization.calibrated_feature_margin", "memorization.ratio"):
        figure = report.figure(path)
        assert figure is not None and figure.value is not None
    assert (report.settings.num_samples, report.settings.num_train, report.settings.num_test) == (60, 60, 60)


def test_copies_are_disguised_as_their_kinds_say() -> None:
    images = np.random.default_rng(0).integers(0, 200, (12, 3, 32, 32), dtype=np.uint8)
    copies, kinds = sscd_similarity.disguised(images), sscd_similarity.KINDS
    assert np.array_equal(copies[kinds["exact"]], images[:6])
    assert np.array_equal(copies[kinds["shifted"]][..., 2:], images[6:9, ..., :-2])
    assert np.array_equal(copies[kinds["brightened"]], np.rint(images[9:12] * 1.1))


def test_the_calibrated_ratio_is_measured_on_what_its_tables_say() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)
    for name, disguise in calibrated_ratio.DISGUISES.items():
        changed = disguise(images)
        assert (changed.shape, changed.dtype) == (images.shape, images.dtype)
        assert np.array_equal(changed, images) == (name == "none")
    noise = calibrated_ratio.noise(np.full_like(images, 128), 20).astype(float)
    assert noise.std() == pytest.approx(20, rel=0.05)
    assert np.array_equal(calibrated_ratio.shifted(images, 2)[..., 2:], images[..., :-2])
    assert calibrated_ratio.with_contrast(images, 0.5).std() == pytest.approx(images.std() / 2, rel=0.01)
    assert calibrated_ratio.spread([0.5, 0.25, 1.0]) == [0.25, 0.5, 1]


def test_rows_count_as_right_only_with_the_true_neighbours() -> None:
    references = np.array([[0], [10], [10], [30]], dtype=np.uint8)
    queries = np.array([[1], [9]], dtype=np.uint8)
    found = truth.nearest_integers(queries, references, 2)
    others = np.array([[0, 2], [2, 1]])  # as near as those that come first
    assert truth.share_of_right_rows(others, found, queries, references) == 1
    assert truth.share_of_right_rows(np.array([[0, 3], [2, 1]]), found, queries, references) == 0.5


def test_made_up_images_hold_what_is_planted() -> None:
    made, again = made_sets(400, 200), made_sets(400, 200)
    assert np.array_equal(made.train, again.train) and np.array_equal(made.test, again.test)
    queries, references = made.test.reshape(200, -1), made.train.reshape(400, -1)
    nearest = truth.nearest_integers(queries, references, 1).squared[:, 0]
    assert (nearest == 0).sum() == 50
    assert (nearest == 1).sum() == 50
    assert (nearest > 3072).sum() == 100
    within = truth.nearest_integers(references, references, 2).squared[:, 1]
    assert (within == 0).sum() == 100  # both of each pair
    assert (within == 1).sum() == 100


@pytest.mark.parametrize("method", METHODS)
def test_searches_do_the_same_work(method: str) -> None:
    made = made_sets(400, 40)
    queries, references = made.test.reshape(40, -1), made.train.reshape(400, -1)
    expected = truth.nearest_integers(queries, references, 5)
    found = SEARCHES[method](queries, references, 5)
    assert truth.share_of_right_rows(found.indices, expected, queries, references) > 0.9
    assert np.allclose(found.squared, expected.squared, rtol=1e-4, atol=0 if method == OURS else 100)


@pytest.mark.parametrize("method", ["truth", *DENOISERS])
def test_denoisers_do_the_same_work(method: str) -> None:
    made = made_sets(60, 8)
    train, x0 = made.train.reshape(60, -1)[:, ::16], made.test.reshape(8, -1)[:, ::16]
    eps = np.random.default_rng(2).standard_normal(x0.shape).astype(np.float32)
    sigmas = np.geomspace(0.05, 50, 5)
    found = {"truth": truth.optimal_denoiser, **DENOISERS}[method](train, x0, eps, sigmas)
    expected = [optimal(train, in_model_units(x0) + sigma * eps, sigma) for sigma in sigmas]
    assert np.allclose(found, expected, rtol=0, atol={"truth": 1e-10, OURS: 1e-6}.get(method, 1e-3))


@pytest.mark.skipif(not STATUS.is_file(), reason="reads RssAnon from Linux's /proc")
def test_memory_that_is_held_is_seen() -> None:
    def hold() -> mmap.mmap:
        held = mmap.mmap(-1, 2**26, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # malloc may have as much at hand
        np.frombuffer(held, dtype=np.uint8)[:] = 1
        return held

    held, peak = watched(hold)
    assert 0.9 * len(held) < peak < 1.5 * len(held)


def timing(method: str, seconds: float, **facts: Any) -> dict[str, Any]:
    info = {"method": method, "cpu_seconds": 2 * seconds, "floor_seconds": 0.5, "answer": "exact", **facts}
    return {
        "group": "made-up: 2 x 3",
        "fullname": "benchmarks/test_neighbours.py::test_images[2-0-made]",
        "stats": {"median": seconds},
        "extra_info": {name: value for name, value in info.items() if value is not ...},
    }


def timings(*benchmarks: dict[str, Any]) -> dict[str, Any]:
    return {
        "datetime": "2031-02-03T04:05:06+00:00",
        "commit_info": {"id": "0123456789abcdef", "dirty": True},
        "memgen_eval": {
            "processor": "Some(R) CPU @ 3.0",
            "flags": ["amx_int8"],
            "threads": 2,
            "versions": {"torch": "2.9"},
            "peaks": {"int8": 2e12, "bfloat16": 0.0, "float32": 2e11, "bandwidth": 1.5e10},
        },
        "benchmarks": list(benchmarks),
    }


def test_rows_are_medians_over_turns_and_ratios_to_ours() -> None:
    turns = [timing(OURS, 1.0), timing("peer", 8.0), timing(OURS, 4.0), timing(OURS, 2.0)]
    ours, peer = summary.summarise(timings(*turns), command="make bench").rows
    assert (ours.suite, ours.method, ours.seconds, ours.cpu_seconds, ours.runs) == ("neighbours", OURS, 2, 4, 3)
    assert (ours.ratio, ours.floor_seconds, ours.floor_share) == (1, 0.5, 0.25)
    assert (peer.seconds, peer.runs, peer.ratio, peer.answer) == (8, 1, 4, "exact")


def test_one_wrong_answer_marks_the_row() -> None:
    turns = [timing(OURS, 1.0), timing(OURS, 1.0, answer=...), timing("peer", 1.0)]
    ours, peer = summary.summarise(timings(*turns), command="make bench").rows
    assert ours.answer == summary.WRONG
    assert peer.answer == "exact"


def test_rows_of_other_tests_hold_what_they_note() -> None:
    plain = timing(OURS, 2.0) | {"group": None, "name": "test_two", "extra_info": {"ratio": 1.8}}
    failed = plain | {"name": "test_three", "extra_info": {}}
    two, three = summary.summarise(timings(plain, failed), command="make bench").rows
    assert (two.case, two.method, two.cpu_seconds, two.floor_share) == ("test_two", OURS, None, None)
    assert (two.answer, three.answer) == ("ratio 1.8", summary.WRONG)
    assert "test_two" in summary.markdown(summary.summarise(timings(plain), command="make bench"))


def test_the_page_holds_rows_stages_and_what_they_depend_on() -> None:
    turns = [timing(OURS, 2.0, stages={"read": 0.25, "search": 1.5}), timing("peer", 8.0, floor_seconds=None)]
    lines = summary.markdown(summary.summarise(timings(*turns), command="make bench")).splitlines()
    assert lines[0] == "# 2031-02-03, Some(R) CPU @ 3.0"
    assert "2 threads; amx_int8." in lines
    assert "`make bench` at commit 0123456789ab and changes." in lines
    assert "Peaks: int8 2,000, float32 200 Gop/s; copying 15.0 GB/s." in lines
    table = [line for line in lines if line.startswith("|")]
    assert len({len(line) for line in table}) == 1
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert cells[2] == ["made-up: 2 x 3", OURS, "2", "4", "1", "1.00", "0.5", "25.0%", "exact"]
    assert cells[3] == ["made-up: 2 x 3", "peer", "8", "16", "1", "4.00", "", "", "exact"]
    assert lines[-1] == "made-up: 2 x 3: read 0.2 s, search 1.5 s"


def test_both_files_are_named_by_date_processor_and_suites(tmp_path: Path) -> None:
    results = summary.summarise(timings(timing(OURS, 2.0)), command="make bench")
    assert [path.name for path in summary.write(results, [], tmp_path / "results")] == [
        "2031-02-03-some-r-cpu-3-0.json",
        "2031-02-03-some-r-cpu-3-0.md",
    ]
    stored, page = summary.write(results, ["neighbours"], tmp_path / "results")
    assert stored.name == "2031-02-03-some-r-cpu-3-0-neighbours.json"
    assert json.loads(stored.read_text())["rows"][0]["seconds"] == 2
    assert page.read_text() == summary.markdown(results)
