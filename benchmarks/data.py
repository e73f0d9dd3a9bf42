"""The images and features that are searched: CIFAR-10 where MEMGEN_DATA names it, else images made to resemble it."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memgen_eval.data.datasets import load_named

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
NUM_TRAIN, NUM_TEST = 50_000, 10_000
NUM_PLANTED = 100  # of each kind
FIRST = 1_000  # what is planted comes from the first training images, so that the smallest set holds it


@dataclass(frozen=True)
class ImageSets:
    """Training and test images, uint8 (N, 3, 32, 32), and what they are."""

    name: str
    train: Pixels
    test: Pixels


def image_sets() -> ImageSets:
    """CIFAR-10 from MEMGEN_DATA, or made-up images in the same number."""
    if os.environ.get("MEMGEN_DATA"):
        train, test = (load_named(f"cifar10:{split}", data_dir=None).array for split in ("train", "test"))
        return ImageSets("CIFAR-10", train, test)
    return made_sets(NUM_TRAIN, NUM_TEST)


def made_sets(num_train: int, num_test: int) -> ImageSets:
    """Smooth images, some training images twice; among the test images exact, off by one level and noisy copies."""
    generator = np.random.default_rng(0)
    train, test = (_smooth_images(generator, count) for count in (num_train, num_test))
    first = generator.permutation(min(FIRST, num_train))
    planted = min(NUM_PLANTED, num_test // 4, len(first) // 8)
    sources = first[: 4 * planted].reshape(4, planted)
    targets = first[4 * planted : 6 * planted].reshape(2, planted)
    train[targets[0]] = train[sources[0]]
    train[targets[1]] = _off_by_one(generator, train[sources[1]])
    test[:planted] = train[sources[2]]
    test[planted : 2 * planted] = _off_by_one(generator, train[sources[3]])
    test[2 * planted : 3 * planted] = _noisy(generator, train[sources[0]])
    return ImageSets("made-up images", train, test)


def _smooth_images(generator: np.random.Generator, num_images: int, *, block: int = 5_000) -> Pixels:
    """Random fields of varying brightness and contrast, mostly grey, about as compressible as CIFAR-10."""
    images = np.empty((num_images, 3, 32, 32), dtype=np.uint8)
    rows, columns = np.fft.fftfreq(32)[:, None], np.fft.rfftfreq(32)
    amplitude = np.maximum(np.hypot(rows, columns), 1 / 32) ** -1.4
    mixing = np.array([[1.0, 0.3, 0.1], [1.0, 0.0, -0.2], [1.0, -0.3, 0.1]])
    for start in range(0, num_images, block):
        part = images[start : start + block]
        noise = generator.standard_normal(part.shape, dtype=np.float32)
        fields = np.fft.irfft2(np.fft.rfft2(noise) * amplitude, s=(32, 32))
        fields = np.einsum("cd,bdhw->bchw", mixing, fields / fields.std())
        contrast = generator.uniform(20, 80, (len(part), 1, 1, 1))
        brightness = generator.normal(120, 40, (len(part), 1, 1, 1))
        part[:] = np.clip(np.rint(brightness + contrast * fields), 0, 255)
    return images


def _off_by_one(generator: np.random.Generator, images: Pixels) -> Pixels:
    """The same but for one value of each, one grey level away."""
    rows = images.reshape(len(images), -1).copy()
    everyone, places = np.arange(len(rows)), generator.integers(0, rows.shape[1], len(rows))
    values = rows[everyone, places]
    rows[everyone, places] = np.where(values < 255, values + 1, values - 1)
    return rows.reshape(images.shape)


def _noisy(generator: np.random.Generator, images: Pixels) -> Pixels:
    noise = generator.normal(0, 4, images.shape)
    return np.clip(np.rint(images + noise), 0, 255).astype(np.uint8)


def features(kind: str, dimension: int, *, num_train: int, num_queries: int) -> tuple[Floats, Floats]:
    """Features of training images and queries, of which the first 100 are copies.

    "mixture": Gaussians around 200 centres. "relu": non-negative, two thirds of the values zero, of 32 hidden factors.
    """
    generator = np.random.default_rng((dimension, len(kind)))
    make = {"mixture": _mixture, "relu": _relu}[kind]
    everything = make(generator, num_train + num_queries, dimension)
    train, queries = everything[:num_train], everything[num_train:]
    queries[:NUM_PLANTED] = train[generator.permutation(num_train)[: min(NUM_PLANTED, num_queries)]]
    return train, queries


def _mixture(generator: np.random.Generator, count: int, dimension: int) -> Floats:
    centres = generator.standard_normal((200, dimension), dtype=np.float32)
    spread = np.float32(0.7) * generator.standard_normal((count, dimension), np.float32)
    return centres[generator.integers(0, 200, count)] + spread


def _relu(generator: np.random.Generator, count: int, dimension: int) -> Floats:
    hidden = generator.standard_normal((count, 32), dtype=np.float32)
    weights = generator.standard_normal((32, dimension), dtype=np.float32) / np.float32(32**0.5)
    values = hidden @ weights + np.float32(0.3) * generator.standard_normal((count, dimension), np.float32)
    rectified: Floats = np.maximum(values - np.float32(0.45), 0)
    return rectified
