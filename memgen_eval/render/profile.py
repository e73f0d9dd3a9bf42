"""Where the time of a run went, stage by stage, as plain text."""

from __future__ import annotations

from collections.abc import Mapping

NAMES = ("stage", "else", "all")


def profile_table(seconds: Mapping[str, float], total: float) -> str:
    """A line a stage with its seconds and its share of `total`, in ASCII; what no stage took is "else"."""
    rest = {NAMES[1]: max(total - sum(seconds.values()), 0.0), NAMES[2]: total}
    width = max(map(len, (*NAMES, *seconds)))
    lines = [f"{NAMES[0]:<{width}}  seconds  share"]
    for name, value in (*seconds.items(), *rest.items()):
        lines.append(f"{name:<{width}}  {value:7.2f}  {100 * value / total if total else 0:3.0f} %")
    return "\n".join(lines)
