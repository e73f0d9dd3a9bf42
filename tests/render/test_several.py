"""Reports side by side and in order: which differences are named, names from outside, pages that ask for nothing."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from checking import run
from memgen_eval.render.several.course import COURSE
from memgen_eval.render.several.in_order import trajectory_page
from memgen_eval.render.several.members import (
    Member,
    headlines_of_all,
    names_of,
    pairs_of,
    steps_between,
    steps_of,
)
from memgen_eval.render.several.side_by_side import comparison_page, comparison_table
from memgen_eval.report import Report
from memgen_eval.results import Curve, Estimate

HOSTILE = "<img src=x onerror=alert(1)>\x1b[31m$x_{1}$ \u4e2d\u6587\nline"


def with_ratio(report: Report, value: float) -> Report:
    assert report.memorization is not None
    ratio = Estimate(value, value - 0.01, value + 0.01, "made up", 1000)
    return replace(report, memorization=replace(report.memorization, ratio=ratio))


@pytest.fixture
def members(full_report: Report) -> list[Member]:
    return [Member(name, with_ratio(full_report, value)) for name, value in (("a", 0.1), ("b", 0.105), ("c", 0.4))]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["x/a.json", "y/b.json"], ["a", "b"]),
        (["few/report.json", "many/report.json"], ["few", "many"]),
        (["report.json", "many/report.json"], ["report.json", "many/report.json"]),
        (["x/few/report.json", "y/few/report.json"], ["x/few/report.json", "y/few/report.json"]),
    ],
)
def test_names_tell_reports_apart(paths: list[str], names: list[str]) -> None:
    assert names_of(list(map(Path, paths))) == names


@pytest.mark.parametrize(
    ("paths", "steps"),
    [
        (["v2-step0100.json", "v2-step0200.json", "v2-step1000.json"], [100, 200, 1000]),
        (["run/000500/report.json", "run/001000/report.json"], [500, 1000]),
        (["b2.json", "a1.json"], [1, 2]),
        (["first.json", "second.json", "third.json"], [1, 2, 3]),
        (["step100.json", "last.json"], [1, 2]),
        (["1.json", f"{'9' * 400}.json"], [1, 2]),
    ],
)
def test_steps_are_read_where_they_ascend(paths: list[str], steps: list[float]) -> None:
    axis, found = steps_of(list(map(Path, paths)))
    assert found == steps
    assert axis.startswith("step" if steps[0] > 1 else "report")


def test_what_is_named_exceeds_the_intervals(members: list[Member]) -> None:
    text = comparison_table(members)
    (line,) = [line for line in text.splitlines() if line.startswith("memorization ratio")]
    assert line.endswith("a < c; b < c")
    assert "a < b" not in text
    ordered = comparison_table(members, in_order=True)
    (line,) = [line for line in ordered.splitlines() if line.startswith("memorization ratio")]
    assert line.endswith("b < c; a < c")


def test_all_pairs_share_the_false_alarms(members: list[Member]) -> None:
    """A difference that two reports alone would show is not named among ten."""
    pair = [members[0], Member("d", with_ratio(members[0].report, 0.1 + 0.01 * np.sqrt(2) * 3.6 / 1.96))]
    assert [c.path for c in pairs_of(pair)["a", "d"].moved] == ["memorization.ratio"]
    ten = [*pair, *(Member(str(i), members[0].report) for i in range(8))]
    assert all(not changes.moved for changes in pairs_of(ten).values())
    assert len(pairs_of(ten)) == 45
    assert list(steps_between(ten[:3])) == [("a", "d"), ("d", "0"), ("a", "0")]
    assert list(steps_between(ten[:2])) == [("a", "d")]


def test_other_settings_are_shown_and_not_judged(short_report: Report) -> None:
    members = [Member(name, with_ratio(short_report, value)) for name, value in (("a", 0.1), ("b", 0.1), ("c", 0.4))]
    other = members[2].report
    other = replace(other, settings=replace(other.settings, threshold=0.25))
    changed = [members[0], members[1], Member("c", other)]
    for text in (comparison_table(changed), comparison_page(changed)):
        assert "Not compared: a and c, b and c (other settings: threshold was 0.333333 and is 0.25)." in text
        assert "a &lt; c" not in text and "a < c" not in text


def test_a_curve_is_read_at_one_place(full_report: Report) -> None:
    lines = {line.path: line for line in headlines_of_all([full_report, full_report])}
    line = lines["denoiser.matched_memorization_index"]
    assert line.estimates[0] == line.estimates[1] is not None
    curve = full_report.figure(line.path)
    assert isinstance(curve, Curve) and curve.value is not None and curve.x is not None
    assert line.estimates[0] is not None and line.estimates[0].value in curve.value
    assert full_report.denoiser is not None
    moved = replace(curve, x=replace(curve.x, values=tuple(2 * x for x in curve.x.values)))
    first = replace(full_report, denoiser=replace(full_report.denoiser, matched_memorization_index=moved))
    other = {line.path: line for line in headlines_of_all([first, full_report])}[line.path]
    assert other.estimates[0] is None and other.estimates[1] == line.estimates[1]


@pytest.mark.parametrize("kind", ["compare", "trajectory"])
def test_pages_hold_what_they_say(kind: str, members: list[Member], empty_report: Report) -> None:
    held = [*members, Member("nothing", empty_report)]
    names = [member.name for member in held]
    page = comparison_page(held) if kind == "compare" else trajectory_page(held, "step", [1, 10, 1000, 2000])
    assert page.startswith("<!DOCTYPE html>")
    num_course = 0 if kind == "compare" else len(COURSE)
    assert page.count("<svg ") == len(headlines_of_all([member.report for member in held])) + num_course > 8
    assert "nan" not in re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    assert not re.search(r"(?:src|href)=\"(?!#|data:)", page)
    for name in names:
        assert name in page


def test_nothing_but_empty_reports(empty_report: Report) -> None:
    held = [Member("a", empty_report), Member("b", empty_report)]
    assert "None of the headlines was measured." in comparison_table(held)
    assert "<h1>" in comparison_page(held) and "<h1>" in trajectory_page(held, "report", [1, 2])


def test_the_same_reports_give_the_same_page(short_report: Report) -> None:
    held = [Member("a", short_report), Member("b", with_ratio(short_report, 0.5))]
    assert comparison_page(held) == comparison_page(held)


def test_names_stay_names(short_report: Report) -> None:
    held = [Member(HOSTILE, short_report), Member("c", with_ratio(short_report, 0.5))]
    for page in (comparison_page(held), trajectory_page(held, "step", [1, 2])):
        assert "<img src=x" not in page and "\x1b" not in page
        assert "&lt;img src=x" in page
    assert "\x1b" not in comparison_table(held) and "\nline" not in comparison_table(held)


def test_the_command(short_report: Report, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [tmp_path / f"step-{i}.json" for i in (5, 50, 500)]
    for path, value in zip(paths, (0.1, 0.2, 0.3), strict=True):
        with_ratio(short_report, value).save(path)
    assert run("compare", *paths, "--html", tmp_path / "c.html") == 0
    printed = capsys.readouterr()
    assert printed.err == f"memgen-eval compare: wrote {tmp_path / 'c.html'}\n"
    assert printed.out.startswith("report    verdict  samples\nstep-5 ")
    assert "side by side" in (tmp_path / "c.html").read_text(encoding="utf-8")
    assert run("compare", "--trajectory", *paths, "--html", "-") == 0
    assert "When does it begin to copy?" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{0}"], "1 given, expected 2 to 12 reports"),
        (["{0}", "missing.json"], "missing.json: no such file"),
        (["{0}", "{1}", "--html", "{1}"], "would overwrite"),
        (["{0}", "old.json"], "schema_version is 1, expected"),
        (["{0}", "{1}", "--htm", "x"], "unrecognized arguments"),
        ([], "the following arguments are required: REPORT"),
    ],
)
def test_what_the_command_refuses(
    arguments: list[str],
    message: str,
    members: list[Member],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.json").write_text('{"schema_version": 1}')
    for name, member in zip("ab", members, strict=False):
        member.report.save(tmp_path / f"{name}.json")
    before = (tmp_path / "b.json").read_bytes()
    assert run("compare", *(argument.format("a.json", "b.json") for argument in arguments)) == 2
    printed = capsys.readouterr()
    assert message in printed.err and printed.err.count("\n") == 1 and printed.out == ""
    assert (tmp_path / "b.json").read_bytes() == before


def test_numbers_that_no_axis_holds(short_report: Report) -> None:
    assert short_report.memorization is not None
    huge = Estimate(1.7e308, -1.7e308, 1.7e308, "tampered with", 1)
    family = replace(short_report.memorization, ratio=huge, num_near_identical=huge)
    held = [Member("a", short_report), Member("b", replace(short_report, memorization=family))]
    for page in (comparison_page(held), trajectory_page(held, "step", [1, 1e14])):
        assert "e308" in page and page.count("<svg ") >= len(headlines_of_all([m.report for m in held]))
    assert "e308" in comparison_table(held)
