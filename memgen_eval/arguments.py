"""The command line of ``memgen-eval``: what it takes, and how it is read."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from memgen_eval.errors import InputError
from memgen_eval.shell import Parser
from memgen_eval.terminal.completion import FLAG, SHELLS

if TYPE_CHECKING:
    from memgen_eval.features.spaces import FeatureNet

PROGRAM = "memgen-eval"
RANGES = ("--range", "--train-range", "--test-range")
PAIR = re.compile(r"[-+.\d][^,\s]*,[^,\s]+")
NUMBER_WORD = re.compile(r"[-+]?\.?\d.*")
EPILOG = """\
examples:
  memgen-eval samples.npz --train cifar10
  memgen-eval samples/ --train train_images/ --test test_images/ --html report.html --json report.json
  memgen-eval floats.npy --range -1,1 --train digits --fail-if "verdict == copies"
  memgen-eval samples.npz --train cifar10 --baseline last.json --fail-if "baseline.memorization.ratio.change.low > 0"
  torchrun --nproc-per-node=4 -m memgen_eval samples.npz --train cifar10
  memgen-eval samples/ --train train_images/ --features sscd --resume kept/
  memgen-eval cache kept/           what is kept there, or of features; see memgen-eval cache --help
  memgen-eval battery --quick       what every figure finds, misses and cries falsely; see memgen-eval battery --help

exit status: 0 done, 1 a gate failed, 2 unusable input or arguments, 3 a fault of memgen-eval,
130 interrupted, 143 terminated
"""
GATE_HELP = """exit with 1 if it holds, or rests on something not measured: "verdict == copies", \
"memorization.ratio.low > 0.01", "baseline.memorization.ratio.change.low > 0"; may be repeated"""
FEATURES_HELP = """space of novelty and feature similarity: pixels (default), inception, sscd, dinov2, clip, or a .pt \
(TorchScript) or .onnx file"""
QUIET_HELP = "print the verdict in one line, and no progress; warnings, errors and failed gates are still told"
VERBOSE_HELP = "tell each stage as it begins, and its seconds, on standard error, instead of bars"
ON_OR_OFF = argparse.BooleanOptionalAction
# by group and flag, what argparse is told of each; defaults of settings are those of `Options`
FLAGS: dict[str, dict[str, dict[str, Any]]] = {
    "sets of images": {
        "--train": {"required": True, "help": "the whole training set: a file, a folder, cifar10 or digits"},
        "--test": {"help": "held-out images; cifar10 and digits bring their own"},
        "--range": {"metavar": "LOW,HIGH", "help": "the values of black and white in float samples: --range -1,1"},
        "--train-range": {"metavar": "LOW,HIGH", "help": "the same for the training set"},
        "--test-range": {"metavar": "LOW,HIGH", "help": "the same for the test set"},
        "--num-samples": {"type": int, "metavar": "N", "help": "take the first N samples (default: all)"},
        "--data-dir": {"help": "where named sets lie (default: $MEMGEN_DATA, then the user's cache)"},
    },
    "outputs and gates": {
        "--html": {"metavar": "FILE", "help": "write the report as a page; - for standard output, alone"},
        "--json": {"metavar": "FILE", "help": "the same as JSON"},
        "--markdown": {"metavar": "FILE", "help": "the same as markdown, a summary"},
        "--junit": {"metavar": "FILE", "help": "each gate and each family as a test case, for a CI server"},
        "--baseline": {"metavar": "REPORT", "help": "an earlier report, in JSON: say what moved since"},
        "--no-images": {"action": "store_true", "help": "leave every image out of the page"},
        "--full": {"action": "store_true", "help": "show every figure, not only the headlines"},
        "-q --quiet": {"action": "store_true", "help": QUIET_HELP},
        "-v --verbose": {"action": "store_true", "help": VERBOSE_HELP},
        "--profile": {"action": "store_true", "help": "say on standard error how many seconds each stage took"},
        "--fail-if": {"metavar": "GATE", "action": "append", "default": [], "help": GATE_HELP},
    },
    "long runs": {
        "--resume": {"metavar": "DIR", "help": "keep finished blocks there; the same command goes on after a kill"},
        "--cache-size": {"metavar": "SIZE", "help": "bounds DIR, and the features kept (default: no bound)"},
    },
    "settings": {
        "--metrics": {"metavar": "NAME", "nargs": "+", "help": "families or figures (default: all)"},
        "--threshold": {"type": float, "help": "c of the ratio rule d1/d2 < c (default: 1/3)"},
        "--duplicate-tolerance": {"type": float, "metavar": "X", "help": "on [0, 1]; default from the training set"},
        "--flip": {"action": ON_OR_OFF, "help": "mirrored copies count"},
        "--quantize": {"action": ON_OR_OFF, "help": "round floats to 256 levels"},
        "--sigmas": {"type": float, "nargs": "+", "metavar": "SIGMA", "help": "noise levels of the denoiser family"},
        "--num-denoiser-images": {"type": int, "metavar": "N", "help": "images that are noised"},
        "--num-draws": {"type": int, "metavar": "N", "help": "noise draws an image"},
        "--features": {"metavar": "NAME", "help": FEATURES_HELP},
        "--weights": {"metavar": "FILE", "help": "of inception, sscd or clip (default: where they are kept)"},
        "--feature-size": {"type": int, "metavar": "S", "help": "side to which a network's images are resized"},
        "--feature-mean": {"metavar": "M[,M,M]", "help": "taken off their values on [0, 1]"},
        "--feature-std": {"metavar": "S[,S,S]", "help": "by which they are divided then"},
        "--seed": {"type": int, "help": "of everything drawn (default: 0)"},
        "--device": {"help": "where the denoiser family is computed (default: cpu)"},
        "--memory-budget": {"metavar": "SIZE", "help": "for blocks (default: 512MiB)"},
        "--engine": {"help": "what searches for neighbours (default: $MEMGEN_ENGINE, then auto)"},
    },
}


def parser() -> argparse.ArgumentParser:
    """Every argument of ``memgen-eval``; each keyword of `evaluate` is a flag of the same name."""
    from memgen_eval import __version__
    from memgen_eval.options import Options

    command = Parser(
        prog=PROGRAM,
        description="Tell whether samples of a diffusion model are new or copies of its training set.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_argument("samples", help="npz, npy, pt, safetensors, a folder or zip of images, a CIFAR-10 batch")
    command.add_argument("--version", action="version", version=f"memgen-eval {__version__}")
    command.add_argument(FLAG, choices=SHELLS, help="print what makes a shell complete words, and exit")
    command.add_argument("--doctor", action="store_true", help="say what is installed, found and missing, and exit")
    command.set_defaults(**{f.name: f.default for f in fields(Options)})
    for title, flags in FLAGS.items():
        group = command.add_argument_group(title)
        for flag, keywords in flags.items():
            group.add_argument(*flag.split(), **keywords)
    return command


def completing_words() -> dict[str, list[str]]:
    """What may stand after an option, by the parser's name of it: for shells that complete words."""
    from typing import get_args

    from memgen_eval.compute.engines import EngineName
    from memgen_eval.features.spaces import NETWORKS, PIXELS
    from memgen_eval.results import FAMILIES, figure_kinds

    sets, figures, networks = ["cifar10", "digits"], [*FAMILIES, *figure_kinds()], [PIXELS, *NETWORKS]
    named = {"train": sets, "test": sets, "metrics": figures, "features": networks}
    return named | {"engine": list(get_args(EngineName)), "device": ["cpu", "cuda"]}


def asked_families(arguments: argparse.Namespace) -> set[str]:
    """The families that will be measured, and in which space: what the plan of a run goes by."""
    from memgen_eval.features.spaces import PIXELS
    from memgen_eval.options import chosen_metrics
    from memgen_eval.results import FAMILIES

    paths = chosen_metrics(arguments.metrics)
    asked = {path.partition(".")[0] for path in paths} if paths is not None else {*FAMILIES} - {"denoiser"}
    if arguments.features == PIXELS:
        return asked | {"novelty in pixels"} if "novelty" in asked else asked
    return asked | {"features"}


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
        raise InputError(f"{flag} is {text!r:.80}, expected a number, or three such as {flag} 0.5,0.5,0.5") from None


def parsed(typed: list[str]) -> argparse.Namespace:
    """The arguments. Raises InputError for what cannot be read."""
    words = _joined_ranges(typed)
    try:
        return parser().parse_args(words)
    except InputError:
        for flag, belongs in (("--metrics", _is_metric), ("--sigmas", NUMBER_WORD.fullmatch)):
            moved = _last_word_first(words, flag, belongs)
            if moved is not None:
                with suppress(InputError):
                    return parser().parse_args(moved)
        raise


def _last_word_first(words: list[str], flag: str, belongs: Callable[[str], object]) -> list[str] | None:
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

    with suppress(InputError):
        chosen_metrics(word)
        return True
    return False


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


def value_range(flag: str, text: str | None) -> tuple[float, float] | None:
    """The two numbers of a range, where one is given. Raises InputError naming the flag."""
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{flag} is {text!r:.80}, expected two numbers such as {flag} -1,1") from None
    return low, high
