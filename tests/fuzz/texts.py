"""What is read from a line of text: gates, the words of a command, ranges, metadata; and reports as they are shown."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fuzz.driver import Target
from fuzz.mutations import mutated
from memgen_eval import Report
from memgen_eval.arguments import RANGES, feature_space, parsed, parser, value_range
from memgen_eval.features.spaces import checked_preparation, stored_preparation
from memgen_eval.gates import EQUALITY, ORDER, parse_gate
from memgen_eval.options import Options, chosen_metrics
from memgen_eval.render.html import render_summary
from memgen_eval.render.table import plain_table, render_markdown
from memgen_eval.results import LABELS, figure_kinds
from memgen_eval.shell import as_path
from render.conftest import every_figure

SEPARATOR = "\n"  # between the words of a command
NUMBERS = ("0.5", "-1", "1e400", "nan", "inf", "9" * 400, "1_0", "٣", "0x1", ".", "-", "+1e-9", "1,1", "-1,1", "", " ")
HIDDEN = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def text_target(seeds: Sequence[str], words: Sequence[str], read: Callable[[str], object]) -> Target:
    """A target whose cases are lines and no files."""
    known = [word.encode() for word in (*words, *NUMBERS, *seeds)]
    return Target(
        [seed.encode() for seed in seeds],
        lambda data, random: mutated(data, random, known),
        lambda data: read(data.decode("utf-8", "surrogateescape")),
        "",
    )


def gates_target() -> Target:
    seeds = [
        "memorization.ratio.low > 0.01",
        "verdict == copies",
        "verdict != 'no copying found'",
        "novelty.auc<=.5e-1",
    ]
    seeds += ["denoiser.gap_train.max < 1", "fidelity.fid.count >= 10"]
    words = [*ORDER, *EQUALITY, *LABELS, *figure_kinds(), ".value", ".low", ".high", ".count", ".min", ".max"]
    return text_target(seeds, words, parse_gate)


def ranges_target() -> Target:
    return text_target(["-1,1", "0,255", "0,1"], [","], lambda text: value_range("--range", text))


def command_target() -> Target:
    """The words of a command, as far as they are checked before a file is looked for."""
    lines = [
        ["samples.npz", "--train", "cifar10"],
        ["samples/", "--train", "a", "--test", "b", "--html", "r.html", "--json", "-", "--markdown", "r.md"],
        ["floats.npy", "--range", "-1,1", "--train", "digits", "--fail-if", "verdict == copies"],
        ["a.npz", "--train", "b", "--range", "-1", "1", "--metrics", "memorization", "novelty.auc", "--seed", "3"],
        ["--metrics", "novelty", "a.npz", "--train", "b", "--sigmas", "0.1", "2", "--threshold", "0.3", "--no-flip"],
        ["a", "--train", "b", "--features", "net.onnx", "--feature-size", "8", "--feature-mean", "0.5,0.5,0.5"],
    ]
    flags = [*(flag for action in parser()._actions for flag in action.option_strings), *RANGES]

    def read(text: str) -> None:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):  # of --help and --version
            arguments = parsed(text.split(SEPARATOR))
            arguments.features = feature_space(arguments)
            chosen_metrics(arguments.metrics)
            for gate in arguments.fail_if:
                parse_gate(gate)
            for name in ("range", "train_range", "test_range"):
                value_range(f"--{name}", getattr(arguments, name))
            Options(**{name: getattr(arguments, name) for name in Options.__dataclass_fields__})
            as_path(arguments.samples)

    return text_target([SEPARATOR.join(line) for line in lines], [SEPARATOR, "=", "--", *flags], read)


def metadata_target() -> Target:
    """What a TorchScript or ONNX file says of its images, and what a user may."""
    texts = [
        {"size": "8", "mean": "[0.5, 0.5, 0.5]", "std": "[0.5, 0.5, 0.5]"},
        {"size": "", "mean": "0.5", "std": "1"},
    ]
    seeds = [SEPARATOR.join(text.values()) for text in texts]

    def read(text: str) -> None:
        size, mean, std = [*text.split(SEPARATOR), "", "", ""][:3]
        stored = stored_preparation({"size": size, "mean": mean, "std": std}, where="features")
        checked_preparation(*stored, where="features")

    return text_target(seeds, [SEPARATOR, "[", "]", "null", "true", "1e999", "[" * 300, "{", '"'], read)


def shown_target(words: Sequence[bytes]) -> Target:
    """A report that somebody else wrote, as it is shown: no text of it acts on its reader. Pages take too long here."""
    seed = json.dumps(every_figure().to_dict()).encode()
    hostile = [json.dumps(text).encode() for text in ("\x1b[2J\n", "<script>", "|`*_", "\u202e", "]]>&lt;", "\ud800")]

    def read(path: Path) -> None:
        report = Report.load(path)
        for text in (plain_table(report, full=True), render_markdown(report, full=True), render_summary(report)):
            if found := HIDDEN.search(text):
                raise AssertionError(f"{found[0]!r} is shown")
            if "<script" in text:
                raise AssertionError("a script is shown")

    known = [*words, *hostile]
    return Target([seed], lambda data, random: mutated(data, random, known), read, "case.json")


TEXTS: Mapping[str, Callable[[], Target]] = {
    "gates": gates_target,
    "ranges": ranges_target,
    "command": command_target,
    "metadata": metadata_target,
}
