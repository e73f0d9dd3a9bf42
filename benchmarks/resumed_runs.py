"""Evaluations that are killed with SIGKILL at random moments and go on: their reports, and the work done again.

An evaluation of CIFAR-10 images with features and a denoiser (two small networks) and a sampler whose calls take a
while is run once without a stop. Then it is run again and again, each process killed after a random share of the work,
until the last one ends; the reports have to be the same to the byte, times aside. Work is counted in seconds of
processor time, so that other processes on the machine change nothing. What a process needs to start (Python, imports,
torch) is measured apart: it is no work of an evaluation.

``python -m benchmarks.resumed_runs --data-dir DIR`` prints a line for each chain of kills, and writes --json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

TICK = os.sysconf("SC_CLK_TCK")
POLL = 0.02  # seconds between two looks at a process
SIZES = {"train": 1_200, "test": 400, "samples": 256}
SAMPLER_SECONDS, DENOISER_SECONDS = 1.5, 0.15  # of processor time, of a call: what networks take on a small machine


@dataclass(frozen=True)
class Outcome:
    """One process: seconds of processor time, and whether it ended by itself."""

    seconds: float
    whole: bool


def evaluated(data_dir: str, folder: str, report: str) -> None:
    """One evaluation in this process; without a folder nothing is kept, without a report it only starts."""
    import torch

    from memgen_eval import evaluate
    from memgen_eval.data.datasets import load_named

    torch.set_num_threads(1)
    if not report:
        return
    train = np.asarray(load_named("cifar10:train", data_dir=data_dir).array)
    test = np.asarray(load_named("cifar10:test", data_dir=data_dir).array)[: SIZES["test"]]
    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(3, 16, 3, padding=1)
    features = torch.nn.Sequential(torch.nn.Conv2d(3, 64, 5, stride=2), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(2))
    pool = torch.from_numpy(train[-4000:].copy())

    def compute(seconds: float) -> None:
        busy_until = time.process_time() + seconds
        while time.process_time() < busy_until:
            convolution(torch.zeros(8, 3, 32, 32))

    def sampler(n: int, *, generator: torch.Generator) -> torch.Tensor:
        compute(SAMPLER_SECONDS)
        chosen = pool[torch.randint(len(pool), (n,), generator=generator)]
        noise = torch.randint(-6, 7, (n, 1, 1, 1), generator=generator)
        return (chosen.int() + noise).clamp(0, 255).to(torch.uint8)

    inner = torch.nn.Sequential(convolution, torch.nn.Tanh(), torch.nn.Conv2d(16, 3, 3, padding=1))

    def denoiser(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        compute(DENOISER_SECONDS)
        level = sigma.reshape(-1, 1, 1, 1)
        answer: torch.Tensor = (x + 0.1 * level * inner(x / (1 + level))) / (1 + level**2)
        return answer

    found = evaluate(
        sampler,
        train=train[: SIZES["train"]],
        test=test,
        denoiser=denoiser,
        features=lambda x: features(x.float() / 255).flatten(1),
        num_samples=SIZES["samples"],
        batch_size=16,
        num_denoiser_images=128,
        resume=folder or None,
    )
    content = found.to_dict()
    for name in ("created", "seconds"):  # when it ran, and for how long
        content["provenance"].pop(name)
    Path(report).write_text(json.dumps(content), encoding="utf-8")


def run(data_dir: str, folder: str, report: str, *, kill_after: float | None = None) -> Outcome:
    """One process, killed once it has used `kill_after` seconds of processor time."""
    command = [sys.executable, "-m", "benchmarks.resumed_runs", "--worker", data_dir, folder, report]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        if kill_after is not None and seconds_of(process.pid) >= kill_after:
            process.send_signal(signal.SIGKILL)
            process.wait()
            break
        time.sleep(POLL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if process.returncode not in (0, -signal.SIGKILL):
        raise SystemExit(f"the evaluation ended with {process.returncode}")
    return Outcome(seconds, process.returncode == 0)


def seconds_of(pid: int) -> float:
    """Seconds of processor time that a process has used by now."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICK


def chain(data_dir: str, folder: Path, moments: list[float], start: float, whole: float) -> tuple[list[Outcome], str]:
    """An evaluation killed at these shares of its work, one after the other, and its report."""
    report, done, outcomes = str(folder / "report.json"), 0.0, []
    for moment in moments:
        outcomes.append(run(data_dir, str(folder), report, kill_after=start + (moment - done) * whole))
        done = moment
    outcomes.append(run(data_dir, str(folder), report))
    return outcomes, Path(report).read_text(encoding="utf-8")


def measure(data_dir: str, num_kills: int, in_a_chain: int) -> dict[str, Any]:
    """All chains; work done again by a kill is a share of the whole evaluation's."""
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        plain = Path(name) / "plain.json"
        start = run(data_dir, "", "").seconds
        whole = run(data_dir, "", str(plain)).seconds - start
        expected, rows = plain.read_text(encoding="utf-8"), []
        print(f"start {start:.1f} s, evaluation {whole:.1f} s of processor time", flush=True)
        for number in range(num_kills // in_a_chain):
            folder = Path(name) / str(number)
            folder.mkdir()
            moments = sorted(random.uniform(0.0, 1.0, in_a_chain).tolist())
            outcomes, found = chain(data_dir, folder, moments, start, whole)
            kills = sum(not outcome.whole for outcome in outcomes)
            again = sum(outcome.seconds - start for outcome in outcomes) - whole
            row = {
                "kills": kills,
                "moments": moments,
                "same": found == expected,
                "again": again / whole / max(1, kills),
            }
            rows.append(row)
            print(f"{kills} kills, same report: {row['same']}, work done again by each: {row['again']:.1%}", flush=True)
    return {"start": start, "whole": whole, "sizes": SIZES, "processor": platform.processor(), "chains": rows}


def main() -> None:
    """Measure, or be one of the processes that are measured."""
    if sys.argv[1:2] == ["--worker"]:
        evaluated(*sys.argv[2:])
        return
    command = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument("--data-dir", required=True)
    command.add_argument("--kills", type=int, default=20)
    command.add_argument("--in-a-chain", type=int, default=1, help="kills of one evaluation, one after the other")
    command.add_argument("--json", type=Path)
    given = command.parse_args()
    found = measure(given.data_dir, given.kills, given.in_a_chain)
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
