"""Evaluations whose reports are kept in tests/frozen: ``python tests/frozen_cases.py FOLDER`` writes them anew."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from checking import figures
from conftest import batch_images, noise_images
from memgen_eval import Report, Sampler, evaluate

SIGMAS = [0.05, 0.3, 1.0, 3.0, 20.0]
FOLDER = Path(__file__).parent / "frozen"


def digits() -> NDArray[np.uint8]:
    """All digits, (N, 1, 8, 8), in an order of their own."""
    images = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)
    return np.random.default_rng(0).permutation(images)[:, None]


def blended(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """A denoiser that shrinks, and looks at the pixel beside: no matrix product, so that machines hardly differ."""
    level = sigma.reshape(-1, *[1] * (x.ndim - 1))
    total = level**2 + 0.5
    beside = torch.tanh(torch.roll(x, 1, dims=-1) / total.sqrt())
    return (0.5 / total * x + 0.3 * level / total.sqrt() * beside).clamp(-1, 1)


def projected(images: torch.Tensor) -> torch.Tensor:
    """Features of whole numbers: 16 sums of pixels with signs of their own."""
    signs = np.where(np.random.default_rng(0).random((images[0].numel(), 16)) < 0.5, -1, 1)
    return (images.flatten(1).long() @ torch.from_numpy(signs)).float()


def of_arrays() -> Report:
    """Copies, mirrored copies and repeats among digits, with a test set."""
    images = digits()
    train, test, fresh = images[:800], images[800:1300], images[1300:1700]
    samples = np.concatenate([fresh, train[:15], train[15:20, :, :, ::-1], fresh[:7], train[20:25] // 2 + 60])
    return evaluate(samples, train=train, test=test)


def of_a_sampler() -> Report:
    """A sampler, no test set, features of one's own."""
    train = digits()[:600]

    def mixtures(n: int, generator: torch.Generator) -> NDArray[np.uint8]:
        first, second = torch.randint(len(train), (2, n), generator=generator).numpy()
        return np.asarray(train[first] // 2 + train[second] // 2)

    return evaluate(mixtures, train=train, features=projected, num_samples=320, seed=3)


def of_floats() -> Report:
    """Floats compared as they are, a threshold and a tolerance of one's own, no mirroring."""
    images = digits().astype(np.float32) / 127.5 - 1
    samples = np.concatenate([images[700:1000], images[:8] + np.float32(0.01), 0.9 * images[1000:1040]])
    return evaluate(
        samples,
        train=images[:500],
        test=images[500:700],
        value_range=(-1, 1),
        quantize=False,
        flip=False,
        threshold=0.25,
        duplicate_tolerance=0.02,
    )


def of_a_denoiser() -> Report:
    """A denoiser and the sampler that follows it, beside D* and D_G."""
    images = digits()
    return evaluate(
        Sampler(blended, shape=(1, 8, 8), num_steps=6),
        train=images[:300],
        test=images[300:600],
        denoiser=blended,
        num_samples=310,
        sigmas=SIGMAS,
        num_denoiser_images=140,
    )


def of_noise() -> Report:
    """Colour images that resemble nothing, and what the data alone tell of a denoiser."""
    train, test = noise_images(0, 400), noise_images(1, 320)
    samples = np.concatenate([noise_images(2, 330), train[:4]])
    metrics = ["memorization", "novelty", "denoiser", "gaussian"]
    return evaluate(samples, train=train, test=test, metrics=metrics, sigmas=SIGMAS, num_denoiser_images=48)


def of_cifar10(folder: Path) -> Report:
    """Unseen images, noisy copies and mirrored ones, against a fifth of CIFAR-10."""
    train, test = (batch_images(folder / "cifar-10-batches-py" / name) for name in ("data_batch_1", "test_batch"))
    noise = np.random.default_rng(5).integers(-6, 7, (20, 3, 32, 32))
    noisy = np.clip(train[100:120].astype(int) + noise, 0, 255).astype(np.uint8)
    samples = np.concatenate([test[2000:2300], noisy, train[:10, :, :, ::-1]])
    return evaluate(samples, train=train, test=test[:1000], metrics=["memorization", "novelty"])


CASES: dict[str, Callable[..., Report]] = {
    "arrays": of_arrays,
    "sampler": of_a_sampler,
    "floats": of_floats,
    "denoiser": of_a_denoiser,
    "noise": of_noise,
    "cifar10": of_cifar10,
}


def write(folder: Path, data: Path | None) -> None:
    """All of them; CIFAR-10 only where its folder is given."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, case in CASES.items():
        given: tuple[Any, ...] = (data,) if name == "cifar10" else ()
        if None not in given:
            (folder / f"{name}.json").write_text(figures(case(*given)), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER, Path(sys.argv[2]) if len(sys.argv) > 2 else None)
