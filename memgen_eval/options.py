"""What a user chose, checked once: everything that determines the figures, and which of them are wanted."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from memgen_eval.errors import InputError, check_count
from memgen_eval.gates import did_you_mean
from memgen_eval.metrics.statistics import check_share
from memgen_eval.results import FAMILIES, Curve, figure_kinds

NOT_ASKED = "not asked for"
NOT_BUILT = "this version does not measure it"
MAX_SEED = 2**62 - 1  # images have seeds of their own, counted on from it, in 63 bits
OF_DATA_ALONE = frozenset(
    f"denoiser.{name}"
    for name in (
        "optimal_error_train",
        "optimal_error_test",
        "effective_neighbours",
        "effective_neighbours_train",
        "collapse_sigma",
        "predicted_collapse_sigma",
    )
)
NUM_SAMPLES = 10_000  # asked of a sampler unless another number is given


@dataclass(frozen=True)
class Options:
    """The keywords of `evaluate` that determine its figures; see there."""

    metrics: tuple[str, ...] | None
    features: str | Callable[..., Any]
    threshold: float
    duplicate_tolerance: float | None
    flip: bool
    quantize: bool
    sigmas: tuple[float, ...] | None
    num_denoiser_images: int
    num_draws: int
    denoiser_batch_size: int
    seed: int
    memory_budget: str | int

    def wants(self, family: str) -> bool:
        """Whether any figure of the family was asked for."""
        return self.metrics is None or any(path.split(".")[0] == family for path in self.metrics)

    def wants_figure(self, path: str) -> bool:
        """Whether the figure, or its whole family, was asked for."""
        return self.metrics is None or path in self.metrics or path.partition(".")[0] in self.metrics

    def named(self, family: str) -> bool:
        """Whether the family was asked for by name, so that its failure is an error."""
        return self.metrics is not None and self.wants(family)


def chosen_metrics(metrics: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """Families and figures by their paths; a bare figure's name is completed where only one family has it."""
    if metrics is None:
        return None
    paths = tuple(_path(name) for name in ([metrics] if isinstance(metrics, str) else metrics))
    if not paths:
        raise InputError(f"metrics is empty; leave it out for all, or name some of {', '.join(FAMILIES)}")
    return tuple(sorted(set(paths)))


def _path(name: str) -> str:
    known = figure_kinds()
    if name in FAMILIES or name in known:
        return name
    matches = [path for path in known if path.split(".")[1] == name]
    if len(matches) != 1:
        families = ", ".join(FAMILIES)
        hint = did_you_mean(name, [*FAMILIES, *known, *(path.split(".")[1] for path in known)])
        raise InputError(
            f"metrics names {name!r}, expected a family ({families}) or a figure such as novelty.auc{hint}"
        )
    return matches[0]


def check_measurable(path: str, where: str) -> None:
    """Raise InputError, naming `where` it was asked for, for what no evaluation without a denoiser can measure."""
    family, name = (*path.split("."), "")[:2]
    figure = f"{family}.{name}"
    of_denoiser = family == "denoiser" and name != "" and figure not in OF_DATA_ALONE
    if of_denoiser or (family == "gaussian" and figure_kinds().get(figure) is Curve):
        raise InputError(f"{where} needs the model's denoiser, which only Python can give: evaluate(..., denoiser=)")
    if family == "fidelity" or name.endswith("feature_similarity"):
        raise InputError(f"{where}: {NOT_BUILT}; leave it out")


def check_options(options: Options) -> Options:
    """The options, their numbers as Python's own. Raises InputError naming the first that is not usable."""
    threshold, tolerance = check_share("threshold", options.threshold), options.duplicate_tolerance
    if tolerance is not None and not (_is_number(tolerance) and 0 <= tolerance < 1):
        raise InputError(f"duplicate_tolerance is {tolerance!r}, expected a number from 0 to below 1 (units of [0, 1])")
    if isinstance(options.features, str) and options.features != "pixels":
        raise InputError(f"features is {options.features!r}, expected 'pixels' or a callable from images to features")
    return replace(
        options,
        threshold=threshold,
        duplicate_tolerance=None if tolerance is None else float(tolerance),
        num_denoiser_images=check_count("num_denoiser_images", options.num_denoiser_images),
        num_draws=check_count("num_draws", options.num_draws),
        denoiser_batch_size=check_count("denoiser_batch_size", options.denoiser_batch_size),
        seed=check_seed(options.seed),
    )


def check_seed(value: object, *, name: str = "seed") -> int:
    """`value` as an int if every generator takes it. Raises InputError otherwise."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or not 0 <= int(value) <= MAX_SEED:
        raise InputError(f"{name} is {value!r}, expected an integer from 0 to 2**62 - 1")
    return int(value)


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
