"""Two processes at one training, as torchrun starts them: the steps of one process, and errors that end both."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from memgen_eval import InputError
from memgen_eval.distributed import Ranks
from reference_models import train_cli
from reference_models.training import parallel
from reference_models.training.checkpoints import load_state, states
from reference_models.training.folder import alone_in
from reference_models.training.parallel import Team

ROOT = Path(__file__).parents[2]
COMMAND = ("--data", "digits", "--num-images", "50", "--preset", "tiny", "--width", "8", "--batch-size", "16")
LONG = 120  # seconds


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def on_two_ranks(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> tuple[int, int, str]:
    """The exit statuses of a training by this process and another one, and what the other said."""
    port = str(free_port())
    launched = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    command = [*COMMAND, *map(str, arguments)]
    for name, value in {**launched, "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    other = subprocess.Popen(
        [sys.executable, "-m", "reference_models.train_cli", *command],
        env=os.environ | {"RANK": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        own = train_cli.main(command)
        said, _ = other.communicate(timeout=LONG)
    finally:
        other.kill()
        other.communicate()
    assert not dist.is_initialized()
    return own, other.returncode, said


def losses(folder: Path) -> list[float]:
    _, path = states(folder).popitem()
    return load_state(path).state.losses


def test_two_ranks_take_the_steps_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has half of every batch; one process goes on from what both have left."""
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    with monkeypatch.context() as launched:
        arguments = ("--out", shared, "--steps", 100, "--no-evaluate")
        assert on_two_ranks(launched, *arguments) == (0, 0, "")
    for folder in (alone, shared):
        assert train_cli.main([*COMMAND, "--out", str(folder), "--steps", "103", "--no-evaluate"]) == 0
    assert len(losses(shared)) == 103
    assert losses(shared) == pytest.approx(losses(alone), rel=1e-4)
    assert losses(shared) != losses(alone)


def test_both_ranks_end_where_one_cannot_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with alone_in(tmp_path / "a"):
        assert on_two_ranks(monkeypatch, "--out", tmp_path / "a", "--steps", 1) == (2, 2, "")
    assert "another memgen-train is at work there" in capsys.readouterr().err


def test_a_trajectory_is_for_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(parallel, "joined_team", lambda: nullcontext(Team(Ranks(0, 2))))
    assert train_cli.main([*COMMAND, "--out", str(tmp_path / "a"), "--trajectory"]) == 2
    assert "then give the same command without torchrun" in capsys.readouterr().err and not (tmp_path / "a").exists()


@pytest.mark.parametrize(("batch_size", "accumulation"), [(24, 1), (24, 3), (8, 2)])
def test_every_image_of_a_batch_is_in_one_part(batch_size: int, accumulation: int) -> None:
    parts = [part for rank in range(4) for part in Team(Ranks(rank, 4)).parts(batch_size, 1)]
    assert [i for part in parts for i in range(batch_size)[part]] == list(range(batch_size))
    mine = Team(Ranks(1, 2)).parts(batch_size, accumulation)
    assert len(mine) == accumulation and len({part.stop - part.start for part in mine}) == 1
    assert [i for part in mine for i in range(batch_size)[part]] == list(range(batch_size // 2, batch_size))


def test_batches_without_equal_parts() -> None:
    with pytest.raises(
        InputError, match="--batch-size is 10, which has no equal parts for 2 processes of 2 accumulated"
    ):
        Team(Ranks(0, 2)).parts(10, 2)
    with pytest.raises(InputError, match="--batch-size is 1, which has no equal parts"):
        Team(Ranks(0, 2)).parts(1, 1)
