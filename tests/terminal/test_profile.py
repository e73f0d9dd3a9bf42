"""Seconds by stage as a table: against one written by hand."""

from __future__ import annotations

from memgen_eval.terminal.progress import profile_table


def test_shares_are_of_the_whole() -> None:
    assert profile_table({"imports": 0.5, "neighbours": 7.0}, 10.0).splitlines() == [
        "stage       seconds  share",
        "imports        0.50    5 %",
        "neighbours     7.00   70 %",
        "else           2.50   25 %",
        "all           10.00  100 %",
    ]


def test_nothing_took_no_time() -> None:
    assert profile_table({}, 0.0).splitlines()[1:] == ["else      0.00    0 %", "all       0.00    0 %"]
    assert "else        0.00" in profile_table({"imports": 1.25}, 1.2)  # clocks are read one after the other
