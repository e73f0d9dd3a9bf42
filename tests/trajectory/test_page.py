"""What the page of a training says: sentences that agree with the onsets, marks on every chart, strips as they are."""

from __future__ import annotations

import base64
import io
from dataclasses import replace

import numpy as np
from PIL import Image

from memgen_eval import Report, onsets
from memgen_eval.render.several.course import COURSE, course_drawings
from memgen_eval.render.several.strips import MOST_STRIPS, Strip, strips_shown
from memgen_eval.render.several.timeline import timeline
from trajectory.courses import ladder, reports_of, rising

STEPS = ladder(8192).tolist()
SHARE, GAPS = rising(ladder(8192), onset=1500), 0.05 * rising(ladder(8192), onset=400)


def training(*, share: float = 1.0, gap: float = 1.0) -> list[Report]:
    copies = np.round(500 * share * SHARE).astype(int)
    swd = 0.05 + 0.2 * np.exp(-ladder(8192) / 150)
    return reports_of(copies.tolist(), flagged_unseen=2, gaps=(gap * GAPS).tolist(), swd=swd.tolist())


def test_the_sentences_say_both_onsets_and_when_to_stop() -> None:
    told, found = timeline(training(), STEPS, "step"), onsets(training(), STEPS)
    loss, copies, window = found.onset_loss.step, found.onset_copy.step, found.early_stopping
    assert told.onsets == found and window.first is not None
    first, second = told.sentences
    of_loss, of_copies = (
        f"{step.value:,.0f} (95 % interval: {step.low:,.0f} to {step.high:,.0f})" for step in (loss, copies)
    )
    assert first == (
        f"Test loss leaves training loss at step {of_loss}; copies appear at step {of_copies}, 2.5 times as late."
    )
    between = f"steps {window.first:,.0f} and {window.last:,.0f}"
    assert second == (
        f"The time to stop is between {between}: quality no longer improves, and copies have not appeared."
    )
    assert [row.around for row in told.rows[:2]] == ["512 and 813", "1,290 and 2,048"]


def test_what_is_not_seen_is_said() -> None:
    first, second = timeline(training(share=0, gap=0), STEPS, "step").sentences
    assert first == (
        "Up to step 8,192, it is not seen that test loss leaves training loss; "
        "up to step 8,192, it is not seen that copies appear."
    )
    assert second.endswith("(no copies within the run: it may end later).")
    blind = [replace(report, denoiser=None, verdict=None) for report in training()]
    first, second = timeline(blind, STEPS, "step").sentences
    assert "Whether test loss leaves training loss cannot be told (the report of step 64 has no" in first
    assert second.startswith("There is no window to stop in: the report of step 64 has no verdict")
    other = replace(blind[-1], settings=replace(blind[-1].settings, threshold=0.25))
    told = timeline([*blind[:-1], other], STEPS, "step")
    assert told.onsets is None and told.rows == () and "other settings: threshold" in told.sentences[0]


def test_both_onsets_are_marked_on_every_chart() -> None:
    reports = training()
    charts = course_drawings(reports, STEPS, "step", onsets(reports, STEPS))
    assert [chart["title"] for chart in charts] == [chart.title for chart in COURSE]
    for chart in charts:
        assert ">loss onset<" in chart["svg"] and ">copies<" in chart["svg"]
        assert len(chart["table"]["rows"]) == len(STEPS)
    for chart in course_drawings(reports, STEPS, "step", None):
        assert ">loss onset<" not in chart["svg"]


def test_strips_are_samples_above_their_nearest_images() -> None:
    generator = np.random.default_rng(0)
    strips = [Strip(*generator.integers(0, 256, (2, 16, 3, 5, 4), dtype=np.uint8)) for _ in range(40)]
    shown = strips_shown(strips, list(range(1, 41)))
    assert len(shown) == MOST_STRIPS and (shown[0]["step"], shown[-1]["step"]) == ("1", "40")
    for picture, first in zip(shown[-1]["pictures"], (0, 8), strict=True):
        content = base64.b64decode(picture["source"].removeprefix("data:image/png;base64,"))
        pixels = np.asarray(Image.open(io.BytesIO(content))).transpose(2, 0, 1)
        assert pixels.shape == (3, 2 * 5 + 1, 8 * 4 + 7)
        for i in range(8):
            across = slice(5 * i, 5 * i + 4)
            assert (pixels[:, :5, across] == strips[-1].samples[first + i]).all()
            assert (pixels[:, 6:, across] == strips[-1].nearest[first + i]).all()
