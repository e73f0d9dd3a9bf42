"""What the project says of itself: one version, the documented names, links that lead somewhere, a whole wheel."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import memgen_eval
from memgen_eval import cli
from memgen_eval.battery.command import battery_parser
from memgen_eval.gates import parse_gate
from memgen_eval.render.several.compare_command import compare_parser
from reference_models import sample_cli, study_cli, train_cli

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
IDS = [str(path.relative_to(ROOT)) for path in DOCUMENTS]

# Files that keep to standard English, and phrases that do not.
PLAIN = (
    "memgen_eval/gates.py",
    "memgen_eval/report.py",
    "memgen_eval/results/",
    "memgen_eval/render/",
    "reference_models/",
    "docs/",
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "Makefile",
)
UNIDIOMATIC = re.compile(
    r"\bmend(s|ed|ing)?\b|(?<!there )\b(is|are) no (?!longer\b|more\b|nearer\b|closer\b)|\bbeside (it|them)\b"
    r"|\bso many\b|\bfor want of\b|\bat hand\b|\bthereof\b",
    re.IGNORECASE,
)

MACHINE_PATH = re.compile(r"(?<![\w.$}/-])/(?:home|root|work|tmp|Users|mnt)/\w")
REGISTRY_HOST = re.compile(r"pypi\.org|pythonhosted|download\.pytorch|conda\.anaconda")


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def project_files() -> list[Path]:
    """Files of text that git tracks or would track."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    lines = [line for line in listed.splitlines() if not line.startswith("tests/fuzz/corpus/")]
    return [path for line in lines if (path := ROOT / line).is_file()]


def first_group(pattern: str, name: str) -> str:
    found = re.search(pattern, text(name), re.MULTILINE)
    assert found is not None, f"{name} does not match {pattern}"
    return found[1]


def test_one_version() -> None:
    versions = {
        tomllib.loads(text("pyproject.toml"))["project"]["version"],
        first_group(r"^version: (\S+)$", "CITATION.cff"),
        first_group(r"^## \[(\d[^\]]*)\]", "CHANGELOG.md"),
        memgen_eval.__version__,
    }
    assert len(versions) == 1


def test_exported_names_are_the_documented_ones() -> None:
    documented = re.findall(r"^\| `(\w+)` \|", text("docs/api.md"), re.MULTILINE)
    assert sorted(documented) == sorted(memgen_eval.__all__)
    assert sorted([*documented, "__version__"]) == sorted(dir(memgen_eval))


def test_every_exported_name_comes_from_where_type_checkers_are_told() -> None:
    tree = ast.parse(text("memgen_eval/__init__.py"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    told = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert sorted(told) == sorted(memgen_eval.__all__)
    for name, home in told.items():
        assert getattr(memgen_eval, name) is getattr(importlib.import_module(str(home)), name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'evaluat'"):
        getattr(memgen_eval, "evaluat")  # noqa: B009


def test_readme_names_the_two_commands_first() -> None:
    commands = re.findall(r"^make \w+", text("README.md"), re.MULTILINE)
    assert commands == ["make demo", "make test"]
    targets = re.findall(r"^(\w+):", text("Makefile"), re.MULTILINE)
    assert {"demo", "test"} <= set(targets)


def test_python_of_the_readme_runs(tmp_path: Path) -> None:
    """All blocks in order, as typed: the first is ten lines or fewer, and finds the copies put there."""
    blocks = re.findall(r"^```python\n(.*?)^```", text("README.md"), re.MULTILINE | re.DOTALL)
    assert len([line for line in blocks[0].splitlines() if line]) <= 10
    assert "from_epsilon(" in "".join(blocks) and "def sampler(" in "".join(blocks)
    command = [sys.executable, "-W", "error", "-c", "\n".join(blocks)]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("Verdict: copies. The samples hold copies of training images: 20 of 400 samples")
    assert (tmp_path / "report.html").is_file()


@pytest.mark.parametrize("path", DOCUMENTS, ids=IDS)
def test_links_lead_to_files(path: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text(encoding="utf-8"))
    assert [link for link in links if not (path.parent / link).is_file()] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=IDS)
def test_documented_gates_parse(path: Path) -> None:
    for expression in re.findall(r"--fail-if \"([^\"]+)\"|require\(\"([^\"]+)\"\)", path.read_text(encoding="utf-8")):
        parse_gate("".join(expression))


NAMING_OPTIONS = ("README.md", "docs/github-actions.md", "docs/comparing.md", "docs/loggers.md")


def test_documented_options_exist() -> None:
    own = (cli.parser(), sample_cli.parser(), study_cli.parser(), train_cli.parser())
    parsers = (*own, battery_parser(), compare_parser())
    known = "".join(parser.format_help() for parser in parsers)
    named = re.findall(r"(?<![\w-])--[a-z][a-z-]+", "".join(map(text, NAMING_OPTIONS)))
    assert set(named) - set(re.findall(r"--[a-z][a-z-]+", known)) == set()


HANGING = "import ctypes\n\ndef test_hanging():\n    ctypes.PyDLL(None).pause()  # in C, and it keeps the GIL\n"


def test_a_test_that_hangs_ends_the_run(tmp_path: Path) -> None:
    assert tomllib.loads(text("pyproject.toml"))["tool"]["pytest"]["ini_options"]["faulthandler_timeout"] <= 900
    (tmp_path / "test_hanging.py").write_text(HANGING)
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "-o", "faulthandler_timeout=0.5"]
    run = subprocess.run(
        [*command, "-p", "no:cacheprovider", "test_hanging.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert run.returncode == 1
    assert "Timeout (0:00:00.500000)!" in run.stderr and "in test_hanging" in run.stderr


def test_the_text_names_no_machine() -> None:
    findings = []
    for path in project_files():
        if path.suffix in {".png", ".npz", ".npy", ".zip", ".gz"}:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if MACHINE_PATH.search(line) or REGISTRY_HOST.search(line.replace("\\", "")):
                findings.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    own = "tests/test_project.py:"  # the two expressions above
    assert [finding for finding in findings if not finding.startswith(own)] == []


@pytest.mark.parametrize("folder", ["home", "root", "work", "tmp", "Users"])
def test_machine_paths_are_seen(folder: str) -> None:
    assert MACHINE_PATH.search(f'path = "/{folder}/someone/data"')
    assert not MACHINE_PATH.search(f"runs/{folder}/a and ../{folder}/a and $HOME/{folder}/a")


def test_plain_english() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in project_files() if path.suffix != ".png"}
    texts = {name: " ".join(text(name).split()) for name in names if name.startswith(PLAIN)}
    found = [f"{name}: {match[0]}" for name, words in texts.items() for match in UNIDIOMATIC.finditer(words)]
    assert found == []


@pytest.mark.parametrize(
    "words",
    ["a mend of three lines", "x.txt is no folder", "These are no images", "stands beside it", "The first so many"],
)
def test_unidiomatic_phrases_are_seen(words: str) -> None:
    assert UNIDIOMATIC.search(words)


@pytest.mark.parametrize(
    "words", ["there is no test set", "it is no longer there", "recommended", "not so much", "beside"]
)
def test_plain_phrases_are_kept(words: str) -> None:
    assert not UNIDIOMATIC.search(words)


def test_the_wheel_is_whole(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="builds the wheel with hatchling, of the extra dev")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("memgen_eval-*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    tracked = {path.relative_to(ROOT).as_posix() for path in project_files()}
    assert held == {name for name in tracked if name.split("/")[0] in {"memgen_eval", "reference_models"}}
    assert "memgen_eval/py.typed" in held
    assert any(name.endswith(".json") for name in held)
    assert any(name.endswith(".j2") for name in held)
