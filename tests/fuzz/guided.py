"""One reader, its files chosen by what code they reach: ``python -m fuzz.guided READER ...`` needs atheris.

A case that reaches code which none before it did is kept in the corpus and changed further. Our own changes, which know
the formats, take turns with those of libFuzzer. Nothing that a reader raises ends the run: it is noted as a finding.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from random import Random

import atheris  # type: ignore[import-not-found,unused-ignore]

OUR_SHARE = 0.7  # of the changes
LONGEST = {True: 2**14, False: 2**9}  # bytes of a case, in a file or a line, where no seed is longer


def main() -> None:
    parser = argparse.ArgumentParser(prog="fuzz.guided", description=__doc__)
    parser.add_argument("reader")
    parser.add_argument("--executions", type=int, required=True)
    parser.add_argument("--seconds", type=int, default=2**31)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", type=Path, required=True, help="the folder that it grows in")
    parser.add_argument("--keep", type=Path, required=True, help="the folder for files of findings")
    parser.add_argument("--log", type=Path, required=True, help="a line of JSON is added to it")
    run(parser.parse_args())


def run(chosen: argparse.Namespace) -> None:
    warnings.simplefilter("ignore")
    with atheris.instrument_imports(include=["memgen_eval", "reference_models", "PIL", "numpy.lib", "zipfile"]):
        from fuzz.driver import Outcome, execute, rewound
        from fuzz.targets import TARGETS

        target = TARGETS[chosen.reader]()
    shared = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="memgen-fuzz-", dir=shared if shared.is_dir() else None))
    path, outcome, known, start = folder / target.name, Outcome(), set[str](), rewound()
    begun = time.time()
    for needed in (chosen.corpus, chosen.keep, chosen.log.parent):
        needed.mkdir(parents=True, exist_ok=True)
    for data in target.seeds:
        (chosen.corpus / hashlib.sha1(data).hexdigest()).write_bytes(data)

    def finish() -> None:
        kinds = list(outcome.findings)
        line = {"reader": chosen.reader, "seed": chosen.seed, "executions": outcome.executions}
        line |= {"accepted": outcome.accepted, "slowest": round(outcome.seconds, 3), "memory": outcome.memory}
        line |= {"seconds": round(time.time() - begun, 1), "findings": kinds}
        with chosen.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
        sys.stdout.flush()
        os._exit(0)

    def one(data: bytes) -> None:
        nonlocal start
        start = execute(target, data, path, outcome, start)
        for kind in outcome.findings.keys() - known:
            known.add(kind)
            name = f"{chosen.reader}-{hashlib.sha1(kind.encode()).hexdigest()[:8]}"
            (chosen.keep / name).write_bytes(outcome.findings[kind][1])
            (chosen.keep / f"{name}.txt").write_text(kind + "\n", encoding="utf-8")
        if outcome.executions >= chosen.executions or time.time() - begun > chosen.seconds:
            finish()

    def changed(data: bytes, longest: int, seed: int) -> bytes:
        random = Random(seed)
        if random.random() < OUR_SHARE:
            return target.mutate(bytes(data), random)[:longest]
        return bytes(atheris.Mutate(data, longest))

    longest = max(LONGEST[bool(target.name)], 2 * max(map(len, target.seeds)))
    options = [f"-seed={chosen.seed}", f"-max_len={longest}", "-timeout=0", "-rss_limit_mb=4096"]
    options += [f"-artifact_prefix={chosen.keep}/{chosen.reader}-", "-verbosity=1", "-print_final_stats=0"]
    atheris.Setup(["fuzz", *options, str(chosen.corpus)], one, custom_mutator=changed)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
