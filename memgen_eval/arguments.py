"""The command line of ``memgen-eval``: what it takes, and what is refused before any work."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from memgen_eval.errors import InputError
from memgen_eval.shell import Parser, as_path, is_stream

if TYPE_CHECKING:
    from memgen_eval.features.spaces import FeatureNet

PROGRAM = "memgen-eval"
RANGES = ("--range", "--train-range", "--test-range")
STANDARD_OUTPUT = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
PAIR = re.compile(r"[-+.\d][^,\s]*,[^,\s]+")
NUMBER_WORD = re.compile(r"[-+]?\.?\d.*")
EPILOG = """\
examples:
  memgen-eval samples.npz --train cifar10
  memgen-eval samples/ --train train_images/ --test test_images/ --html report.html --json report.json
  memgen-eval floats.npy --range -1,1 --train digits --fail-if "verdict == copies"
  torchrun --nproc-per-node=4 -m memgen_eval samples.npz --train cifar10

exit status: 0 done, 1 a gate failed, 2 unusable input or arguments, 3 a fault of memgen-eval,
130 interrupted, 143 terminated
"""


OUTPUT_SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "--html": (".html", ".htm"),
    "--json": (".json",),
    "--markdown": (".md", ".markdown"),
}


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
    group.add_argument("--html", metavar="FILE", help="write the report as a page; - for standard output, alone")
    group.add_argument("--json", metavar="FILE", help="the same as JSON")
    group.add_argument("--markdown", metavar="FILE", help="the same as markdown, a summary")
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
    from memgen_eval.options import Options

    group = command.add_argument_group("settings")
    group.add_argument("--metrics", metavar="NAME", nargs="+", help="families or figures (default: all)")
    group.add_argument(
        "--threshold", type=float, default=Options.threshold, help="c of the ratio rule d1/d2 < c (default: 1/3)"
    )
    group.add_argument(
        "--duplicate-tolerance", type=float, metavar="X", help="on [0, 1]; default from the training set"
    )
    group.add_argument(
        "--flip", action=argparse.BooleanOptionalAction, default=Options.flip, help="mirrored copies count"
    )
    group.add_argument(
        "--quantize", action=argparse.BooleanOptionalAction, default=Options.quantize, help="round floats to 256 levels"
    )
    group.add_argument("--sigmas", type=float, nargs="+", metavar="SIGMA", help="noise levels of the denoiser family")
    group.add_argument(
        "--num-denoiser-images",
        type=int,
        default=Options.num_denoiser_images,
        metavar="N",
        help="images that are noised",
    )
    group.add_argument("--num-draws", type=int, default=Options.num_draws, metavar="N", help="noise draws an image")
    group.add_argument(
        "--features",
        default=Options.features,
        metavar="NAME",
        help="space of novelty and feature similarity: pixels (default), inception, sscd, dinov2, clip, or a .pt "
        "(TorchScript) or .onnx file",
    )
    group.add_argument("--weights", metavar="FILE", help="of inception, sscd or clip (default: where they are kept)")
    group.add_argument("--feature-size", type=int, metavar="S", help="side to which a network's images are resized")
    group.add_argument("--feature-mean", metavar="M[,M,M]", help="taken off their values on [0, 1]")
    group.add_argument("--feature-std", metavar="S[,S,S]", help="by which they are divided then")
    group.add_argument("--seed", type=int, default=Options.seed, help="of everything drawn (default: 0)")
    group.add_argument("--device", help="where the denoiser family is computed (default: cpu)")
    group.add_argument(
        "--memory-budget", default=Options.memory_budget, metavar="SIZE", help="for blocks (default: 512MiB)"
    )


def feature_space(arguments: argparse.Namespace) -> str | FeatureNet:
    """The space of the features, out of its flags. Raises InputError for one that is of no use."""
    from memgen_eval.features.spaces import PIXELS, FeatureNet

    own = {name: getattr(arguments, f"feature_{name}") for name in ("size", "mean", "std")}
    given = {"weights": arguments.weights, **own}
    if arguments.features == PIXELS:
        if any(value is not None for value in given.values()):
            raise InputError("--weights and --feature-size, -mean and -std belong to a network: name it by --features")
        return PIXELS
    for name in ("mean", "std"):
        given[name] = None if given[name] is None else _numbers(f"--feature-{name}", given[name])
    return FeatureNet(arguments.features, **given)


def _numbers(flag: str, text: str) -> list[float]:
    """Numbers with commas between them. Raises InputError naming the flag."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{flag} is {text!r}, expected a number, or three such as {flag} 0.5,0.5,0.5") from None


def parsed(typed: list[str]) -> argparse.Namespace:
    """The arguments. Raises InputError for what cannot be read."""
    words = _joined_ranges(typed)
    try:
        return parser().parse_args(words)
    except InputError:
        for flag, belongs in (("--metrics", _is_metric), ("--sigmas", _is_number)):
            moved = _last_word_first(words, flag, belongs)
            if moved is not None:
                with suppress(InputError):
                    return parser().parse_args(moved)
        raise


def _last_word_first(words: list[str], flag: str, belongs: Callable[[str], bool]) -> list[str] | None:
    """``--metrics memorization samples.npz`` with the samples in front: argparse gives the flag every word after it."""
    if flag not in words:
        return None
    stop = start = words.index(flag) + 1
    while stop < len(words) and not words[stop].startswith("-"):
        stop += 1
    if stop < start + 2 or belongs(words[stop - 1]):
        return None
    return [words[stop - 1], *words[: stop - 1], *words[stop:]]


def _is_metric(word: str) -> bool:
    from memgen_eval.options import chosen_metrics

    try:
        chosen_metrics(word)
    except InputError:
        return False
    return True


def _is_number(word: str) -> bool:
    return NUMBER_WORD.fullmatch(word) is not None


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
        elif word in RANGES and len(words) > 1 and all(NUMBER_WORD.fullmatch(value) for value in words[:2]):
            word = f"{word}={words.pop(0)},{words.pop(0)}"
        joined.append(word)
    return joined


def value_range(flag: str, text: str) -> tuple[float, float]:
    """The two numbers of a range. Raises InputError naming the flag."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{flag} is {text!r}, expected two numbers such as {flag} -1,1") from None
    return low, high


def printed_output(arguments: argparse.Namespace) -> str | None:
    """The flag whose output goes to standard output, alone. Raises InputError where several ask for it."""
    printed = [flag for flag, name in _outputs(arguments).items() if name in STANDARD_OUTPUT]
    if len(printed) > 1:
        both = " and ".join(f"{flag} -" for flag in printed)
        raise InputError(f"{both} ask for standard output alone; write all but one of them to files")
    return printed[0] if printed else None


def output_files(arguments: argparse.Namespace) -> dict[str, Path]:
    """The files to write, by their flags. Raises InputError for a name whose suffix is that of another form."""
    printed = printed_output(arguments)
    files = {flag: as_path(name) for flag, name in _outputs(arguments).items() if flag != printed}
    for flag, path in files.items():
        if path.suffix.lower() not in ("", *OUTPUT_SUFFIXES[flag]) and not is_stream(path):
            expected = " or ".join(OUTPUT_SUFFIXES[flag])
            raise InputError(f"{flag} {path}: ends in {path.suffix}, expected {expected}; give such a name")
    return files


def _outputs(arguments: argparse.Namespace) -> dict[str, str]:
    named = {flag: getattr(arguments, flag.removeprefix("--")) for flag in OUTPUT_SUFFIXES}
    return {flag: name for flag, name in named.items() if name is not None}


def input_files(arguments: argparse.Namespace) -> dict[str, Path]:
    """What is read, by the names of its arguments; names of known sets are among them."""
    named = {"the samples": arguments.samples, "--train": arguments.train, "--test": arguments.test}
    net = arguments.features
    named |= {} if isinstance(net, str) else {"--features": net.path, "--weights": net.weights}
    return {name: as_path(path) for name, path in named.items() if path is not None}
