"""Runs that are killed go on where they were, give the same report, and never mix what belongs to others."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from checking import evaluated, figures
from conftest import noise_images
from memgen_eval import InputError, evaluate
from memgen_eval.cli import main
from memgen_eval.compute.kept import Folder, Kept, checksum_of, entries_in, from_json_array, json_array
from memgen_eval.data.samplers import SampleSource
from memgen_eval.distributed import ALONE
from memgen_eval.runtime import fingerprint, random_states

HERE = Path(__file__).parent
SHAPE = (8, 8, 3)
TRAIN, TEST = noise_images(0, 80, SHAPE), noise_images(1, 60, SHAPE)


def folder(path: Path, *, size: int | None = None, owner: str = "this") -> Kept:
    return Kept(Folder(path, size=size, owner=owner))


def long_run(where: Path | str, report: Path, kill_at: int = 0) -> int | None:
    """The calls that a run of `long_run.py` made; None where it was killed at one of them."""
    environment = os.environ | {"PYTHONPATH": f"{HERE.parent}:{HERE}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "long_run.py"), str(where), str(report), str(kill_at), "generator"]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == (-signal.SIGKILL if kill_at else 0), found.stderr
    return None if kill_at else int(found.stdout)


def test_a_run_that_is_killed_goes_on_and_gives_the_same_report(tmp_path: Path) -> None:
    plain, resumed, kept = tmp_path / "plain.json", tmp_path / "resumed.json", tmp_path / "kept"
    whole = long_run("", plain)
    kills = [8, 17, 25]  # while samples are drawn; among features; in the denoiser
    for kill_at in kills:
        assert long_run(kept, resumed, kill_at) is None
    last = long_run(kept, resumed)
    assert resumed.read_bytes() == plain.read_bytes()
    assert whole is not None and last is not None
    assert last < whole


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        port: int = found.getsockname()[1]
    return port


def two_ranks(where: Path | str, report: Path, kill_at: int = 0) -> list[int]:
    """The calls of each of two processes that share a run, none where rank 1 was killed at one of its own."""
    shared = {"PYTHONPATH": f"{HERE.parent}:{HERE}", "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2"}
    shared |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port())}
    started = []
    for rank, stop in enumerate((0, kill_at)):
        command = [sys.executable, str(HERE / "long_run.py"), str(where), str(report), str(stop), "seeds"]
        environment = os.environ | shared | {"RANK": str(rank)}
        started.append(subprocess.Popen(command, env=environment, stdout=-1, stderr=-1, text=True))
    ended = [process.communicate() for process in started]
    statuses = [process.returncode for process in started]
    assert statuses == [0, 0] or (kill_at and statuses[0] != 0 and statuses[1] == -signal.SIGKILL), ended
    return [] if kill_at else [int(out) for out, _ in ended]


def test_several_processes_go_on_where_one_of_them_was_killed(tmp_path: Path) -> None:
    plain, resumed, kept = tmp_path / "plain.json", tmp_path / "resumed.json", tmp_path / "kept"
    whole = two_ranks("", plain)
    for kill_at in (9, 40):  # before the features; in the denoiser
        assert two_ranks(kept, resumed, kill_at) == []
    last = two_ranks(kept, resumed)
    assert resumed.read_bytes() == plain.read_bytes()
    assert sum(last) < sum(whole) - 20


# Blocks


def test_a_block_is_made_once_and_comes_back_as_it_was(tmp_path: Path) -> None:
    arrays = (np.arange(6, dtype=np.int64).reshape(2, 3), None, np.array([True, False]), np.empty((0, 4), np.float32))
    made: list[int] = []

    def make() -> Any:
        made.append(1)
        return arrays

    for _ in range(2):
        found = folder(tmp_path).under("a", 1).block(make, "things", 0.5)
        for one, other in zip(found, arrays, strict=True):
            if other is None or one is None:
                assert one is other
            else:
                assert one.dtype == other.dtype and one.shape == other.shape and np.array_equal(one, other)
                assert one.flags.writeable
    assert made == [1]


FACTS: list[tuple[object, ...]] = [("a", 1), ("a", "1"), ("a1",), ("a", 1.0), ("a", None), ("a", True), ("a", 1, "")]
FACTS += [(np.arange(4),), (np.arange(4).astype(np.int32),), (np.arange(4).reshape(2, 2),), (np.arange(4)[::-1],)]


def test_no_two_keys_are_one(tmp_path: Path) -> None:
    kept = folder(tmp_path)
    for number, facts in enumerate(FACTS):
        (found,) = kept.block(lambda number=number: (np.array([number]),), "things", *facts)  # type: ignore[misc]
        assert found is not None and found.tolist() == [number]
    assert kept.read("other things", "a", 1) is None
    assert len(list(tmp_path.iterdir())) == len(FACTS)


def test_checksums_read_any_array_as_its_values() -> None:
    rows = np.random.default_rng(0).normal(size=(9_000, 3))
    assert checksum_of(rows) == checksum_of(np.asfortranarray(rows)) != checksum_of(rows[::-1])
    assert checksum_of(np.array(3)) != checksum_of(np.array(4))


def test_what_is_no_plain_value_is_no_fact(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        folder(tmp_path).under(torch.arange(5_000, device="cpu"))


def test_nothing_is_unpickled_from_a_block(tmp_path: Path) -> None:
    kept = folder(tmp_path)
    kept.write((np.arange(3),), "things")
    (path,) = tmp_path.iterdir()
    _, _, rest = path.read_bytes().partition(b"\n")
    rest = rest.replace(b'"<i8"', b'"|O" ')
    path.write_bytes(hashlib.blake2b(rest, digest_size=32).hexdigest().encode() + b"\n" + rest)
    assert kept.read("things") is None


def test_the_longest_unused_of_others_go_first(tmp_path: Path) -> None:
    others = folder(tmp_path, owner="others")
    for number in range(4):
        others.write((np.zeros(1000),), "old", number)
    for age, path in enumerate(sorted(tmp_path.iterdir())):
        os.utime(path, (time.time() - 100 + age,) * 2)
    assert others.read("old", 2) is not None  # used now
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    mine = folder(tmp_path, size=size)
    assert mine.read("old", 1) is not None
    for number in range(2):
        mine.write((np.zeros(1000),), "new", number)
    assert all(mine.read(*key) is not None for key in (("old", 1), ("old", 2), ("new", 0), ("new", 1)))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= size
    with pytest.warns(UserWarning, match="cache_size, .* is less than what this run uses"):
        mine.write((np.zeros(9000),), "new", 2)
    again = folder(tmp_path, size=size)  # the same run, after a kill
    with pytest.warns(UserWarning, match="cache_size"):
        again.write((np.zeros(9000),), "large")
    assert again.read("new", 0) is not None


def test_a_folder_that_cannot_be_written_to_is_warned_of_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    kept = folder(tmp_path / "file" / "below")
    with pytest.warns(UserWarning, match="nothing more can be kept in .*this run goes on"):
        kept.write((np.zeros(3),), "things", 0)
    assert kept.block(lambda: (np.zeros(3),), "things", 1)[0] is not None  # a second warning would be an error


# Samplers


def states() -> Any:
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002


def test_states_of_generators_go_through_json() -> None:
    held = [np.random.default_rng(1), np.random.RandomState(2), random.Random(3), torch.Generator("cpu")]

    def draw() -> list[Any]:
        numbers = [held[0].random(), held[1].random(), held[2].random()]
        numbers += [torch.rand(1, generator=held[3], device="cpu").item(), random.gauss(0, 1)]
        return [*numbers, np.random.normal(), torch.randn(1, device="cpu").item()]  # noqa: NPY002

    held[1].normal(), random.gauss(0, 1)  # a second number waits in each
    found = random_states(held)
    kept = from_json_array(json_array(found.kept()))
    first = draw()
    assert draw() != first
    assert random_states(held).restore(kept)
    assert draw() == first
    assert not random_states(held[:2]).restore(kept)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="generators of a GPU need one")
def test_states_of_a_gpu_go_through_json() -> None:
    held = [torch.Generator("cuda")]
    torch.randn(1, device="cuda")
    found = random_states(held)
    kept = from_json_array(json_array(found.kept()))

    def draw() -> list[float]:
        return [torch.randn(3, generator=one, device="cuda").sum().item() for one in (held[0], None)]

    first = draw()
    assert draw() != first
    assert random_states(held).restore(kept) and draw() == first


class Interrupted(BaseException):
    """Stands for a kill."""


def drawn(sampler: Callable[..., object], path: Path, *, num_samples: int = 40, batch_size: int = 8) -> Any:
    source = SampleSource(sampler, num_samples, batch_size, None, None, None)
    return source.load((3, 8, 8), quantize=True, seed=3, ranks=ALONE, kept=folder(path)).array()


def by_seeds(kill: Callable[[], None]) -> Callable[..., object]:
    def sampler(n: int, *, seeds: list[int]) -> Any:
        kill()
        return np.stack([noise_images(seed, 1, SHAPE)[0] for seed in seeds])

    return sampler


def by_generator(kill: Callable[[], None]) -> Callable[..., object]:
    def sampler(n: int, *, generator: torch.Generator) -> Any:
        kill()
        return torch.randint(0, 256, (n, *SHAPE), generator=generator, dtype=torch.uint8, device="cpu")

    return sampler


def by_torch(kill: Callable[[], None]) -> Callable[..., object]:
    torch.manual_seed(8)

    def sampler(n: int) -> Any:
        kill()
        return torch.randint(0, 256, (n, *SHAPE), dtype=torch.uint8, device="cpu")

    return sampler


def by_own_generator(kill: Callable[[], None]) -> Callable[..., object]:
    own = np.random.default_rng(9)

    def sampler(n: int) -> Any:
        kill()
        return own.integers(0, 256, (n, *SHAPE), dtype=np.uint8)

    return sampler


def after(num_calls: int) -> Callable[[], None]:
    """Raises at a later call."""
    left = iter([None] * num_calls)

    def kill() -> None:
        if next(left, "none") == "none":
            raise Interrupted

    return kill


SAMPLERS = [by_seeds, by_generator, by_torch, by_own_generator]


@pytest.mark.filterwarnings("ignore:samples of sampler")
@pytest.mark.parametrize("kind", SAMPLERS, ids=lambda kind: kind.__name__)
def test_calls_go_on_where_they_were(kind: Any, tmp_path: Path) -> None:
    before = states()
    whole = drawn(kind(after(5)), tmp_path / "whole")
    for done in (2, 1):  # each of these runs makes so many calls anew
        with pytest.raises(Interrupted):
            drawn(kind(after(done)), tmp_path / "kept")
    assert np.array_equal(drawn(kind(after(2)), tmp_path / "kept"), whole)
    assert np.array_equal(drawn(kind(after(0)), tmp_path / "kept"), whole)
    more = drawn(kind(after(3)), tmp_path / "kept", num_samples=64)
    assert np.array_equal(more[:40], whole) and len(np.unique(more, axis=0)) == 64
    random.setstate(before[0])


@pytest.mark.filterwarnings("ignore:samples of sampler")
@pytest.mark.parametrize("kind", SAMPLERS, ids=lambda kind: kind.__name__)
def test_a_call_that_was_lost_is_made_again(kind: Any, tmp_path: Path) -> None:
    whole = drawn(kind(after(5)), tmp_path)
    for path in sorted(tmp_path.iterdir())[1:3]:
        path.write_bytes(b"")
    assert np.array_equal(drawn(kind(after(2)), tmp_path), whole)


@pytest.mark.filterwarnings("ignore:samples of sampler")
def test_a_sampler_that_begins_again_is_refused(tmp_path: Path) -> None:
    def made(kill: Callable[[], None]) -> Callable[..., object]:
        stream = iter(noise_images(4, 64, SHAPE))

        def sampler(n: int) -> Any:
            kill()
            return np.stack([next(stream) for _ in range(n)])

        return sampler

    with pytest.raises(Interrupted):
        drawn(made(after(2)), tmp_path)
    with pytest.raises(InputError, match="it has begun again; let it take seeds or generator"):
        drawn(made(after(5)), tmp_path)


def test_what_cannot_be_seen_of_a_sampler_is_said(tmp_path: Path) -> None:
    drawn(by_seeds(after(5)), tmp_path)
    with pytest.warns(UserWarning, match="no weights of it can be seen: if its model has changed, give another folder"):
        drawn(by_seeds(after(0)), tmp_path)


class Weighted:
    """A sampler with weights."""

    def __init__(self, weight: float) -> None:
        self.net, self.calls = torch.nn.Linear(1, 1, bias=False), iter(range(100))
        torch.nn.init.constant_(self.net.weight, weight)

    def __call__(self, n: int, *, generator: torch.Generator) -> Any:
        next(self.calls)
        return (255 * self.net.weight * torch.rand(n, 3, 8, 8, generator=generator, device="cpu")).byte()


def test_samples_of_other_weights_are_never_taken(tmp_path: Path) -> None:
    first = drawn(Weighted(1.0), tmp_path)
    again, other = Weighted(1.0), Weighted(0.5)
    assert np.array_equal(drawn(again, tmp_path), first) and next(again.calls) == 0
    with pytest.warns(
        UserWarning, match="none of sampler Weighted with these weights and settings: all are drawn anew"
    ):
        changed = drawn(other, tmp_path)
    assert next(other.calls) == 5 and changed.max() < 128


def test_fingerprints_see_code_settings_and_weights() -> None:
    def made(scale: float, offset: int = 0) -> Callable[[Any], Any]:
        return lambda x: scale * x + offset

    def with_default(x: Any, scale: float = 2.0) -> Any:
        return scale * x + 1

    found = [fingerprint(thing) for thing in (made(1.0), made(2.0), made(1.0, 1), with_default, Weighted(1.0))]
    found += [fingerprint(Weighted(0.5)), fingerprint(lambda x: {"a", "b"} and x)]
    assert len(set(found)) == len(found)
    assert fingerprint(made(1.0)) == found[0]


# Whole evaluations


def sampler(n: int, *, seeds: list[int]) -> Any:
    return np.stack([noise_images(seed, 1, SHAPE)[0] for seed in seeds])


def settings(**changed: Any) -> dict[str, Any]:
    given = {
        "train": TRAIN,
        "test": TEST,
        "num_samples": 64,
        "denoiser": lambda x, sigma: 0.5 * x,
        "sigmas": [0.3, 3.0],
    }
    return given | {"num_denoiser_images": 16, "denoiser_batch_size": 16} | changed


OTHERS = [{}, {"train": TRAIN[::-1].copy()}, {"test": TEST[:50]}, {"seed": 1}, {"threshold": 0.4}, {"flip": False}]
OTHERS += [
    {"denoiser": lambda x, sigma: 0.4 * x},
    {"sigmas": [0.3, 2.0]},
    {"num_draws": 1},
    {"duplicate_tolerance": 0.2},
]


@pytest.mark.filterwarnings("ignore:resume holds samples", "ignore:samples of sampler", "ignore:the denoiser's")
def test_nothing_of_another_evaluation_is_mixed_in(tmp_path: Path) -> None:
    for changed in OTHERS:
        given = settings(**changed)
        assert figures(evaluated(sampler, **given, resume=tmp_path)) == figures(evaluated(sampler, **given))


@pytest.mark.filterwarnings("ignore:the denoiser's")
def test_a_full_disk_stops_no_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = figures(evaluated(sampler, **settings()))
    written = iter(range(20))
    real = os.fsync

    def full(descriptor: int) -> None:
        if next(written, None) is None:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(UserWarning, match="No space left on device.*this run goes on"):
        found = figures(evaluated(sampler, **settings(), resume=tmp_path))
    assert found == plain and len(list(tmp_path.iterdir())) == 20


@pytest.mark.filterwarnings("ignore:the denoiser's", "ignore:samples of sampler")
def test_memory_that_is_short_loses_nothing(tmp_path: Path) -> None:
    calls, denoised = iter(range(8)), iter([*[False] * 10, True])  # memory is short once, after the rehearsal

    def counted(n: int, *, seeds: list[int]) -> Any:
        next(calls)
        return sampler(n, seeds=seeds)

    def denoiser(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        if next(denoised, False):
            raise MemoryError("Unable to allocate 8.00 GiB")
        return 0.5 * x

    given = settings(denoiser=denoiser, batch_size=8)
    first = evaluated(counted, **given, resume=tmp_path)
    assert first.denoiser is None and "Unable to allocate 8.00 GiB" in first.skipped["denoiser"]
    assert first.memorization is not None
    second = evaluated(counted, **given, resume=tmp_path)  # a call more would be an error
    assert figures(second) == figures(evaluated(sampler, **given))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"resume": ""}, "resume is '', expected a folder"),
        ({"resume": __file__}, "expected a folder of this evaluation's own"),
        ({"cache_size": "much"}, "cache_size='much' is not a size"),
    ],
)
def test_what_cannot_be_a_folder_or_a_size_is_refused(given: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        evaluate(TEST, train=TRAIN, **given)


# The command


def test_the_command_lists_and_clears(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "s.npz", TEST)
    np.savez(tmp_path / "t.npz", TRAIN)
    kept = tmp_path / "kept"
    typed = [str(tmp_path / "s.npz"), "--train", str(tmp_path / "t.npz"), "--metrics", "memorization"]
    typed += ["--resume", str(kept), "--cache-size", "1GiB", "--json", str(tmp_path / "r.json")]
    assert main(typed) == 0
    (kept / "note.txt").write_text("mine")
    capsys.readouterr()
    assert main(["cache", str(kept)]) == 0
    listed = capsys.readouterr().out
    assert "neighbours" in listed and listed.split("in all")[1].split()[:2] == [
        f"{len(list(entries_in(kept)))}",
        "blocks",
    ]
    assert main(["cache", str(kept), "--clear"]) == 0
    assert "removed" in capsys.readouterr().out and [path.name for path in kept.iterdir()] == ["note.txt"]
    assert main(["cache", str(kept)]) == 0
    assert "nothing is kept here" in capsys.readouterr().out
    assert main(["cache", str(tmp_path / "none")]) == 2
