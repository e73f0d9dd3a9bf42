"""Several processes give the report of one, fail together, and leave the talking to rank 0.

This process is rank 0; the others are started for each test and do what it does.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
import torch.distributed as dist

from checking import evaluated, figures, run, strict_json
from conftest import Pixels, noise_images
from hard_rows import smooth
from memgen_eval import InputError, RankError, Reference, Sampler, distributed, evaluate, nearest_neighbours
from memgen_eval.compute import engines
from memgen_eval.data.datasets import load_named
from memgen_eval.distributed import Ranks, joined
from memgen_eval.neighbours import candidates, cuda, pruning
from memgen_eval.neighbours.index import Index
from memgen_eval.neighbours.pruning import References
from memgen_eval.neighbours.quantizers import ProjectedQuantizer
from neighbour_checks import EVERYTHING_CODED
from small_networks import scripted

ROOT = Path(__file__).parent.parent
SHAPE = (8, 8, 3)
ROWS = np.arange(70)
LONG = 120.0  # seconds within which every process has ended
NOISE = noise_images(0, 150, SHAPE)
NOISE[100:] = NOISE[50:100]  # duplicates: second neighbours are looked for among all


class Pulling(torch.nn.Module):
    """A denoiser that knows neither set."""

    def forward(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return torch.tanh(1.5 * x + 0.05 * x.flip(-1)) / (1 + sigma.reshape(-1, 1, 1, 1) ** 2)


class Counting:
    """A sampler whose images depend on what was drawn before: only one process can draw them all."""

    def __init__(self) -> None:
        self.drawn = 0

    def __call__(self, n: int) -> Pixels:
        self.drawn += n
        return noise_images(self.drawn, n, SHAPE)


def means(images: torch.Tensor) -> torch.Tensor:
    return images.float().mean(dim=(2, 3))


def reports() -> list[str]:
    """Evaluations with every kind of work that ranks share."""
    train, test = (load_named(f"digits:{split}", data_dir=None).array for split in ("train", "test"))
    floats = np.concatenate([NOISE[:40], noise_images(1, 21, SHAPE)]).astype(np.float32) / 255
    net = Pulling()
    found = [
        evaluated(
            Sampler(net, (1, 8, 8), num_steps=5),
            train=train[:500],
            test=test[:300],
            denoiser=net,
            num_samples=150,
            batch_size=32,
            num_denoiser_images=130,
            denoiser_batch_size=32,
            sigmas=[0.05, 0.5, 5.0],
        ),
        evaluated(
            floats, train=NOISE, quantize=False, value_range=(0, 1), metrics=["memorization", "novelty", "fidelity"]
        ),
        evaluated(NOISE[:2], train=NOISE, test=noise_images(2, 4, SHAPE), metrics="memorization"),
    ]
    with mock.patch("memgen_eval.data.images.IMAGE_BLOCK_VALUES", 192 * 20):  # so that features come in several blocks
        found.append(
            evaluated(
                Counting(), train=NOISE, features=means, num_samples=30, batch_size=7, metrics=["novelty", "fidelity"]
            )
        )
    with TemporaryDirectory() as name, mock.patch.dict(os.environ, MEMGEN_CACHE=name):
        file = scripted(Path(name) / "net.pt", size=8, mean=(0.5, 0.4, 0.3), std=(1, 1, 1))
        metrics = ["memorization", "novelty"]
        given = {"train": NOISE, "test": noise_images(4, 200, SHAPE), "features": file, "metrics": metrics}
        found += [evaluated(NOISE[60:], **given) for _ in range(2)]  # the second time features are kept
    assert found[-1].to_dict()["memorization"] == found[-2].to_dict()["memorization"]
    assert net.training
    assert {report.provenance.ranks for report in found} == {dist.get_world_size() if dist.is_initialized() else 1}
    return [figures(report) for report in found]


def exchanges() -> list[str]:
    """Rows of all types and shapes through the group, and through one beside it, as where models speak NCCL."""
    rows = np.random.default_rng(0).normal(0, 100, (7, 3, 2))
    seen = []
    for backend in ("gloo", "nccl"):
        with mock.patch("torch.distributed.get_backend", return_value=backend), joined() as ranks:
            for dtype in (np.float64, np.float16, np.int64, np.uint8, np.bool_):
                for block, axis in ((1, 0), (3, 0), (1, 1), (20, 2)):
                    given = rows.astype(dtype)
                    at: list[Any] = [slice(None)] * 3
                    at[axis] = ranks.shard(given.shape[axis], block)
                    found = ranks.gather(given[tuple(at)], axis=axis)
                    assert found.flags.c_contiguous and found.dtype == dtype
                    assert np.array_equal(found, given)
            nothing = ranks.gather(np.empty((0, 4), dtype=np.int64))
            unknown = np.ones((2, 5), dtype=np.float32) if ranks.rank == 1 else np.empty((0, 0))
            seen += [str(ranks.exchange("letters", "abc"[ranks.rank])), str(nothing.shape)]
            seen += [str(ranks.gather(unknown))]
    return seen


def codes() -> list[str]:
    """Searches by codes that ranks make together: what is found, and how often a rank fits and how much it codes."""
    fit, encode, told = ProjectedQuantizer.fit, pruning.encode, []
    with ExitStack() as patched, joined() as ranks:
        for module, name, value in EVERYTHING_CODED:
            patched.enter_context(mock.patch.object(module, name, value))
        fits = patched.enter_context(mock.patch.object(ProjectedQuantizer, "fit", side_effect=fit))
        coding = patched.enter_context(mock.patch.object(pruning, "encode", side_effect=encode))
        references = References(smooth(900))
        for queries, k, exclude in ((smooth(70, 1), 3, None), (smooth(70, 2), 1, None), (smooth(900)[:70], 2, ROWS)):
            found = Index(references, ranks=ranks).search(queries, k, exclude=exclude)
            told.append(hashlib.sha256(found.squared_distances.tobytes() + found.indices.tobytes()).hexdigest())
        rows = [
            call.args[2].stop - call.args[2].start for call in coding.call_args_list if call.args[1] is references.rows
        ]
        told.append(str(ranks.exchange("work", (fits.call_count, rows))))
    return told


def accelerated() -> list[str]:
    """An evaluation whose searches run on a GPU, for which the processor stands in; the last rank has none."""
    rank, size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    with ExitStack() as patched:
        for module, name, value in EVERYTHING_CODED:
            patched.enter_context(mock.patch.object(module, name, value))
        searched = patched.enter_context(mock.patch.object(cuda, "smallest_keys", side_effect=cuda.smallest_keys))
        if size > 1 and rank < size - 1:
            automatic = replace(candidates.ENGINES["auto"], least_work=1)
            patched.enter_context(mock.patch.dict(candidates.ENGINES, auto=automatic))
            patched.enter_context(mock.patch.object(engines, "gpu", return_value=torch.device("cpu")))
            patched.enter_context(mock.patch.object(candidates, "may_have_gpu", return_value=True))
        report = evaluated(
            NOISE[:40], train=NOISE, test=noise_images(2, 30, SHAPE), metrics=["memorization", "novelty"]
        )
        assert (searched.call_count > 0) == (size > 1 and rank < size - 1)
        assert ("torch" in report.provenance.engine and "GPU" in report.provenance.engine) == (searched.call_count > 0)
    return [figures(report)]


def failures() -> list[str]:
    """What is raised in all ranks, or told in their reports, when something goes wrong in one."""
    rank, told = dist.get_rank(), []

    def sampler(n: int, *, seeds: Sequence[int]) -> Pixels:
        if rank == 1:
            raise ValueError("no weights here")
        return NOISE[:n]

    def denoiser(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        if rank == 1:
            raise MemoryError("too small")
        return x / (1 + sigma.reshape(-1, 1, 1, 1) ** 2)

    def features(images: torch.Tensor) -> torch.Tensor:
        if rank == 1:
            raise MemoryError("too small")
        return means(images)

    def fail(words: str) -> None:
        raise ValueError(words)

    def refused(call: Callable[[], object]) -> None:
        with pytest.raises((InputError, RankError, RuntimeError)) as caught:
            call()
        told.append(f"{caught.type.__name__}: {caught.value}")

    def steps(at: Callable[[Ranks], object]) -> None:
        with joined() as ranks:
            at(ranks)

    used = Reference(NOISE)
    assert used.prepared(quantize=True, seed=0).appearance is not None
    small: dict[str, Any] = {"train": NOISE, "num_samples": 20, "batch_size": 10, "num_denoiser_images": 5}
    refused(lambda: evaluate(sampler, **small))
    refused(lambda: evaluate("nowhere.npz", train=NOISE))
    refused(lambda: evaluate(NOISE[:9], train=NOISE, seed=rank))
    refused(lambda: evaluate(NOISE[rank : 9 + rank], train=NOISE))
    refused(lambda: evaluate(NOISE[:9], train=used if rank else Reference(NOISE)))
    refused(lambda: evaluate(NOISE[:9], train=NOISE, denoiser=denoiser, metrics="denoiser"))
    refused(lambda: steps(lambda ranks: ranks.gather(np.ones((1, 1 + ranks.rank)))))
    refused(lambda: steps(lambda ranks: ranks.gather(NOISE) if ranks.rank else None))
    refused(lambda: steps(lambda ranks: 1 // (1 - ranks.rank)))
    refused(lambda: steps(lambda ranks: fail(f"rank {ranks.rank} failed first")))
    with mock.patch("memgen_eval.data.images.IMAGE_BLOCK_VALUES", 192 * 20):  # so that each rank has blocks of its own
        refused(lambda: evaluate(NOISE[:9], train=NOISE, features=lambda images: means(images)[:, rank:]))
    refused(lambda: evaluate(NOISE[:9], train=NOISE, denoiser=denoiser))  # given, it has to work
    return [*told, evaluate(NOISE[:9], train=NOISE, features=features).skipped["novelty"]]


def notices() -> list[str]:
    """Warnings of an evaluation, by rank."""
    with joined() as ranks, warnings.catch_warnings(record=True) as caught:
        if ranks.rank == 0:
            warnings.simplefilter("always")
        warnings.warn("something odd", stacklevel=1)
        everyone = ranks.exchange("warnings", len(caught))
    return [str(everyone)]


def killed() -> list[str]:
    """Rank 1 dies while samples are drawn."""

    def sampler(n: int, *, seeds: Sequence[int]) -> Pixels:
        if dist.get_rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return NOISE[:n]

    with pytest.raises(RankError, match="rank 0 of 2 has lost another process, which ended or did not answer: look at"):
        evaluate(sampler, train=NOISE, num_samples=20, batch_size=10)
    return []


JOBS = {job.__name__: job for job in (reports, exchanges, codes, accelerated, failures, notices, killed)}


def work(job: str, store: str, rank: int, size: int) -> list[str]:
    """One rank of a job."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
    try:
        return JOBS[job]()
    finally:
        dist.destroy_process_group()


SCRIPT = """
import json, sys
from test_distributed import work
job, store, rank, size = sys.argv[1:]
print(json.dumps(work(job, store, int(rank), int(size))))
"""
PATHS = f"{ROOT}{os.pathsep}{ROOT / 'tests'}"
VARIABLES = {"OMP_NUM_THREADS": "1", "PYTHONPATH": PATHS, "PYTHONDONTWRITEBYTECODE": "1"}


@contextmanager
def started(*commands: Sequence[str], **keywords: Any) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that do not outlive the test."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    processes = [subprocess.Popen([sys.executable, *c], text=True, **pipes, **keywords) for c in commands]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def on_ranks(job: str, size: int, folder: Path) -> list[list[str]]:
    """What each rank has to say, this process being the first."""
    store = str(folder / "store")
    commands = [("-c", SCRIPT, job, store, str(rank), str(size)) for rank in range(1, size)]
    with started(*commands, cwd=folder, env=os.environ | VARIABLES) as others:
        own = work(job, store, 0, size)
        told = [process.communicate(timeout=LONG) for process in others]
        assert [process.returncode for process in others] == [0] * len(others), told
    return [own, *(json.loads(out) for out, _ in told)]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Float products are the same to the byte at one number of threads."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def alone() -> list[str]:
    """The reports of one process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = reports()
    torch.set_num_threads(threads)
    return found


@pytest.mark.parametrize("size", [2, 3])
def test_reports_are_those_of_one_process(size: int, alone: list[str], tmp_path: Path) -> None:
    for told in on_ranks("reports", size, tmp_path):
        assert told == alone


def test_rows_come_together_in_order(tmp_path: Path) -> None:
    first, *others = on_ranks("exchanges", 3, tmp_path)
    expected = [str(["a", "b", "c"]), "(0, 4)", str(np.ones((2, 5), dtype=np.float32))]
    assert first == expected * 2
    assert others == [first, first]


def test_references_are_coded_by_all_and_once(tmp_path: Path) -> None:
    alone = codes()
    assert alone[-1] == "[(1, [900])]"
    expected = [  # by the whole product
        nearest_neighbours(smooth(70, 1), smooth(900), 3),
        nearest_neighbours(smooth(70, 2), smooth(900), 1),
        nearest_neighbours(smooth(900)[:70], smooth(900), 2, exclude=ROWS),
    ]
    assert alone[:-1] == [
        hashlib.sha256(found.squared_distances.tobytes() + found.indices.tobytes()).hexdigest() for found in expected
    ]
    for told in on_ranks("codes", 3, tmp_path):
        assert told == [*alone[:-1], "[(1, [300]), (0, [300]), (0, [300])]"]


def test_ranks_with_and_without_a_gpu_give_the_report_of_one_process(tmp_path: Path) -> None:
    alone = accelerated()
    for told in on_ranks("accelerated", 3, tmp_path):
        assert told == alone


@pytest.mark.parametrize(("place", "count", "expected"), [("3", 4, [3]), ("3", 2, [1]), ("", 2, []), ("1", 0, [])])
def test_the_command_gives_each_process_a_gpu(
    place: str, count: int, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    monkeypatch.setenv("LOCAL_RANK", place)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    distributed._use_own_gpu()
    assert taken == expected


def test_all_fail_alike(tmp_path: Path) -> None:
    first, second = on_ranks("failures", 2, tmp_path)
    every = "call evaluate on every rank of the process group, with the same arguments"
    assert first == second
    assert first[0] == (
        "InputError: rank 1: samples (sampler failures.<locals>.sampler), call 2, asked for 10 images, failed: "
        "ValueError: no weights here"
    )
    assert re.fullmatch(r"InputError: samples: 'nowhere.npz' does not exist; .*", first[1])
    assert first[2] == f"InputError: seed differs between ranks, 1 on rank 1 and 0 on rank 0: {every}"
    assert re.fullmatch(
        rf"InputError: samples differs between ranks, \w+ on rank 1 and \w+ on rank 0: {every}", first[3]
    )
    kept = "1 kept results on rank 1 and 0 kept results on rank 0"
    assert first[4] == f"InputError: reference differs between ranks, {kept}: {every}"
    assert first[5] == "RuntimeError: rank 1: MemoryError: too small"
    assert re.fullmatch(rf"RankError: ranks hold rows of different kinds, .*: {every}", first[6])
    assert first[7] == f"RankError: ranks have come to different steps (the end, rows): {every}"
    assert first[8] == "RuntimeError: rank 1: ZeroDivisionError: integer division or modulo by zero"
    assert first[9] == "RuntimeError: rank 0: ValueError: rank 0 failed first"  # each with an error of its own
    assert re.fullmatch(
        rf"RankError: ranks hold rows of different kinds, .*: {every}", first[10]
    )  # novelty is optional
    assert first[11] == first[5]
    assert re.fullmatch(r"rank 1: features failed on images of train, .* MemoryError: too small", first[12])


def test_only_rank_0_warns(tmp_path: Path) -> None:
    assert on_ranks("notices", 2, tmp_path) == [["[1, 0]"]] * 2


def test_a_rank_that_dies_ends_the_run(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    start = time.monotonic()
    with started(("-c", SCRIPT, "killed", store, "1", "2"), cwd=tmp_path, env=os.environ | VARIABLES) as (other,):
        assert work("killed", store, 0, 2) == []
        assert other.wait(LONG) == -signal.SIGKILL
    assert time.monotonic() - start < LONG


COPIES = ("samples.npz", "--train", "digits", "--metrics", "memorization", "--fail-if", "verdict == copies")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    np.savez(tmp_path / "samples.npz", load_named("digits", data_dir=None).array[:50])
    (tmp_path / "broken.npz").write_text("nothing that could be read")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def launched(rank: int, port: int) -> dict[str, str]:
    """What torchrun tells a process of two."""
    return {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_the_command_speaks_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*COPIES, "--json", "one.json") == 1
    one, port = capsys.readouterr(), free_port()
    for name, value in launched(0, port).items():
        monkeypatch.setenv(name, value)
    variables = os.environ | VARIABLES | launched(1, port)
    command = ("-m", "memgen_eval", *COPIES, "--json", "two.json", "--html", "two.html")
    with started(command, cwd=folder, env=variables) as (other,):
        assert run(*command[2:]) == 1
        assert other.communicate(timeout=LONG) == ("", "") and other.returncode == 1
    two = capsys.readouterr()
    said = [[line for line in found.err.splitlines() if ": wrote " not in line] for found in (one, two)]
    assert (two.out, said[1]) == (one.out, said[0])
    assert [two.err.count(f"wrote two.{suffix}") for suffix in ("json", "html")] == [1, 1]
    reports_ = [strict_json((folder / name).read_text()) for name in ("one.json", "two.json")]
    assert figures(reports_[0]) == figures(reports_[1])
    assert [report["provenance"]["ranks"] for report in reports_] == [1, 2]
    assert not dist.is_initialized()


def test_torchrun_and_a_file_that_cannot_be_read(folder: Path) -> None:
    torchrun = ("-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}")
    patient = "--monitor-interval=10"  # both have ended by then; sooner, it may kill the one still leaving
    command = (*torchrun, patient, "-m", "memgen_eval", "broken.npz", *COPIES[1:])
    with started(command, cwd=folder, env=os.environ | VARIABLES) as (both,):
        out, err = both.communicate(timeout=LONG)
    assert both.returncode == 1 and out == ""
    lines = [line for line in err.splitlines() if line.startswith("memgen-eval: ")]
    assert len(lines) == 1 and lines[0].startswith("memgen-eval: samples ('broken.npz'): ")
    assert set(re.findall(r"exitcode +: (\S+)", err)) == {"2"}


def test_processes_that_are_not_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in launched(1, free_port()).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(distributed, "TIMEOUT", timedelta(seconds=1))
    assert run(*COPIES) == 3
    assert re.fullmatch(r"memgen-eval: rank 1 cannot reach the other processes at .*\n", capsys.readouterr().err)


@pytest.mark.parametrize("size", range(1, 6))
@pytest.mark.parametrize("block", [1, 4, 100])
@pytest.mark.parametrize("num_rows", [0, 1, 3, 8, 37])
def test_shares_are_whole_blocks_in_order(size: int, block: int, num_rows: int) -> None:
    shares = [Ranks(rank, size).shard(num_rows, block) for rank in range(size)]
    assert [row for share in shares for row in range(num_rows)[share]] == list(range(num_rows))
    assert all(share.start % block == 0 for share in shares if share.start < num_rows)
    counts = [-(-(share.stop - share.start) // block) for share in shares]
    assert max(counts) - min(counts) <= 1


ONE_PROCESS = """
import sys
from memgen_eval.distributed import joined, on_every_rank
with joined() as ranks:
    assert (ranks.rank, ranks.size, ranks.exchange("word", "one")) == (0, 1, ["one"])
assert on_every_rank(lambda: 7) == 7
assert not {"numpy", "torch"} & set(sys.modules)
"""


@pytest.mark.parametrize("variables", [{}, launched(0, 1) | {"WORLD_SIZE": "1"}, {"RANK": "0", "WORLD_SIZE": "8"}])
def test_one_process_needs_no_torch(variables: dict[str, str]) -> None:
    subprocess.run([sys.executable, "-c", ONE_PROCESS], env=os.environ | VARIABLES | variables, check=True)
