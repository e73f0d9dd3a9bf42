"""Reports in order, such as those of a training, as a page: when it begins to copy, its charts, its samples."""

from __future__ import annotations

from collections.abc import Sequence

from memgen_eval.render.html import render_template
from memgen_eval.render.several.course import course_drawings
from memgen_eval.render.several.drawing import over_steps
from memgen_eval.render.several.members import Member, headlines_of_all, placed, steps_between
from memgen_eval.render.several.side_by_side import chart_of, every_figure, page_context
from memgen_eval.render.several.strips import Strip, strips_shown
from memgen_eval.render.several.timeline import timeline


def trajectory_page(files: Sequence[Member], axis: str, steps: Sequence[float], *, strips: Sequence[Strip] = ()) -> str:
    """Reports in order as HTML in one piece: the onsets, the training over its steps, samples, each headline.

    Parameters
    ----------
    files : sequence of Member, K
        The reports, by the names of their files.
    axis : str
        What the steps are.
    steps : sequence of float, K
        Ascending.
    strips : sequence of Strip, K, optional
        Samples of each, from the same noise.
    """
    from markupsafe import Markup

    members = placed(files, steps)
    reports = [member.report for member in members]
    pairs, lines, names = steps_between(members), headlines_of_all(reports), [member.name for member in members]
    drawings = [chart_of(line, Markup(over_steps(line, steps, axis)), names, axis) for line in lines]
    context = page_context(members, pairs, lines, drawings)
    ends = [members[0], members[-1]]
    unit = axis.split(",", maxsplit=1)[0]
    told = timeline(reports, steps, unit)
    course = course_drawings(reports, steps, axis, told.onsets)
    shown = strips_shown(strips, steps)
    own = {
        "axis": axis,
        "kind": f"{unit.capitalize()} ",
        "files": [member.name for member in files],
        "ends": [member.name for member in ends],
        "headlines": [
            (line, cells[:: len(cells) - 1], controls[:: len(cells) - 1], beyond)
            for line, cells, controls, beyond in context["headlines"]
        ],
        "figures": list(every_figure(ends)),
        "timeline": told,
        "unit": unit,
        "course": course,
        "strips": shown,
        "contents": _contents(course=bool(course), strips=bool(shown)),
    }
    return render_template("several/trajectory.html.j2", context | own)


def _contents(*, course: bool, strips: bool) -> list[tuple[str, str]]:
    """The sections of the page, by their ids."""
    return [
        ("content", "The answer"),
        ("onsets", "Onsets"),
        *([("course", "Over the steps")] if course else []),
        *([("strips", "Samples")] if strips else []),
        ("charts", "Headlines over the steps"),
        ("headlines", "First and last"),
        ("beyond", "Beyond the intervals"),
        ("differs", "What else differs"),
        ("figures", "Every figure"),
    ]
