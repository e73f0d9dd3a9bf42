"""JUnit's XML: valid by the schemas of Ant and Jenkins, read by a real parser, whatever characters it is given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings, strategies as st

from memgen_eval.render.junit import render_junit
from memgen_eval.report import Report
from memgen_eval.results import FAMILIES

SCHEMAS = Path(__file__).parent.parent / "junit"
HOSTILE = [
    "</testcase><script>alert(1)</script>",
    "]]> & &amp; <![CDATA[ \" ' -->",
    "\x1b[31mred\x1b[0m\x00\x07\x7f\x9b",
    "two\nlines\r\n\ttab",
    "\u202eright to left\u2028",
    "\ufffe\uffff",
    "\ud800 alone \udfff",
    "\U0001f600 \u4e2d\u6587 \xe9",
]
GATES = {"verdict == copies": "failed because 'verdict == copies': verdict is copies", "novelty.auc < 0.4": None}


@pytest.fixture(scope="module", params=["ant", "jenkins"])
def validator(request: pytest.FixtureRequest) -> Any:
    xmlschema = pytest.importorskip("xmlschema", reason="checks XML schemas; of the extra dev")
    return xmlschema.XMLSchema(str(SCHEMAS / f"{request.param}.xsd"))


def test_it_is_valid(validator: Any, full_report: Report, empty_report: Report) -> None:
    for report in (full_report, empty_report):
        validator.validate(render_junit(report, GATES))
        validator.validate(render_junit(report, {}))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('name="memgen-eval" ', ""),
        ("<testcase ", "<case "),
        ("<properties>", '<properties rogue="1">'),
        ('errors="0" ', ""),
        ('time="', 'time="x'),
        ("</testsuite>", "<extra /></testsuite>"),
    ],
)
def test_the_schemas_see_what_is_wrong(validator: Any, old: str, new: str, full_report: Report) -> None:
    text = render_junit(full_report, GATES)
    spoiled = text.replace(old, new, 1).replace("</testcase>", "</case>" if old == "<testcase " else "</testcase>", 1)
    assert spoiled != text
    assert not is_valid(validator, spoiled)


def is_valid(validator: Any, text: str) -> bool:
    try:
        return bool(validator.is_valid(text))
    except ET.ParseError:
        return False


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_names_stay_names(validator: Any, hostile: str, full_report: Report) -> None:
    provenance = replace(full_report.provenance, versions={hostile: hostile}, inputs={"samples": {"account": hostile}})
    report = replace(full_report, fidelity=None, skipped={"fidelity": hostile}, provenance=provenance)
    text = render_junit(report, {hostile: hostile, "novelty.auc < 0.4": None})
    text.encode("utf-8")
    validator.validate(text)
    root = ET.fromstring(text)
    assert {element.tag for element in root.iter()} == {
        *("testsuites", "testsuite", "properties", "property", "testcase", "failure", "skipped"),
        *("system-out", "system-err"),
    }
    assert len(root.findall(".//testcase")) == 2 + len(FAMILIES)
    assert len(root.findall(".//failure")) == 1
    assert all(c.isprintable() or c == "\n" for element in root.iter() for c in element.text or "")
    assert all(c.isprintable() for element in root.iter() for value in element.attrib.values() for c in value)


@settings(max_examples=30)
@given(st.text(max_size=60))
def test_any_text_is_xml(empty_report: Report, text: str) -> None:
    root = ET.fromstring(render_junit(empty_report, {text: text}).encode("utf-8"))
    assert len(root.findall(".//failure")) == 1


def test_a_real_parser_reads_gates_and_families(full_report: Report) -> None:
    junitparser = pytest.importorskip("junitparser", reason="the parser of the extra dev")
    report = replace(full_report, denoiser=None, skipped={"denoiser": "needs a denoiser"})
    (suite,) = junitparser.JUnitXml.fromroot(ET.fromstring(render_junit(report, GATES)))
    assert (suite.name, suite.tests, suite.failures, suite.errors, suite.skipped) == ("memgen-eval", 7, 1, 0, 1)
    cases = {case.name: case for case in suite}
    assert list(cases) == [*GATES, *FAMILIES]
    assert {name for name, case in cases.items() if not case.is_passed} == {"verdict == copies", "denoiser"}
    (failure,) = cases["verdict == copies"].result
    assert (type(failure).__name__, failure.type) == ("Failure", "GateError")
    assert failure.message == GATES["verdict == copies"]
    (skip,) = cases["denoiser"].result
    assert (type(skip).__name__, skip.message) == ("Skipped", "needs a denoiser")
    assert {case.classname for case in suite} == {"memgen-eval.gates", "memgen-eval.families"}


def test_the_times_are_those_of_the_report(full_report: Report) -> None:
    root = ET.fromstring(render_junit(full_report, {}))
    suite = root.find("testsuite")
    assert suite is not None
    assert float(suite.attrib["time"]) == pytest.approx(sum(full_report.provenance.seconds.values()), abs=1e-3)
    assert suite.attrib["timestamp"] + "+00:00" == full_report.provenance.created
