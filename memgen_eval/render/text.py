"""Text from outside made safe to show: names of files, errors of samplers, notes."""

from __future__ import annotations

import html
import re
import unicodedata

HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
JOINERS = frozenset("\u200c\u200d")  # several scripts cannot be written without these two
MARKDOWN = re.compile(r"([\\`*_{}\[\]|~#!>])")


def visible(text: str) -> str:
    r"""`text` with every control, direction and surrogate character spelled out (ESC as ``\x1b``), the rest as is."""
    return text if text.isprintable() else "".join(map(_visible_character, text))


def _visible_character(character: str) -> str:
    if character in JOINERS or unicodedata.category(character) not in HIDDEN_CATEGORIES:
        return character
    return character.encode("unicode_escape").decode("ascii")


def escape_markdown(text: str) -> str:
    """`text` as plain words in GitHub's markdown, inside a table or out of it: no markup, no HTML, one line."""
    return MARKDOWN.sub(r"\\\1", html.escape(visible(text), quote=False).replace("&gt;", ">"))


def encodable(text: str, encoding: str) -> str:
    r"""`text` with each character that `encoding` lacks as ``\uXXXX``, in pairs beyond 16 bits: JSON stays JSON."""
    if _fits(text, encoding):
        return text
    return "".join(character if _fits(character, encoding) else _units(character) for character in text)


def _fits(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _units(character: str) -> str:
    pairs = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{pairs[i : i + 4]}" for i in range(0, len(pairs), 4))
