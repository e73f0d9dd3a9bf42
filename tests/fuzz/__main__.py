"""``python -m fuzz --reader npz --executions 200000``: what became of the cases, and one file for each finding."""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from pathlib import Path

from fuzz.driver import fuzz
from fuzz.targets import TARGETS, target_of


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--reader", choices=TARGETS, action="append", help="one or several; all by default")
    parser.add_argument("--executions", type=int, default=200_000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("findings"), help="the folder for files of findings")
    chosen = parser.parse_args()
    shared = Path("/dev/shm")
    num_findings = 0
    for name in chosen.reader or TARGETS:
        with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target = target_of(name)
            outcome = fuzz(target, Path(folder), executions=chosen.executions, seed=chosen.seed, first=chosen.first)
        print(f"{name}: {outcome}", flush=True)
        for case, data in outcome.findings.values():
            chosen.keep.mkdir(exist_ok=True)
            (chosen.keep / f"{name}-{case}-{target.name}").write_bytes(data)
        num_findings += len(outcome.findings)
    return min(1, num_findings)


if __name__ == "__main__":
    sys.exit(main())
