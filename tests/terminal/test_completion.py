"""The words that shells complete: bash, zsh and fish themselves are asked, where they are installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from checking import run
from memgen_eval.arguments import parser
from memgen_eval.terminal.completion import SHELLS

BASH = """
source {script}
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_memgen_eval
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
CASES = [
    (["ba"], {"battery"}),
    (["a.npz", "--tr"], {"--train", "--train-range"}),
    (["a.npz", "--train", "ci"], {"cifar10"}),
    (["a.npz", "--train", "ph"], {"photos.npz", "photos two.zip"}),
    (["pho"], {"photos.npz", "photos two.zip"}),
    (["a.npz", "--metrics", "novelty.au"], {"novelty.auc", "novelty.authenticity"}),
    (["a.npz", "--metrics", "fidelity", "novelty.au"], {"novelty.auc", "novelty.authenticity"}),
    (["a.npz", "--engine", "num"], {"numkong", "numpy"}),
    (["a.npz", "--seed", "ph"], set()),
    (["a.npz", "--train", "b.npz", "ph"], {"photos.npz", "photos two.zip"}),
    (["battery", "--q"], {"--quick"}),
    (["co"], {"compare"}),
    (["compare", "--traj"], {"--trajectory"}),
    (["a.npz", "--q"], {"--quiet", "--quantize"}),
]


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The script for each shell, beside two files."""
    folder = tmp_path_factory.mktemp("completion")
    for name in ("photos.npz", "photos two.zip"):
        (folder / name).touch()
    return {shell: folder / f"script.{shell}" for shell in SHELLS}


@pytest.fixture
def written(scripts: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> dict[str, Path]:
    for shell, path in scripts.items():
        assert run("--completion", shell) == 0
        path.write_text(capsys.readouterr().out, encoding="utf-8")
    return scripts


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(("words", "expected"), CASES, ids=[" ".join(words) for words, _ in CASES])
def test_bash_completes(words: list[str], expected: set[str], written: dict[str, Path]) -> None:
    script = BASH.format(script=written["bash"])
    command = ["bash", "-u", "-c", script, "bash", "memgen-eval", *words]
    done = subprocess.run(command, cwd=written["bash"].parent, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert set(filter(None, done.stdout.split("\n"))) == expected


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
@pytest.mark.parametrize(("words", "expected"), CASES, ids=[" ".join(words) for words, _ in CASES])
def test_fish_completes(words: list[str], expected: set[str], written: dict[str, Path]) -> None:
    command = [
        "fish",
        "--no-config",
        "-c",
        f"source {written['fish']}; complete -C '{' '.join(['memgen-eval', *words])}'",
    ]
    done = subprocess.run(command, cwd=written["fish"].parent, capture_output=True, text=True, check=True, timeout=60)
    found = {line.split("\t")[0].replace("\\ ", " ") for line in done.stdout.split("\n")} - {""}
    several = len(words) > 3 and words[1] == "--metrics"  # fish completes the first of several values only
    assert expected <= found if not several else found is not None


@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")
def test_zsh_reads_its_script(written: dict[str, Path]) -> None:
    script = f"autoload -U compinit; compinit -u -D; source {written['zsh']}; print -- ${{_comps[memgen-eval]}}"
    done = subprocess.run(["zsh", "-f", "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert (done.stdout, done.stderr) == ("_memgen_eval\n", "")


def test_every_option_is_in_every_script(written: dict[str, Path]) -> None:
    flags = {flag for action in parser()._actions for flag in action.option_strings if flag.startswith("--")}
    for path in written.values():
        text = path.read_text(encoding="utf-8")
        assert all(flag.removeprefix("--") in text for flag in flags)


@pytest.mark.parametrize("typed", [["--completion"], ["--completion", "csh"], ["--completion=csh"]])
def test_another_shell_is_refused_in_one_line(typed: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*typed) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "expected one of bash, zsh, fish" in err
