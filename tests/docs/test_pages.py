"""The documentation does what it says: every block of Python runs, every command runs or can be parsed."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from docs.pages import COMMANDS, PAGES, ROOT, Block, blocks_of, commands_of, run_page
from memgen_eval.battery.command import battery_parser

ELSEWHERE = {  # pages with tests of their own
    "foreign-models.md": "tests/adapters/test_documented_models.py",
    "loggers.md": "tests/test_loggers.py",
}
LANGUAGES = {"", "python", "sh", "bash", "yaml"}
PACKAGES = ("pytorch_lightning", "accelerate", "pandas", "diffusers")
RUN = [page for page in PAGES if page.name not in ELSEWHERE and "```python" in page.read_text(encoding="utf-8")]
EVERYWHERE = [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.filterwarnings("default:::pytorch_lightning")
@pytest.mark.filterwarnings("default:.*is the range right:UserWarning")  # of networks that were hardly trained
@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_the_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = page.read_text(encoding="utf-8")
    for package in PACKAGES:
        if f"import {package}" in text or f"from {package}" in text:
            pytest.importorskip(package, reason=f"an example imports {package}, of the extra docs")
    monkeypatch.chdir(tmp_path)
    run_page(page)


@pytest.mark.parametrize("page", EVERYWHERE, ids=name_of)
def test_commands_can_be_parsed(page: Path) -> None:
    parsers = {name: command.parser() for name, command in COMMANDS.items()}
    for block in blocks_of(page.read_text(encoding="utf-8")):
        assert block.language in LANGUAGES, f"{page.name}:{block.line}: a block marked {block.language!r} is not run"
        for words, _ in commands_of(block):
            parser = parsers[words[0]]
            typed = words[1:]
            if typed[:1] == ["battery"]:
                parser, typed = battery_parser(), typed[1:]
            if not {"--doctor", "--help", "--version"} & set(typed) and typed[:1] not in (["compare"], ["cache"]):
                parser.parse_args(typed)  # ends the test where it does not know a word


def test_every_page_with_python_is_run_somewhere() -> None:
    assert {page.name for page in PAGES} >= set(ELSEWHERE)
    assert all((ROOT / test).is_file() for test in ELSEWHERE.values())
    assert {"start.md", "samples.md", "models.md", "training.md"} <= {page.name for page in RUN}


def test_blocks_are_read_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "a\n```python\nx = [1]\n```\n\n<!-- run\nx.append(2)\n-->\n```\nx.append(3)\n```\n```python\nx.append(4)\n```\n"
    )
    assert [block.line for block in blocks_of(text)] == [3, 7, 10, 13]
    page = tmp_path / "page.md"
    page.write_text(text)
    assert run_page(page)["x"] == [1, 2, 4]
    page.write_text("\n\n```python\nassert False\n```\n")
    with pytest.raises(AssertionError) as caught:
        run_page(page)
    assert caught.traceback[-1].lineno == 3  # counted from 0: the fourth line of the page


def test_commands_are_read_with_their_exit_codes() -> None:
    lines = (
        'memgen-eval a.npz \\\n  --fail-if "verdict == copies"  # exit code 1\nls\nmemgen-sample runs/a  # a comment'
    )
    commands = list(commands_of(Block("sh", lines, 1)))
    assert [words for words, _ in commands] == [
        shlex.split('memgen-eval a.npz --fail-if "verdict == copies"'),
        ["memgen-sample", "runs/a"],
    ]
    assert [code for _, code in commands] == [1, 0]


def test_a_command_that_ends_otherwise_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.md"
    page.write_text("```sh\nmemgen-eval absent.npz --train digits\n```\n")
    with pytest.raises(AssertionError, match=r"page.md: memgen-eval absent.npz"):
        run_page(page)


def test_the_notebook_holds_no_outputs_and_no_state() -> None:
    nbformat = pytest.importorskip("nbformat", reason="reads a notebook, of the extra docs")
    for path in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in notebook.cells)
