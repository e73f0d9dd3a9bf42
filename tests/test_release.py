"""A release: wheel and sdist whole and the same each time, a bill of materials, a workflow that tests first."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
LISTED = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
WORKFLOWS = ROOT / ".github" / "workflows"


def tracked() -> set[str]:
    try:
        listed = subprocess.run([*LISTED, "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return {name for name in listed.split("\0") if name and (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the publishing workflow makes, with this environment as that which the bill describes."""
    for package in ("build", "twine", "cyclonedx_py", "hatchling"):
        pytest.importorskip(package, reason="builds a release, with the extras dev and release")
    tracked()
    folder = tmp_path_factory.mktemp("release")
    variables = {"RELEASE_PYTHON": sys.executable, "SBOM_PYTHON": sys.executable}
    command = [str(ROOT / ".ci" / "release"), str(folder / "dist"), str(folder / "sbom")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ | variables)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count("PASSED") == 2  # twine's word for each of both
    return folder


def test_the_sdist_holds_what_git_tracks_and_nothing_else(released: Path) -> None:
    (path,) = (released / "dist").glob("*.tar.gz")
    with tarfile.open(path) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()} - {"PKG-INFO"}
        assert all(member.isreg() and not member.mode & 0o022 for member in archive.getmembers())
    assert held ^ tracked() <= {".gitignore"}


def test_the_wheel_is_made_of_the_sdist_and_holds_what_it_needs(released: Path) -> None:
    (path,) = (released / "dist").glob("*.whl")
    assert path.name.endswith("-py3-none-any.whl")
    held = set(zipfile.ZipFile(path).namelist())
    own = {name for name in held if ".dist-info/" not in name}
    assert own == {name for name in tracked() if name.split("/")[0] in {"memgen_eval", "reference_models"}}
    needed = {"py.typed", "report.schema.json", "render/report.html.j2", "render/report.css", "render/summary.html.j2"}
    assert {f"memgen_eval/{name}" for name in needed} <= own
    names = {name.partition(".dist-info/")[2] for name in held if ".dist-info/" in name}
    assert {"METADATA", "RECORD", "entry_points.txt", "licenses/LICENSE"} <= names


def test_two_builds_give_the_same_bytes(released: Path, tmp_path: Path) -> None:
    """The second from another folder and at another time, as of somebody who checks the release."""
    copy = tmp_path / "elsewhere"
    for name in tracked():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, copy / name)
        (copy / name).chmod((ROOT / name).stat().st_mode & 0o777)
    date = subprocess.run(["git", "log", "-1", "--pretty=%ct"], cwd=ROOT, capture_output=True, text=True, check=True)
    variables = {"SOURCE_DATE_EPOCH": date.stdout.strip(), "TZ": "Pacific/Auckland"}
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path / "again"), str(copy)]
    subprocess.run(command, capture_output=True, check=True, env=os.environ | variables)
    first, again = (sorted(folder.iterdir()) for folder in (released / "dist", tmp_path / "again"))
    assert [path.name for path in first] == [path.name for path in again]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    with gzip.open(first[0] if first[0].suffix == ".gz" else first[1]) as stream:
        stream.read(1)
        assert stream.mtime == int(date.stdout)  # type: ignore[attr-defined]


def test_the_bill_names_what_an_installation_brings(released: Path) -> None:
    bill = json.loads((released / "sbom" / "memgen-eval.cdx.json").read_text(encoding="utf-8"))
    assert bill["bomFormat"] == "CycloneDX" and bill["metadata"]["component"]["name"] == "memgen-eval"
    assert bill["metadata"]["component"]["type"] == "library"
    components = {component["name"].lower(): component for component in bill["components"]}
    assert {"torch", "numpy", "scipy", "scikit-learn", "pillow", "numkong", "jinja2", "matplotlib"} <= set(components)
    assert all(component.get("version") for component in components.values())
    assert components["numpy"]["purl"].startswith("pkg:pypi/numpy@")
    root = bill["metadata"]["component"]["bom-ref"]
    (leads,) = (entry["dependsOn"] for entry in bill["dependencies"] if entry["ref"] == root)
    assert len(leads) >= 8


def workflow(name: str) -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="reads workflows with PyYAML, which the extras bring")
    data: dict[str, Any] = yaml.safe_load((WORKFLOWS / name).read_text(encoding="utf-8"))
    return data


@pytest.mark.parametrize("name", sorted(path.name for path in WORKFLOWS.glob("*.yml")))
def test_actions_are_pinned_and_rights_are_few(name: str) -> None:
    data = workflow(name)
    assert data["permissions"] == {"contents": "read"}
    for job in data["jobs"].values():
        granted = {right for right, level in job.get("permissions", {}).items() if level == "write"}
        assert granted <= {"id-token", "attestations"}
        for step in job.get("steps", []):
            if "uses" in step:
                assert re.fullmatch(r"[\w./-]+@(v\d+|release/v\d+)", step["uses"]), step["uses"]
            assert "secrets." not in json.dumps(step)


def test_a_release_is_tested_first_and_published_by_identity() -> None:
    data = workflow("publish.yml")
    jobs = data["jobs"]
    assert data[True] == {"push": {"tags": ["v*"]}}  # YAML reads `on` as true
    assert jobs["test"]["uses"] == "./.github/workflows/ci.yml" and "workflow_call" in workflow("ci.yml")[True]
    assert jobs["build"]["needs"] == "test" and jobs["publish"]["needs"] == "build"
    assert jobs["publish"]["permissions"]["id-token"] == "write" and jobs["publish"]["environment"] == "release"
    assert all("id-token" not in jobs[name].get("permissions", {}) for name in ("test", "build"))
    runs = [step.get("run", "") for step in jobs["build"]["steps"]]
    assert any(".ci/release dist sbom" in run for run in runs) and any("$GITHUB_REF_NAME" in run for run in runs)
    assert not any("run" in step for step in jobs["publish"]["steps"])  # no code of ours holds the identity
    assert jobs["publish"]["steps"][-1]["uses"].startswith("pypa/gh-action-pypi-publish@")
    assert "password" not in json.dumps(data)


def test_the_tag_must_name_the_version(tmp_path: Path) -> None:
    (run,) = (
        step["run"] for step in workflow("publish.yml")["jobs"]["build"]["steps"] if "GITHUB_REF_NAME" in str(step)
    )
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert version is not None
    for tag, expected in ((f"v{version[1]}", 0), ("v0.0.0", 1), (version[1], 1)):
        found = subprocess.run(["bash", "-c", run], cwd=ROOT, env=os.environ | {"GITHUB_REF_NAME": tag}, check=False)
        assert found.returncode == expected


def test_the_citation_is_one() -> None:
    """By the fields and values of the Citation File Format 1.2.0; cffconvert's schema accepts it too."""
    yaml = pytest.importorskip("yaml", reason="reads the citation with PyYAML, which the extras bring")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    required, known = (
        {"authors", "cff-version", "message", "title"},
        {"abstract", "keywords", "license", "type", "version"},
    )
    assert required <= set(citation) <= required | known | {"date-released", "doi", "repository-code", "url"}
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software" and citation["license"] == "Apache-2.0"
    assert all(set(author) in ({"name"}, {"family-names", "given-names"}) for author in citation["authors"])
    assert all(
        isinstance(citation[name], str) and citation[name] for name in ("message", "title", "abstract", "version")
    )


def test_the_changelog_tells_each_version_once() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[([^\]]+)\] - (\S+)$", text, re.MULTILINE)
    assert headings and len({version for version, _ in headings}) == len(headings)
    assert all(re.fullmatch(r"Unreleased|\d{4}-\d\d-\d\d", date) for _, date in headings)
    assert set(re.findall(r"^### (\w+)$", text, re.MULTILINE)) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed"}
