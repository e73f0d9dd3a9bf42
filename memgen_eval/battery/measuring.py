"""Case by case through `evaluate`, one division of a source after another, with what each says written down at once."""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from memgen_eval.battery import cases
from memgen_eval.battery.alterations import Pixels
from memgen_eval.battery.draws import SOURCES, Case, Divided, Draw, Sets, Source, divided
from memgen_eval.battery.innocents import AWKWARD, COLLAPSED, FRESH
from memgen_eval.battery.ledger import Ledger, Record, code_checksum
from memgen_eval.battery.peers import Embedded, Floats, installed_peers, peers_say, principal_coordinates
from memgen_eval.battery.tallies import FAMILIES_OF_SAMPLES, cries, rule_of
from memgen_eval.data.images import Images
from memgen_eval.evaluation import evaluate
from memgen_eval.reference import Reference
from memgen_eval.report import Report
from memgen_eval.results import Estimate
from memgen_eval.runtime import Stages, report_progress

DIGITS_KEPT = 4  # significant ones of a figure
CASES_AT_ONCE = 6  # that a process measures before it tells of them
ASKED = (FRESH, AWKWARD, COLLAPSED, cases.EXACT, cases.ALTERED)  # groups that other tools are asked about
FIRING_P_VALUE = 1e-5  # at which the verdict is copies
LIBRARY = "memgen_eval"


@dataclass(frozen=True)
class Setup:
    """What a run of the battery measures.

    Attributes
    ----------
    seed : int
        Of everything drawn.
    quick : bool
        Digits and made-up pictures only, once.
    cifar10 : bool
        Whether CIFAR-10 is there.
    data_dir, features : str or None
        Where it lies, and the network whose features are measured too, by name or file.
    """

    seed: int
    quick: bool
    cifar10: bool
    data_dir: str | None = None
    features: str | None = None

    def blocks(self) -> list[cases.Block]:
        """The cases to measure."""
        return cases.planned_blocks(quick=self.quick, cifar10=self.cifar10)

    def settings(self) -> dict[str, Any]:
        """What determines the results, for the first line of their file."""
        from memgen_eval import __version__

        return {
            "version": __version__,
            "code": code_checksum(),
            "seed": self.seed,
            "quick": self.quick,
            "cifar10": self.cifar10,
            "features": None if self.features is None else identity_of(self.features),
            "peers": installed_peers(),
        }


def identity_of(features: str) -> str:
    """The name of a network, or the checksum of its file."""
    path = Path(features)
    return f"{path.name}, SHA-256 {sha256(path.read_bytes()).hexdigest()[:12]}" if path.is_file() else features


@dataclass(frozen=True)
class Job:
    """A few cases of a block, by their numbers."""

    setup: Setup
    block: int
    numbers: tuple[int, ...]


def jobs_left(setup: Setup, ledger: Ledger) -> list[Job]:
    """What is still to be done."""
    done, jobs = ledger.done, []
    for number, block in enumerate(setup.blocks()):
        keys = [(block.source.name, block.repetition, case.name) for case in block.cases]
        left = [i for i, key in enumerate(keys) if key not in done]
        jobs += [Job(setup, number, tuple(left[i : i + CASES_AT_ONCE])) for i in range(0, len(left), CASES_AT_ONCE)]
    return jobs


def measure_all(setup: Setup, ledger: Ledger, stages: Stages, *, processes: int) -> None:
    """Measure every case that the ledger lacks, in the order of the blocks, several processes at once."""
    jobs, total = jobs_left(setup, ledger), num_cases(setup)
    with stages.stage("cases of the battery"), _finished(jobs, processes) as finished:
        report_progress(len(ledger.records), total)
        for records in finished:
            ledger.add(records)
            report_progress(len(ledger.records), total)


def num_cases(setup: Setup) -> int:
    """How many cases are measured in all, each as often as it is."""
    return sum(len(block.cases) for block in setup.blocks())


@contextmanager
def _finished(jobs: list[Job], processes: int) -> Iterator[Iterator[Iterator[Record] | list[Record]]]:
    """The records of each job, in order: in this process, case by case, or from several processes."""
    if processes == 1 or len(jobs) < 2:
        yield ([record] for job in jobs for record in records_of(job))
        return
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"  # a process for each core: figures do not depend on their number
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, context, initializer=_prepare_process)
    try:
        futures = [pool.submit(_listed_records, job) for job in jobs]
        yield (future.result() for future in futures)
    except BaseException:  # an interrupt, for one: nobody waits for what is under way
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
        pool.shutdown()


def _prepare_process() -> None:
    """An interrupt ends a process of the pool without a word; the first process speaks."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _listed_records(job: Job) -> list[Record]:
    return list(records_of(job))


def records_of(job: Job) -> Iterator[Record]:
    """Measure the cases of a job."""
    block = job.setup.blocks()[job.block]
    kept = _kept(block.source, block.repetition, job.setup)
    division = kept.division
    for number in job.numbers:
        case = block.cases[number]
        draw = Draw(division, np.random.default_rng([job.setup.seed, block.repetition, zlib.crc32(case.name.encode())]))
        start = time.perf_counter()
        sets = case.make(draw)
        own = sets.train is division.train and sets.test is division.test
        known = kept.reference if own else Reference(sets.train, sets.test)
        report = _evaluated(sets, known, block, job.setup)
        asked = block.peers and case.group in ASKED and (case.group != cases.ALTERED or case.share == 1)
        told = peers_say(_embedded(sets, kept.coordinates)) if asked else {}
        yield {
            "source": block.source.name,
            "repetition": block.repetition,
            "case": case.name,
            **described(report, wrong=_is_wrong(report, case)),
            "peers": {name: significant(value) for name, value in told.items()},
            "seconds": round(time.perf_counter() - start, 2),
        }


@dataclass(frozen=True, eq=False)
class _Kept:
    """A division, and what rests on its training set, for all cases that share it."""

    division: Divided
    reference: Reference

    @cached_property
    def coordinates(self) -> Callable[[Pixels], Floats]:
        """The features that neighbouring tools are given."""
        return principal_coordinates(self.division.train)


@lru_cache(maxsize=1)
def _kept(source: Source, repetition: int, setup: Setup) -> _Kept:
    division = divided(source, (setup.seed, SOURCES.index(source), repetition), setup.data_dir)
    return _Kept(division, Reference(division.train, division.test))


def _evaluated(sets: Sets, known: Reference, block: cases.Block, setup: Setup) -> Report:
    """The report on a case. Warnings and progress of single evaluations are nobody's concern here."""
    features = setup.features if setup.features is not None and "novelty" in block.families else "pixels"
    logger = logging.getLogger(LIBRARY)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(action="ignore"):
            return evaluate(sets.samples, train=known, metrics=block.families, features=features, seed=setup.seed)
    finally:
        logger.setLevel(level)


def _embedded(sets: Sets, coordinates: Callable[[Pixels], Floats]) -> Embedded:
    samples = sets.samples
    if isinstance(samples, Images):  # as they are read: black and white at -1 and 1
        samples = np.rint((samples.array + 1) * 127.5).astype(np.uint8)
    return Embedded(
        coordinates(samples), coordinates(sets.train), None if sets.test is None else coordinates(sets.test)
    )


def _is_wrong(report: Report, case: Case) -> bool:
    """Whether the verdict is one that a reader should see in full: a false alarm, or copies acquitted."""
    assert report.verdict is not None
    return report.verdict.label == ("copies" if case.truth == "innocent" else "no copying found")


def described(report: Report, *, wrong: bool) -> dict[str, Any]:
    """What a report says, in few words: the verdict and its rules, every figure about copying, and which cry copies."""
    assert report.verdict is not None
    figures = {
        path: significant(figure.value)
        for path, figure in report.figures()
        if path.split(".")[0] in FAMILIES_OF_SAMPLES and isinstance(figure, Estimate) and figure.value is not None
    }
    return {
        "label": report.verdict.label,
        "p_value": significant(report.verdict.p_value),
        "sentence": report.verdict.sentence if wrong else "",
        "cautions": len(report.cautions),
        "fired": fired(report),
        "rules": {rule.name: significant(rule.p_value) for rule in report.verdict.evidence.rules},
        "figures": figures,
        "alarms": [path for path in figures if rule_of(path) is not None and cries(report, path)],
    }


def fired(report: Report) -> list[str]:
    """The rules of the verdict that would have called copies, each by itself, corrected for their number."""
    assert report.verdict is not None
    rules = report.verdict.evidence.rules
    return [rule.name for rule in rules if rule.p_value * len(rules) <= FIRING_P_VALUE]


def significant(value: float) -> float:
    """A figure with four significant digits."""
    if value == 0 or not math.isfinite(value):
        return 0.0 if value == 0 else value
    return float(f"{value:.{DIGITS_KEPT - 1}e}")


def default_processes() -> int:
    """A process for each thread that this one may use."""
    from memgen_eval.compute.resources import num_threads

    return max(1, min(num_threads(), 8))
