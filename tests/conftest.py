"""What all tests share: made-up image sets, real CIFAR-10 where it is at hand, hypothesis without clock or chance."""

from __future__ import annotations

import os
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray

settings.register_profile("fixed", deadline=None, derandomize=True, database=None)
settings.load_profile("fixed")

Pixels = NDArray[np.uint8]


def noise_images(seed: int, num_images: int, shape: tuple[int, ...] = (32, 32, 3)) -> Pixels:
    """Independent uniform pixels, N H W C: images that resemble nothing, each other least of all."""
    return np.random.default_rng(seed).integers(0, 256, (num_images, *shape), dtype=np.uint8)


@dataclass(frozen=True)
class Kit:
    """Noise images: `tr` to train on, `te` held out, `fresh` that copies none, `mix` of `fresh` and `tr[:100]`."""

    tr: Pixels
    te: Pixels
    fresh: Pixels
    mix: Pixels
    R: Callable[..., Pixels] = noise_images


@dataclass(frozen=True)
class Cifar10:
    """The published images, N C H W, in the order of the batches."""

    train: Pixels
    test: Pixels


@pytest.fixture
def kit() -> Kit:
    """Made anew for each test, so that none can change the images of another."""
    tr, te, fresh = noise_images(0, 2000), noise_images(1, 1000), noise_images(2, 500)
    return Kit(tr=tr, te=te, fresh=fresh, mix=np.concatenate([fresh, tr[:100]]))


@pytest.fixture(scope="session")
def digits() -> Pixels:
    """The 1,797 digits that ship with scikit-learn, (N, 1, 8, 8), in an order of their own."""
    from sklearn.datasets import load_digits

    images = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)
    return np.random.default_rng(0).permutation(images)[:, None]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder that holds `cifar-10-batches-py`."""
    folder = os.environ.get("MEMGEN_DATA")
    if not folder:
        pytest.skip("MEMGEN_DATA names no folder with CIFAR-10")
    return Path(folder)


@pytest.fixture(scope="session")
def cifar10(data_dir: Path) -> Cifar10:
    """Real CIFAR-10, read by other means than the library's: the pixels are cut out of the file, unpickling nothing."""
    folder = data_dir / "cifar-10-batches-py"
    train = np.concatenate([batch_images(folder / f"data_batch_{i}") for i in range(1, 6)])
    return Cifar10(train=train, test=batch_images(folder / "test_batch"))


def batch_images(path: Path) -> Pixels:
    """The longest string of a CIFAR-10 batch is its pixels, N C H W."""
    strings = [str(value) for code, value, _ in pickletools.genops(path.read_bytes()) if code.name == "BINSTRING"]
    pixels = max(strings, key=len).encode("latin-1")
    return np.frombuffer(pixels, dtype=np.uint8).reshape(-1, 3, 32, 32).copy()
