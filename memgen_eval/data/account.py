"""The account of a set in one line: what was read, what was assumed, what was left out, and what is odd about it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.data.images import ImageSet
from memgen_eval.data.messages import quoted, shape_text, which_image


def accounted(images: ImageSet) -> dict[str, Any]:
    """How a set arrived and what is in it, in JSON types; `account` says it in one line."""
    found = images.survey
    return {
        **images.arrival,
        "occupied": [found.minimum, found.maximum],
        "repeats": _marked(found.repeats),
        "single_colour": _marked(found.constant),
        "account": "; ".join(_parts(images)),
    }


def _marked(images: NDArray[np.bool_]) -> dict[str, int | None]:
    """How many images are marked, and the index of the first."""
    count = int(np.count_nonzero(images))
    return {"count": count, "first": int(images.argmax()) if count else None}


def _parts(images: ImageSet) -> Iterator[str]:
    arrival, found = images.arrival, images.survey
    source = "" if arrival["path"] is None else f" {quoted(arrival['path'])}"
    yield f"{len(images):,} images of {shape_text(images.shape)} ({arrival['form']}{source})"
    yield _values(arrival)
    yield f"grey levels from {found.minimum:.4g} to {found.maximum:.4g}"
    if found.grey:
        yield "all images are grey, in three equal channels"
    yield from _first_of(found.repeats, ("image repeats", "images repeat"), "an earlier one", images)
    yield from _first_of(found.constant, ("image has", "images have"), "a single colour", images)
    yield from arrival["notes"]


def _values(arrival: Any) -> str:
    """What the values are, and what was assumed of them."""
    stored = f"{arrival['dtype']} in {arrival['layout']}"
    if not arrival["range_given"]:
        return f"{stored}, taken to be in [-1, 1] because no range was given"
    low, high = arrival["value_range"]
    return stored if (low, high) == (0, 255) else f"{stored} in [{low:g}, {high:g}]"


def _first_of(marked: NDArray[np.bool_], verbs: tuple[str, str], what: str, images: ImageSet) -> Iterator[str]:
    """How many images are marked, in the singular or the plural, and which is the first."""
    count = int(np.count_nonzero(marked))
    if count:
        yield f"{count:,} {verbs[count > 1]} {what} (the first: {which_image(int(marked.argmax()), images.names)})"
