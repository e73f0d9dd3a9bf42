"""What intervals hold: the committed results, and a few of their numbers computed anew."""

from __future__ import annotations

import json

import pytest

from intervals import denoisers, moments, novelty, shares, table

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


def test_the_page_is_made_of_the_committed_results() -> None:
    assert table.PAGE.read_text(encoding="utf-8") == table.page()


def test_the_committed_results_are_of_these_laws_and_no_interval_is_much_too_short() -> None:
    for module in (novelty, moments):
        found = table.read(module.FILE)
        assert list(found["covered"]) == list(module.LAWS)
    assert min(min(held.values()) for held in table.read(moments.FILE)["covered"].values()) >= 0.9
    models = table.read(denoisers.FILE)["covered"]
    assert tuple(models) == denoisers.CASES
    bands = [share for held in models.values() for share in held["identity_residual"] if share is not None]
    assert bands and min(bands) >= 0.93


def test_the_mean_area_of_copies_is_held() -> None:
    """0.95 is wanted; fewer than 33 of 40 has a chance below 1 in 500."""
    found = novelty.covered(novelty.LAWS["fresh, 100"], 40)
    assert all(share is not None and share >= 0.83 for share in found.values())


def test_repeats_and_few_images_are_held() -> None:
    """With 20 images twenty times 0.47 to 0.69 were held where repeats were taken for independent images."""
    for law in ("fresh, 40", "20 images twice"):
        assert min(moments.covered(moments.LAWS[law], 20).values()) >= 0.8
