"""The report as JUnit's XML, which CI servers read: one test case for each gate, and one for each family.

Written to be valid both by the schema of Ant's tasks and by that of Jenkins, which differ: every attribute that either
asks for is there, and nothing that either lacks.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from xml.etree import ElementTree as ET

from memgen_eval.render.contents import verdict_label
from memgen_eval.render.numbers import visible
from memgen_eval.render.table import plain_table
from memgen_eval.report import Report
from memgen_eval.results import FAMILIES

_SUITE = "memgen-eval"
NOT_IN_XML = {code: f"\\u{code:04x}" for code in (0xFFFE, 0xFFFF)}  # besides controls, not in XML


def render_junit(report: Report, failures: Mapping[str, str | None]) -> str:
    """The XML text. `failures` says of each gate what failed, None for one that passed.

    A family that was measured passes, another is skipped with the reason: what must be measured needs a gate.
    """
    suites = ET.Element("testsuites")
    seconds = report.provenance.seconds
    skipped = [family for family in FAMILIES if getattr(report, family) is None]
    failed = [message for message in failures.values() if message is not None]
    suite = ET.SubElement(
        suites,
        "testsuite",
        {
            "name": _SUITE,
            "package": _SUITE,
            "id": "0",
            "tests": str(len(failures) + len(FAMILIES)),
            "failures": str(len(failed)),
            "errors": "0",
            "skipped": str(len(skipped)),
            "time": _seconds(sum(seconds.values())),
            "timestamp": _timestamp(report),
            "hostname": "localhost",  # the report does not say where it was made
        },
    )
    _properties(suite, report)
    for gate, message in failures.items():
        case = _case(suite, "gates", gate, 0.0)
        if message is not None:
            attributes = {"type": "GateError", "message": _text(message)}
            ET.SubElement(case, "failure", attributes).text = _text(message)  # some servers show only the text
    for family in FAMILIES:
        case = _case(suite, "families", family, seconds.get(family, 0.0))
        if family in skipped:
            why = report.skipped.get(family, "no reason was given")
            ET.SubElement(case, "skipped", {"message": _text(why)})
    ET.SubElement(suite, "system-out").text = _lines(plain_table(report))
    ET.SubElement(suite, "system-err").text = _lines("\n".join(failed))
    ET.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suites, encoding="unicode") + "\n"


def _properties(suite: ET.Element, report: Report) -> None:
    """The verdict, and what the reader of a list of test cases would look for."""
    properties = ET.SubElement(suite, "properties")
    values = {"verdict": verdict_label(report), "sentence": report.displayed_sentence}
    values |= {f"version of {name}": version for name, version in report.provenance.versions.items()}
    for name, value in values.items():
        ET.SubElement(properties, "property", {"name": _text(name), "value": _text(value)})


def _case(suite: ET.Element, kind: str, name: str, seconds: float) -> ET.Element:
    attributes = {"classname": f"{_SUITE}.{kind}", "name": _text(name), "time": _seconds(seconds)}
    return ET.SubElement(suite, "testcase", attributes)


def _timestamp(report: Report) -> str:
    """When the report was made, without the zone, which the schema forbids; in UTC."""
    created = datetime.fromisoformat(report.provenance.created)
    return created.replace(tzinfo=None, microsecond=0).isoformat()


def _seconds(value: float) -> str:
    return f"{value:.3f}"


def _text(text: str) -> str:
    """One line of characters that XML can hold."""
    return visible(text).translate(NOT_IN_XML)


def _lines(text: str) -> str:
    return "\n".join(map(_text, text.split("\n")))
