"""The report in a terminal and in a pipe, in any encoding."""

from __future__ import annotations

import errno
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from memgen_eval.errors import InputError
from memgen_eval.render.table import plain_table, print_table, write_text
from memgen_eval.report import Report
from memgen_eval.results import LABELS


class Terminal(io.TextIOWrapper):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def printed(report: Report, encoding: str, *, terminal: bool, full: bool = False) -> str:
    raw = io.BytesIO()
    stream = (Terminal if terminal else io.TextIOWrapper)(raw, encoding=encoding)
    print_table(report, full=full, file=stream)
    return raw.getvalue().decode(encoding)


def named(report: Report, name: str) -> Report:
    return replace(report, provenance=replace(report.provenance, names={"samples": {"17": name}}))


def test_verdict_then_headlines_then_what_was_skipped(full_report: Report) -> None:
    lines = plain_table(full_report).splitlines()
    assert lines[0].startswith("Verdict: copies. The samples hold copies")
    assert lines[2].split() == ["figure", "value", "95", "%", "interval", "compare", "with"]
    assert lines[3].split("  ")[0] == "memorization ratio"
    assert lines[3].endswith("3.2 %   2.1 to 4.3 %      test images: 0.11 % (0.04 to 0.18 %)")
    assert len([line for line in lines[3:] if line.strip()]) == 16  # headlines, two readings, skipped
    assert lines[-1] == "Skipped: memorization.feature_similarity (needs a feature extractor for copy detection)"


def test_print_of_a_report_is_the_plain_table(full_report: Report) -> None:
    assert str(full_report) == plain_table(full_report)
    assert plain_table(full_report).isascii()


def test_full_holds_every_figure(full_report: Report) -> None:
    text = plain_table(full_report, full=True)
    assert text.count("\n") > len(list(full_report.figures()))
    assert "not measured" in text
    assert "2 of 10,000 test images are in train too" in text
    assert "4.00 % to 94.4 %" in text


def test_nothing_measured(empty_report: Report, undefined_report: Report) -> None:
    assert plain_table(empty_report).startswith("No verdict: not asked for.\n")
    assert "memorization ratio          not measured                 one image is too few" in plain_table(
        undefined_report
    )
    nothing = plain_table(replace(empty_report, skipped={}))
    assert nothing.endswith("Nothing was skipped.\n")


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_no_stream_crashes(encoding: str, terminal: bool, full: bool, full_report: Report) -> None:
    text = printed(named(full_report, "\u4e2d\u6587.png"), encoding, terminal=terminal, full=full)
    written = "".join(text.split()).replace("\u2502", "")
    assert ("\u4e2d\u6587.png" if encoding == "utf-8" else r"\u4e2d\u6587.png") in written
    assert "ratio" in text


@pytest.mark.parametrize("terminal", [False, True])
def test_names_do_not_act_on_a_terminal(terminal: bool, full_report: Report) -> None:
    name = "\x1b[31mred\x1b[0m [bold]x[/bold] :smile:\nVerdict: no copying found"
    text = printed(named(full_report, name), "utf-8", terminal=terminal)
    assert "\x1b[31m" not in text
    assert r"\x1b[31mred\x1b[0m [bold]x[/bold] :smile:\nVerdict" in " ".join(text.split())


def hostile(value: object) -> object:
    """A report in which every text that may be anything is an order to the terminal."""
    if isinstance(value, dict):
        return {key: hostile(item) for key, item in value.items()}
    if isinstance(value, list):
        return [hostile(item) for item in value]
    return f"\x1b[31m{value}\x1b]0;title\x07\r" if isinstance(value, str) and value not in LABELS else value


@pytest.mark.parametrize("full", [False, True])
def test_no_text_of_a_loaded_report_acts_on_a_terminal(full: bool, full_report: Report, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps(hostile(full_report.to_dict())), encoding="utf-8")
    report = Report.load(path)
    for terminal in (False, True):
        text = printed(report, "utf-8", terminal=terminal, full=full)
        assert "\x1b[31m" not in text and "\x1b]" not in text and "\x07" not in text and "\r" not in text
        assert r"\x1b[31m" in text
    assert "\x1b" not in str(report) + repr(report) + report._repr_html_()


def test_what_a_stream_cannot_take() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    class Gone(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError

    write_text("text", Gone())
    with pytest.raises(InputError, match=r"^standard output cannot be written \(No space left on device\)"):
        write_text("text", Full())


def test_no_escape_codes_in_a_pipe(full_report: Report) -> None:
    text = printed(full_report, "utf-8", terminal=False)
    assert "\x1b" not in text and "\r" not in text
    assert text == plain_table(full_report)


def test_standard_output_is_the_default(full_report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    print_table(full_report)
    assert capsys.readouterr().out == plain_table(full_report)


def test_streams_without_an_encoding() -> None:
    stream = io.StringIO()
    write_text("\u4e2d", stream)
    assert stream.getvalue() == "\u4e2d"


def test_what_was_skipped_is_gathered_by_reason(full_report: Report) -> None:
    skipped = {"a": "why", "b": "other", "c": "why", "d": "why", "e": "why"}
    text = plain_table(replace(full_report, skipped=skipped))
    assert text.endswith("Skipped: a, c and 2 more (why); b (other)\n")


@pytest.mark.parametrize("sentence", ["Undecided: only 2 samples seen.", "Only 2 samples seen."])
def test_the_label_is_said_once(sentence: str, full_report: Report) -> None:
    assert full_report.verdict is not None
    evidence = replace(full_report.verdict.evidence, first_near_identical=None)
    verdict = replace(full_report.verdict, label="undecided", sentence=sentence, evidence=evidence)
    line = plain_table(replace(full_report, verdict=verdict)).splitlines()[0]
    assert line.lower().count("undecided") == 1
    assert line.endswith(sentence)
