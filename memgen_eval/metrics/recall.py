"""Notes on the figures of novelty: what an approximate search is worth, which images were left out."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.metrics.statistics import wilson_interval
from memgen_eval.report import Novelty

OF_SAMPLES = ("distance_quantiles", "distance_median", "authenticity")
OF_BASELINE = ("test_distance_quantiles", "test_distance_median", "test_authenticity")


def recall_note(all_found: NDArray[np.bool_], k: int, *, name: str) -> str:
    """For how many of the images checked, called `name`, the K nearest are the exact ones, with Wilson's interval."""
    found, checked = int(np.count_nonzero(all_found)), len(all_found)
    low, high = wilson_interval(found / checked, checked)
    share = f"{found:,} of {checked:,} checked {name} (95 %: {100 * low:.1f} to {100 * high:.1f} %)"
    return f"approximate search: the {k} nearest exact for {share}"


def with_notes(family: Novelty, *, samples: tuple[str, ...], baseline: tuple[str, ...]) -> Novelty:
    """The family with these notes on the figures that rest on samples, on the baseline, or on both."""
    noted: dict[str, Any] = {}
    for name in (field.name for field in fields(family)):
        figure = getattr(family, name)
        notes = samples * (name not in OF_BASELINE) + baseline * (name not in OF_SAMPLES)
        if figure.value is not None:
            noted[name] = replace(figure, notes=(*figure.notes, *notes))
    return replace(family, **noted)
