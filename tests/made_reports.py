"""Reports made from the annotations alone, every field filled in: for tests of reading, writing and judging them."""

from __future__ import annotations

import types
import typing
from dataclasses import fields, is_dataclass, replace
from typing import Any

from memgen_eval.report import SCHEMA_VERSION, Report
from memgen_eval.results import Axis, Curve, Estimate

ESTIMATE = Estimate(0.25, 0.125, 0.5, "Clopper-Pearson 95 %", 400, ("a note", "another, with ünïcode"))


def made(kind: Any) -> Any:
    """A value of an annotation: nothing empty, nothing None."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Estimate:
        return ESTIMATE
    if kind is Curve:
        axis = Axis("x", "text", (0.1, 0.2, 0.4))
        return Curve((0.5, None, 0.75), (0.25, None, 0.5), (1.0, None, 1.0), "m", 9, ("n",), axis)
    if is_dataclass(kind) and isinstance(kind, type):
        hints = typing.get_type_hints(kind)
        return kind(**{f.name: made(hints[f.name]) for f in fields(kind) if f.name not in ("gallery", "samples")})
    if origin in (types.UnionType, typing.Union):
        return made(next(a for a in arguments if a is not type(None)))
    if origin is tuple:
        return (made(arguments[0]), made(arguments[0]))
    if origin is typing.Literal:
        return arguments[0]
    if origin is not None:  # a mapping
        return {"a": made(arguments[1]), "b": made(arguments[1])}
    return {float: 0.1, int: 1, str: "text", bool: True}.get(kind, "anything")


def full_report() -> Report:
    """Every family measured."""
    report = made(Report)
    assert isinstance(report, Report)
    return replace(report, schema_version=SCHEMA_VERSION)
