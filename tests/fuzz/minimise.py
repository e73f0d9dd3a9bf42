"""The smallest of a guided run's cases that reach all that they reach: ``python -m fuzz.minimise guided/corpus``.

They become the corpus that the tests read. What a case reaches are the pairs of lines of our own code that were run one
after the other; the smallest cases come first, and one that reaches nothing new is left out.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import warnings
from pathlib import Path
from types import FrameType
from typing import Any

from fuzz.driver import OURS, Outcome, Target, execute
from fuzz.targets import CORPUS, TARGETS

LARGEST = 20_000  # bytes of a case that is kept
Arc = tuple[str, int, int]


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzz.minimise", description=__doc__)
    parser.add_argument("found", type=Path, help="a folder for each reader")
    parser.add_argument("--most", type=int, default=150, help="the most cases that are looked at for each reader")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    for name, make in TARGETS.items():
        target, kept = make(), CORPUS / name
        known, cases = set[Arc](), sorted({path.read_bytes() for path in (chosen.found / name).glob("*")}, key=len)
        with tempfile.TemporaryDirectory() as folder:
            for data in target.seeds:
                known |= reached(target, data, Path(folder))
            for data in [data for data in cases if len(data) <= LARGEST][: chosen.most]:
                found = reached(target, data, Path(folder))
                if found - known or not kept.exists():  # the smallest of all, where none reaches more than the seeds
                    known |= found
                    kept.mkdir(parents=True, exist_ok=True)
                    (kept / hashlib.sha1(data).hexdigest()[:12]).write_bytes(data)
    return 0


def reached(target: Target, data: bytes, folder: Path) -> set[Arc]:
    """The pairs of lines that reading a case runs."""
    arcs, last = set[Arc](), dict[int, int]()

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        del argument
        if OURS.search(frame.f_code.co_filename) is None:
            return None
        if event == "line":
            arcs.add((frame.f_code.co_filename, last.get(id(frame), 0), frame.f_lineno))
        last[id(frame)] = frame.f_lineno if event == "line" else 0
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        execute(target, data, folder / target.name, Outcome(), 0)
    finally:
        sys.settrace(before)
    return arcs


if __name__ == "__main__":
    sys.exit(main())
