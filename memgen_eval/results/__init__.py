"""What an evaluation finds, part by part: estimates with intervals, five families of them, a verdict, the settings.

Frozen values only; `memgen_eval.report` puts them together and knows how they are written.
"""

from __future__ import annotations

from typing import get_type_hints

from memgen_eval.results.figures import (
    GREY_LEVELS as GREY_LEVELS,
    LABELS as LABELS,
    LEVEL as LEVEL,
    AlteredMatch as AlteredMatch,
    Anchor as Anchor,
    Axis as Axis,
    Caption as Caption,
    Curve as Curve,
    Estimate as Estimate,
    Evidence as Evidence,
    Family as Family,
    Gallery as Gallery,
    Label as Label,
    Match as Match,
    Provenance as Provenance,
    RuleFinding as RuleFinding,
    Settings as Settings,
    Unit as Unit,
    Verdict as Verdict,
    Z as Z,
)
from memgen_eval.results.memorization_family import Memorization as Memorization
from memgen_eval.results.model_families import Denoiser as Denoiser, Gaussian as Gaussian
from memgen_eval.results.sample_families import (
    Fidelity as Fidelity,
    Novelty as Novelty,
)

FAMILY_TYPES: dict[str, type[Family]] = {
    "memorization": Memorization,
    "novelty": Novelty,
    "fidelity": Fidelity,
    "denoiser": Denoiser,
    "gaussian": Gaussian,
}
FAMILIES = tuple(FAMILY_TYPES)
# of every figure that a report can hold, by its path: family and name
CAPTIONS: dict[str, Caption] = {
    f"{family}.{name}": caption for family, kind in FAMILY_TYPES.items() for name, caption in kind.captions().items()
}


def figure_kinds() -> dict[str, type[Estimate] | type[Curve]]:
    """The kind of each figure, Estimate or Curve, by path."""
    hints = {family: get_type_hints(kind) for family, kind in FAMILY_TYPES.items()}
    return {path: hints[path.split(".")[0]][path.split(".")[1]] for path in CAPTIONS}
