"""The time left: never absurd whatever a run does, right where stages take what they usually do."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, strategies as st

from memgen_eval import cli
from memgen_eval.arguments import parsed
from memgen_eval.results import FAMILIES
from memgen_eval.terminal.estimate import BESIDE, LEAST_SHARE, USUAL, Course, planned, spoken

PLAN = planned({"memorization", "novelty", "novelty in pixels", "gaussian"}, in_turn=True)


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*USUAL, "another stage"]),
            st.floats(0, 1e6),
            st.one_of(st.none(), st.tuples(st.integers(0, 10), st.integers(0, 10))),
        ),
        max_size=30,
    )
)
def test_whatever_happens_the_share_never_falls_and_the_rest_is_bounded(
    events: list[tuple[str, float, tuple[int, int] | None]],
) -> None:
    clock = Clock()
    course, before = Course(PLAN, clock), 0.0
    for stage, seconds, steps in events:
        course.begin(stage)
        for part in (0, seconds / 2, seconds / 2):
            clock.now += part
            share, left = course.share(), course.seconds_left()
            assert before <= share <= 1
            before = share
            assert left is None or 0 <= left <= clock.now / LEAST_SHARE
            if steps is not None:
                course.proceed(*steps)
        assert course.stage_left() is None or course.stage_left() >= 0  # type: ignore[operator]


@pytest.mark.parametrize("pace", [0.05, 1, 60])
@pytest.mark.parametrize("steps", [True, False])
def test_a_run_of_the_usual_shares_is_foreseen_at_any_pace(pace: float, steps: bool) -> None:
    clock, total = Clock(), pace * sum(PLAN.values())
    course, told = Course(PLAN, clock), 0
    for stage, usual in PLAN.items():
        course.begin(stage)
        for i in range(10):
            clock.now += pace * usual / 10
            if steps:
                course.proceed(i + 1, 10)
            left, true = course.seconds_left(), total - clock.now
            if left is not None and true > 0.1 * total and course.share() > 0.1:
                assert true / 1.3 < left < true * 1.3
                told += 1
    assert told > 50 or pace == 0.05
    assert course.share() == pytest.approx(1, abs=0.02)


def test_a_stage_that_never_ends_never_counts_as_done() -> None:
    clock = Clock()
    course = Course({"a": 1.0, "b": 1.0, "c": 2.0}, clock)
    course.begin("a")
    clock.now = 10
    course.begin("b")
    shares = []
    for _ in range(100):
        clock.now += 10
        shares.append(course.share())
    assert all(first < second or second == pytest.approx(0.5) for first, second in itertools.pairwise(shares))
    assert shares[-1] <= 0.5  # a is done and b at most


def test_nothing_is_said_before_anything_is_known() -> None:
    clock = Clock()
    course = Course(PLAN, clock)
    assert course.seconds_left() is None and course.share() == 0
    course.begin("reading the training set")
    clock.now = 1000
    assert course.seconds_left() is None  # how long the first stage takes says nothing of the others
    assert Course({}, clock).seconds_left() is None


def test_rates_and_the_rest_of_a_stage() -> None:
    clock = Clock()
    course = Course(PLAN, clock)
    course.begin("drawing samples")
    course.proceed(0, 100)
    assert course.rate() is None
    clock.now = 10
    course.proceed(20, 100)
    assert course.rate() == 2 and course.stage_left() == 40


@pytest.mark.parametrize(
    ("threads", "typed", "in_turn"), [(1, [], True), (2, [], False), (2, ["--resume", "kept"], True)]
)
def test_families_are_planned_beside_each_other_where_they_are_measured_so(
    threads: int, typed: list[str], in_turn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[set[str]] = []
    monkeypatch.setattr(cli, "num_threads", lambda: threads)
    monkeypatch.setattr(cli, "shown_on_terminal", lambda stream, plan: plans.append(set(plan)))
    cli._followed(parsed(["samples.npz", "--train", "digits", *typed]))
    assert [BESIDE & plan for plan in plans] == [BESIDE if in_turn else set()]


def test_only_stages_of_what_is_asked_for_are_planned() -> None:
    assert list(planned({"novelty", "features"})) == [
        name for name, (_, needs) in USUAL.items() if not needs or {"novelty", "features"} & set(needs)
    ]
    beside = {"memorization", "novelty", "novelty in pixels", "fidelity", "gaussian"}
    assert set(planned(beside, in_turn=True)) - set(planned(beside)) == BESIDE
    assert planned(beside | {"features"}) == planned(beside | {"features"}, in_turn=True)
    assert "denoiser" not in PLAN and "altered copies" not in planned({"gaussian"})
    assert {need for _, needs in USUAL.values() for need in needs} <= {*FAMILIES, "features", "novelty in pixels"}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "5 s"),
        (41, "45 s"),
        (55, "55 s"),
        (56, "1 min"),
        (89, "1 min"),
        (3540, "59 min"),
        (3599, "1 h"),
        (5400, "1.5 h"),
        (36000, "10 h"),
        (86400 * 3, "3 days"),
        (1e12, "over 100 days"),
    ],
)
def test_times_are_said_as_roughly_as_they_are_known(seconds: float, text: str) -> None:
    assert spoken(seconds) == text
