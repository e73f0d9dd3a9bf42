"""The timings of a run as one table and two files: ``python -m benchmarks.summary TIMINGS.json [SUITE ...]``."""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import OURS

RESULTS = Path(__file__).parent / "results"
WRONG = "WRONG: see the failed assertion"
HEADER = ("case", "method", "seconds", "CPU s", "runs", "times ours", "floor s", "of floor", "answer")


@dataclass(frozen=True)
class Row:
    """One method of one case.

    Attributes
    ----------
    seconds, cpu_seconds : medians of the runs; CPU seconds are those of all threads and child processes
    ratio : seconds over ours, above 1 where ours is faster; None where ours was not timed
    floor_seconds : the least time that the machine's peaks allow for the products of all with all
    floor_share : floor over seconds; above 1 where most pairs are never multiplied
    answer : what was asserted, or how much is right
    stages : seconds by stage, of the whole command
    """

    suite: str
    case: str
    method: str
    seconds: float
    cpu_seconds: float | None
    runs: int
    ratio: float | None
    floor_seconds: float | None
    floor_share: float | None
    answer: str
    stages: dict[str, float]


@dataclass(frozen=True)
class Results:
    """The rows of a run, and what they depend on."""

    date: str
    command: str
    commit: str
    processor: str
    flags: list[str]
    threads: int
    versions: dict[str, str]
    peaks: dict[str, float]
    rows: list[Row]


def summarise(timings: Mapping[str, Any], *, command: str) -> Results:
    """The results in what pytest-benchmark wrote."""
    grouped: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for timing in timings["benchmarks"]:
        case = timing["group"] or timing["name"]
        grouped.setdefault((case, timing["extra_info"].get("method", OURS)), []).append(timing)
    medians = {key: _median(run["stats"]["median"] for run in runs) for key, runs in grouped.items()}
    machine, commit = timings["memgen_eval"], timings["commit_info"]
    return Results(
        date=timings["datetime"][:10],
        command=command,
        commit=str(commit.get("id"))[:12] + (" and changes" if commit.get("dirty") else ""),
        processor=machine["processor"],
        flags=machine["flags"],
        threads=machine["threads"],
        versions=machine["versions"],
        peaks={name: _rounded(value) for name, value in machine["peaks"].items()},
        rows=[
            _row(case, method, runs, seconds=medians[case, method], ours=medians.get((case, OURS)))
            for (case, method), runs in grouped.items()
        ],
    )


def _row(case: str, method: str, runs: Sequence[Mapping[str, Any]], *, seconds: float, ours: float | None) -> Row:
    facts = [run["extra_info"] for run in runs]
    floor = facts[0].get("floor_seconds")
    spent = [fact["cpu_seconds"] for fact in facts if "cpu_seconds" in fact]
    return Row(
        suite=Path(runs[0]["fullname"].split("::")[0]).stem.removeprefix("test_"),
        case=case,
        method=method,
        seconds=seconds,
        cpu_seconds=_median(spent) if spent else None,
        runs=len(runs),
        ratio=None if ours is None else _rounded(seconds / ours),
        floor_seconds=None if floor is None else _rounded(floor),
        floor_share=None if floor is None else _rounded(floor / seconds),
        answer=_answer(facts),
        stages=facts[-1].get("stages", {}),
    )


def _answer(facts: Sequence[Mapping[str, Any]]) -> str:
    """What the stopwatch's tests note after their assertions, in every turn; of other tests, whatever they note."""
    if all("answer" in fact for fact in facts):
        return str(facts[0]["answer"])
    if "method" in facts[0] or not facts[0]:
        return WRONG
    return "; ".join(f"{name} {_rounded(value):g}" for name, value in facts[0].items())


def _median(values: Iterable[float]) -> float:
    return _rounded(statistics.median(values))


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def markdown(results: Results) -> str:
    """The results as one page, its tables aligned for the terminal too."""
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    lines = [
        f"# {results.date}, {results.processor}",
        "",
        f"{results.threads} threads; {', '.join(results.flags) or 'no flags known'}.",
        f"`{results.command}` at commit {results.commit}.",
        f"{versions}.",
        *([f"Peaks: {_peaks(results.peaks)}."] if results.peaks else []),
        "Medians, preparation included; methods in turn, and what takes 20 seconds once. The floor is the time of",
        "the dense products at these peaks: a search that prunes pairs may stay below it.",
        "",
        *_table([HEADER, *(_cells(row) for row in results.rows)]),
        *(line for row in results.rows if row.stages for line in ("", f"{row.case}: {_stages(row.stages)}")),
        "",
    ]
    return "\n".join(lines)


def _peaks(peaks: Mapping[str, float]) -> str:
    products = [f"{name} {peaks[name] / 1e9:,.0f}" for name in ("int8", "bfloat16", "float32") if peaks[name]]
    return f"{', '.join(products)} Gop/s; copying {peaks['bandwidth'] / 1e9:.1f} GB/s"


def _stages(stages: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {seconds:.1f} s" for name, seconds in stages.items())


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.case,
        row.method,
        f"{row.seconds:.3g}",
        "" if row.cpu_seconds is None else f"{row.cpu_seconds:.3g}",
        str(row.runs),
        "" if row.ratio is None else f"{row.ratio:.2f}",
        "" if row.floor_seconds is None else f"{row.floor_seconds:.3g}",
        "" if row.floor_share is None else f"{row.floor_share:.1%}",
        row.answer,
    )


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """A markdown table whose columns stand under each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = ["-" * width for width in widths]
    return [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in (rows[0], rule, *rows[1:])
    ]


def write(results: Results, suites: Sequence[str], folder: Path) -> list[Path]:
    """Both files, named by date and processor, and by the suites where not all were run."""
    processor = re.sub(r"[^a-z0-9]+", "-", results.processor.lower()).strip("-")
    stem = "-".join([results.date, processor, *suites])
    folder.mkdir(exist_ok=True)
    contents = {".json": json.dumps(asdict(results), indent=1) + "\n", ".md": markdown(results)}
    for suffix, content in contents.items():
        (folder / f"{stem}{suffix}").write_text(content, encoding="utf-8")
    return [folder / f"{stem}{suffix}" for suffix in contents]


def main(arguments: Sequence[str]) -> None:
    """Print the table of a file of timings, and write both files."""
    timings, *suites = arguments
    chosen = f'ONLY="{" ".join(suites)}"' if suites else ""
    read = json.loads(Path(timings).read_text(encoding="utf-8"))
    results = summarise(read, command=f"make bench {chosen}".strip())
    paths = write(results, suites, RESULTS)
    print(markdown(results))
    print("written:", *(path.relative_to(RESULTS.parent.parent) for path in paths))


if __name__ == "__main__":
    main(sys.argv[1:])
