"""Every figure that a report can hold, by its path: family and name."""

from __future__ import annotations

from typing import get_type_hints

from memgen_eval.results.figures import Caption, Curve, Estimate, Family
from memgen_eval.results.model_families import Denoiser, Gaussian
from memgen_eval.results.sample_families import Fidelity, Memorization, Novelty

FAMILY_TYPES: dict[str, type[Family]] = {
    "memorization": Memorization,
    "novelty": Novelty,
    "fidelity": Fidelity,
    "denoiser": Denoiser,
    "gaussian": Gaussian,
}
FAMILIES = tuple(FAMILY_TYPES)
CAPTIONS: dict[str, Caption] = {
    f"{family}.{name}": caption for family, kind in FAMILY_TYPES.items() for name, caption in kind.captions().items()
}


def figure_kinds() -> dict[str, type[Estimate] | type[Curve]]:
    """The kind of each figure, Estimate or Curve, by path."""
    return {
        f"{family}.{name}": hints[name]
        for family, kind in FAMILY_TYPES.items()
        if (hints := get_type_hints(kind))
        for name in kind.captions()
    }
