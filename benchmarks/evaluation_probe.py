"""An evaluation in a process of its own, with the memory it holds watched: ``python -m benchmarks.evaluation_probe``.

``features COUNT WIDTH FOLDER``: made-up images with cheap features of that width, as many samples as training images.
``cifar10 FOLDER [command]``: CIFAR-10 as a whole, 10,000 samples made of it, all families that need no denoiser; with
what the command tells the system of its memory.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.memory_probe import watched
from memgen_eval.compute.resources import give_memory_back, keep_freed_memory

IMPORTED = (
    "memgen_eval.evaluation",
    "memgen_eval.diffusion.gaussian",
    "numkong",
    "scipy.linalg",
    "scipy.stats",
    "sklearn.cluster",
    "threadpoolctl",
    "torch",
    "torch_fidelity",
)


def wide_features(width: int) -> Callable[[Any], Any]:
    """Made-up features (B, width) of images: rectified products with random directions."""
    import torch

    directions = torch.randn(3 * 8 * 8, width, generator=torch.Generator().manual_seed(0))

    def features(images: Any) -> Any:
        return torch.relu((images.flatten(1).float() - 128) @ directions / 256)

    return features


def of_features(count: int, width: int, folder: Path) -> Callable[[], Any]:
    """The evaluation of `count` samples against as many training images, all of them files."""
    from memgen_eval import evaluate

    for seed, name in enumerate(("samples", "train", "test")):
        path = folder / f"{name}.npy"
        if not path.is_file():
            number = count if name != "test" else min(count, 10_000)
            np.save(path, np.random.default_rng(seed).integers(0, 256, (number, 3, 8, 8), dtype=np.uint8))
    features, metrics = wide_features(width), ["memorization", "novelty", "fidelity"]
    samples, train, test = (folder / f"{name}.npy" for name in ("samples", "train", "test"))
    return lambda: evaluate(samples, train=train, test=test, features=features, metrics=metrics)


def of_cifar10(folder: Path) -> Callable[[], Any]:
    """The evaluation of 10,000 samples, mixtures of training images, against all of CIFAR-10."""
    from memgen_eval import evaluate
    from memgen_eval.data.sources import load_images

    train = load_images("cifar10:train", argument="train", data_dir=folder).array()
    samples = train[:10_000] // 2 + train[10_000:20_000] // 2
    return lambda: evaluate(samples, train="cifar10", data_dir=folder)


def main(what: str, *arguments: str) -> None:
    """Print what was held beyond the imports at most, in MiB, with the seconds of each stage."""
    for name in IMPORTED:
        importlib.import_module(name)
    if what == "features":
        evaluation = of_features(int(arguments[0]), int(arguments[1]), Path(arguments[2]))
    else:
        evaluation = of_cifar10(Path(arguments[0]))
    give_memory_back()
    if "command" in arguments:
        keep_freed_memory()
    report, peak = watched(evaluation)
    print(json.dumps({"peak_mib": round(peak / 2**20), "seconds": dict(report.provenance.seconds)}, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
