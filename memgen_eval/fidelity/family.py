"""The fidelity family: samples against train and against test, their gap, and the anchors; all at one size."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.fidelity.anchors import NUM_ANCHOR_IMAGES, BaselineMedian
from memgen_eval.fidelity.feature_distances import (
    NEEDS_TORCH_FIDELITY,
    Moved,
    Subsets,
    frechet,
    kernel_subsets,
    torch_fidelity,
)
from memgen_eval.fidelity.groups import Grouped, Role
from memgen_eval.fidelity.jackknife import IntervalOf, LeftOut, left_out_estimate, left_out_gap
from memgen_eval.fidelity.manifold import NUM_NEIGHBOURS, Manifold, manifold_figures, precision
from memgen_eval.fidelity.sliced import NUM_PROJECTIONS, Slices, sliced_wasserstein
from memgen_eval.neighbours.index import Index
from memgen_eval.results import Anchor, Estimate, Fidelity

NAMES = (*NUM_NEIGHBOURS, "fid", "kid", "swd")
KINDS: dict[str, IntervalOf] = {"fid": "number", "swd": "root"}
IN_PIXELS = "compares features, which pixels are not: give features="
NEEDS_TEST = "needs a test set"
NOT_WANTED = "not asked for"
Figure = Grouped | LeftOut | Subsets | str


def wanted_names(wants: Callable[[str], bool]) -> frozenset[str]:
    """The measures of which some figure is wanted, given whether the figure at a path is."""
    return frozenset(
        name for name in NAMES if any(wants(f"fidelity.{against}{name}") for against in ("", "test_", "gap_"))
    )


@dataclass(frozen=True, eq=False)
class Space:
    """Where rows lie, and how they are compared there.

    Attributes
    ----------
    lender : Index
        Any index, which lends its memory budget and its ranks.
    in_pixels : bool
        Whether rows are images: FID and KID are of features only.
    scale : float
        From values in the space to those of a report, such as 1/255 for grey levels.
    wanted : frozenset of str
        Which of `NAMES` are measured.
    seed : int
        Of everything drawn.
    """

    lender: Index
    in_pixels: bool
    scale: float
    wanted: frozenset[str]
    seed: int

    @cached_property
    def package(self) -> Any:
        """torch-fidelity, where it is wanted and can be imported."""
        return None if self.in_pixels or not self.wanted & {"fid", "kid"} else torch_fidelity()


@dataclass(frozen=True, eq=False)
class Cloud:
    """Rows (M, ...) in a space, and what is known of them alone."""

    rows: NDArray[Any]
    manifold: Manifold | None
    slices: Slices | None

    @staticmethod
    def of(rows: NDArray[Any], space: Space, role: Role, beside: Cloud | None = None) -> Cloud:
        """What the figures that are wanted need, to be compared with those `beside`."""
        manifold, other = None, None if beside is None else beside.manifold
        if space.wanted & NUM_NEIGHBOURS.keys():
            manifold = Manifold.of(space.lender.among(rows), role, other)
        return Cloud(rows, manifold, Slices.of(rows, seed=space.seed) if "swd" in space.wanted else None)

    def as_samples(self, space: Space) -> Cloud:
        """The same rows in the samples' role."""
        manifold = None if self.manifold is None else self.manifold.in_role("samples", space.lender)
        return replace(self, manifold=manifold)


@dataclass(frozen=True, eq=False)
class Compared:
    """The figures of a set against references of the same number, or why there are none, with what limits each."""

    figures: dict[str, Figure]
    notes: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @staticmethod
    def of(samples: Cloud, references: Cloud, space: Space) -> Compared:
        """All that are wanted."""
        figures: dict[str, Figure] = {}
        if samples.manifold is not None and references.manifold is not None:
            figures |= manifold_figures(samples.manifold, references.manifold, space.lender)
        if samples.slices is not None and references.slices is not None:
            figures["swd"] = sliced_wasserstein(samples.slices, references.slices, scale=space.scale)
        notes: dict[str, tuple[str, ...]] = {name: (f"k = {k}",) for name, k in NUM_NEIGHBOURS.items()}
        notes["swd"] = (f"{NUM_PROJECTIONS} projections",)
        for name in sorted({"fid", "kid"} & space.wanted):
            found = _of_features(name, samples.rows, references.rows, space)
            figures[name] = found.figure if isinstance(found, Moved) else found
            if isinstance(found, Moved) and found.extrapolated is not None:
                notes["fid"] = (f"extrapolated in 1/n to infinitely many images: {found.extrapolated:.4g}",)
        return Compared(figures, notes)

    def estimates(self, *, count: int, notes: dict[str, str]) -> dict[str, Estimate]:
        """The figures with their intervals; `notes` say what unseen images give."""
        found = {}
        for name, figure in self.figures.items():
            told = (*self.notes.get(name, ()), *((notes[name],) if name in notes else ()))
            if isinstance(figure, str):
                found[name] = Estimate.undefined(figure, count=count)
            elif isinstance(figure, LeftOut):
                found[name] = left_out_estimate(figure, KINDS[name], count=count, notes=told)
            else:
                found[name] = figure.estimate(count=count, notes=told)
        return found

    def gaps(self, other: Compared, *, count: int) -> dict[str, Estimate]:
        """These less the figures of the same samples against other references."""
        found = {}
        for name, figure in self.figures.items():
            theirs = other.figures[name]
            if isinstance(figure, LeftOut) and isinstance(theirs, LeftOut):
                found[name] = left_out_gap(figure, theirs, count=count)
            elif isinstance(figure, Subsets) and isinstance(theirs, Subsets):
                found[name] = figure.less(theirs).estimate(count=count, notes=())
            elif isinstance(figure, Grouped) and isinstance(theirs, Grouped):
                found[name] = figure.gap(theirs, count=count)
            else:
                found[name] = Estimate.undefined(str(figure if isinstance(figure, str) else theirs), count=count)
        return found


def _of_features(name: str, samples: NDArray[Any], references: NDArray[Any], space: Space) -> Moved | Subsets | str:
    if space.in_pixels:
        return f"{name.upper()} {IN_PIXELS}"
    if space.package is None:
        return NEEDS_TORCH_FIDELITY
    if len(samples) < 4:
        return "needs four images of each set"
    if name == "fid":
        return frechet(samples, references, package=space.package)
    return kernel_subsets(samples, references, package=space.package, seed=space.seed)


@dataclass(frozen=True, eq=False)
class ReferenceRows:
    """Rows of one number M, (M, ...), in random order: of train, and of unseen images, test or the rest of train."""

    train: NDArray[Any]
    unseen: NDArray[Any]
    has_test: bool


@dataclass(frozen=True, eq=False)
class AnchorRows:
    """The rows of an anchor, (M, ...), and their distances to the nearest training image, (M,), in report units."""

    name: str
    rows: NDArray[Any]
    distances: NDArray[Any]


@dataclass(frozen=True, eq=False)
class Ground:
    """What rests on train and test alone, at one size.

    Attributes
    ----------
    train, test : Cloud
        The references; test is None without one.
    unseen : Compared
        Images that the model has not seen, in the samples' role: test, or the other half of train.
    anchors : tuple of Anchor
    """

    train: Cloud
    test: Cloud | None
    unseen: Compared
    anchors: tuple[Anchor, ...]

    @staticmethod
    def of(
        sets: ReferenceRows, space: Space, distances: NDArray[Any] | None, others: Callable[[], Iterable[AnchorRows]]
    ) -> Ground:
        """From sets of one size; `distances` are the baseline's to train, `others` makes the anchors that are drawn."""
        train = Cloud.of(sets.train, space, "references")
        test = Cloud.of(sets.unseen, space, "references", train) if sets.has_test else None
        control = Cloud.of(sets.unseen, space, "samples", train) if test is None else test.as_samples(space)
        unseen = Compared.of(control, train, space)
        if distances is None or train.manifold is None or isinstance(unseen.figures["precision"], str):
            return Ground(train, test, unseen, ())
        known = unseen.estimates(count=len(sets.train), notes={})["precision"]
        median = BaselineMedian.of(distances, seed=space.seed)
        baseline = Anchor("baseline", median.ratio(distances), known)
        some = sets.train[:NUM_ANCHOR_IMAGES]
        drawn = [AnchorRows("copies", some, np.zeros(len(some))), *others()]
        made = [_anchor(one, train.manifold, median, space) for one in drawn]
        return Ground(train, test, unseen, (made[0], baseline, *made[1:]))


def _anchor(one: AnchorRows, train: Manifold, baseline: BaselineMedian, space: Space) -> Anchor:
    measured = precision(one.rows, train, space.lender)
    notes = (f"k = {NUM_NEIGHBOURS['precision']}",)
    return Anchor(
        one.name, baseline.ratio(one.distances), measured.estimate(count=min(len(one.rows), len(train)), notes=notes)
    )


def measure_fidelity(samples: NDArray[Any], ground: Ground, space: Space, *, notes: tuple[str, ...] = ()) -> Fidelity:
    """The family.

    Parameters
    ----------
    samples : uint8 or float, (M, ...)
        Of the number of the references.
    ground : Ground
        What rests on the references.
    space : Space
        Where all of them lie.
    notes : tuple of str
        What limits the figures of the samples.
    """
    count, cloud = len(samples), Cloud.of(samples, space, "samples", ground.train)
    against_train = Compared.of(cloud, ground.train, space)
    found = against_train.estimates(count=count, notes=_of_unseen(ground, count))
    if ground.test is not None:
        against_test = Compared.of(cloud, ground.test, space)
        found |= {f"test_{name}": one for name, one in against_test.estimates(count=count, notes={}).items()}
        found |= {f"gap_{name}": one for name, one in against_train.gaps(against_test, count=count).items()}
    for name in NAMES:
        reason = found[name].notes[0] if name in found and found[name].value is None else NEEDS_TEST
        for path in (f"test_{name}", f"gap_{name}"):
            found.setdefault(path, Estimate.undefined(reason, count=count))
    noted = {name: replace(one, notes=(*one.notes, *notes)) for name, one in found.items() if one.value is not None}
    return replace(Fidelity.undefined(NOT_WANTED), **(found | noted), anchors=ground.anchors)


def _of_unseen(ground: Ground, count: int) -> dict[str, str]:
    """What unseen images give in the samples' place, in words."""
    name = "the other half of train" if ground.test is None else "test images"
    measured = ground.unseen.estimates(count=count, notes={})
    return {
        path: f"with {name} in the samples' place: {one.value:.4g}"
        for path, one in measured.items()
        if one.value is not None
    }
