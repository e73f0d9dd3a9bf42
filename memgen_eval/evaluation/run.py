"""One evaluation under way: its sets, its settings, and what several families need of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from memgen_eval.compute.resources import num_threads
from memgen_eval.copying.baseline import Scale
from memgen_eval.copying.copy_rules import CopyRules
from memgen_eval.data.images import ImageSet
from memgen_eval.data.samplers import SampleSource
from memgen_eval.distributed import Ranks
from memgen_eval.embedding.embedder import Embedder, Opened
from memgen_eval.keeping.places import Places, determining
from memgen_eval.neighbours.index import Index
from memgen_eval.neighbours.pruning import References
from memgen_eval.options import Options
from memgen_eval.reference import Prepared
from memgen_eval.runtime import Stages

Told = TypeVar("Told")


@dataclass(eq=False)
class Evaluation:
    """One evaluation: its samples, where they came from, what is known of train and test, and how all is measured.

    `skipped` holds, by family, why it was not measured.
    """

    samples: ImageSet
    known: Prepared
    options: Options
    stages: Stages
    ranks: Ranks
    source: SampleSource
    denoiser: Callable[..., Any] | None
    no_denoiser: str  # why there is none
    extractor: Opened
    places: Places
    skipped: dict[str, str] = field(default_factory=dict)

    def bind(self, references: References) -> Index:
        """An index of rows with the budget, the ranks and the engine of this evaluation."""
        return Index(references, self.options.memory_budget, self.ranks, self.options.engine, self.places.results)

    @cached_property
    def index(self) -> Index:
        """The training images."""
        return self.bind(self.known.references)

    @cached_property
    def scale(self) -> Scale:
        """From distances between images to the units of a report."""
        return Scale.of(self.index.rows)

    @cached_property
    def rules(self) -> CopyRules:
        """What counts as a copy: the duplicate tolerance is the one given, or the training set's own."""
        options, given = self.options, self.options.duplicate_tolerance
        with self.stages.stage("duplicate tolerance"):
            tolerance = self.known.tolerance(self.index) if given is None else given / self.scale.unit
        return CopyRules(options.threshold, tolerance, options.flip)

    @cached_property
    def embedder(self) -> Embedder:
        """Samples, train and test in the space of the features."""
        kept, results = self.places.features(self.extractor), self.places.results
        given = (self.samples, self.known, self.extractor, self.options, self.bind, self.ranks, self.stages)
        return Embedder(*given, kept=kept, kept_samples=results if self.source.drawn else kept)

    @cached_property
    def determining(self) -> dict[str, str]:
        """What determines the figures, as text; of a denoiser whether there is one."""
        sets = {"samples": self.samples, "train": self.known.train, "test": self.known.test}
        with self.stages.stage("checksums"):
            return determining(sets, self.options, self.extractor, denoiser=self.denoiser)

    def kept(self, kind: type[Told], measure: Callable[[], Told]) -> Told:
        """A family that rests on the sets and the settings, measured or read."""
        given: dict[str, Any] = {"extractor": self.extractor, "train": self.known.train, "ranks": self.ranks}
        return self.places.figures(kind, measure, self.determining, **given)

    @cached_property
    def measures_beside(self) -> bool:
        """Whether other families are measured beside memorization, on a thread of their own.

        Not where there is one processor, ranks work in step, blocks are kept, or a network embeds: it runs where the
        caller's settings of torch hold.
        """
        alone = self.ranks.size == 1 and num_threads() > 1
        return alone and not self.places.results.active and self.options.features == "pixels"
