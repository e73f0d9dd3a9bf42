"""``memgen-eval compare``: reports side by side, or in order."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from memgen_eval.errors import InputError
from memgen_eval.report import Report
from memgen_eval.shell import DONE, Parser, as_path, check_outputs, is_stream, say

COMPARE_PROGRAM = "memgen-eval compare"
MOST_REPORTS, MOST_IN_ORDER = 12, 200
EPILOG_OF_COMPARE = """\
examples:
  memgen-eval compare small.json large.json --html compared.html
  memgen-eval compare --trajectory run/report-*.json --html trajectory.html
"""


def compare_parser() -> argparse.ArgumentParser:
    """Every argument of ``memgen-eval compare``."""
    command = Parser(
        prog=COMPARE_PROGRAM,
        description="Put reports side by side: which figures differ beyond their intervals, and what else differs.",
        epilog=EPILOG_OF_COMPARE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_argument("reports", nargs="+", metavar="REPORT", help="JSON reports, which memgen-eval --json writes")
    command.add_argument("--html", metavar="FILE", help="write a page; - for standard output, in place of the table")
    order = "they are in order: curves over the last number in their names, where it ascends, or over their places"
    command.add_argument("--trajectory", action="store_true", help=order)
    return command


def compare_command(typed: Sequence[str]) -> int:
    """Run the command with what was typed after its name. Returns its exit status; raises InputError."""
    arguments = compare_parser().parse_args(list(typed))
    from memgen_eval.render.save import write_file
    from memgen_eval.render.several.in_order import trajectory_page
    from memgen_eval.render.several.members import Member, names_of, placed, steps_of
    from memgen_eval.render.several.side_by_side import comparison_page, comparison_table
    from memgen_eval.render.table import write_text

    paths = [as_path(name) for name in arguments.reports]
    most = MOST_IN_ORDER if arguments.trajectory else MOST_REPORTS
    if not 2 <= len(paths) <= most:
        raise InputError(f"{len(paths)} given, expected 2 to {most} reports; see {COMPARE_PROGRAM} --help")
    page = None if arguments.html in (None, "-") else as_path(arguments.html)
    if page is not None:
        check_outputs({"--html": page}, {str(path): path for path in paths})
    reports = [Report.load(path) for path in paths]
    members = [Member(name, report) for name, report in zip(names_of(paths), reports, strict=True)]
    axis, steps = steps_of(paths)

    def page_text() -> str:
        return trajectory_page(members, axis, steps) if arguments.trajectory else comparison_page(members)

    def table() -> str:
        ordered = arguments.trajectory
        return comparison_table(placed(members, steps) if ordered else members, in_order=ordered)

    if page is not None:
        write_file(page, page_text())
        if not is_stream(page):
            say(COMPARE_PROGRAM, f"wrote {page}", DONE)
    write_text(page_text() if arguments.html == "-" else table(), sys.stdout)
    return DONE
