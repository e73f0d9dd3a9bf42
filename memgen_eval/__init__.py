"""Tells whether a diffusion model generates new images or copies its training set.

The public names, and nothing else. Each is imported when it is first asked for.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memgen_eval.data.images import Images
    from memgen_eval.diffusion.denoiser import from_epsilon, from_flow, from_score, from_v, from_x0
    from memgen_eval.diffusion.gaussian import GaussianDenoiser
    from memgen_eval.diffusion.optimal import OptimalDenoiser
    from memgen_eval.diffusion.sampling import Sampler, sample
    from memgen_eval.errors import GateError, InputError, MemgenError, RankError
    from memgen_eval.evaluate import evaluate
    from memgen_eval.metrics.memorization import memorization_ratio
    from memgen_eval.metrics.novelty import authenticity, data_copying_test, partition
    from memgen_eval.neighbours.duplicates import distinct_neighbours
    from memgen_eval.neighbours.search import nearest_neighbours
    from memgen_eval.neighbours.table import Neighbours
    from memgen_eval.reference import Reference
    from memgen_eval.report import Curve, Estimate, Report, Verdict

__version__ = "0.1.0"

__all__ = [
    "Curve",
    "Estimate",
    "GateError",
    "GaussianDenoiser",
    "Images",
    "InputError",
    "MemgenError",
    "Neighbours",
    "OptimalDenoiser",
    "RankError",
    "Reference",
    "Report",
    "Sampler",
    "Verdict",
    "authenticity",
    "data_copying_test",
    "distinct_neighbours",
    "evaluate",
    "from_epsilon",
    "from_flow",
    "from_score",
    "from_v",
    "from_x0",
    "memorization_ratio",
    "nearest_neighbours",
    "partition",
    "sample",
]

_HOMES = {
    "Curve": "memgen_eval.report",
    "Estimate": "memgen_eval.report",
    "GateError": "memgen_eval.errors",
    "GaussianDenoiser": "memgen_eval.diffusion.gaussian",
    "Images": "memgen_eval.data.images",
    "InputError": "memgen_eval.errors",
    "MemgenError": "memgen_eval.errors",
    "Neighbours": "memgen_eval.neighbours.table",
    "OptimalDenoiser": "memgen_eval.diffusion.optimal",
    "RankError": "memgen_eval.errors",
    "Reference": "memgen_eval.reference",
    "Report": "memgen_eval.report",
    "Sampler": "memgen_eval.diffusion.sampling",
    "Verdict": "memgen_eval.report",
    "authenticity": "memgen_eval.metrics.novelty",
    "data_copying_test": "memgen_eval.metrics.novelty",
    "distinct_neighbours": "memgen_eval.neighbours.duplicates",
    "evaluate": "memgen_eval.evaluate",
    "from_epsilon": "memgen_eval.diffusion.denoiser",
    "from_flow": "memgen_eval.diffusion.denoiser",
    "from_score": "memgen_eval.diffusion.denoiser",
    "from_v": "memgen_eval.diffusion.denoiser",
    "from_x0": "memgen_eval.diffusion.denoiser",
    "memorization_ratio": "memgen_eval.metrics.memorization",
    "nearest_neighbours": "memgen_eval.neighbours.search",
    "partition": "memgen_eval.metrics.novelty",
    "sample": "memgen_eval.diffusion.sampling",
}


class _Package(ModuleType):
    """Keeps the name `evaluate` for the function: importing the file of that name would bind the module to it."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
