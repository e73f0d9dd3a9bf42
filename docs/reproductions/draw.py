"""The pictures and tables of the reproductions, from the committed lines of JSON.

``python docs/reproductions/draw.py`` reads ``raw/*.jsonl``, which ``python -m benchmarks.reproductions`` wrote, draws
``pictures/*.svg`` and writes the tables of ``index.md`` between their marks. The same lines give the same bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent
STUDIES = {"digits": "digits, 8 x 8", "cifar10": "CIFAR-10, 16 x 16 grey"}
ONSETS = {"onset_loss": "test loss leaves training loss", "onset_copy": "copies appear"}
MIDDLE_SIGMA = 0.8  # where a model of digits or small images differs most from the Gaussian one
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "reproductions", "font.size": 9, "axes.grid": True, "grid.alpha": 0.4}
MARKERS = ("o", "s", "^", "D", "v", "P")
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Study:
    """A study as it was committed: how it was made, what it found, and each run at each checkpoint."""

    header: Row
    found: Row
    rows: tuple[Row, ...]

    @property
    def sizes(self) -> list[int]:
        """Numbers of training images, ascending."""
        return sorted({row["factors"]["num_images"] for row in self.rows})

    def run_names(self, num_images: int | None = None) -> list[str]:
        """Runs in the order of the grid, all or those of one size."""
        named = {row["run"]: row["factors"]["num_images"] for row in self.rows}
        return [run for run, size in named.items() if num_images in (None, size)]

    def course(self, run: str, path: str, *, sigma: float | None = None) -> tuple[list[int], list[list[float]]]:
        """The steps of a run, and a figure's value, low and high at each; a curve at the level nearest to `sigma`."""
        steps, figures = [], []
        for row in self.rows:
            if row["run"] == run and path in row:
                steps.append(row["step"])
                figures.append(_at(row, path, sigma))
        return steps, figures


def _at(row: Row, path: str, sigma: float | None) -> list[float]:
    parts = row[path]
    if sigma is not None:
        place = int(np.argmin(np.abs(np.log(row["sigma"]) - math.log(sigma))))
        parts = [None if part is None else part[place] for part in parts]
    return [math.nan if part is None else part for part in parts]


def read_study(path: Path) -> Study:
    """A study of the committed lines."""
    header, found, *rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return Study(header, found, tuple(rows))


def onset_step(study: Study, run: str, name: str) -> tuple[float, float | None, float | None]:
    """The last step before an onset, the onset (None: not within the run), and the last step of the run."""
    onset = study.found["onsets"][run][name]
    return onset["before"] or 0.0, onset["step"]["value"], onset["step"]["low"]


# Tables


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def number(value: float | None, digits: int = 2) -> str:
    """A number for a table; a dash where there is none."""
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def interval(figure: Row, digits: int = 2) -> str:
    """A value with its interval; the reason where it has no value."""
    if figure["value"] is None:
        return figure["notes"][0] if figure["notes"] else "-"
    bounds = "" if figure["low"] is None else f" ({number(figure['low'], digits)} to {number(figure['high'], digits)})"
    return number(figure["value"], digits) + bounds


def slopes(studies: Mapping[str, Study]) -> str:
    """How each onset grows with the number of training images."""
    rows = []
    for name, study in studies.items():
        for fit in study.found["fits"]:
            if fit["factor"] == "num_images":
                source = fit["published"]
                said = "-" if source is None else f"{source['exponent']:g} ({source['source']})"
                rows.append((STUDIES[name], ONSETS[fit["onset"]], interval(fit["exponent"]), said))
    return table(("images", "onset", "exponent of n, 95 %", "published"), rows)


def precedence(studies: Mapping[str, Study]) -> str:
    """By how much the loss precedes the copies, size by size."""
    rows = []
    for name, study in studies.items():
        for size in study.sizes:
            runs = study.run_names(size)
            steps = {onset: [onset_step(study, run, onset)[1] for run in runs] for onset in ONSETS}
            pairs = [(a, b) for a, b in zip(*steps.values(), strict=True) if a is not None and b is not None]
            ratios = [b / a for a, b in pairs]
            told = [" ".join("none" if step is None else f"{step:,.0f}" for step in found) for found in steps.values()]
            factor = "-" if not ratios else number(float(np.exp(np.mean(np.log(ratios)))), 1)
            rows.append((STUDIES[name], f"{size:,}", *told, factor))
    return table(("images", "n", *(f"{words}, step" for words in ONSETS.values()), "factor"), rows)


def equal_size_gaps(studies: Mapping[str, Study]) -> str:
    """The train-minus-test gap at the beginning of each run, before copies appear, and at its end."""
    rows = []
    for name, study in studies.items():
        for size in study.sizes:
            cells = []
            for part in ("first", "before", "last"):
                found = [_gap(study, run, part) for run in study.run_names(size)]
                cells.append(" ".join(gap for gap in found if gap) or "-")
            rows.append((STUDIES[name], f"{size:,}", *cells))
    return table(("images", "n", "first checkpoint", "last one before copies", "last one"), rows)


def _gap(study: Study, run: str, part: str) -> str:
    steps, figures = study.course(run, "fidelity.gap_swd")
    before = onset_step(study, run, "onset_copy")[0]
    place = {"first": 0, "before": steps.index(int(before)), "last": -1}[part]
    value, low, high = figures[place]
    mark = "*" if high < 0 or low > 0 else ""
    return f"{value:+.3f}{mark}"


def halves(study: Study) -> str:
    """How alike two models of disjoint halves are."""
    rows = []
    for pair in study.found["halves"]:
        size = next(row["factors"]["num_images"] for row in study.rows if row["run"] == pair["names"][0])
        names = ("cosine", "unrelated_cosine", "nearest_cosine", "test_nearest_cosine", "distance", "optimal_distance")
        rows.append((f"{size:,}", *(interval(pair[name]) for name in names)))
    head = ("n", "two models", "unrelated samples", "nearest training image", "of test images")
    return table((*head, "distance of the two", "of one to D*"), rows)


# Pictures


def draw_onsets(studies: Mapping[str, Study]) -> Any:
    """Both onsets against the number of training images, with the checkpoints that bracket them."""
    figure, grid = _panels(len(studies), "training images", "step")
    for axes, (name, study) in zip(grid, studies.items(), strict=True):
        for (onset, label), marker, colour in zip(ONSETS.items(), MARKERS, ("#4c72b0", "#b4470a"), strict=False):
            points = [(size, *onset_step(study, run, onset)) for size in study.sizes for run in study.run_names(size)]
            seen = [(size, before, step) for size, before, step, _ in points if step is not None]
            if seen:
                sizes, before, steps = map(np.array, zip(*seen, strict=True))
                spread = np.stack([steps - np.maximum(before, 1), np.zeros(len(steps))])
                axes.errorbar(sizes, steps, spread, fmt=marker, color=colour, label=label, markersize=4, capsize=2)
            for fit in study.found["fits"]:
                if fit["factor"] == "num_images" and fit["onset"] == onset and fit["line"]:
                    axes.plot(*zip(*fit["line"], strict=True), color=colour, linewidth=1)
        sizes = np.array(study.sizes)
        axes.plot(sizes, 8 * sizes, ":", color="black", linewidth=1, label="proportional to n")
        axes.set(xscale="log", yscale="log", title=STUDIES[name])
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes], minor=False)
        axes.minorticks_off()
        axes.legend(fontsize=8)
    return figure


def draw_course(
    studies: Mapping[str, Study], path: str, label: str, *, sigma: float | None = None, band: bool = False
) -> Any:
    """A figure over the steps of a training, these divided by the step at which copies appear; a line a run."""
    figure, grid = _panels(len(studies), "step / step at which copies appear", label)
    for axes, (name, study) in zip(grid, studies.items(), strict=True):
        for size, marker in zip(study.sizes, MARKERS, strict=False):
            shade = f"{0.75 * study.sizes.index(size) / len(study.sizes):.3f}"
            for place, run in enumerate(study.run_names(size)):
                onset = onset_step(study, run, "onset_copy")[1]
                if onset is None:
                    continue
                steps, figures = study.course(run, path, sigma=sigma)
                value, low, high = np.array(figures).T
                at = np.array(steps) / onset
                named = f"n = {size:,}" if place == 0 else None
                axes.plot(at, value, marker=marker, markersize=2.5, linewidth=1, color=shade, label=named)
                if band:
                    axes.fill_between(at, low, high, color=shade, alpha=0.08, linewidth=0)
        axes.axvline(1, color="#b4470a", linewidth=1)
        axes.set(xscale="log", title=STUDIES[name])
        axes.legend(fontsize=7)
    return figure


def draw_optimal(studies: Mapping[str, Study]) -> Any:
    """The gap to D* by noise level, of one training before it copies and at its end."""
    figure, grid = _panels(len(studies), "sigma", "gap to D*, per value")
    for axes, (name, study) in zip(grid, studies.items(), strict=True):
        for row, told, line in _regimes(study):
            for path, label, colour in (("gap_train", "training", "#4c72b0"), ("gap_test", "test", "#b4470a")):
                value = [math.nan if v is None else v for v in row[f"denoiser.{path}"][0]]
                axes.plot(row["sigma"], value, line, color=colour, markersize=3, label=f"{told}, {label} images")
        axes.set(xscale="log", yscale="log", title=STUDIES[name])
        axes.legend(fontsize=7)
    return figure


def _regimes(study: Study) -> list[tuple[Row, str, str]]:
    """One run twice: where the test loss leaves the training loss, and at its end."""
    size = study.sizes[1]
    run = study.run_names(size)[0]
    rows = [row for row in study.rows if row["run"] == run]
    early = next(row for row in rows if row["step"] == onset_step(study, run, "onset_loss")[1])
    return [(row, f"n = {size:,}, step {row['step']:,}", line) for row, line in ((early, "s--"), (rows[-1], "o-"))]


def _panels(count: int, x: str, y: str) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.2, 3.4), layout="constrained")
    grid = list(figure.subplots(1, count, squeeze=False)[0])
    for axes in grid:
        axes.set_xlabel(x)
    grid[0].set_ylabel(y)
    return figure, grid


def tables(raw: Path) -> dict[str, str]:
    """The text of every table, by name."""
    studies = {name: read_study(raw / f"{name}.jsonl") for name in STUDIES}
    made = {"slopes": slopes(studies), "precedence": precedence(studies), "gaps": equal_size_gaps(studies)}
    return {**made, "halves": halves(read_study(raw / "halves.jsonl"))}


def pictures(raw: Path) -> dict[str, Callable[[], Any]]:
    """What draws every picture, by name."""
    studies = {name: read_study(raw / f"{name}.jsonl") for name in STUDIES}
    gap, nmse = "train minus test, sliced Wasserstein", f"squared distance from D_G, sigma {MIDDLE_SIGMA}"
    return {
        "onsets": lambda: draw_onsets(studies),
        "ratio": lambda: draw_course(studies, "memorization.ratio", "memorization ratio"),
        "gaps": lambda: draw_course(studies, "fidelity.gap_swd", gap, band=True),
        "gaussian": lambda: draw_course(studies, "gaussian.nmse", nmse, sigma=MIDDLE_SIGMA),
        "optimal": lambda: draw_optimal(studies),
    }


def with_tables(page: str, made: Mapping[str, str]) -> str:
    """The page with these tables, each after its mark and before the next mark."""
    for name, text in made.items():
        begin, end = f"<!-- table {name} -->\n", f"<!-- end of table {name} -->"
        before, _, rest = page.partition(begin)
        page = f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}"
    return page


def main() -> None:
    """Draw the pictures, and write the tables."""
    import matplotlib as mpl

    raw, page = FOLDER / "raw", FOLDER / "index.md"
    page.write_text(with_tables(page.read_text(encoding="utf-8"), tables(raw)), encoding="utf-8")
    (FOLDER / "pictures").mkdir(exist_ok=True)
    with mpl.rc_context(STYLE):
        for name, draw in pictures(raw).items():
            place = FOLDER / "pictures" / f"{name}.svg"
            draw().savefig(place, format="svg", metadata={"Date": None}, facecolor="white")


if __name__ == "__main__":
    main()
