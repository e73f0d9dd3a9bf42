"""Tells whether a diffusion model generates new images or copies its training set.

The public names, and nothing else. Each is imported when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memgen_eval.adapters.model import Model as Model
    from memgen_eval.copying.copy_rules import memorization_ratio as memorization_ratio
    from memgen_eval.data.images import Images as Images
    from memgen_eval.diffusion.denoiser import (
        from_epsilon as from_epsilon,
        from_flow as from_flow,
        from_score as from_score,
        from_v as from_v,
        from_x0 as from_x0,
    )
    from memgen_eval.diffusion.gaussian import GaussianDenoiser as GaussianDenoiser
    from memgen_eval.diffusion.optimal import OptimalDenoiser as OptimalDenoiser
    from memgen_eval.diffusion.sampling import Sampler as Sampler, sample as sample
    from memgen_eval.errors import (
        GateError as GateError,
        InputError as InputError,
        MemgenError as MemgenError,
        RankError as RankError,
    )
    from memgen_eval.evaluation import evaluate as evaluate
    from memgen_eval.features.spaces import FeatureNet as FeatureNet
    from memgen_eval.metrics.data_copying import data_copying_test as data_copying_test, partition as partition
    from memgen_eval.metrics.novelty import authenticity as authenticity
    from memgen_eval.neighbours.duplicates import distinct_neighbours as distinct_neighbours
    from memgen_eval.neighbours.search import nearest_neighbours as nearest_neighbours
    from memgen_eval.neighbours.topk import Neighbours as Neighbours
    from memgen_eval.reference import Reference as Reference
    from memgen_eval.report import Report as Report
    from memgen_eval.results import Curve as Curve, Estimate as Estimate, Verdict as Verdict
    from memgen_eval.spectra.jacobian import (
        JacobianSpectrum as JacobianSpectrum,
        direction_overlap as direction_overlap,
        jacobian_spectrum as jacobian_spectrum,
    )
    from memgen_eval.spectra.pairs import (
        pair_distance as pair_distance,
        probability_flow_distance as probability_flow_distance,
        reproducibility as reproducibility,
    )
    from memgen_eval.trajectory.onsets import Onsets as Onsets, onsets as onsets

__version__ = "0.1.0"

_NAMES = {
    "adapters.model": ("Model",),
    "copying.copy_rules": ("memorization_ratio",),
    "data.images": ("Images",),
    "diffusion.denoiser": ("from_epsilon", "from_flow", "from_score", "from_v", "from_x0"),
    "diffusion.gaussian": ("GaussianDenoiser",),
    "diffusion.optimal": ("OptimalDenoiser",),
    "diffusion.sampling": ("Sampler", "sample"),
    "errors": ("GateError", "InputError", "MemgenError", "RankError"),
    "evaluation": ("evaluate",),
    "features.spaces": ("FeatureNet",),
    "metrics.data_copying": ("data_copying_test", "partition"),
    "metrics.novelty": ("authenticity",),
    "neighbours.duplicates": ("distinct_neighbours",),
    "neighbours.search": ("nearest_neighbours",),
    "neighbours.topk": ("Neighbours",),
    "reference": ("Reference",),
    "report": ("Report",),
    "results": ("Curve", "Estimate", "Verdict"),
    "spectra.jacobian": ("JacobianSpectrum", "direction_overlap", "jacobian_spectrum"),
    "spectra.pairs": ("pair_distance", "probability_flow_distance", "reproducibility"),
    "trajectory.onsets": ("Onsets", "onsets"),
}
_HOMES = {name: f"{__name__}.{module}" for module, names in _NAMES.items() for name in names}
__all__ = sorted(_HOMES)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
