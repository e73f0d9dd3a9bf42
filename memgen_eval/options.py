"""What a user chose, checked once: everything that determines the figures, and which of them are wanted."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from dataclasses import dataclass

from memgen_eval.compute.engines import EngineName, chosen_engine
from memgen_eval.errors import InputError, check_count
from memgen_eval.features.spaces import PIXELS, Features, chosen_features
from memgen_eval.gates import did_you_mean
from memgen_eval.metrics.statistics import check_fraction
from memgen_eval.results import FAMILIES, Curve, figure_kinds

NOT_ASKED = "not asked for"
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


@dataclass(frozen=True)
class Options:
    """The keywords of `evaluate` that determine its figures, with their defaults; see there.

    Raises InputError naming the first that cannot be used. Numbers are Python's own afterwards, and metrics are paths.
    """

    metrics: str | Sequence[str] | None = None
    features: Features = "pixels"
    threshold: float = 1 / 3
    duplicate_tolerance: float | None = None
    flip: bool = True
    quantize: bool = True
    sigmas: Sequence[float] | None = None
    num_denoiser_images: int = 256
    num_draws: int = 2
    denoiser_batch_size: int = 64
    seed: int = 0
    memory_budget: str | int = "512MiB"
    engine: EngineName | None = None

    def __post_init__(self) -> None:
        """Check and convert each."""
        tolerance = self.duplicate_tolerance
        checked = {
            "metrics": chosen_metrics(self.metrics),
            "sigmas": None if self.sigmas is None else _check_sigmas(self.sigmas),
            "threshold": check_fraction("threshold", self.threshold),
            "duplicate_tolerance": None if tolerance is None else _check_tolerance(tolerance),
            "features": chosen_features(self.features),
            "num_denoiser_images": check_count("num_denoiser_images", self.num_denoiser_images),
            "num_draws": check_count("num_draws", self.num_draws),
            "denoiser_batch_size": check_count("denoiser_batch_size", self.denoiser_batch_size),
            "seed": check_seed(self.seed),
            "engine": chosen_engine(self.engine),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def wants(self, family: str) -> bool:
        """Whether any figure of the family was asked for."""
        return self.metrics is None or any(path.split(".")[0] == family for path in self.metrics)

    def wants_figure(self, *paths: str) -> bool:
        """Whether one of these figures, or its whole family, was asked for."""
        return self.metrics is None or any(
            path in self.metrics or path.partition(".")[0] in self.metrics for path in paths
        )

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
            f"metrics names {name!r:.80}, expected a family ({families}) or a figure such as novelty.auc{hint}"
        )
    return matches[0]


def check_measurable(path: str, where: str, *, features: Features = "pixels") -> None:
    """Raise InputError, naming `where` it was asked for, for what no evaluation without a denoiser can measure."""
    family, name = (*path.split("."), "")[:2]
    figure = f"{family}.{name}"
    of_denoiser = family == "denoiser" and name != "" and figure not in OF_DATA_ALONE
    if of_denoiser or (family == "gaussian" and figure_kinds().get(figure) is Curve):
        raise InputError(f"{where} needs the model's denoiser, which only Python can give: evaluate(..., denoiser=)")
    if family == "fidelity" and name.endswith(("fid", "kid")) and features == PIXELS:
        raise InputError(f"{where} needs the features of a network: add --features inception, or another one")
    if family == "memorization" and "feature_" in name and features == PIXELS:
        raise InputError(f"{where} needs the features of a network: add --features sscd, or another one")


def _check_sigmas(sigmas: Sequence[float]) -> tuple[float, ...]:
    from memgen_eval.diffusion.inputs import check_sigmas  # imports torch

    return tuple(check_sigmas(sigmas).tolist())


def _check_tolerance(value: object) -> float:
    number = float(value) if isinstance(value, numbers.Real) and not isinstance(value, bool) else -1.0
    if not 0 <= number < 1:
        raise InputError(f"duplicate_tolerance is {value!r:.80}, expected a number from 0 to below 1 (units of [0, 1])")
    return number


def check_seed(value: object, *, name: str = "seed") -> int:
    """`value` as an int if every generator takes it. Raises InputError otherwise."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or not 0 <= int(value) <= MAX_SEED:
        raise InputError(f"{name} is {value!r:.80}, expected an integer from 0 to 2**62 - 1")
    return int(value)
