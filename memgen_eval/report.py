"""What an evaluation returns: five families of estimates, a verdict, and how they came about.

Attributes, JSON paths and gates use the same words; `to_dict` holds JSON types and no NaN.
"""

from __future__ import annotations

import json
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memgen_eval.errors import InputError, reading
from memgen_eval.gates import did_you_mean, parse_gate, require
from memgen_eval.results import (
    CAPTIONS,
    Curve,
    Denoiser,
    Estimate,
    Fidelity,
    Gallery,
    Gaussian,
    Memorization,
    Novelty,
    Provenance,
    Settings,
    Verdict,
)
from memgen_eval.shell import as_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from memgen_eval.comparison.changes import Changes

SCHEMA_VERSION = 4
HIDDEN = frozenset({"gallery", "samples"})  # fields that never leave the process
FIRST = "schema_version"
LARGEST_REPORT = 2**24  # bytes; a report of ten thousand copies has two million
LONGEST_VALUE = 80  # characters of a value that a message repeats


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
        data = to_json(self)
        return {FIRST: data.pop(FIRST), **data}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Report:
        """The report that `to_dict` wrote. Raises InputError for anything else."""
        version = data.get(FIRST) if isinstance(data, Mapping) else None
        if version != SCHEMA_VERSION:
            expected = f"expected {SCHEMA_VERSION}; evaluate again with this version"
            raise InputError(f"report: schema_version is {version!r:.{LONGEST_VALUE}}, {expected}")
        report: Report = from_json(cls, dict(data))
        for path, figure in report.figures():
            _check_places(report, path, figure)
        return report

    @classmethod
    def load(cls, path: str | Path) -> Report:
        """Read a report from the JSON file that `save` wrote. Raises InputError naming the file."""
        path, expected = as_path(path), "give the file that --json wrote"
        with reading(str(path), "not a readable JSON report", expected):
            if not path.exists():
                raise InputError(f"{path}: no such file; give the JSON report that --json wrote")
            if not path.is_file():
                raise InputError(f"{path}: is not a file; {expected}")
            if path.stat().st_size == 0:  # one of the kernel's too, which may have no end
                raise InputError(f"{path}: the file is empty; {expected}")
            if path.stat().st_size > LARGEST_REPORT:
                raise InputError(f"{path}: {path.stat().st_size} bytes; no report is as large: {expected}")
            try:
                return cls.from_dict(json.loads(path.read_text(encoding="utf-8")))
            except InputError as error:
                raise InputError(f"{path}: {error}") from None

    def save(self, path: str | Path, *, images: bool = True) -> None:
        """Write the report as .json, .html or .md, whichever the suffix says; `images=False` leaves every image out."""
        from memgen_eval.render.save import save_report

        save_report(self, as_path(path), images=images)

    def require(self, expression: str) -> None:
        """Raise GateError, naming value and bound, unless `expression` holds; see `memgen_eval.gates`."""
        require(self, parse_gate(expression))

    def compared_with(self, earlier: Report) -> Changes:
        """What moved since an earlier report, beyond the intervals of both; see `memgen_eval.comparison.changes`."""
        from memgen_eval.comparison.changes import changes_between

        return changes_between(earlier, self)

    def figure(self, path: str) -> Estimate | Curve | None:
        """The figure at a path such as ``novelty.auc``; None where its family was skipped.

        Raises InputError for a path at which no report holds a figure.
        """
        if path not in CAPTIONS:
            expected = f"expected the path of a figure, such as novelty.auc{did_you_mean(path, CAPTIONS)}"
            raise InputError(f"{path!r} names nothing in a report, {expected}")
        family, name = path.split(".")
        result = getattr(self, family)
        figure: Estimate | Curve | None = None if result is None else getattr(result, name)
        return figure

    def figures(self) -> Iterator[tuple[str, Estimate | Curve]]:
        """Every figure that was asked for, by its path."""
        for path in CAPTIONS:
            figure = self.figure(path)
            if figure is not None:
                yield path, figure

    def scalars(self) -> dict[str, float]:
        """Every defined value, and its interval as `.low` and `.high`, by path: for any logger."""
        flat: dict[str, float] = {}
        for path, figure in self.figures():
            if isinstance(figure, Estimate):
                parts = {path: figure.value, f"{path}.low": figure.low, f"{path}.high": figure.high}
                flat |= {name: value for name, value in parts.items() if value is not None}
        return flat

    def to_frame(self) -> DataFrame:
        """All figures as a `pandas.DataFrame`: one row for each estimate, and one for each point of a curve.

        Its columns are figure, x, value, low, high, unit, count, method and notes; NaN stands for what is not defined.
        Raises InputError where pandas is not installed.
        """
        from memgen_eval.render.notebook import frame_of

        return frame_of(self)

    def plot(self, name: str) -> Figure:
        """A chart or gallery of the page as a `matplotlib.figure.Figure`, which pyplot does not know.

        `name` is that of a chart, such as "distances", the path of a curve, which gives the chart that it is in, or
        that of a gallery: "closest", "test_closest", "altered". Raises InputError with the names that there are.
        """
        from memgen_eval.render.notebook import plot_of

        return plot_of(self, name)

    @property
    def displayed_sentence(self) -> str:
        """The verdict's sentence, with the file names of the images it speaks of."""
        if self.verdict is None:
            return "No verdict: " + self.skipped.get("verdict", "it was not asked for") + "."
        sentence, named = self.verdict.sentence, self.verdict.evidence.first_near_identical
        if named is None:
            return sentence
        names = self.provenance.names
        parts = (
            (f"sample {named.sample_index}", names.get("samples", {}).get(str(named.sample_index))),
            (f"training image {named.train_index}", names.get("train", {}).get(str(named.train_index))),
        )
        files = [f"{what} is {name}" for what, name in parts if name is not None]
        return f"{sentence} ({'; '.join(files)})" if files else sentence

    def __repr__(self) -> str:
        label = "no verdict" if self.verdict is None else self.verdict.label
        ratio = None if self.memorization is None else self.memorization.ratio.value
        shown = "not measured" if ratio is None else f"{ratio:.4g}"
        return f"Report({label!r}, {self.settings.num_samples} samples, memorization ratio {shown})"

    def __str__(self) -> str:
        from memgen_eval.render.table import plain_table

        return plain_table(self)

    def _repr_html_(self) -> str:
        from memgen_eval.render.html import render_summary

        return render_summary(self)


def _check_places(report: Report, path: str, figure: Estimate | Curve) -> None:
    """Raise InputError for a curve that is not defined at the places of its axis, or not at those of its control."""
    if isinstance(figure, Estimate) or figure.value is None:
        return
    _expect(figure.x is not None, f"report.{path}.x", "an object")
    assert figure.x is not None
    for part in ("value", "low", "high"):
        values = getattr(figure, part)
        count = len(figure.x.values)
        _expect(values is None or len(values) == count, f"report.{path}.{part}", f"a list of {count}, as its x has")
    for name in CAPTIONS[path].beside[:1]:
        control = report.figure(f"{path.partition('.')[0]}.{name}")
        fits = not isinstance(control, Curve) or control.x is None or control.value is None or control.x == figure.x
        _expect(fits, f"report.{path}.x", f"the places of {name}")


def to_json(value: Any) -> Any:
    """Dataclasses, mappings and tuples as dicts and lists; everything else is a JSON scalar already."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in fields(value) if f.name not in HIDDEN}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return value


def from_json(kind: Any, value: Any, where: str = "report") -> Any:
    """The inverse of `to_json` for an annotation. Raises InputError naming the place that does not fit."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return from_json(next(a for a in arguments if a is not type(None)), value, where)
    if is_dataclass(kind) and isinstance(kind, type):
        return _dataclass_from_json(kind, value, where)
    if origin is typing.Literal:
        _expect(value in arguments, where, f"one of {', '.join(arguments)}")
    if isinstance(origin, type) and issubclass(origin, Mapping):
        _expect(isinstance(value, dict), where, "an object")
        return {key: from_json(arguments[1], item, f"{where}[{key!r:.{LONGEST_VALUE}}]") for key, item in value.items()}
    if origin is tuple:
        _expect(isinstance(value, list), where, "a list")
        return tuple(from_json(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if kind in (float, int, str, bool):
        accepted: Any = (float, int) if kind is float else kind
        _expect(isinstance(value, accepted) and (kind is bool or not isinstance(value, bool)), where, kind.__name__)
        _expect(kind is not float or abs(value) <= sys.float_info.max, where, "a finite number")
    return value


def _dataclass_from_json(kind: type, value: Any, where: str) -> Any:
    _expect(isinstance(value, dict), where, "an object")
    hints = typing.get_type_hints(kind)
    known = [f for f in fields(kind) if f.name not in HIDDEN]
    unknown = sorted(set(value) - {f.name for f in known})
    named = ", ".join(name if name.isidentifier() else repr(name) for name in unknown)
    _expect(not unknown, where, f"no field {named:.{LONGEST_VALUE}}")
    missing = sorted({f.name for f in known} - set(value))
    _expect(not missing, where, f"a field {', '.join(missing)}")
    return kind(**{name: from_json(hints[name], item, f"{where}.{name}") for name, item in value.items()})


def _expect(holds: bool, where: str, what: str) -> None:
    if not holds:
        raise InputError(f"{where}: expected {what}; this is not a report that memgen-eval wrote")


def dumps(data: Mapping[str, Any]) -> str:
    """Strict JSON text (no NaN, no infinity), in UTF-8 characters, with a final newline."""
    return json.dumps(data, allow_nan=False, ensure_ascii=False, indent=2) + "\n"


def schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of `Report.to_dict`, derived from the dataclasses."""
    definitions: dict[str, Any] = {}
    body = _object_schema(Report, definitions)
    body["properties"][FIRST] = {"const": SCHEMA_VERSION}
    title = f"memgen-eval report, version {SCHEMA_VERSION}"
    dialect = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": dialect, "title": title, **body, "$defs": dict(sorted(definitions.items()))}


def _object_schema(kind: type, definitions: dict[str, Any]) -> dict[str, Any]:
    """A dataclass as an object that holds every field and no other; those it refers to are put into `definitions`."""
    hints = typing.get_type_hints(kind)
    names = [f.name for f in fields(kind) if f.name not in HIDDEN]
    return {
        "type": "object",
        "description": (kind.__doc__ or "").split("\n")[0],
        "properties": {name: _schema_of(hints[name], definitions) for name in names},
        "required": names,
        "additionalProperties": False,
    }


def _schema_of(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return {"anyOf": [_schema_of(a, definitions) for a in arguments]}
    if is_dataclass(kind) and isinstance(kind, type):
        if kind.__name__ not in definitions:
            definitions[kind.__name__] = _object_schema(kind, definitions)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    if origin is tuple:
        return {"type": "array", "items": _schema_of(arguments[0], definitions)}
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _schema_of(arguments[1], definitions)}
    scalars = {float: "number", int: "integer", str: "string", bool: "boolean", type(None): "null"}
    return {"type": scalars[kind]} if kind in scalars else {}
