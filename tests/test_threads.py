"""Work beside other work, and the limit of threads that both hold."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from conftest import noise_images
from memgen_eval import evaluate
from memgen_eval.compute.meanwhile import meanwhile
from memgen_eval.compute.resources import num_threads, single_thread
from memgen_eval.embedding.placing import structure_in_pixels

WAIT = 30.0  # seconds, after which a test has failed


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_work_goes_on_beside_what_is_inside() -> None:
    inside, there = threading.Event(), threading.Event()

    def work() -> int:
        there.set()
        assert inside.wait(WAIT)
        return 7

    with meanwhile(work) as result:
        assert there.wait(WAIT)
        inside.set()
    assert result() == 7


def test_an_error_of_the_work_is_raised_where_its_result_is_asked_for() -> None:
    def work() -> None:
        raise ValueError("there")

    with meanwhile(work) as result:
        pass
    with pytest.raises(ValueError, match="there"):
        result()


def test_an_error_inside_waits_for_the_work_and_an_interrupt_does_not() -> None:
    release, done = threading.Event(), threading.Event()

    def work() -> None:
        assert release.wait(WAIT)
        done.set()

    with pytest.raises(KeyboardInterrupt), meanwhile(work):
        raise KeyboardInterrupt
    assert not done.is_set()
    release.set()
    assert done.wait(WAIT)
    done.clear()
    with pytest.raises(ValueError, match="inside"), meanwhile(work):
        raise ValueError("inside")
    assert done.is_set()


def test_work_beside_other_work_never_has_the_threads_of_blas() -> None:
    left, entered, seen = threading.Event(), threading.Event(), []

    def work() -> None:
        with single_thread():
            entered.set()
            assert left.wait(WAIT)
            seen.append(blas_threads())  # those outside must not have come back
        seen.append(blas_threads())

    with threadpool_limits(limits=2, user_api="blas"):
        with meanwhile(work) as result:
            with single_thread():
                assert entered.wait(WAIT)
            left.set()
            result()
            seen.append(blas_threads())
        assert seen == [{1}, {1}, {1}]
        assert blas_threads() == {2}


LATE = """
import numpy
from memgen_eval.compute.meanwhile import meanwhile
from memgen_eval.compute.resources import single_thread, thread_pools

def work():
    import scipy.linalg
    with single_thread():
        return [pool["num_threads"] for pool in thread_pools().info() if pool["user_api"] == "blas"]

with meanwhile(work) as result:
    print(*result())
"""


def test_a_library_that_is_loaded_late_is_limited_too() -> None:
    """Work beside other work is the first to need scipy, whose BLAS is one of its own."""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "2"}
    environment.pop("OMP_NUM_THREADS", None)
    found = subprocess.run([sys.executable, "-c", LATE], env=environment, capture_output=True, text=True, check=True)
    assert set(found.stdout.split()) == {"1"}


def test_work_beside_other_work_shares_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    release = threading.Event()

    def work() -> int:
        assert release.wait(WAIT)
        return num_threads()

    with threadpool_limits(limits=7, user_api="blas"):
        assert num_threads() == 7
        with meanwhile(work) as there:
            assert num_threads() == 3
            with meanwhile(num_threads) as further:
                assert further() == 2
            release.set()
            assert there() == 3
            for thread in threading.enumerate():
                if thread.name == "meanwhile":
                    thread.join()
            assert num_threads() == 7  # it has ended
        with single_thread():
            assert num_threads() == 1
        assert num_threads() == 7


IMAGES = noise_images(0, 400, (8, 8, 1))


@pytest.fixture
def two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memgen_eval.evaluation.run.num_threads", lambda: 2)


def faulty(*args: Any, **settings: Any) -> Any:
    raise RuntimeError("a fault")


@pytest.mark.usefixtures("two_processors")
def test_a_family_that_fails_beside_memorization_loses_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = evaluate(IMAGES[300:], train=IMAGES[:300])
    monkeypatch.setattr("memgen_eval.embedding.placing.measure_novelty", faulty)
    report = evaluate(IMAGES[300:], train=IMAGES[:300])
    assert report.skipped["novelty"] == "RuntimeError: a fault"
    assert (report.memorization, report.fidelity, report.gaussian) == (
        whole.memorization,
        whole.fidelity,
        whole.gaussian,
    )


@pytest.mark.usefixtures("two_processors")
def test_nothing_runs_on_when_memorization_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memgen_eval.evaluation.families.measured_copying", faulty)
    with pytest.raises(RuntimeError, match="a fault"):
        evaluate(IMAGES[300:], train=IMAGES[:300])
    assert "meanwhile" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("in_turn", ["resume", "one processor"])
def test_families_measured_beside_memorization_are_those_measured_after_it(
    in_turn: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, threads = np.concatenate([IMAGES[300:], IMAGES[:5]]), []

    def where(*arguments: Any) -> Any:
        threads.append(threading.current_thread().name)
        return structure_in_pixels(*arguments)

    monkeypatch.setattr("memgen_eval.evaluation.families.structure_in_pixels", where)
    monkeypatch.setattr("memgen_eval.evaluation.run.num_threads", lambda: 2)
    beside = evaluate(samples, train=IMAGES[:300])
    if in_turn == "one processor":
        monkeypatch.setattr("memgen_eval.evaluation.run.num_threads", lambda: 1)
    after = evaluate(samples, train=IMAGES[:300], resume=tmp_path / "kept" if in_turn == "resume" else None)
    assert threads == ["meanwhile", threading.main_thread().name]
    for family in ("verdict", "memorization", "novelty", "fidelity", "gaussian", "skipped"):
        assert getattr(beside, family) == getattr(after, family)
