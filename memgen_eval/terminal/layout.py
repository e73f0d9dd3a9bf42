"""Texts and tables on a terminal: in groups, in colour, at its width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

VALUE = "value"  # the second column of figures
NARROW_TABLE = 78  # columns: with fewer a table would break its words, and each row is told in a few lines
VERDICT_STYLES = {"copies": "bold red", "undecided": "bold yellow", "no copying found": "bold green"}


def draw_text(console: Console, text: str, style: str) -> None:
    """Print a text, wrapped between words."""
    from rich.text import Text

    console.print(Text(text, style=style))


def draw_table(
    console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]], groups: Mapping[str, str]
) -> None:
    """Print a table, or on a narrow terminal its rows one after the other; `groups` are by the rows' first cells."""
    if console.width >= NARROW_TABLE:
        console.print(_table(columns, rows, groups))
        return
    from rich.padding import Padding
    from rich.text import Text

    if columns[0] != "figure":
        console.print(Text(columns[0], style="bold underline"))
    told = None
    for label, *told_of in rows:
        if (group := groups.get(label)) != told and group is not None:
            console.print(Text(group, style="bold underline"))
            told = group
        if columns[1] == VALUE:  # its neighbours need no name
            value, interval, *remarks = told_of
            console.print(Text.assemble(label, ": ", (value, "bold"), f" ({interval})" if interval else ""))
        else:
            console.print(Text(label))
            remarks = [f"{name}: {cell}" for name, cell in zip(columns[1:], told_of, strict=True) if cell]
        for remark in filter(None, remarks):
            console.print(Padding(Text(remark, style="dim"), (0, 0, 0, 2)))
    console.print()


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], groups: Mapping[str, str]) -> Table:
    from rich import box
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name, justify in zip(columns, ("left", "right", "left", "left"), strict=True):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    told = None
    for row in rows:
        if (group := groups.get(row[0])) != told and group is not None:
            if told is not None:
                table.add_section()
            table.add_row(Text(group, style="bold underline"))
            told = group
        label = Padding(Text(row[0]), (0, 0, 0, 0 if group is None else 2))  # which its second line has too
        table.add_row(label, *map(Text, row[1:]))
    return table
