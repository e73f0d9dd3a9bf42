"""What an evaluation returns: five families of estimates, a verdict, and how they came about.

Attributes, JSON paths and gates use the same words; `to_dict` holds JSON types and no NaN.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from memgen_eval import serialise
from memgen_eval.paths import as_path
from memgen_eval.results import (
    LABELS,
    Axis,
    Curve,
    Denoiser,
    Estimate,
    Evidence,
    Fidelity,
    Gallery,
    Gaussian,
    Label,
    Match,
    Memorization,
    Novelty,
    Provenance,
    Settings,
    Verdict,
)

__all__ = [
    "FAMILIES",
    "LABELS",
    "SCHEMA_VERSION",
    "Axis",
    "Curve",
    "Denoiser",
    "Estimate",
    "Evidence",
    "Fidelity",
    "Gallery",
    "Gaussian",
    "Label",
    "Match",
    "Memorization",
    "Novelty",
    "Provenance",
    "Report",
    "Settings",
    "Verdict",
]

SCHEMA_VERSION = 3
FAMILIES = ("memorization", "novelty", "fidelity", "denoiser", "gaussian")


@dataclass(frozen=True)
class Report:
    """Everything that one evaluation found. Two reports are equal when they are equal without `provenance`.

    `cautions` say why the images may not be what was meant; while there are any, nothing is acquitted. `samples` are
    those that a sampler drew, in grey levels, (N, C, H, W), to be kept or looked at; None where images were given. Like
    the gallery's pictures, they are not written with the report.
    `print(report)` shows the verdict and the headlines; a notebook shows a summary.
    """

    cautions: tuple[str, ...]
    verdict: Verdict | None
    memorization: Memorization | None
    novelty: Novelty | None
    fidelity: Fidelity | None
    denoiser: Denoiser | None
    gaussian: Gaussian | None
    skipped: Mapping[str, str]
    settings: Settings
    provenance: Provenance = field(compare=False)
    schema_version: int = SCHEMA_VERSION
    gallery: Gallery | None = field(default=None, compare=False, repr=False)
    samples: Any = field(default=None, compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The report in JSON types, as the schema that ships with the package describes it; images are left out."""
        return serialise.report_to_dict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Report:
        """The report that `to_dict` wrote. Raises InputError for anything else."""
        return serialise.report_from_dict(cls, data)

    @classmethod
    def load(cls, path: str | Path) -> Report:
        """Read a report from the JSON file that `save` wrote. Raises InputError naming the file."""
        return serialise.load_report(cls, as_path(path))

    def save(self, path: str | Path, *, images: bool = True) -> None:
        """Write the report as .json, .html or .md, whichever the suffix says; `images=False` leaves every image out."""
        from memgen_eval.render.files import save_report

        save_report(self, as_path(path), images=images)

    def require(self, expression: str) -> None:
        """Raise GateError, naming value and bound, unless `expression` holds; see `memgen_eval.gates`."""
        from memgen_eval.gates import parse_gate, require

        require(self, parse_gate(expression))

    def figures(self) -> Iterator[tuple[str, Estimate | Curve]]:
        """Every figure that was asked for, by its path."""
        for family in FAMILIES:
            result = getattr(self, family)
            for name in (f.name for f in fields(result)) if result is not None else ():
                figure = getattr(result, name)
                if isinstance(figure, Estimate | Curve):
                    yield f"{family}.{name}", figure

    def scalars(self) -> dict[str, float]:
        """Every defined value, and its interval as `.low` and `.high`, by path: for any logger."""
        flat: dict[str, float] = {}
        for path, figure in self.figures():
            if isinstance(figure, Estimate):
                parts = {path: figure.value, f"{path}.low": figure.low, f"{path}.high": figure.high}
                flat |= {name: value for name, value in parts.items() if value is not None}
        return flat

    @property
    def displayed_sentence(self) -> str:
        """The verdict's sentence, with the file names of the images it speaks of."""
        return serialise.sentence_with_names(self)

    def __repr__(self) -> str:
        label = "no verdict" if self.verdict is None else self.verdict.label
        ratio = None if self.memorization is None else self.memorization.ratio.value
        shown = "not measured" if ratio is None else f"{ratio:.4g}"
        return f"Report({label!r}, {self.settings.num_samples} samples, memorization ratio {shown})"

    def __str__(self) -> str:
        from memgen_eval.render.table import plain_table

        return plain_table(self)

    def _repr_html_(self) -> str:
        from memgen_eval.render.notebook import render_summary

        return render_summary(self)
