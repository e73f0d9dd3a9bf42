"""Every figure of a report by its path, with its name, unit and meaning."""

from __future__ import annotations

from memgen_eval.render.denoiser_figures import DENOISER, GAUSSIAN
from memgen_eval.render.numbers import Figure, Unit
from memgen_eval.render.sample_figures import MEMORIZATION, NOVELTY, fidelity

FAMILY_TITLES = {
    "memorization": "Memorization",
    "novelty": "Novelty",
    "fidelity": "Fidelity",
    "denoiser": "Denoiser",
    "gaussian": "Gaussian structure",
}

FIGURES: dict[str, Figure] = {
    f"{family}.{name}": figure
    for family, figures in (
        ("memorization", MEMORIZATION),
        ("novelty", NOVELTY),
        ("fidelity", fidelity()),
        ("denoiser", DENOISER),
        ("gaussian", GAUSSIAN),
    )
    for name, figure in figures.items()
}


def unit_of(path: str, features: str) -> Unit:
    """The unit of a figure; novelty's distances are in grey levels only where the features are pixels."""
    unit = FIGURES[path].unit
    return "feature distance" if unit == "distance" and path.startswith("novelty.") and features != "pixels" else unit
