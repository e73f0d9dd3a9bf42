"""Writing reports: whole or not at all, over nothing that was there, in UTF-8, anywhere that can be written."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from memgen_eval.errors import InputError
from memgen_eval.render import files
from memgen_eval.render.files import check_writable, save_report, write_file
from memgen_eval.report import Report


def strict(text: str) -> object:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} in JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize(
    ("name", "start"),
    [("r.json", "{"), ("r.html", "<!DOCTYPE html>"), ("R.HTM", "<!DOCTYPE html>"), ("r.md", "## memgen-eval: copies")],
)
def test_the_suffix_decides(name: str, start: str, short_report: Report, tmp_path: Path) -> None:
    short_report.save(tmp_path / name)
    assert (tmp_path / name).read_text(encoding="utf-8").startswith(start)
    assert list(tmp_path.iterdir()) == [tmp_path / name]


@pytest.mark.parametrize("name", ["report", "report.txt", "report.json.gz"])
def test_other_suffixes_are_refused(name: str, full_report: Report, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.json, \.html, \.htm or \.md"):
        save_report(full_report, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_json_is_strict_and_comes_back(full_report: Report, tmp_path: Path) -> None:
    names = {"samples": {"17": "\u4e2d\u6587 \udcff \U0001f600.png"}}  # the second is a byte that is no UTF-8
    report = replace(full_report, provenance=replace(full_report.provenance, names=names))
    save_report(report, tmp_path / "r.json")
    assert strict((tmp_path / "r.json").read_text(encoding="utf-8")) == report.to_dict()
    again = Report.load(tmp_path / "r.json")
    assert again == report
    assert again.provenance == report.provenance


def test_a_failure_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "r.html"
    target.write_text("old", encoding="utf-8")

    def full_disk(path: Path, data: bytes) -> None:
        path.write_bytes(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "_write_through", full_disk)
    with pytest.raises(InputError, match=r"r\.html: cannot be written \(No space left on device\); free the disk"):
        write_file(target, "new page, longer than ten bytes")
    assert target.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_links_and_permissions_survive(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "r.md"
    target.write_text("old", encoding="utf-8")
    target.chmod(0o640)
    (tmp_path / "link.md").symlink_to(target)
    write_file(tmp_path / "link.md", "new")
    assert (tmp_path / "link.md").is_symlink()
    assert target.read_text(encoding="utf-8") == "new"
    assert target.stat().st_mode & 0o777 == 0o640


def test_new_files_follow_the_umask(tmp_path: Path) -> None:
    write_file(tmp_path / "ours.md", "x")
    (tmp_path / "theirs.md").touch()
    assert (tmp_path / "ours.md").stat().st_mode == (tmp_path / "theirs.md").stat().st_mode


def test_long_names_are_written(tmp_path: Path) -> None:
    name = "n" * 250 + ".md"
    write_file(tmp_path / name, "x")
    assert (tmp_path / name).exists()


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe.md")
    cases = {
        tmp_path / "missing" / "r.html": "does not exist; create it",
        tmp_path / "file" / "r.html": "is no folder",
        tmp_path: "is a folder, expected a file",
        tmp_path / "pipe.md": "is no regular file",
    }
    for path, words in cases.items():
        with pytest.raises(InputError, match=words) as raised:
            check_writable(path)
        assert str(raised.value).startswith(f"{path}: ")
        assert "\n" not in str(raised.value)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that even root cannot write: /proc")
def test_a_folder_that_refuses_files() -> None:
    with pytest.raises(InputError, match="cannot be written"):
        check_writable(Path("/proc/r.html"))


def test_checking_touches_nothing(tmp_path: Path) -> None:
    target = tmp_path / "r.html"
    check_writable(target)
    assert list(tmp_path.iterdir()) == []
    target.write_text("old", encoding="utf-8")
    before = target.stat()
    check_writable(target)
    assert (target.stat().st_mtime_ns, target.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert target.read_text(encoding="utf-8") == "old"


def test_a_name_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_file(Path("r.md"), "x")
    assert (tmp_path / "r.md").read_text(encoding="utf-8") == "x"
