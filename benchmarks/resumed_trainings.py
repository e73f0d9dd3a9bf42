"""Trainings that are killed with SIGKILL at random moments and go on: every tensor that they leave, bit for bit.

A training of digits is run once without a stop. Then it is run again and again, each process killed after a random
share of the work, until the last one ends; every kept average, the last state (weights, averages, Adam's moments,
losses) and the images have to be the same. Work is counted in seconds of processor time, so that other processes on the
machine change nothing. Processes are forked after the imports, which are no work of a training.

``python -m benchmarks.resumed_trainings`` prints a line for each chain of kills, and writes --json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from benchmarks.machine import processor
from benchmarks.resumed_runs import seconds_of
from reference_models import train_cli
from reference_models.training import run, scalars  # noqa: F401 - what a training imports, before the forks
from reference_models.training.checkpoints import checkpoints, states

POLL = 0.005  # seconds between two looks at a process
IMAGES = ("--data", "digits", "--num-images", "100", "--flip")
TRAINING = (*IMAGES, "--preset", "tiny", "--dropout", "0.1", "--batch-size", "32", "--no-evaluate", "--threads", "1")


@dataclass(frozen=True)
class Process:
    """One process: seconds of processor time, and whether it ended by itself."""

    seconds: float
    whole: bool


def process(folder: Path, num_steps: int, *, kill_after: float | None = None) -> Process:
    """One process that trains, killed once it has used this many seconds of processor time."""
    pid = os.fork()
    if pid == 0:
        torch.set_num_threads(1)
        with (
            Path(os.devnull).open("w", encoding="utf-8") as nowhere,
            redirect_stdout(nowhere),
            redirect_stderr(nowhere),
        ):
            os._exit(train_cli.main([*TRAINING, "--steps", str(num_steps), "--out", str(folder)]))
    while True:
        ended, status, usage = os.wait4(pid, os.WNOHANG)
        if ended:
            break
        if kill_after is not None and seconds_of(pid) >= kill_after:
            os.kill(pid, signal.SIGKILL)
        time.sleep(POLL)
    killed = os.WIFSIGNALED(status)
    if not killed and os.waitstatus_to_exitcode(status):
        raise SystemExit(f"the training ended with {os.waitstatus_to_exitcode(status)}")
    return Process(usage.ru_utime + usage.ru_stime, not killed)


def left_behind(folder: Path) -> dict[str, bytes]:
    """Every tensor of the kept averages and of the last state of a run, by file and name, and the images."""
    paths = [*checkpoints(folder).values(), states(folder).popitem()[1]]
    tensors = {
        f"{path.parent.name}/{path.name} {key}": tensor.numpy().tobytes()
        for path in paths
        for key, tensor in load_file(path).items()
    }
    return tensors | {"train.npz": (folder / "train.npz").read_bytes()}


def differences(folder: Path, expected: Path) -> list[str]:
    """What of a run is not the same to the bit as in another one."""
    found, wanted = left_behind(folder), left_behind(expected)
    return sorted(name for name in found | wanted if found.get(name) != wanted.get(name))


def chain(folder: Path, plain: Path, moments: list[float], whole: float, num_steps: int) -> list[Process]:
    """A training killed at these shares of its work, one after the other; its pace is that of the plain one."""
    folder.mkdir()
    shutil.copy(plain / "run.json", folder)
    done, processes = 0.0, []
    for moment in moments:
        processes.append(process(folder, num_steps, kill_after=(moment - done) * whole))
        done = moment
    return [*processes, process(folder, num_steps)]


def measure(num_kills: int, in_a_chain: int, num_steps: int, seed: int) -> dict[str, Any]:
    """All chains; work done again by a kill is a share of the whole training's."""
    random = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as name:
        plain = Path(name) / "plain"
        whole = process(plain, num_steps).seconds
        print(f"training of {num_steps} steps: {whole:.1f} s of processor time", flush=True)
        rows = []
        for number in range(num_kills // in_a_chain):
            moments = sorted(random.uniform(0.0, 1.0, in_a_chain).tolist())
            folder = Path(name) / str(number)
            processes = chain(folder, plain, moments, whole, num_steps)
            kills = sum(not each.whole for each in processes)
            again = (sum(each.seconds for each in processes) - whole) / whole / max(1, kills)
            row = {"kills": kills, "moments": moments, "different": differences(folder, plain), "again": again}
            rows.append(row)
            same = "every tensor the same" if not row["different"] else f"different: {row['different']}"
            print(f"{kills} kills, {same}, work done again by each: {again:.1%}", flush=True)
        num_tensors = len(left_behind(plain))
    settings = {"training": TRAINING, "num_steps": num_steps, "seed": seed, "num_tensors": num_tensors}
    return {"whole": whole, **settings, "processor": processor().name, "torch": torch.__version__, "chains": rows}


def main() -> None:
    """Measure; exit with 1 if any tensor is another one."""
    command = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument("--kills", type=int, default=20)
    command.add_argument("--in-a-chain", type=int, default=5, help="kills of one training, one after the other")
    command.add_argument("--steps", type=int, default=1000)
    command.add_argument("--seed", type=int, default=0, help="of the moments")
    command.add_argument("--json", type=Path)
    given = command.parse_args()
    found = measure(given.kills, given.in_a_chain, given.steps, given.seed)
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    sys.exit(any(row["different"] for row in found["chains"]))


if __name__ == "__main__":
    main()
