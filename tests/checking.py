"""What tests hold reports to, the schema that ships with the package, strict JSON, a way there and back; and arrays."""

from __future__ import annotations

import json
from typing import Any, NoReturn

import numpy as np
from jsonschema import Draft202012Validator

from memgen_eval import Report, evaluate
from memgen_eval.cli import main
from memgen_eval.report import dumps, schema

SCHEMA = Draft202012Validator(schema())


def strict_json(text: str) -> dict[str, Any]:
    """The one JSON value in `text`, valid by the schema; NaN, infinity, or anything around it raise."""
    data: dict[str, Any] = json.loads(text, parse_constant=refuse)
    SCHEMA.validate(data)
    return data


def refuse(constant: str) -> NoReturn:
    raise AssertionError(f"{constant} in JSON")


def checked(report: Report) -> Report:
    """`report`, once its JSON is valid and reads back as itself."""
    data = strict_json(dumps(report.to_dict()))
    again = Report.from_dict(data)
    assert again == report
    assert again.to_dict() == data
    return report


def evaluated(samples: object, **keywords: Any) -> Report:
    """`evaluate`, its report checked."""
    return checked(evaluate(samples, **keywords))


def figures(report: Report | dict[str, Any]) -> str:
    """All of a report but its provenance, as JSON text: equal where two reports are equal to the byte."""
    data = report.to_dict() if isinstance(report, Report) else report
    return dumps({name: part for name, part in data.items() if name != "provenance"})


def compared(report: Report | dict[str, Any]) -> str:
    """What "as B0" compares: verdict, memorization, novelty and gaussian, as JSON text."""
    data = report.to_dict() if isinstance(report, Report) else report
    return dumps({name: data[name] for name in ("verdict", "memorization", "novelty", "gaussian")})


def is_mapped(array: Any) -> bool:
    """Whether the values of an array lie in a file."""
    while array is not None and not isinstance(array, np.memmap):
        array = getattr(array, "base", None)
    return array is not None


def run(*arguments: object) -> int:
    """The command in this process: its exit status."""
    return main([str(argument) for argument in arguments])
