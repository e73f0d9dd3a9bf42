"""``memgen-eval``: arguments to `evaluate`, the report to a table and files, and an exit status."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from memgen_eval.arguments import (
    PROGRAM,
    feature_space,
    input_files,
    output_files,
    parsed,
    parser,
    printed_output,
    value_range,
)
from memgen_eval.errors import GateError, InputError
from memgen_eval.shell import DONE, GATE_FAILED, as_path, check_outputs, is_stream, run, say, tell, whole_process

if TYPE_CHECKING:
    from memgen_eval.gates import Gate
    from memgen_eval.report import Report
    from memgen_eval.runtime import Stages

__all__ = ["entry", "main", "parser"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns its exit status; never raises but for `SystemExit` of --help and --version."""
    typed = list(sys.argv[1:] if argv is None else argv)
    return run(PROGRAM, lambda: _on_every_rank(typed))


def _on_every_rank(typed: list[str]) -> int:
    from memgen_eval.distributed import on_every_rank

    return on_every_rank(lambda: run(PROGRAM, lambda: _run(typed)))


def entry() -> NoReturn:
    """The console script."""
    whole_process(PROGRAM, main)


def _run(typed: list[str]) -> int:
    from memgen_eval.distributed import joined
    from memgen_eval.runtime import Stages  # imports numpy, for which there may be too little memory

    stages, start = Stages(), time.perf_counter()
    arguments = parsed(typed)
    arguments.features = feature_space(arguments)
    files, gates = output_files(arguments), _gates(arguments)
    with joined() as ranks:
        if ranks.rank == 0:
            check_outputs(files, input_files(arguments))
    report = _evaluate(arguments, typed, stages)
    if ranks.rank > 0:
        return DONE
    with stages.stage("page, files and table"):
        _write(report, files, arguments)
        _print(report, arguments)
    if arguments.profile:
        from memgen_eval.render.progress import profile_table

        tell(profile_table(stages.seconds, time.perf_counter() - start))
    return _judge(report, gates)


def _gates(arguments: argparse.Namespace) -> list[Gate]:
    """The gates. Raises InputError for one, or for a metric, that no evaluation from a shell can measure."""
    from memgen_eval.gates import parse_gate
    from memgen_eval.options import check_measurable, chosen_metrics

    gates = [parse_gate(text) for text in arguments.fail_if]
    for path in chosen_metrics(arguments.metrics) or ():
        check_measurable(path, f"--metrics {path}", features=arguments.features)
    for gate in gates:
        check_measurable(gate.path, f"gate {gate.text!r}", features=arguments.features)
    return gates


def _evaluate(arguments: argparse.Namespace, typed: list[str], stages: Stages) -> Report:
    import shlex

    with stages.stage("imports"):
        from memgen_eval.data.images import Images
        from memgen_eval.evaluation import evaluate
        from memgen_eval.options import Options
        from memgen_eval.render.progress import shown_on_terminal

    if arguments.test is None and arguments.test_range is not None:
        raise InputError("--test-range is given without --test, whose values it says; give --test, or leave it out")
    train, test = (
        source if ranges is None or source is None else Images(source, value_range=value_range(flag, ranges))
        for source, flag, ranges in (
            (arguments.train, "--train-range", arguments.train_range),
            (arguments.test, "--test-range", arguments.test_range),
        )
    )
    with shown_on_terminal(sys.stderr):
        report = evaluate(
            as_path(arguments.samples),
            train=train,
            test=test,
            num_samples=arguments.num_samples,
            value_range=None if arguments.range is None else value_range("--range", arguments.range),
            device=arguments.device,
            data_dir=arguments.data_dir,
            **{f.name: getattr(arguments, f.name) for f in fields(Options) if hasattr(arguments, f.name)},
        )
    command = shlex.join([PROGRAM, *typed])
    seconds = {name: round(value, 3) for name, value in stages.seconds.items()} | dict(report.provenance.seconds)
    stages.seconds.update(seconds)
    return replace(report, provenance=replace(report.provenance, command=command, seconds=seconds))


def _text(flag: str, report: Report, arguments: argparse.Namespace) -> str:
    """The report in the form that a flag asks for."""
    if flag == "--html":
        from memgen_eval.render.html import render_html

        return render_html(report, images=not arguments.no_images)
    if flag == "--markdown":
        from memgen_eval.render.table import render_markdown

        return render_markdown(report, full=arguments.full)
    from memgen_eval.report import dumps

    return dumps(report.to_dict())


def _write(report: Report, files: Mapping[str, Path], arguments: argparse.Namespace) -> None:
    from memgen_eval.render.save import write_file

    for flag, path in files.items():
        write_file(path, _text(flag, report, arguments))
        if not is_stream(path):
            say(PROGRAM, f"wrote {path}", DONE)


def _print(report: Report, arguments: argparse.Namespace) -> None:
    from memgen_eval.render.table import print_table, write_text

    flag = printed_output(arguments)
    if flag is None:
        print_table(report, full=arguments.full)
    else:
        write_text(_text(flag, report, arguments), sys.stdout)


def _judge(report: Report, gates: list[Gate]) -> int:
    from memgen_eval.gates import fail_if

    status = DONE
    for gate in gates:
        try:
            fail_if(report, gate)
        except GateError as error:
            status = say(PROGRAM, str(error), GATE_FAILED)
    return status
