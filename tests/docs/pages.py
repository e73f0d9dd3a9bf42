"""Pages of the documentation as programs: their blocks of Python and of commands, in order, in one folder.

Blocks marked ``python`` run. Lines of blocks marked ``sh`` that begin with a command of
this project run too; ``# exit code 1`` at the end of one says what it ends with. A comment ``<!-- run ... -->`` holds
Python that a reader does not see: what stands for their files, or checks what the page promises.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memgen_eval import cli
from reference_models import sample_cli, study_cli, train_cli

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))
BLOCK = re.compile(r"^<!-- run\n(?P<hidden>.*?)^-->|^```(?P<language>\w*)\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)
COMMANDS = {
    "memgen-eval": cli,
    "memgen-train": train_cli,
    "memgen-sample": sample_cli,
    "memgen-study": study_cli,
}
SHELL = {"|", "||", "&&", ">", ">>"}
EXIT_CODE = re.compile(r"\s*# exit code (\d+)$")


@dataclass(frozen=True)
class Block:
    """What stands between two fences: its language, its text, and the line of the page that it starts at."""

    language: str
    text: str
    line: int


def blocks_of(page: str) -> Iterator[Block]:
    for match in BLOCK.finditer(page):
        line = page.count("\n", 0, match.start()) + 2
        if match["hidden"] is not None:
            yield Block("python", match["hidden"], line)
        else:
            yield Block(match["language"], match["text"], line)


def commands_of(block: Block) -> Iterator[tuple[list[str], int]]:
    """The words of each of our commands, and the code that it exits with."""
    for line in block.text.replace("\\\n", " ").splitlines():
        code = EXIT_CODE.search(line)
        words = shlex.split(EXIT_CODE.sub("", line), comments=True) if line.split(" ")[0] in COMMANDS else []
        if words:
            ends = [place for place, word in enumerate(words) if word in SHELL]  # what follows is the shell's
            yield words[: min(ends, default=None)], int(code[1]) if code else 0


def run_page(path: Path) -> dict[str, Any]:
    """Run the page in the current folder, and return the names that it leaves behind."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks_of(path.read_text(encoding="utf-8")):
        if block.language == "python":
            source = "\n" * (block.line - 1) + block.text  # errors name the line of the page
            exec(compile(source, str(path), "exec"), names)
        elif block.language == "sh":
            for words, expected in commands_of(block):
                assert _exit_code(words) == expected, f"{path.name}: {shlex.join(words)}"
    return names


def _exit_code(words: list[str]) -> int:
    try:
        return int(COMMANDS[words[0]].main(words[1:]) or 0)
    except SystemExit as end:
        return int(end.code or 0)
