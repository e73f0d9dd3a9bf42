"""Cases chosen by what code they reach: ``python -m fuzz.guided --reader npz --executions 1000000``, with atheris.

A case that reaches code which none before it did is kept in the reader's corpus and changed further. Our own changes,
which know the formats, take turns with those of libFuzzer. Nothing that a reader raises ends a run: it is a finding.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
import warnings
from pathlib import Path
from random import Random
from typing import Any, NoReturn

import atheris

INSTRUMENTED = ["memgen_eval", "reference_models", "PIL", "numpy.lib", "zipfile", "tarfile", "safetensors"]
OUR_SHARE = 0.7  # of the changes
LONGEST = {True: 2**14, False: 2**9}  # bytes of a case, in a file or a line, where no seed is longer


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzz.guided", description=__doc__)
    parser.add_argument("--reader", action="append", help="one or several; all by default")
    parser.add_argument("--executions", type=int, default=2**62, help="of each reader in a round")
    parser.add_argument("--seconds", type=int, default=60, help="of this process, for each reader in a round")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1, help="of the first round; the next ones follow")
    parser.add_argument("--output", type=Path, default=Path("guided"), help="for corpora, findings and log.jsonl")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    with atheris.instrument_imports(include=INSTRUMENTED):
        from fuzz.targets import TARGETS, target_of

        targets = {name: target_of(name) for name in chosen.reader or TARGETS}
    for seed in range(chosen.seed, chosen.seed + chosen.rounds):
        for name, target in targets.items():
            sys.stdout.flush()
            child = os.fork()  # libFuzzer runs one target in a process, and ends it
            if child == 0:
                run(name, target, chosen, seed)
            _, status = os.waitpid(child, 0)
            print(f"round {seed}: {name}: ended with {os.waitstatus_to_exitcode(status)}", flush=True)
            if (chosen.output / "stop").exists():
                return 0
    return 0


def run(name: str, target: Any, chosen: argparse.Namespace, seed: int) -> NoReturn:
    """Fuzz one reader until its executions or its seconds are spent, add a line to the log, and end the process."""
    from fuzz.driver import Outcome, execute, rewound

    corpus, findings = chosen.output / "corpus" / name, chosen.output / "findings"
    for needed in (corpus, findings):
        needed.mkdir(parents=True, exist_ok=True)
    for data in target.seeds:
        (corpus / hashlib.sha1(data).hexdigest()).write_bytes(data)
    shared = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="memgen-fuzz-", dir=shared if shared.is_dir() else None))
    path, outcome, known, start = folder / target.name, Outcome(), set[str](), rewound()
    begun = time.process_time()

    def finish() -> NoReturn:
        line = {"reader": name, "seed": seed, "executions": outcome.executions, "accepted": outcome.accepted}
        line |= {"slowest": round(outcome.seconds, 3), "memory": outcome.memory}
        line |= {"seconds": round(time.process_time() - begun, 1), "findings": list(outcome.findings)}
        with (chosen.output / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        shutil.rmtree(folder)
        os._exit(0)

    def one(data: bytes) -> None:
        nonlocal start
        start = execute(target, data, path, outcome, start)
        for kind in outcome.findings.keys() - known:
            known.add(kind)
            place = findings / f"{name}-{hashlib.sha1(kind.encode()).hexdigest()[:8]}"
            place.write_bytes(outcome.findings[kind][1])
            place.with_suffix(".txt").write_text(kind + "\n", encoding="utf-8")
        if outcome.executions >= chosen.executions or time.process_time() - begun > chosen.seconds:
            finish()

    def changed(data: bytes, longest: int, number: int) -> bytes:
        random = Random(number)
        if random.random() < OUR_SHARE:
            return bytes(target.mutate(bytes(data), random)[:longest])
        return bytes(atheris.Mutate(data, longest))

    longest = max(LONGEST[bool(target.name)], 2 * max(map(len, target.seeds)))
    options = [f"-seed={seed}", f"-max_len={longest}", "-timeout=0", "-rss_limit_mb=4096", "-print_final_stats=0"]
    out = os.open(chosen.output / f"{name}.out", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    atheris.Setup(["fuzz", *options, f"-artifact_prefix={findings}/{name}-", str(corpus)], one, custom_mutator=changed)
    atheris.Fuzz()
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
