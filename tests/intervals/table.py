"""Writes docs/intervals.md from the committed results: ``python tests/intervals/table.py``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE.parent.parent / "docs" / "intervals.md"
FIDELITY = HERE.parent / "fidelity" / "interval_coverage.json"

HEAD = """# What the intervals hold

Every figure of a report has an interval of 95 %, or says why it has none. The shares below say how often such intervals
held what they should: the rate behind a share, zero for the identity residual, and for other figures the mean of the
figure over many draws of images at the same number. 0.95 is wanted; more is careful, less is too short. They were
simulated, or computed from binomial laws where it says so; `tests/intervals` and `tests/fidelity` hold the programs and
their results, from which this page is made.

Intervals speak of the images drawn. They do not hold what a figure would be at another number of images, nor with
another training set.
"""
SHARES = """## Shares

All shares of images (`ratio`, `test_ratio`, `carlini`, `authenticity` and their kin) have Clopper-Pearson's interval,
and differences of two shares (`excess`) Newcombe's combination of both. From 0.1 to 100 expected hits, computed
exactly. The last column is the largest chance that the lower end is above the truth, which makes a gate on `ratio.low`
fail wrongly. Wilson's interval, in brackets, does not hold rare events.
"""
NOVELTY = """## Novelty

{} draws of samples and test images beside 2,000 training images of 8 values. Where all samples lie close to training
images, few of them decide, and 100 are too few for the interval.
"""
MOMENTS = """## Gaussian structure of samples

{} draws of samples of 48 values, whose spectrum falls like 1/k. Near repeats are left out together, so that 20 images
drawn 20 times count as 20.
"""
IN_FIDELITY = """## Fidelity

{} draws ({} for KID) of Gaussian samples, train and test; smallest, mean and largest over six laws. `gap_` is train
minus test. See [fidelity](fidelity.md).
"""
DENOISER = """## Denoisers

{runs} draws of 64 of 900 digits with two noise draws each, beside one training set, for three models: a random
network, the Wiener denoiser, and the mean of D* and the Wiener denoiser. Smallest, mean and largest share over {levels}
noise levels from {first:g} to {last:g}. `identity_residual`: how often the band holds 0 at every noise level.

Below the collapse, where D* answers with a single training image, few images carry the mean error of D* and all that is
measured next to it: there no interval of such a mean is long enough, and `optimal_error_train` says so in a note. Half
a copier lies exactly midway: below the collapse its `relative_error_train` and `matched_memorization_index` are 1/4 and
1/2, and the intervals are as narrow as their errors, which stay below 0.01 and 0.001.
"""
ALL = """The same network, {runs} draws of 256 of 1,500 digits, against the value of all 1,500 with eight noise
draws each.
The last column is the mean 1 - R2 over that value: it has no bias.
"""


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def spread(values: Iterable[float | None]) -> tuple[str, ...]:
    """Smallest, mean and largest of what is known, to two digits."""
    known = [value for value in values if value is not None]
    return tuple(f"{value:.2f}" for value in (min(known), sum(known) / len(known), max(known)))


def of_shares(found: Any) -> str:
    rows = []
    for kind, label in (("share", "{} images"), ("difference", "{} images, difference")):
        exact, wilson = found[kind]["Clopper-Pearson"], found[kind]["Wilson"]
        for size, held in exact.items():
            cells = [f"{held[part]:.3f} ({wilson[size][part]:.3f})" for part in ("smallest", "mean", "largest")]
            last = "low too high, at most"
            wrong = f"{held[last]:.3f} ({wilson[size][last]:.3f})" if last in held else ""
            numbers = " and ".join(f"{int(number):,}" for number in size.split(", "))
            rows.append([label.format(numbers), *cells, wrong])
    return table(["", "smallest", "mean", "largest", "low too high"], rows)


def by_law(found: Any) -> str:
    names = list(next(iter(found.values())))
    shown = [
        [law, *("" if held[name] is None else f"{held[name]:.2f}" for name in names)] for law, held in found.items()
    ]
    return table(["", *(f"`{name}`" for name in names)], shown)


def of_denoisers(found: Any) -> str:
    models = found["covered"]
    names = sorted({name for held in models.values() for name in held})
    rows = []
    for name in names:
        cells = [
            " / ".join(spread(held[name])) if any(value is not None for value in held.get(name, [])) else ""
            for held in models.values()
        ]
        rows.append([f"`{name}`", *cells])
    return table(["", *models], rows)


def of_all(found: Any) -> str:
    rows = [
        [f"`{name}`", *spread(one["held"]), " / ".join(spread(one["mean, relative"])) if "r2" in name else ""]
        for name, one in found["against all images"].items()
    ]
    return table(["", "smallest", "mean", "largest", "figure over value"], rows)


def of_fidelity(laws: Any) -> str:
    names = next(iter(laws.values()))
    rows = [[f"`{name}`", *spread(held[name] for held in laws.values())] for name in names]
    return table(["", "smallest", "mean", "largest"], rows)


def page() -> str:
    shares, novelty, moments, denoisers = (read(HERE / f"{name}.json") for name in NAMES)
    fidelity = read(FIDELITY)
    sigmas = denoisers["sigmas"]
    told = DENOISER.format(runs=denoisers["runs"], levels=len(sigmas), first=sigmas[0], last=sigmas[-1])
    return "\n".join(
        (
            HEAD,
            SHARES,
            of_shares(shares),
            NOVELTY.format(novelty["draws"]),
            by_law(novelty["covered"]),
            MOMENTS.format(moments["draws"]),
            by_law(moments["covered"]),
            told,
            of_denoisers(denoisers),
            ALL.format(runs=denoisers["runs"] // 2),
            of_all(denoisers),
            IN_FIDELITY.format(fidelity["draws"], fidelity["draws of kid"]),
            of_fidelity(fidelity["covered"]),
        )
    )


NAMES = ("shares", "novelty", "moments", "denoisers")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
