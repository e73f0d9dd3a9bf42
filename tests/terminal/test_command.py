"""What the command tells with -q, with -v and when it is stopped."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from checking import run, strict_json
from conftest import noise_images
from memgen_eval import Report
from memgen_eval.shell import Terminated, going_on, run as run_command

ARGUMENTS = ("s.npz", "--train", "t.npz", "--metrics", "memorization")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    train = noise_images(0, 60, (4, 4))
    np.savez(tmp_path / "t.npz", train)
    np.savez(tmp_path / "s.npz", np.concatenate([noise_images(1, 20, (4, 4)), train[:20]]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("flag", ["-q", "--quiet"])
def test_quiet_is_the_verdict_in_one_line(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*ARGUMENTS, flag, "--json", "r.json", "--html", "r.html") == 0
    out, err = capsys.readouterr()
    assert err == "" and out.count("\n") == 1 and out.startswith("Verdict: ")
    assert out == f"Verdict: {Report.load('r.json').displayed_sentence}\n" or Report.load("r.json").verdict.label in out  # type: ignore[union-attr]


@pytest.mark.usefixtures("folder")
def test_quiet_still_tells_failed_gates_errors_and_what_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*ARGUMENTS, "-q", "--fail-if", "memorization.ratio >= 0") == 1
    out, err = capsys.readouterr()
    assert out.count("\n") == 1 and re.fullmatch(r"memgen-eval: failed because .*\n", err)
    assert run("missing.npz", *ARGUMENTS[1:], "-q") == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert run(*ARGUMENTS, "-q", "--json", "-") == 0
    out, err = capsys.readouterr()
    assert strict_json(out) and err == ""


@pytest.mark.usefixtures("folder")
def test_verbose_tells_each_stage_and_its_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*ARGUMENTS, "-v", "--json", "r.json") == 0
    out, err = capsys.readouterr()
    assert "Verdict: " in out
    told = re.findall(r"^memgen-eval: (.+): \d+\.\d{3} seconds$", err, re.MULTILINE)
    assert set(told) == set(Report.load("r.json").provenance.seconds) and len(told) == len(set(told))
    assert "memgen-eval: reading the training set: waits for the training set's files\n" in err
    assert "memgen-eval: checksums\n" in err and "\x1b" not in err


@pytest.mark.usefixtures("folder")
def test_quiet_and_verbose_together_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*ARGUMENTS, "-q", "-v") == 2
    assert capsys.readouterr().err == "memgen-eval: -q and -v ask for opposite things; give one of them\n"


@pytest.mark.parametrize(
    ("stop", "word", "status"), [(KeyboardInterrupt, "interrupted", 130), (Terminated, "terminated", 143)]
)
@pytest.mark.parametrize("hint", [None, "the same command goes on"])
def test_a_stop_says_how_to_go_on_where_it_can(
    stop: type[BaseException], word: str, status: int, hint: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> int:
        with going_on(hint):
            raise stop

    assert run_command("memgen-eval", work) == status
    assert capsys.readouterr().err == f"memgen-eval: {word}{'; ' + hint if hint else ''}\n"


@pytest.mark.usefixtures("folder")
def test_an_interrupt_names_the_folder_that_work_is_kept_in(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object, **keywords: object) -> Report:
        raise KeyboardInterrupt

    import memgen_eval.evaluation  # noqa: F401 - whose function is replaced

    monkeypatch.setattr(sys.modules["memgen_eval.evaluation"], "evaluate", interrupted)
    assert run(*ARGUMENTS, "--resume", "kept") == 130
    assert capsys.readouterr().err == (
        "memgen-eval: interrupted; what is finished is kept in kept; the same command goes on from there\n"
    )


def test_the_version_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run("--version")
    assert stop.value.code == 0
    assert re.fullmatch(r"memgen-eval \d+\.\d+\S*\n", capsys.readouterr().out)
