"""What an evaluation finds, part by part: estimates with intervals, five families of them, a verdict, the settings.

Frozen values only; `memgen_eval.report` puts them together and knows how they are written.
"""

from __future__ import annotations

from memgen_eval.results.catalogue import CAPTIONS, FAMILIES, FAMILY_TYPES, figure_kinds
from memgen_eval.results.figures import (
    GREY_LEVELS,
    LABELS,
    Axis,
    Caption,
    Curve,
    Estimate,
    Evidence,
    Family,
    Gallery,
    Label,
    Match,
    Provenance,
    Settings,
    Unit,
    Verdict,
    figure,
)
from memgen_eval.results.model_families import Denoiser, Gaussian
from memgen_eval.results.sample_families import Fidelity, Memorization, Novelty

__all__ = [
    "CAPTIONS",
    "FAMILIES",
    "FAMILY_TYPES",
    "GREY_LEVELS",
    "LABELS",
    "Axis",
    "Caption",
    "Curve",
    "Denoiser",
    "Estimate",
    "Evidence",
    "Family",
    "Fidelity",
    "Gallery",
    "Gaussian",
    "Label",
    "Match",
    "Memorization",
    "Novelty",
    "Provenance",
    "Settings",
    "Unit",
    "Verdict",
    "figure",
    "figure_kinds",
]
