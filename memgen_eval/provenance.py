"""How a report came about: versions, machine, inputs, file names, thumbnails. None of it determines a figure."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.data.account import accounted
from memgen_eval.data.images import ImageSet
from memgen_eval.report import Gallery, Memorization, Provenance, Verdict

PACKAGES = ("memgen-eval", "numpy", "scipy", "scikit-learn", "torch", "numkong", "pillow", "faiss-cpu", "faiss-gpu")
THUMBNAIL = 256


def provenance(
    *,
    seconds: Mapping[str, float],
    command: str | None,
    engine: str,
    device: str,
    ranks: int,
    batch_size: int,
    memory_budget: str | int,
    sets: Mapping[str, ImageSet | None],
    names: Mapping[str, Mapping[str, str]],
) -> Provenance:
    """Everything that may differ between two runs of the same inputs."""
    return Provenance(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds={name: round(value, 3) for name, value in seconds.items()},
        command=command,
        versions=_versions(),
        host={"system": platform.platform(), "processor": _processor(), "python": platform.python_version()},
        engine=engine,
        device=device,
        threads=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        ranks=ranks,
        batch_size=batch_size,
        memory_budget=str(memory_budget),
        inputs={name: accounted(images) for name, images in sets.items() if images is not None},
        names=names,
    )


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def listed_names(
    family: Memorization | None, verdict: Verdict | None, sets: Mapping[str, ImageSet | None], *, baseline: str
) -> dict[str, dict[str, str]]:
    """The file name of every image that the report lists, by set and index; sets without names are left out."""
    if family is None:
        return {}
    first = verdict.evidence.first_near_identical if verdict is not None else None
    matches = (*family.copies, *family.closest, *((first,) if first is not None else ()))
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


def gallery(family: Memorization, *, samples: ImageSet, train: ImageSet, baseline: ImageSet | None) -> Gallery:
    """Thumbnails of the images that `closest` and `test_closest` name."""
    shown, control = family.closest, family.test_closest
    return Gallery(
        samples=_thumbnails(samples, (m.sample_index for m in shown)),
        train=_thumbnails(train, (m.train_index for m in (*shown, *control))),
        baseline={} if baseline is None else _thumbnails(baseline, (m.sample_index for m in control)),
    )


def _thumbnails(images: ImageSet, indices: Iterable[int]) -> dict[int, NDArray[np.uint8]]:
    wanted = sorted(set(indices))
    return {i: _thumbnail(images.read(i, i + 1)[0]) for i in wanted}


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
