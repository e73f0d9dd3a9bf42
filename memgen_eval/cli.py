"""``memgen-eval``: arguments to `evaluate`, the report to a table and files, and an exit status."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from memgen_eval.arguments import PROGRAM, asked_families, completing_words, feature_space, parsed, parser, value_range
from memgen_eval.compute.resources import keep_freed_memory, num_threads
from memgen_eval.errors import InputError
from memgen_eval.render.save import SUFFIXES, as_text, write_file
from memgen_eval.shell import (
    DONE,
    GATE_FAILED,
    as_path,
    check_outputs,
    going_on,
    is_stream,
    run,
    say,
    tell,
    whole_process,
)
from memgen_eval.terminal.completion import asked_shell
from memgen_eval.terminal.estimate import planned
from memgen_eval.terminal.progress import profile_table, shown_on_terminal, told_in_lines

if TYPE_CHECKING:
    from memgen_eval.comparison.changes import Changes
    from memgen_eval.gates import Gate
    from memgen_eval.report import Report
    from memgen_eval.runtime import Stages

__all__ = ["entry", "main", "parser"]

BATTERY, CACHE, COMPARE = "battery", "cache", "compare"
WRITTEN_AS = SUFFIXES | {"junit": (".xml",)}
STANDARD_OUTPUT = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns its exit status; never raises but for `SystemExit` of --help and --version."""
    typed = list(sys.argv[1:] if argv is None else argv)

    def command() -> int:
        if "--doctor" in typed:  # whatever else is missing
            return _doctor()
        if (shell := asked_shell(typed)) is not None:
            return _completion(shell)
        if typed[:1] == [BATTERY]:  # a file of that name is ./battery
            from memgen_eval.battery.command import battery

            return battery(typed[1:])
        if typed[:1] == [COMPARE]:
            from memgen_eval.render.several.compare_command import compare_command

            return compare_command(typed[1:])
        if typed[:1] == [CACHE]:
            from memgen_eval.keeping.cache_command import cache_command

            return cache_command(typed[1:])
        from memgen_eval.distributed import on_every_rank

        return on_every_rank(lambda: run(PROGRAM, lambda: _run(typed)))

    return run(PROGRAM, command)


def _doctor() -> int:
    """Print what is here, with nothing but Python: any package may be broken."""
    from memgen_eval.doctor import examine, lines_of

    encoding = sys.stdout.encoding or "utf-8"
    with suppress(OSError):  # nobody reads it
        print("\n".join(lines_of(examine())).encode(encoding, "backslashreplace").decode(encoding), flush=True)
    return DONE


def _completion(shell: str) -> int:
    """Print what makes a shell complete the words of this command."""
    from memgen_eval.battery.command import battery_parser
    from memgen_eval.keeping.cache_command import cache_parser
    from memgen_eval.render.several.compare_command import compare_parser
    from memgen_eval.render.table import write_text
    from memgen_eval.terminal.completion import completion

    commands = {BATTERY: battery_parser(), CACHE: cache_parser(), COMPARE: compare_parser()}
    write_text(completion(shell, parser(), completing_words(), commands), sys.stdout)
    return DONE


def entry() -> NoReturn:
    """The console script."""
    keep_freed_memory()
    whole_process(PROGRAM, main)


def _run(typed: list[str]) -> int:
    from memgen_eval.distributed import joined
    from memgen_eval.gates import failure
    from memgen_eval.runtime import Stages  # imports numpy, for which there may be too little memory

    stages, start = Stages(), time.perf_counter()
    arguments = parsed(typed)
    arguments.features = feature_space(arguments)
    if arguments.quiet and arguments.verbose:
        raise InputError("-q and -v ask for opposite things; give one of them")
    printed, files = _outputs(arguments)
    gates, earlier = _gates(arguments), _earlier(arguments)
    sets = {"the samples": arguments.samples, "--train": arguments.train, "--test": arguments.test}
    inputs = sets | {"--baseline": arguments.baseline}
    if not isinstance(net := arguments.features, str):
        inputs |= {"--features": net.path, "--weights": net.weights}
    with joined() as ranks:
        if ranks.rank == 0:
            check_outputs(files, {name: as_path(path) for name, path in inputs.items() if path is not None})
    with going_on(_hint(arguments)), _followed(arguments):
        report = _evaluate(arguments, typed, stages)
    if ranks.rank > 0:
        return DONE
    since = None if earlier is None else report.compared_with(earlier)
    failures = {gate.text: failure(report, gate, since) for gate in gates}
    with stages.stage("page, files and table"):
        _write(report, Written(printed, files, since, failures), arguments)
    if arguments.profile:
        tell(profile_table(stages.seconds, time.perf_counter() - start))
    failed = [message for message in failures.values() if message is not None]
    return max((say(PROGRAM, message, GATE_FAILED) for message in failed), default=DONE)


def _outputs(arguments: argparse.Namespace) -> tuple[str | None, dict[str, Path]]:
    """The flag whose output goes to standard output, alone, and the files to write, by their flags.

    Raises InputError where several ask for standard output, and for a name whose suffix is that of another form.
    """
    named = {f"--{form}": getattr(arguments, form) for form in WRITTEN_AS}
    printed = [flag for flag, name in named.items() if name in STANDARD_OUTPUT]
    if len(printed) > 1:
        both = " and ".join(f"{flag} -" for flag in printed)
        raise InputError(f"{both} ask for standard output alone; write all but one of them to files")
    files = {flag: as_path(name) for flag, name in named.items() if name is not None and flag not in printed}
    for flag, path in files.items():
        suffixes = WRITTEN_AS[flag.removeprefix("--")]
        if path.suffix.lower() not in ("", *suffixes) and not is_stream(path):
            expected = " or ".join(suffixes)
            raise InputError(f"{flag} {path}: ends in {path.suffix}, expected {expected}; give such a name")
    return (printed[0] if printed else None), files


def _gates(arguments: argparse.Namespace) -> list[Gate]:
    """The gates. Raises InputError for one, or for a metric, that no evaluation from a shell can measure."""
    from memgen_eval.gates import parse_gate
    from memgen_eval.options import check_measurable, chosen_metrics

    gates = [parse_gate(text) for text in arguments.fail_if]
    for path in chosen_metrics(arguments.metrics) or ():
        check_measurable(path, f"--metrics {path}", features=arguments.features)
    for gate in gates:
        if gate.of_change and arguments.baseline is None:
            raise InputError(
                f"gate {gate.text!r} asks what changed since an earlier report; give it with --baseline FILE"
            )
        check_measurable(gate.figure, f"gate {gate.text!r}", features=arguments.features)
    return gates


def _earlier(arguments: argparse.Namespace) -> Report | None:
    """The report to compare with, read before any work. Raises InputError, naming the file, for one of no use."""
    from memgen_eval.report import Report

    return None if arguments.baseline is None else Report.load(arguments.baseline)


def _followed(arguments: argparse.Namespace) -> AbstractContextManager[None]:
    """What shows how far the evaluation is: bars on a terminal, lines with -v, nothing with -q."""
    if arguments.verbose:
        return told_in_lines(lambda line: say(PROGRAM, line, DONE))
    if arguments.quiet:
        return nullcontext()
    in_turn = arguments.resume is not None or num_threads() == 1
    plan = planned(asked_families(arguments), in_turn=in_turn)
    return shown_on_terminal(sys.stderr, plan)


def _hint(arguments: argparse.Namespace) -> str | None:
    """How to go on after a stop, where finished work is kept."""
    folder = arguments.resume
    return None if folder is None else f"what is finished is kept in {folder}; the same command goes on from there"


def _evaluate(arguments: argparse.Namespace, typed: list[str], stages: Stages) -> Report:
    import shlex

    with stages.stage("imports"):
        from memgen_eval.data.images import Images
        from memgen_eval.evaluation import evaluate
        from memgen_eval.options import Options

    if arguments.test is None and arguments.test_range is not None:
        raise InputError("--test-range is given without --test, whose values it says; give --test, or leave it out")
    ranges = {name: value_range(f"--{name}-range", getattr(arguments, f"{name}_range")) for name in ("train", "test")}
    sets = {name: getattr(arguments, name) for name in ranges}
    report = evaluate(
        as_path(arguments.samples),
        train=sets["train"] if ranges["train"] is None else Images(sets["train"], value_range=ranges["train"]),
        test=sets["test"] if ranges["test"] is None else Images(sets["test"], value_range=ranges["test"]),
        num_samples=arguments.num_samples,
        value_range=value_range("--range", arguments.range),
        device=arguments.device,
        data_dir=arguments.data_dir,
        resume=arguments.resume,
        cache_size=arguments.cache_size,
        **{f.name: getattr(arguments, f.name) for f in fields(Options)},
    )
    command = shlex.join([PROGRAM, *typed])
    seconds = {name: round(value, 3) for name, value in stages.seconds.items()} | dict(report.provenance.seconds)
    stages.seconds.update(seconds)
    return replace(report, provenance=replace(report.provenance, command=command, seconds=seconds))


@dataclass(frozen=True)
class Written:
    """What goes where: the flag whose output is printed, the files of the others, and what was found besides."""

    printed: str | None
    files: Mapping[str, Path]
    since: Changes | None
    failures: Mapping[str, str | None]


def _write(report: Report, out: Written, arguments: argparse.Namespace) -> None:
    """Write the files, and print the output that a flag asks for, or else the table."""
    from memgen_eval.render.junit import render_junit
    from memgen_eval.render.table import print_table, print_verdict, write_text

    def text(flag: str) -> str:
        if flag == "--junit":
            return render_junit(report, out.failures)
        form, images = flag.removeprefix("--"), not arguments.no_images
        return as_text(report, form, images=images, full=arguments.full, since=out.since)

    for flag, path in out.files.items():
        write_file(path, text(flag))
        if not is_stream(path) and not arguments.quiet:
            say(PROGRAM, f"wrote {path}", DONE)
    if out.printed is None and arguments.quiet:
        print_verdict(report)
    elif out.printed is None:
        print_table(report, full=arguments.full, since=out.since)
    else:
        write_text(text(out.printed), sys.stdout)
