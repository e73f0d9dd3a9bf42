"""The schema that ships with the package: what the dataclasses say, valid, and as strict as the reader."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from made_reports import full_report
from memgen_eval.report import dumps, schema
from memgen_eval.results import FAMILIES

WRITE = "write it anew: the one line stands in CONTRIBUTING.md, under 'Add a metric'"
SHIPPED = files("memgen_eval") / "report.schema.json"


def test_it_ships_as_the_dataclasses_say() -> None:
    assert SHIPPED.read_text(encoding="utf-8") == dumps(schema()), WRITE


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(json.loads(SHIPPED.read_text(encoding="utf-8")))


def test_every_reference_leads_somewhere() -> None:
    text = json.dumps(schema())
    for name in {part.split('"')[0] for part in text.split('"$ref": "#/$defs/')[1:]}:
        assert name in schema()["$defs"]
    assert set(schema()["required"]) == {
        *("schema_version", "cautions", "verdict", "skipped", "settings", "provenance"),
        *FAMILIES,
    }


def test_reports_are_valid() -> None:
    validator = Draft202012Validator(schema())
    validator.validate(full_report().to_dict())
    validator.validate(replace(full_report(), verdict=None, **dict.fromkeys(FAMILIES)).to_dict())


Spoil = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: d.update(schema_version=1),
        lambda d: d.update(extra=1),
        lambda d: d.pop("fidelity"),
        lambda d: d["novelty"]["auc"].update(value="0.5"),
        lambda d: d["novelty"]["auc"].update(count=1.5),
        lambda d: d["novelty"]["auc"].pop("high"),
        lambda d: d["novelty"].update(score=d["novelty"]["auc"]),
        lambda d: d["verdict"].update(label="guilty"),
        lambda d: d["memorization"]["copies"][0].update(flipped=None),
        lambda d: d["skipped"].update(fid=3),
        lambda d: d.update(settings=None),
    ],
)
def test_anything_else_is_not(spoil: Spoil) -> None:
    data = copy.deepcopy(full_report().to_dict())
    spoil(data)
    assert not Draft202012Validator(schema()).is_valid(data)


def test_every_object_is_closed() -> None:
    for definition in (schema(), *schema()["$defs"].values()):
        assert definition["additionalProperties"] is False
        assert definition["required"] == list(definition["properties"])
        assert definition["description"]
