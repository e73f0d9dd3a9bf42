"""Studies that are killed with SIGKILL at random moments and go on: table, data and page, byte for byte.

A study of digits is done once without a stop. Then it is done again and again, each time killed at a random moment,
until the last one ends; its files have to be the same. Every second kill ends the study alone, and its trainings go on
without it; the others end the trainings too, as a machine that loses power does. A run's pace, which is measured when
it begins, is that of the undisturbed study.

``python -m benchmarks.resumed_studies`` prints a line for each chain of kills, and writes --json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.machine import processor
from reference_models import study_cli

FILES = ("runs.csv", "study.json", "study.html")
SWEEP = """\
data = "digits"
num_images = [8, 16]
half = ["first", "second"]
steps = 128
preset = "tiny"
batch_size = 16
num_samples = 40
threads = 1
"""


@dataclass(frozen=True)
class Kill:
    """A kill: after how many seconds, whether the trainings were killed too, and how many runs were at work."""

    seconds: float
    trainings_too: bool
    num_at_work: int


def started(sweep: Path, folder: Path) -> subprocess.Popen[bytes]:
    """A study in a process of its own."""
    command = [sys.executable, "-m", study_cli.MODULE, str(sweep), "--out", str(folder), "--processes", "2"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def children_of(pid: int) -> list[int]:
    """The processes that a process has started and that are still there."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def killed(sweep: Path, folder: Path, seconds: float, *, trainings_too: bool) -> Kill | None:
    """Kill a study after some seconds; None if it had ended before."""
    study = started(sweep, folder)
    try:
        study.wait(seconds)
    except subprocess.TimeoutExpired:
        children = children_of(study.pid)
        study.kill()
        study.wait()
        for pid in children if trainings_too else ():
            os.kill(pid, signal.SIGKILL)
        return Kill(round(seconds, 2), trainings_too, len(children))
    return None


def whole(sweep: Path, folder: Path) -> float:
    """Let a study end; its seconds."""
    start = time.monotonic()
    status = started(sweep, folder).wait()
    if status:
        raise SystemExit(f"the study ended with {status}")
    return time.monotonic() - start


def chain(sweep: Path, folder: Path, plain: Path, moments: list[float]) -> list[Kill]:
    """A study that is killed again and again, and then ends."""
    for run in (plain / "runs").iterdir():
        (folder / "runs" / run.name).mkdir(parents=True)
        shutil.copy(run / "run.json", folder / "runs" / run.name)
    shutil.copy(plain / "plan.json", folder)
    kills = [killed(sweep, folder, moment, trainings_too=place % 2 == 0) for place, moment in enumerate(moments)]
    whole(sweep, folder)
    return [kill for kill in kills if kill is not None]


def measure(num_kills: int, in_a_chain: int, seed: int) -> dict[str, Any]:
    """All chains of kills."""
    random = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        sweep, plain = Path(name) / "sweep.toml", Path(name) / "plain"
        sweep.write_text(SWEEP, encoding="utf-8")
        seconds = whole(sweep, plain)
        print(f"study: {seconds:.1f} s", flush=True)
        while sum(len(row["kills"]) for row in rows) < num_kills:
            folder = Path(name) / str(len(rows))
            moments = random.uniform(0.0, 2 * seconds / in_a_chain, in_a_chain).tolist()
            kills = chain(sweep, folder, plain, moments)
            different = [file for file in FILES if (folder / file).read_bytes() != (plain / file).read_bytes()]
            rows.append({"kills": [asdict(kill) for kill in kills], "different": different})
            same = f"different: {different}" if different else "every file the same"
            print(f"{len(kills)} kills, {same}", flush=True)
        sizes = {file: (plain / file).stat().st_size for file in FILES}
    machine = {"processor": processor().name, "torch": torch.__version__}
    return {"sweep": SWEEP, "seed": seed, "seconds": round(seconds, 1), "bytes": sizes, **machine, "chains": rows}


def main() -> None:
    """Measure; exit with 1 if any file is another one."""
    command = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument("--kills", type=int, default=20)
    command.add_argument("--in-a-chain", type=int, default=5, help="kills of one study, one after the other")
    command.add_argument("--seed", type=int, default=0, help="of the moments")
    command.add_argument("--json", type=Path)
    given = command.parse_args()
    found = measure(given.kills, given.in_a_chain, given.seed)
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    sys.exit(any(row["different"] for row in found["chains"]))


if __name__ == "__main__":
    main()
