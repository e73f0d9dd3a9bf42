"""Intervals of fidelity figures: what they hold, in few draws here and in many in the committed result."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from fidelity.interval_coverage import FIGURES, FILE, LAWS, covered
from memgen_eval.fidelity.groups import Grouped, num_groups, partitions
from memgen_eval.fidelity.jackknife import LeftOut, left_out_estimate, left_out_gap
from memgen_eval.metrics.statistics import wilson_interval
from memgen_eval.results import Estimate

RESULT = json.loads(FILE.read_text(encoding="utf-8"))
SHARES = frozenset({"precision", "recall", "density", "coverage", "swd"})


def test_the_committed_result_is_of_these_laws_and_figures() -> None:
    assert set(RESULT["covered"]) == set(LAWS) and RESULT["draws"] >= 200
    assert all(set(shares) == set(FIGURES) for shares in RESULT["covered"].values())


def test_no_interval_is_too_short() -> None:
    """0.95 is wanted; 200 draws tell a share to 0.03, and KID's 100 to 0.045."""
    found = [(share, law, name) for law, shares in RESULT["covered"].items() for name, share in shares.items()]
    assert min(found)[0] >= 0.9, min(found)
    assert np.mean([share for share, _, _ in found]) >= 0.94


def test_intervals_hold_the_mean_in_about_95_of_100_draws() -> None:
    """57 of 60 are expected; fewer than 51 has a chance below 1 in 1,000."""
    shares = covered(replace(LAWS["shifted"], size=120), 60, SHARES)
    assert set(shares) == {f"{against}{name}" for name in SHARES for against in ("", "gap_")}
    assert min(shares.values()) > 50 / 60, shares
    assert min(shares.values()) < 1


def of(value: float, samples: list[float], references: list[float]) -> LeftOut:
    return LeftOut(value, np.array(samples), np.array(references))


def test_a_mean_has_the_variance_of_a_mean() -> None:
    values = np.array([1.0, 2.0, 4.0, 9.0])
    without = (values.sum() - values) / 3
    assert of(4.0, without.tolist(), [4.0, 4.0]).variance == pytest.approx(values.var(ddof=1) / 4)


def test_groups_of_independent_values_give_the_variance_of_their_mean() -> None:
    """Each estimate has 16 degrees of freedom, so the mean of 60 is known to 5 per cent."""
    divisions, found = partitions(400, "samples", 2), []
    for seed in range(60):
        values = np.random.default_rng(seed).random(400) < 0.3
        groups = np.array([[values[rows].mean() for rows in partition] for partition in divisions])
        found.append(Grouped(float(values.mean()), groups, is_share=True).variance)
    assert np.mean(found) == pytest.approx(0.3 * 0.7 / 400, rel=0.17)


def test_a_share_whose_groups_vary_as_a_binomial_has_wilsons_interval() -> None:
    half = np.sqrt(0.3 * 0.7 / 400)  # the variance of two groups 0.3 -+ half, over their number, is half^2
    found = Grouped(0.3, np.tile([0.3 - half, 0.3 + half], (16, 1)), is_share=True)
    assert found.ends(1000) == pytest.approx(wilson_interval(0.3, 400, quantile=2.1199), abs=1e-5)  # Student's, 16


def test_every_partition_divides_all_rows_and_roles_differ() -> None:
    for size, count in ((20, 2), (299, 2), (451, 3), (5000, 10)):
        assert num_groups(size) == count
        for partition in partitions(size, "samples", count):
            rows = np.concatenate(partition)
            assert len(partition) == count and len(set(rows.tolist())) == len(rows) == size // count * count
    assert num_groups(19) == 0 and partitions(19, "samples", 0) == []
    first, second = (np.concatenate(partitions(60, role, 2)[0]) for role in ("samples", "references"))
    assert not np.array_equal(first, second)


def test_shares_at_their_ends_have_wilsons_interval() -> None:
    for share in (0.0, 1.0):
        same = Grouped(share, np.full((16, 2), share), is_share=True)
        found = same.estimate(count=50, notes=())
        assert found.low is not None and found.high is not None and found.high - found.low > 0.05
        gap = same.gap(same, count=50)
        assert gap.value == 0 and gap.low is not None and gap.high is not None
        assert gap.low < 0 < gap.high


def test_what_all_samples_share_cancels_in_a_gap() -> None:
    rng = np.random.default_rng(0)
    common, own = rng.normal(size=50) / 50, rng.normal(size=50) / 500
    first, second = (of(1.0, (1 + common + sign * own).tolist(), [1.0, 1.0]) for sign in (1, -1))
    alone, gap = left_out_estimate(first, "number", count=50, notes=()), left_out_gap(first, second, count=50)
    assert width(gap) < 0.5 * width(alone)
    both = [Grouped(0.5, 0.5 + (common + sign * own).reshape(5, 10), is_share=True) for sign in (1, -1)]
    assert width(both[0].gap(both[1], count=10**6)) < 0.5 * width(both[0].estimate(count=10**6, notes=()))


def width(figure: Estimate) -> float:
    assert figure.low is not None and figure.high is not None
    return figure.high - figure.low


def test_no_spread_no_interval() -> None:
    flat, groups = of(0.5, [0.5] * 4, [0.5] * 4), Grouped(0.5, np.full((2, 3), 0.5), is_share=False)
    few = Grouped(0.5, np.empty((0, 1)), is_share=True)
    found = [left_out_estimate(flat, "number", count=4, notes=("n",)), left_out_gap(flat, flat, count=4)]
    found += [groups.estimate(count=4, notes=()), groups.gap(groups, count=4)]
    found += [few.estimate(count=4, notes=()), few.gap(few, count=4)]
    for figure in found:
        assert figure.low is None and figure.method == "no interval"
        assert "changes nothing" in figure.notes[0] or "20 images" in figure.notes[0]
