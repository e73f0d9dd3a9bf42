"""Names from outside: nothing in them acts on a terminal, a page or a table."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, strategies as st

from memgen_eval.render.numbers import encodable, escape_markdown, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb", r"a\x1b[31mb"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("a\u202eb\u2028c\x85d\x7f", r"a\u202eb\u2028c\x85d\x7f"),
        ("a\udcffb", r"a\udcffb"),
        ("\u4e2d\u6587 \U0001f600.png", "\u4e2d\u6587 \U0001f600.png"),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"),
    ],
)
def test_control_characters_are_spelled_out(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text())
def test_nothing_hidden_is_left_and_it_can_be_written(text: str) -> None:
    shown = visible(text)
    shown.encode("utf-8")
    assert all(c.isprintable() or c in "\u200c\u200d" or not c.isspace() for c in shown.replace(" ", ""))
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in shown)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@given(text=st.text())
def test_json_stays_json_in_every_encoding(encoding: str, text: str) -> None:
    written = encodable(json.dumps({"name": text}, ensure_ascii=False), encoding).encode(encoding)
    assert json.loads(written.decode(encoding)) == {"name": text}


def test_markdown_is_plain_words() -> None:
    assert escape_markdown("a|b `c` <img src=x> [d](e) *f* _g_ ~h~ & \\i\n# j") == (
        r"a\|b \`c\` &lt;img src=x\> \[d\](e) \*f\* \_g\_ \~h\~ &amp; \\i\\n\# j"
    )
