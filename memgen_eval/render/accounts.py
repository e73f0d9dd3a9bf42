"""What was read, set by set, and what to be cautious of."""

from __future__ import annotations

from memgen_eval.report import Report


def accounts(report: Report) -> list[tuple[str, str]]:
    """The name of each set and its account in one line."""
    return [(name, str(held["account"])) for name, held in report.provenance.inputs.items() if "account" in held]
