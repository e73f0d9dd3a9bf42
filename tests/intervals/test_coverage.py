"""What intervals hold: the committed results, and a few of their numbers computed anew."""

from __future__ import annotations

import json

import pytest

from intervals import shares

SHARES = json.loads(shares.FILE.read_text(encoding="utf-8"))


def test_shares_are_held_in_at_least_95_of_100_sets_however_rare_the_hits() -> None:
    for kind, sizes in (("share", map(str, shares.SIZES)), ("difference", (f"{n}, {m}" for n, m in shares.PAIRS))):
        found = SHARES[kind]["Clopper-Pearson"]
        assert list(found) == list(sizes)
        assert all(0.95 <= held["smallest"] <= held["mean"] < 0.99 for held in found.values())
    assert all(held["low too high, at most"] <= 0.025 for held in SHARES["share"]["Clopper-Pearson"].values())
    assert all(held["smallest"] < 0.85 for held in SHARES["share"]["Wilson"].values())


@pytest.mark.parametrize("method", shares.INTERVALS)
def test_the_committed_coverage_of_shares_is_found_again(method: str) -> None:
    assert shares.of_shares(method, 300) == SHARES["share"][method]["300"]
    assert shares.of_differences(method, (434, 300)) == SHARES["difference"][method]["434, 300"]
