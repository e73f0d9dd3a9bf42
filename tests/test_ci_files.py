"""The jobs of docs/ci, run as the runners of GitHub and GitLab run them: shells, exit codes, summary, annotations."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
yaml = pytest.importorskip("yaml", reason="reads YAML; of the extra dev")
GITHUB_FILE, GITLAB_FILE = (ROOT / "docs" / "ci" / f"{name}.yml" for name in ("github-actions", "gitlab-ci"))
GITHUB, GITLAB = (yaml.safe_load(path.read_text(encoding="utf-8")) for path in (GITHUB_FILE, GITLAB_FILE))
SAMPLE = """
import shutil, sys
assert sys.argv[1:] == ["--num", "2000", "--out", "samples.npz"], sys.argv
shutil.copy("drawn.npz", "samples.npz")
"""


@dataclass(frozen=True)
class Job:
    """What a run left behind."""

    code: int
    output: str
    folder: Path

    @property
    def errors(self) -> list[str]:
        """The annotations that GitHub shows: lines that begin with its command."""
        return [line for line in self.output.splitlines() if line.startswith("::error")]


@pytest.fixture(scope="module")
def images() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    sets = {name: rng.integers(0, 256, (300, 6, 6), dtype=np.uint8) for name in ("train", "test", "fresh")}
    return sets | {"copies": np.concatenate([sets["fresh"][40:], sets["train"][:40]])}


@pytest.fixture
def folder(tmp_path: Path, images: dict[str, Any]) -> Path:
    """A repository as the jobs expect it; on its path `memgen-eval`, `python`, and a `pip` that installs nothing."""
    for name in ("train", "test"):
        np.savez(tmp_path / f"{name}.npz", images[name])
    (tmp_path / "sample.py").write_text(SAMPLE)
    (tmp_path / "bin").mkdir()
    _shim(tmp_path / "bin" / "memgen-eval", f'exec "{sys.executable}" -m memgen_eval "$@"')
    _shim(tmp_path / "bin" / "python", f'exec "{sys.executable}" "$@"')
    _shim(tmp_path / "bin" / "pip", 'echo "$@" > pip_was_called_with')
    return tmp_path


def _shim(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def bash(script: str, folder: Path, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(folder / "bin"), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "CI": "true"} | variables
    (folder / "script.sh").write_text(script)
    return subprocess.run(
        ["bash", *options, "script.sh"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def github(folder: Path, samples: Any) -> Job:
    """Every `run` step in a shell of its own, ``bash -e`` as GitHub's Linux runners start it, until one fails."""
    np.savez(folder / "drawn.npz", samples)
    summary, output = folder / "step_summary", ""
    for step in (step for step in GITHUB["jobs"]["copying"]["steps"] if "run" in step):
        done = bash(step["run"], folder, "-e", GITHUB_STEP_SUMMARY=str(summary), GITHUB_ACTIONS="true")
        output += done.stdout
        if done.returncode:
            break
    return Job(done.returncode, output, folder)


def gitlab(folder: Path, samples: Any) -> Job:
    """`before_script` and `script` as one script under ``set -eo pipefail``, as GitLab's runner joins them."""
    np.savez(folder / "drawn.npz", samples)
    lines = [*GITLAB["copying"]["before_script"], *GITLAB["copying"]["script"]]
    done = bash("\n".join(["set -eo pipefail", *lines]), folder, GITLAB_CI="true")
    return Job(done.returncode, done.stdout, folder)


def test_the_files_are_valid_by_the_published_schemas() -> None:
    pytest.importorskip("check_jsonschema", reason="carries the schemas of GitHub and GitLab; of the extra dev")
    for name, path in (("github-workflows", GITHUB_FILE), ("gitlab-ci", GITLAB_FILE)):
        command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{name}", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "ok -- validation done\n"), done.stdout + done.stderr


def test_github_passes_what_is_new(folder: Path, images: dict[str, Any]) -> None:
    job = github(folder, images["fresh"])
    assert (job.code, job.errors) == (0, []), job.output
    assert (folder / "pip_was_called_with").read_text() == "install memgen-eval\n"
    summary = (folder / "step_summary").read_text(encoding="utf-8")
    assert summary.startswith("## memgen-eval: no copying found\n")
    (upload,) = [step for step in GITHUB["jobs"]["copying"]["steps"] if "upload-artifact" in step.get("uses", "")]
    assert upload["if"] == "always()"
    assert all((folder / name).is_file() for name in upload["with"]["path"].split())


def test_github_fails_what_copies_and_says_which_gate(folder: Path, images: dict[str, Any]) -> None:
    (folder / "step_summary").write_text("An earlier step wrote this.\n")
    assert github(folder, images["fresh"]).code == 0
    (folder / "report.json").rename(folder / "baseline.json")
    job = github(folder, images["copies"])
    assert job.code == 1, job.output
    assert [line.partition(":: ")[0].split("'")[0:2] for line in job.errors] == [
        ["::error title=memgen-eval::Failed because ", "verdict == copies"],
        ["::error title=memgen-eval::Failed because ", "baseline.memorization.ratio.change.low > 0"],
    ]
    summary = (folder / "step_summary").read_text(encoding="utf-8")
    assert summary.startswith("An earlier step wrote this.\n") and "## memgen-eval: copies\n" in summary
    assert "### Since the earlier report" in summary
    assert all((folder / name).is_file() for name in ("report.html", "report.json", "junit.xml"))


def test_github_tells_a_fault_from_a_failed_gate(folder: Path, images: dict[str, Any]) -> None:
    (folder / "train.npz").unlink()
    job = github(folder, images["fresh"])
    assert job.code == 2
    assert job.errors == ["::error title=memgen-eval::The evaluation itself failed with exit code 2."]
    assert "memgen-eval: train: 'train.npz' does not exist" in job.output
    assert not (folder / "step_summary").exists()


def test_github_stops_where_no_samples_are_drawn(folder: Path, images: dict[str, Any]) -> None:
    (folder / "sample.py").write_text("raise SystemExit(7)")
    job = github(folder, images["fresh"])
    assert job.code == 7
    assert not (folder / "report.json").exists()


def test_gitlab_reads_gates_as_tests(folder: Path, images: dict[str, Any]) -> None:
    artifacts = GITLAB["copying"]["artifacts"]
    assert artifacts["when"] == "always"
    passed = gitlab(folder, images["fresh"])
    assert passed.code == 0, passed.output
    suite = ET.parse(folder / artifacts["reports"]["junit"]).getroot().find("testsuite")
    assert suite is not None and suite.attrib["failures"] == "0"
    (folder / "report.json").rename(folder / "baseline.json")
    failed = gitlab(folder, images["copies"])
    assert failed.code == 1, failed.output
    assert all((folder / name).is_file() for name in artifacts["paths"])
    root = ET.parse(folder / artifacts["reports"]["junit"]).getroot()
    cases = {case.attrib["name"]: case.find("failure") for case in root.iter("testcase")}
    broken = [name for name, failure in cases.items() if failure is not None]
    assert broken == ["verdict == copies", "baseline.memorization.ratio.change.low > 0"]
    assert all((cases[name].text or "").startswith("failed because") for name in broken)  # type: ignore[union-attr]
    assert json.loads((folder / "report.json").read_text(encoding="utf-8"))["verdict"]["label"] == "copies"


def test_gitlab_stops_at_the_first_command_that_fails(folder: Path, images: dict[str, Any]) -> None:
    (folder / "sample.py").write_text("raise SystemExit(7)")
    assert gitlab(folder, images["fresh"]).code == 7
    assert not (folder / "report.json").exists()
