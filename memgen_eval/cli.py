"""``memgen-eval``: arguments to `evaluate`, the report to a table and files, and an exit status."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from memgen_eval.errors import GateError, InputError
from memgen_eval.shell import DONE, GATE_FAILED, Parser, run, say
from memgen_eval.stages import Stages

if TYPE_CHECKING:
    from memgen_eval.gates import Gate
    from memgen_eval.report import Report

PROGRAM = "memgen-eval"
RANGES = ("--range", "--train-range", "--test-range")
PAIR = re.compile(r"[-+.\d][^,\s]*,[^,\s]+")
NUMBER = re.compile(r"[-+]?\.?\d.*")
EPILOG = """\
examples:
  memgen-eval samples.npz --train cifar10
  memgen-eval samples/ --train train_images/ --test test_images/ --html report.html --json report.json
  memgen-eval floats.npy --range -1,1 --train digits --fail-if "verdict == copies"
  torchrun --nproc-per-node=4 -m memgen_eval samples.npz --train cifar10

exit status: 0 done, 1 a gate failed, 2 unusable input or arguments, 3 a fault of memgen-eval, 130 interrupted
"""


def parser() -> argparse.ArgumentParser:
    """Every argument of ``memgen-eval``; each keyword of `evaluate` is a flag of the same name."""
    from memgen_eval import __version__

    command = Parser(
        prog=PROGRAM,
        description="Tell whether samples of a diffusion model are new or copies of its training set.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_argument("samples", help="npz, npy, pt, safetensors, a folder or zip of images, a CIFAR-10 batch")
    command.add_argument("--version", action="version", version=f"memgen-eval {__version__}")
    _add_sets(command)
    _add_outputs(command)
    _add_settings(command)
    return command


def _add_sets(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("sets of images")
    group.add_argument("--train", required=True, help="the whole training set: a file, a folder, cifar10 or digits")
    group.add_argument("--test", help="held-out images; cifar10 and digits bring their own")
    group.add_argument(
        "--range", metavar="LOW,HIGH", help="the values of black and white in float samples: --range -1,1"
    )
    group.add_argument("--train-range", metavar="LOW,HIGH", help="the same for the training set")
    group.add_argument("--test-range", metavar="LOW,HIGH", help="the same for the test set")
    group.add_argument("--num-samples", type=int, metavar="N", help="take the first N samples (default: all)")
    group.add_argument("--data-dir", help="where named sets lie (default: $MEMGEN_DATA, then the user's cache)")


def _add_outputs(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("outputs and gates")
    group.add_argument("--html", metavar="FILE", help="write the report as a page")
    group.add_argument("--json", metavar="FILE", help="write the report as JSON; - for standard output, alone")
    group.add_argument("--markdown", metavar="FILE", help="write a summary as markdown; - for standard output, alone")
    group.add_argument("--no-images", action="store_true", help="leave every image out of the page")
    group.add_argument("--full", action="store_true", help="show every figure, not only the headlines")
    group.add_argument("--profile", action="store_true", help="say on standard error how many seconds each stage took")
    group.add_argument(
        "--fail-if",
        metavar="GATE",
        action="append",
        default=[],
        help='exit with 1 if it holds, or rests on something not measured: "verdict == copies", '
        '"memorization.ratio.low > 0.01"; may be repeated',
    )


def _add_settings(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("settings")
    group.add_argument("--metrics", metavar="NAME", nargs="+", help="families or figures (default: all)")
    group.add_argument("--features", default="pixels", help="the space of novelty (default: pixels)")
    group.add_argument("--threshold", type=float, default=1 / 3, help="c of the ratio rule d1/d2 < c (default: 1/3)")
    group.add_argument(
        "--duplicate-tolerance", type=float, metavar="X", help="on [0, 1]; default from the training set"
    )
    group.add_argument("--flip", action=argparse.BooleanOptionalAction, default=True, help="mirrored copies count")
    group.add_argument(
        "--quantize", action=argparse.BooleanOptionalAction, default=True, help="round floats to 256 levels"
    )
    group.add_argument("--sigmas", type=float, nargs="+", metavar="SIGMA", help="noise levels for the denoiser")
    group.add_argument("--num-denoiser-images", type=int, default=256, metavar="N", help="images for the denoiser")
    group.add_argument("--num-draws", type=int, default=2, metavar="N", help="noise draws an image")
    group.add_argument("--denoiser-batch-size", type=int, default=64, metavar="N", help="images a call of the denoiser")
    group.add_argument("--batch-size", type=int, default=64, metavar="N", help="images a call of a sampler")
    group.add_argument("--seed", type=int, default=0, help="of everything drawn (default: 0)")
    group.add_argument("--device", help="for the denoiser")
    group.add_argument("--memory-budget", default="512MiB", metavar="SIZE", help="for blocks (default: 512MiB)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns its exit status; never raises but for `SystemExit` of --help and --version."""
    from memgen_eval.distributed import on_every_rank

    typed = list(sys.argv[1:] if argv is None else argv)
    return run(PROGRAM, lambda: on_every_rank(lambda: run(PROGRAM, lambda: _run(typed))))


def entry() -> NoReturn:
    """The console script."""
    sys.exit(main())


def _run(typed: list[str]) -> int:
    from memgen_eval.distributed import joined

    stages, start = Stages(), time.perf_counter()
    from memgen_eval.gates import parse_gate
    from memgen_eval.render.files import check_writable

    arguments = parser().parse_args(_joined_ranges(typed))
    gates = [parse_gate(text) for text in arguments.fail_if]
    if arguments.json == "-" and arguments.markdown == "-":
        raise InputError("--json - and --markdown - both ask for standard output alone; write one of them to a file")
    with joined() as ranks:
        for output in _files(arguments) if ranks.rank == 0 else ():
            check_writable(output)
    report = _evaluate(arguments, typed, stages)
    if ranks.rank > 0:
        return DONE
    with stages.stage("page, files and table"):
        _write(report, arguments)
        _print(report, arguments)
    if arguments.profile:
        from memgen_eval.render.profile import profile_table

        print(profile_table(stages.seconds, time.perf_counter() - start), file=sys.stderr)
    return _judge(report, gates)


def _evaluate(arguments: argparse.Namespace, typed: list[str], stages: Stages) -> Report:
    import shlex

    with stages.stage("imports"):
        from memgen_eval.data.images import Images
        from memgen_eval.evaluate import evaluate
        from memgen_eval.render.progress import shown_on_terminal

    if arguments.test is None and arguments.test_range is not None:
        raise InputError("--test-range is given without --test, whose values it says; give --test, or leave it out")
    train, test = (
        source if ranges is None or source is None else Images(source, value_range=_range(flag, ranges))
        for source, flag, ranges in (
            (arguments.train, "--train-range", arguments.train_range),
            (arguments.test, "--test-range", arguments.test_range),
        )
    )
    with shown_on_terminal(sys.stderr):
        report = evaluate(
            Path(arguments.samples),
            train=train,
            test=test,
            metrics=arguments.metrics,
            features=arguments.features,
            num_samples=arguments.num_samples,
            batch_size=arguments.batch_size,
            value_range=None if arguments.range is None else _range("--range", arguments.range),
            threshold=arguments.threshold,
            duplicate_tolerance=arguments.duplicate_tolerance,
            flip=arguments.flip,
            quantize=arguments.quantize,
            sigmas=arguments.sigmas,
            num_denoiser_images=arguments.num_denoiser_images,
            num_draws=arguments.num_draws,
            denoiser_batch_size=arguments.denoiser_batch_size,
            seed=arguments.seed,
            device=arguments.device,
            memory_budget=arguments.memory_budget,
            data_dir=arguments.data_dir,
        )
    command = shlex.join([PROGRAM, *typed])
    seconds = {name: round(value, 3) for name, value in stages.seconds.items()} | dict(report.provenance.seconds)
    stages.seconds.update(seconds)
    return replace(report, provenance=replace(report.provenance, command=command, seconds=seconds))


def _joined_ranges(typed: list[str]) -> list[str]:
    """``--range -1,1`` and ``--range -1 1`` as ``--range=-1,1``: argparse takes a leading minus for an option."""
    joined: list[str] = []
    words = list(typed)
    while words:
        word = words.pop(0)
        if word == "--":
            return [*joined, word, *words]
        if word in RANGES and words and PAIR.fullmatch(words[0]):
            word = f"{word}={words.pop(0)}"
        elif word in RANGES and len(words) > 1 and all(NUMBER.fullmatch(value) for value in words[:2]):
            word = f"{word}={words.pop(0)},{words.pop(0)}"
        joined.append(word)
    return joined


def _range(flag: str, text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{flag} is {text!r}, expected two numbers such as {flag} -1,1") from None
    return low, high


def _files(arguments: argparse.Namespace) -> list[Path]:
    """The files to write, each once."""
    named = (arguments.html, arguments.json, arguments.markdown)
    files = [Path(name) for name in named if name not in (None, "-")]
    if len({file.absolute() for file in files}) < len(files):
        raise InputError("--html, --json and --markdown name one file twice; give each its own")
    return files


def _write(report: Report, arguments: argparse.Namespace) -> None:
    """Every file that was asked for, in the form that its flag says, whatever its suffix."""
    from memgen_eval.render.files import write_file
    from memgen_eval.render.html import render_html
    from memgen_eval.render.markdown import render_markdown
    from memgen_eval.serialise import dumps

    forms: tuple[tuple[str | None, Callable[[], str]], ...] = (
        (arguments.html, lambda: render_html(report, images=not arguments.no_images)),
        (arguments.json, lambda: dumps(report.to_dict())),
        (arguments.markdown, lambda: render_markdown(report, full=arguments.full)),
    )
    for name, text in forms:
        if name not in (None, "-"):
            write_file(Path(str(name)), text())


def _print(report: Report, arguments: argparse.Namespace) -> None:
    from memgen_eval.render.table import print_table, write_text
    from memgen_eval.serialise import dumps

    if arguments.json == "-":
        write_text(dumps(report.to_dict()), sys.stdout)
    elif arguments.markdown == "-":
        from memgen_eval.render.markdown import render_markdown

        write_text(render_markdown(report, full=arguments.full), sys.stdout)
    else:
        print_table(report, full=arguments.full)


def _judge(report: Report, gates: list[Gate]) -> int:
    from memgen_eval.gates import fail_if

    status = DONE
    for gate in gates:
        try:
            fail_if(report, gate)
        except GateError as error:
            status = say(PROGRAM, str(error), GATE_FAILED)
    return status
