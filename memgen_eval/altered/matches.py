"""How an altered copy differs from the training image on which it lies, in numbers and in words."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.altered.views import VIEWS, View, viewed
from memgen_eval.altered.windows import Geometry
from memgen_eval.compute.rows import mirrored
from memgen_eval.results import AlteredMatch

NOTICED_CONTRAST, NOTICED_LEVELS = 0.08, 5.0  # a share, and grey levels

Rows = NDArray[np.int64]


def altered_match(
    image: NDArray[Any], train: NDArray[Any], lie: Rows, *, sample_index: int, train_index: int, ratio: float
) -> AlteredMatch:
    """How an image, (C, H, W), differs from a training image on which it lies so; `lie` is a row of `Evened.best`."""
    view, (down, right), flipped = VIEWS[lie[0]], lie[1:3].tolist(), bool(lie[3])
    shift = Geometry.of(image.shape).shift
    height, width = (size - 2 * shift for size in image.shape[1:])
    seen = viewed(image[None], view, border=shift)[0].astype(np.float64)
    top, left = shift - down, shift - right
    own = (mirrored(train[None])[0] if flipped else train)[:, top : top + height, left : left + width].astype(
        np.float64
    )
    varied = own - own.mean()
    contrast = float((varied * seen).sum() / max(float((varied**2).sum()), 1.0))
    brightness = float(seen.mean() - own.mean())
    residual = float(np.sqrt(np.mean((seen - seen.mean() - contrast * varied) ** 2)))
    evenly_brighter = abs(float(seen.mean()) - contrast * float(own.mean())) <= NOTICED_LEVELS
    return AlteredMatch(
        *(sample_index, train_index, flipped, right, down, -view.turn, 1 / view.scale),
        *(contrast, brightness, residual, ratio),
        words=_alterations(flipped, (right, down), view, contrast, brightness, evenly_brighter=evenly_brighter),
    )


def _alterations(
    flipped: bool, moved: tuple[int, int], view: View, contrast: float, brightness: float, *, evenly_brighter: bool
) -> str:
    """What was altered, in words; "unaltered" where nothing is noticed."""
    words = ["mirrored"] if flipped else []
    if any(moved):
        steps = [f"{abs(size)} {name}" for size, name in zip(moved, _directions(moved), strict=True) if size]
        words.append(f"shifted {' and '.join(steps)} (pixels)")
    words += [f"turned by about {abs(view.turn):g} degrees"] if view.turn else []
    words += [f"{'enlarged' if view.scale < 1 else 'reduced'} by about an eighth"] if view.scale != 1 else []
    if abs(contrast - 1) > NOTICED_CONTRAST and evenly_brighter:
        words.append(f"{100 * abs(contrast - 1):.0f} % {'brighter' if contrast > 1 else 'darker'}")
    else:
        words += [f"at {100 * contrast:.0f} % of its contrast"] if abs(contrast - 1) > NOTICED_CONTRAST else []
        way = "brighter" if brightness > 0 else "darker"
        words += [f"{abs(brightness):.0f} grey levels {way}"] if abs(brightness) > NOTICED_LEVELS else []
    return ", ".join(words) or "unaltered"


def _directions(moved: tuple[int, int]) -> tuple[str, str]:
    return "right" if moved[0] > 0 else "left", "down" if moved[1] > 0 else "up"
