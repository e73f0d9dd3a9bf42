"""The training set and its held-out images, and what can be kept of them over many evaluations."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from memgen_eval.compute.kept import NOWHERE, Kept
from memgen_eval.copying.baseline import (
    Baseline,
    Scale,
    draw_rows,
    duplicate_tolerance,
    num_left_out,
)
from memgen_eval.copying.memorization import search
from memgen_eval.data import batches
from memgen_eval.data.datasets import is_known, test_split
from memgen_eval.data.images import Images, ImageSet
from memgen_eval.data.sources import load_images
from memgen_eval.data.tensors import TensorRows, is_tensor, to_numpy
from memgen_eval.diffusion.moments import MAX_DIMENSION, TOO_LARGE, Principal, principal
from memgen_eval.distributed import Ranks
from memgen_eval.errors import InputError
from memgen_eval.features.embed import embed, extractor_checksum, unit_rows
from memgen_eval.features.network_files import Extractor
from memgen_eval.fidelity.family import Ground
from memgen_eval.metrics.data_copying import Partition, partition
from memgen_eval.neighbours.index import Index
from memgen_eval.neighbours.pruning import References
from memgen_eval.neighbours.topk import Neighbours
from memgen_eval.resemblance.appearance import Appearance
from memgen_eval.resemblance.cautions import appearance_of

if TYPE_CHECKING:
    from memgen_eval.diffusion.gaussian import GaussianDenoiser
    from memgen_eval.diffusion.optimal import OptimalDenoiser

_Result = TypeVar("_Result")
ROWS_AT_ONCE = 4096
UNIT = np.float32(127.5)  # grey levels to a unit of a denoiser's data


@dataclass(frozen=True, eq=False)
class Reference:
    """A training set and its test set, kept over many evaluations.

    Pass it as ``train=`` instead of the set itself: what rests on the training set alone (its reading, the baseline's
    neighbours, moments, cells) is then computed once. Everything is computed anew once the images have changed, and
    features once the extractor has.

    Parameters
    ----------
    train : path, known name, array, Images, Dataset or iterable
        The training images, all of them.
    test : the same, or None
        Held-out images; a known name of `train` brings its own.
    data_dir : path, optional
        Where named sets lie.
    """

    train: object
    test: object | None = None
    data_dir: str | Path | None = None
    _kept: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(cls, train: object, test: object | None, data_dir: str | Path | None) -> Reference:
        """What was given as a training set: a new reference, or the one given, renewed. Raises InputError."""
        if not isinstance(train, Reference):
            return cls(train, test, data_dir)
        if test is not None:
            raise InputError("test was given beside a Reference; give it to the Reference: Reference(train, test)")
        train.renew()
        return train

    def renew(self) -> None:
        """Forget everything if the training or test images have changed since."""
        content = content_of(self.train), content_of(self.test)
        if self._kept.setdefault("content", content) != content:
            self._kept.clear()
        self._kept["content"] = content

    def prepared(self, *, quantize: bool, seed: int) -> Prepared:
        """What rests on the sets and the seed alone, from an earlier evaluation or new."""
        train, source = self._load("train", self.train, quantize), self.test
        if source is None and isinstance(self.train, str) and is_known(self.train):
            source = test_split(self.train)
        test = None if source is None else self._load("test", source, quantize, like=train.shape)
        return _keep(self._kept, ("prepared", quantize, seed), lambda: Prepared(train, test, seed))

    def _load(self, argument: str, source: object, quantize: bool, *, like: Any = None) -> ImageSet:
        """A set in canonical form."""

        def load() -> ImageSet:
            return load_images(source, argument=argument, like=like, quantize=quantize, data_dir=self.data_dir)

        return _keep(self._kept, (argument, quantize), load)


def _keep(
    kept: dict[Hashable, Any], key: Hashable, compute: Callable[[], _Result], *, bound_to: Hashable = None
) -> _Result:
    """The value kept under `key`, computed the first time, and again where it was bound to something else."""
    if key not in kept or kept[key][0] != bound_to:
        kept[key] = bound_to, compute()
    value: _Result = kept[key][1]
    return value


@dataclass(frozen=True, eq=False)
class FeatureSpace:
    """Training and test images in the space of the features.

    Attributes
    ----------
    index : Index
        The features of the training images, or the images themselves.
    baseline : Neighbours or None
        The baseline's neighbours there, in the units of a report.
    test : array, (m, ...), or None
        The test images there, those that repeat an earlier one left out; None without a test set.
    extractor : Hashable
        What the features rest on: "pixels", or the checksum of the extractor on each rank.
    """

    index: Index
    baseline: Neighbours | None
    test: NDArray[Any] | None
    extractor: Hashable

    def bound(self, bind: Callable[[References], Index]) -> FeatureSpace:
        """The same with the budget and the ranks of another evaluation."""
        return replace(self, index=bind(self.index.references))


@dataclass(frozen=True, eq=False)
class Prepared:
    """A training set, its test set and a seed, and all that rests on them alone: each computed when first needed."""

    train: ImageSet  # in canonical form, as test is
    test: ImageSet | None
    seed: int
    _kept: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False)

    def keep(self, key: Hashable, compute: Callable[[], _Result], *, bound_to: Hashable = None) -> _Result:
        """What was kept under `key`, or computed now and kept; anew where it was bound to something else."""
        return _keep(self._kept, key, compute, bound_to=bound_to)

    @property
    def num_kept(self) -> int:
        """How many things are kept by now: ranks that share an evaluation have to agree."""
        cached = [name for name, value in vars(Prepared).items() if isinstance(value, cached_property)]
        return sum(name in vars(self) for name in cached) + len(self._kept)

    @cached_property
    def references(self) -> References:
        """The training images, to be searched many times."""
        return References(self.train.array())

    @cached_property
    def appearance(self) -> Appearance:
        """How the training images look."""
        return appearance_of(self.train)

    @cached_property
    def moments(self) -> Principal:
        """Mean and leading directions of the training images."""
        return principal(self.train.array())

    @cached_property
    def optimal(self) -> OptimalDenoiser:
        """D* of the training images."""
        from memgen_eval.diffusion.optimal import OptimalDenoiser

        return OptimalDenoiser(for_denoisers(self.train))

    @cached_property
    def gaussian(self) -> GaussianDenoiser | None:
        """D_G of the training images; None where they have too many values."""
        from memgen_eval.diffusion.gaussian import GaussianDenoiser

        return GaussianDenoiser(for_denoisers(self.train)) if self.train.num_values <= MAX_DIMENSION else None

    @cached_property
    def baseline(self) -> Baseline | None:
        """The test set, those that repeat an earlier one left out; without one `left_out`."""
        if self.test is None:
            return self.left_out
        left_out = self.test.survey.repeats
        notes = _left_out(left_out, "test images repeat an earlier one")
        return Baseline(self.test.distinct, np.flatnonzero(~left_out), None, "test images", "test", notes)

    @cached_property
    def left_out(self) -> Baseline | None:
        """Training images drawn with the seed, each to be left out of train; None for fewer than two.

        10,000 of them; beside test images 5,000 less these, but a thousand at least. Training images that have an exact
        duplicate are none of them: it would stay in train, and pass for what an unseen image finds there.
        """
        left_out = self.train.survey.duplicated
        single = np.flatnonzero(~left_out)
        if len(single) < 2:
            return None
        most = num_left_out(None if self.test is None else len(self.test))
        rows = single[draw_rows(len(single), most, seed=self.seed)]
        notes = _left_out(left_out, "training images have an exact duplicate")
        name = "training images left out of train"
        return Baseline(self.train.take(rows), rows, rows, name, "train, leave one out", notes)

    def tolerance(self, index: Index) -> float:
        """The training set's own duplicate tolerance, as a distance between images."""

        def compute() -> float:
            repeats = self.train.survey.repeats
            distinct = index.among(self.train.distinct) if repeats.any() else index
            return duplicate_tolerance(distinct, seed=self.seed)

        return self.keep("tolerance", compute)

    def baseline_neighbours(self, index: Index) -> Neighbours | None:
        """Training neighbours of the baseline's images, in the orientation given."""
        baseline = self.baseline
        if baseline is None:
            return None
        return self.keep("baseline", lambda: search(baseline.images, index, excluded=baseline.excluded))

    def pixel_space(self, index: Index) -> FeatureSpace:
        """The sets as they are."""
        plain, baseline = self.baseline_neighbours(index), self.baseline
        scaled = None if plain is None else plain.scaled(Scale.of(index.rows).unit)
        return FeatureSpace(index, scaled, None if self.test is None or baseline is None else baseline.images, "pixels")

    def feature_space(
        self, extractor: Extractor, bind: Callable[[References], Index], ranks: Ranks, *, kept: Kept = NOWHERE
    ) -> FeatureSpace:
        """The sets in a space of features; computed anew once the extractor changes.

        `bind` makes an index of rows with the budget and the ranks of this evaluation; features lie in `kept`.
        """
        known_by = tuple(ranks.exchange("extractor", extractor_checksum(extractor, self.train)))

        def compute() -> FeatureSpace:
            index = bind(References(embed(self.train, extractor, argument="train", ranks=ranks, kept=kept)))
            test = None
            if self.test is not None and self.baseline is not None:
                test = embed(self.test, extractor, argument="test", ranks=ranks, kept=kept)
                test = test[self.baseline.rows] if len(self.baseline.rows) < len(test) else test
            return FeatureSpace(index, self._baseline_in(index, test), test, known_by)

        return self.keep("features", compute, bound_to=known_by).bound(bind)

    def directions(self, space: FeatureSpace, bind: Callable[[References], Index]) -> FeatureSpace:
        """The same space with rows of length 1, where the nearest are the most similar by cosine.

        Training images that repeat an earlier one are left out: their copies have a second neighbour then. Raises
        InputError for features of zeros.
        """

        def compute() -> FeatureSpace:
            distinct = np.flatnonzero(~self.train.survey.repeats)
            index = bind(References(unit_rows(space.index.rows, distinct, argument="train")))
            test = None if space.test is None else unit_rows(space.test, argument="test")
            return FeatureSpace(index, self._baseline_in(index, test, distinct), test, space.extractor)

        return self.keep("directions", compute, bound_to=space.extractor).bound(bind)

    def _baseline_in(
        self, index: Index, test: NDArray[Any] | None, rows: NDArray[np.int64] | None = None
    ) -> Neighbours | None:
        """The baseline's two neighbours in an index of all training images, or of those of the ascending `rows`."""
        baseline = self.baseline
        if baseline is None or baseline.excluded is None:
            return None if test is None else index.search(test, min(2, len(index)))
        return _left_out_in(index, baseline.excluded, rows)

    def left_out_directions(self, space: FeatureSpace) -> Neighbours | None:
        """The two most similar training images of those left out beside a test set, in the space of `directions`."""
        left_out = None if self.test is None else self.left_out
        if left_out is None or left_out.excluded is None:
            return None
        excluded, distinct = left_out.excluded, np.flatnonzero(~self.train.survey.repeats)
        compute = partial(_left_out_in, space.index, excluded, distinct)
        return self.keep("left out directions", compute, bound_to=space.extractor)

    def ground(self, space: FeatureSpace, key: Hashable, compute: Callable[[], Ground]) -> Ground:
        """What the fidelity family needs to know of train and test in a space of features; `key` names the rest."""
        return self.keep(("ground", key), compute, bound_to=space.extractor)

    def partition(self, space: FeatureSpace) -> Partition | str:
        """Cells of the space of the features, or why there are none."""
        rows = space.index.rows
        if int(np.prod(rows.shape[1:])) > MAX_DIMENSION:
            return TOO_LARGE
        known = self.moments if space.extractor == "pixels" else None

        def compute() -> Partition:
            return partition(rows, seed=self.seed, reference_moments=known)

        return self.keep("partition", compute, bound_to=space.extractor)


def _left_out_in(index: Index, excluded: NDArray[np.int64], rows: NDArray[np.int64] | None) -> Neighbours:
    """The two neighbours of training images left out of an index of all, or of those of the ascending `rows`."""
    own = excluded if rows is None else np.searchsorted(rows, excluded)
    return index.search(index.rows[own], min(2, len(index) - 1), exclude=own)


def for_denoisers(images: ImageSet) -> NDArray[Any]:
    """Images as denoisers are given them: uint8, or float32 in [-1, 1]."""
    array = images.array()
    return array if array.dtype == np.uint8 else in_unit_range(array)


def in_unit_range(grey_levels: NDArray[Any]) -> NDArray[np.float32]:
    """Grey levels in [0, 255] as float32 in [-1, 1]."""
    return np.asarray(grey_levels.astype(np.float32, copy=False) / UNIT - np.float32(1))


def _left_out(images: NDArray[np.bool_], what: str) -> tuple[str, ...]:
    count = np.count_nonzero(images)
    return (f"{count:,} of {len(images):,} {what}; the baseline leaves them out",) if count else ()


def content_of(source: object) -> str:
    """A checksum that changes with the content of a set of images.

    Of an array or tensor all values; of files size, time and inode; of a Dataset, or the one in a DataLoader, a few
    dozen items. Sets with a name never change, and what is read once, such as a generator, cannot.
    """
    digest = hashlib.sha256()
    _add(digest, source)
    return digest.hexdigest()


def _add(digest: Any, source: Any) -> None:
    if isinstance(source, Images):
        digest.update(str(source.value_range).encode())
        source = source.array
    if isinstance(source, str | os.PathLike):
        _add_files(digest, source)
    elif batches.is_array(source):
        rows: Any = TensorRows(source) if is_tensor(source) else to_numpy(source, label="array")
        digest.update(f"{rows.shape} {rows.dtype.str}".encode())
        for start in range(0, rows.shape[0] if rows.shape else 0, ROWS_AT_ONCE):
            digest.update(np.ascontiguousarray(rows[start : start + ROWS_AT_ONCE]).reshape(-1).view(np.uint8).data)
    else:
        for i, read in batches.few_items(source, label="Dataset"):
            digest.update(f"{i} ".encode() + read(i))


def _add_files(digest: Any, text: str | os.PathLike[str]) -> None:
    path = Path(text)
    if is_known(text) or not path.exists():
        digest.update(os.fsencode(path))
        return
    inside = [entry for entry in path.rglob("*") if entry.is_file()] if path.is_dir() else []
    for entry in [path, *sorted(inside)]:
        state = entry.stat()
        digest.update(f"{os.fspath(entry)!r} {state.st_size} {state.st_mtime_ns} {state.st_ino}".encode())
