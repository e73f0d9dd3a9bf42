"""Figures as text: as many digits as their interval justifies, shares in per cent, distances in grey levels too."""

from __future__ import annotations

import html
import math
import re
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from memgen_eval.results import CAPTIONS, GREY_LEVELS, Curve, Estimate, Unit

NOT_MEASURED = "not measured"
INTERVAL_DIGITS = 2
MOST_DIGITS = 4
PLAIN_DIGITS = 3
MOST_DECIMALS = 6
LARGEST_FLOAT = sys.float_info.max  # what a report may hold; in per cent it would be infinite
_SCALES: dict[Unit, tuple[float, str]] = {
    "share": (100, " %"),
    "points": (100, " pp"),
    "count": (1, ""),
    "feature distance": (1, ""),
    "number": (1, ""),
    "sigma": (1, ""),
}
OF_FEATURES = frozenset({"novelty", "fidelity"})  # families that are measured in the space of the features
HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
JOINERS = frozenset("\u200c\u200d")  # several scripts cannot be written without these two
MARKDOWN = re.compile(r"([\\`*_{}\[\]|~#!>])")


@dataclass(frozen=True)
class Shown:
    """A figure in words; `interval` is empty where there is none, `reason` says why an estimate has no value."""

    value: str
    interval: str = ""
    reason: str | None = None

    @property
    def aside(self) -> str:
        """What stands beside the value: the interval, or the reason."""
        return self.interval if self.reason is None else self.reason

    def __str__(self) -> str:
        return f"{self.value} ({self.interval})" if self.interval else self.value


def unit_of(path: str, features: str) -> Unit:
    """The unit of a figure; distances in the space of the features are in grey levels only where these are pixels."""
    unit, in_space = CAPTIONS[path].unit, path.partition(".")[0] in OF_FEATURES
    return "feature distance" if unit == "distance" and in_space and features != "pixels" else unit


def show(figure: Estimate | Curve, unit: Unit) -> Shown:
    """A figure in its unit, a curve by its smallest and largest value; "not measured" where it has no value."""
    if isinstance(figure, Curve):
        return _show_curve(figure, unit)
    if figure.value is None:
        return Shown(NOT_MEASURED, reason=reason(figure))
    parts = (figure.value, figure.low, figure.high)
    if unit != "distance":
        return _with_suffix(parts, *_SCALES[unit])
    grey = _with_suffix(parts, GREY_LEVELS, " grey levels")
    plain = _with_suffix(parts, 1, "")
    interval = f"{grey.interval}; {plain.interval}" if plain.interval else ""
    return Shown(f"{grey.value} ({plain.value})", interval)


def _show_curve(curve: Curve, unit: Unit) -> Shown:
    defined = [value for value in curve.value or () if value is not None]
    if not defined:
        return Shown(NOT_MEASURED)
    smallest, largest = (show(Estimate(end), unit).value for end in (min(defined), max(defined)))
    return Shown(f"{smallest} to {largest}", f"{len(defined)} points")


def reason(figure: Estimate | Curve) -> str:
    """Why a figure has no value."""
    return figure.notes[0] if figure.notes else "no reason was given"


def _with_suffix(parts: tuple[float, float | None, float | None], scale: float, suffix: str) -> Shown:
    most = LARGEST_FLOAT
    value, low, high = (None if part is None else max(-most, min(part * scale, most)) for part in parts)
    assert value is not None
    write = _writer(value, low, high)
    if low is not None and high is not None:
        return Shown(write(value) + suffix, f"{write(low)} to {write(high)}{suffix}")
    if high is not None:
        return Shown(write(value) + suffix, f"at most {write(high)}{suffix}")
    return Shown(write(value) + suffix, f"at least {write(low)}{suffix}" if low is not None else "")


def _writer(value: float, low: float | None, high: float | None) -> Callable[[float], str]:
    """How to write a figure and its ends alike: two digits of the interval's width, at most four of the largest."""
    ends = [end for end in (low, high) if end is not None]
    largest = max(map(abs, [value, *ends]))
    width = max([value, *ends]) - min([value, *ends])
    if width == 0 or not math.isfinite(width):
        return number
    decimals = INTERVAL_DIGITS - 1 - math.floor(math.log10(width))
    decimals = max(0, min(decimals, MOST_DIGITS - 1 - math.floor(math.log10(largest))))
    if decimals > MOST_DECIMALS:
        return number
    return lambda part: "0" if part == 0 else _fixed(part, decimals)


def number(value: float) -> str:
    """A number that stands alone, with three digits; whole numbers in full."""
    if value == 0:
        return "0"
    if float(value).is_integer() and abs(value) < 1e12:
        return f"{value:,.0f}"
    exponent = math.floor(math.log10(abs(value)))
    if exponent < -4 or exponent >= 9:
        mantissa, power = f"{value:.{PLAIN_DIGITS - 1}e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(power)}"
    return _fixed(value, max(0, PLAIN_DIGITS - 1 - exponent))


def _fixed(value: float, decimals: int) -> str:
    text = f"{value:,.{decimals}f}"
    return text.removeprefix("-") if not text.strip("-0.,") else text


def threshold(value: float) -> str:
    """The threshold of the ratio rule, 1/3 as such."""
    return "1/3" if math.isclose(value, 1 / 3, rel_tol=1e-9) else f"{value:.4g}"


def image_size(shape: tuple[int, ...]) -> str:
    """An image's shape, as channels x height x width."""
    return " x ".join(map(str, shape if len(shape) == 3 else (1, *shape)))


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
    lacking = [character for character in set(text) if not _fits(character, encoding)]
    return text.translate({ord(character): _units(character) for character in lacking})


def _fits(character: str, encoding: str) -> bool:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _units(character: str) -> str:
    pairs = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{pairs[i : i + 4]}" for i in range(0, len(pairs), 4))
