"""What a user chose, checked once: everything that determines the figures, and which of them are wanted."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from memgen_eval.errors import InputError
from memgen_eval.gates import figure_kinds
from memgen_eval.metrics.statistics import check_share
from memgen_eval.report import FAMILIES

NOT_ASKED = "not asked for"
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
    approximate: bool
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
        raise InputError(f"metrics names {name!r}, expected a family ({families}) or a figure such as novelty.auc")
    return matches[0]


def check_options(options: Options) -> Options:
    """The options, if each is usable. Raises InputError naming the first that is not."""
    check_share("threshold", options.threshold)
    tolerance = options.duplicate_tolerance
    if tolerance is not None and not (_is_number(tolerance) and 0 <= tolerance < 1):
        raise InputError(f"duplicate_tolerance is {tolerance!r}, expected a number from 0 to below 1 (units of [0, 1])")
    for name in ("num_denoiser_images", "num_draws", "denoiser_batch_size"):
        check_count(name, getattr(options, name))
    if not isinstance(options.seed, int) or isinstance(options.seed, bool) or options.seed < 0:
        raise InputError(f"seed is {options.seed!r}, expected an integer of at least 0")
    if isinstance(options.features, str) and options.features != "pixels":
        raise InputError(f"features is {options.features!r}, expected 'pixels' or a callable from images to features")
    if options.approximate and options.features == "pixels":
        raise InputError(
            "approximate=True with features='pixels', which are searched exactly: give a callable features="
        )
    return options


def check_count(name: str, value: object) -> int:
    """`value` if it is a positive integer. Raises InputError naming it otherwise."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(f"{name} is {value!r}, expected an integer of at least 1")
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
