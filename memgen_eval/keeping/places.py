"""Where one evaluation keeps what it has finished: a folder of its own, and the features of networks for all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeVar

from memgen_eval import __version__
from memgen_eval.compute.kept import NOWHERE, Folder, Kept, from_json_array, json_array
from memgen_eval.compute.resources import budget_bytes
from memgen_eval.data.images import ImageSet
from memgen_eval.data.samplers import SampleSource
from memgen_eval.distributed import Ranks
from memgen_eval.errors import InputError, quoted
from memgen_eval.features.embed import extractor_checksum
from memgen_eval.features.network_files import Extractor
from memgen_eval.features.spaces import features_name
from memgen_eval.features.store import kept_features
from memgen_eval.options import Options
from memgen_eval.reference import Prepared
from memgen_eval.report import from_json, to_json
from memgen_eval.runtime import fingerprint
from memgen_eval.shell import as_path

Figures = TypeVar("Figures")


@dataclass(frozen=True)
class Keeping:
    """What was asked for: a folder, if any, and how many bytes it may take."""

    folder: Path | None
    size: int | None

    @classmethod
    def of(cls, resume: str | Path | None, cache_size: str | int | None) -> Keeping:
        """From the arguments. Raises InputError for a size that is none, or a path that is not a folder."""
        folder = None if resume is None else as_path(resume)
        if folder is not None and (str(resume) == "" or (folder.exists() and not folder.is_dir())):
            what = f"resume is {quoted(str(resume))}, expected a folder of this evaluation's own"
            raise InputError(f"{what}; name another")
        return cls(folder, None if cache_size is None else budget_bytes(cache_size, name="cache_size"))

    def opened(self, source: SampleSource, known: Prepared, options: Options) -> Places:
        """The places of an evaluation of these sets."""
        if self.folder is None:
            return Places(NOWHERE, NOWHERE, self.size)
        test = None if known.test is None else known.test.checksum
        drawn = fingerprint(source.source) if source.drawn else None
        owner = repr((known.train.checksum, test, drawn, features_name(options.features), options.seed))
        kept = Kept(Folder(self.folder, size=self.size, owner=owner)).under(known.train.checksum)
        return Places(kept, kept.under(__version__), self.size)


@dataclass(frozen=True, eq=False)
class Places:
    """Where an evaluation keeps what; all but the samples belongs to this version of the library.

    Attributes
    ----------
    samples : Kept
        What calls of the sampler returned.
    results : Kept
        What was computed.
    size : int or None
        Bytes that the folder of features may take.
    """

    samples: Kept
    results: Kept
    size: int | None

    def features(self, extractor: Extractor | InputError | None) -> Kept:
        """Where features lie: those of a network for every evaluation, those of a callable with the results."""
        of_network = isinstance(extractor, Extractor) and extractor.identity is not None
        return kept_features(size=self.size) if of_network else self.results

    def figures(
        self,
        kind: type[Figures],
        measure: Callable[[], Figures],
        settings: Mapping[str, str],
        *,
        extractor: Extractor | InputError | None,
        train: ImageSet,
        ranks: Ranks,
    ) -> Figures:
        """A family that rests on the sets, the settings and the features: read where every rank has kept it."""
        if not self.results.active:
            return measure()
        by = extractor_checksum(extractor, train) if isinstance(extractor, Extractor) else "no network"
        kept, label = self.results.under(*sorted(settings.items()), by), kind.__name__.lower()
        found = kept.read(label)
        if all(ranks.exchange("kept figures", found is not None)) and found is not None and found[0] is not None:
            figures: Figures = from_json(kind, from_json_array(found[0]))
            return figures
        measured = measure()
        kept.write((json_array(to_json(measured)),), label)
        return measured


def determining(
    sets: Mapping[str, ImageSet | None], options: Options, extractor: Extractor | InputError | None, *, denoiser: object
) -> dict[str, str]:
    """What determines the figures, as text; of a denoiser whether there is one."""
    given = {f.name: str(getattr(options, f.name)) for f in fields(Options) if f.name != "engine"}
    given["features"] = f"{features_name(options.features)} {getattr(extractor, 'identity', '')}"
    given["denoiser"] = "none" if denoiser is None else "one"
    return given | {name: "none" if images is None else images.checksum for name, images in sets.items()}
