"""The whole command with a network's features on the processor, beside the same with memory handled as glibc does.

The network is made up: convolutions of 64 to 256 channels at the sizes of a ResNet, from 224 pixels.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import OURS
from benchmarks.data import ImageSets
from benchmarks.machine import Peaks
from benchmarks.stopwatch import Stopwatch

ROOT = Path(__file__).parent.parent
DEFAULTS = "glibc's defaults"
# Its default on 64-bit machines: that it is named tells the command to leave glibc alone.
VARIABLES = {OURS: {}, DEFAULTS: {"MALLOC_ARENA_TEST": "8"}}
SIDE, NUM_SAMPLES, NUM_TRAIN = 224, 64, 256


@dataclass(frozen=True)
class Case:
    """The command without its outputs, and the operations of the network on all images."""

    command: list[str]
    num_operations: float


def network() -> nn.Sequential:
    """From images (B, 3, 224, 224) to features (B, 256)."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 7, stride=2, padding=3), nn.ReLU(), nn.MaxPool2d(2)]
    for fewer, more, stride in ((64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1)):
        layers += [nn.Conv2d(fewer, more, 3, stride=stride, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


@pytest.fixture(scope="module")
def case(images: ImageSets, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Files of samples, of training images and of the network."""
    folder, model = tmp_path_factory.mktemp("features"), network()
    for name, part in (("samples", images.test[:NUM_SAMPLES]), ("train", images.train[:NUM_TRAIN])):
        np.savez(folder / f"{name}.npz", part.transpose(0, 2, 3, 1))
    one = torch.zeros(1, 3, SIDE, SIDE)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(one)
    told = {"size": json.dumps(SIDE), "mean": json.dumps([0.5]), "std": json.dumps([0.25])}
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # TorchScript is what files hold
        scripted = torch.jit.trace(model, one)  # type: ignore[no-untyped-call]
        torch.jit.save(scripted, folder / "network.pt", _extra_files=told)
    command = [sys.executable, "-m", "memgen_eval", str(folder / "samples.npz"), "--train", str(folder / "train.npz")]
    command += ["--features", str(folder / "network.pt"), "--metrics", "novelty"]
    return Case(command, float(counter.get_total_flops()) * (NUM_SAMPLES + NUM_TRAIN))


@pytest.fixture(scope="module")
def figures() -> set[str]:
    """What all turns of both methods have found."""
    return set()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc handles memory on Linux alone")
@pytest.mark.parametrize("method", VARIABLES)
@pytest.mark.parametrize("turn", range(3))
def test_features(
    case: Case, turn: int, method: str, peaks: Peaks, stopwatch: Stopwatch, figures: set[str], tmp_path: Path
) -> None:
    """The floor is that of the network's convolutions."""
    title = f"whole command, features of a network at {SIDE} pixels: {NUM_SAMPLES + NUM_TRAIN:,} images"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    environment = kept | {"MEMGEN_CACHE": str(tmp_path / "cache")} | VARIABLES[method]  # nothing of an earlier turn
    command = [*case.command, "--json", str(tmp_path / "report.json")]
    stopwatch(
        lambda: subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True),
        case=title, method=method, floor=case.num_operations / peaks.float32,
    )  # fmt: skip
    novelty = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["novelty"]
    figures.add(json.dumps(novelty))
    assert len(figures) == 1 and 0 < novelty["auc"]["value"] < 1
    stopwatch.note(answer="the same figures")
