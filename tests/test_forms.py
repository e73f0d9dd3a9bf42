"""The same images in every form give the same report, provenance aside."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from checking import evaluated, figures
from conftest import Pixels, noise_images
from memgen_eval import Report

SHAPE = (8, 8, 3)
TRAIN, TEST = noise_images(0, 400, SHAPE), noise_images(1, 320, SHAPE)
SAMPLES = np.concatenate([noise_images(2, 330, SHAPE), TRAIN[:20], TRAIN[20:40, :, ::-1]])


def channels_first(images: Pixels) -> Pixels:
    return np.ascontiguousarray(np.moveaxis(images, -1, 1))


def signed(images: Pixels) -> Any:
    return (channels_first(images) / 127.5 - 1).astype(np.float32)


def npz_uint8(images: Pixels, folder: Path) -> Path:
    np.savez(folder / "images.npz", images)
    return folder / "images.npz"


def npz_float(images: Pixels, folder: Path) -> Path:
    np.savez(folder / "images.npz", signed(images))
    return folder / "images.npz"


def npy(images: Pixels, folder: Path) -> Path:
    np.save(folder / "images.npy", images)
    return folder / "images.npy"


def pt(images: Pixels, folder: Path) -> Path:
    torch.save(torch.from_numpy(signed(images)), folder / "images.pt")
    return folder / "images.pt"


def safetensors_file(images: Pixels, folder: Path) -> Path:
    safetensors.torch.save_file({"images": torch.from_numpy(channels_first(images))}, folder / "images.safetensors")
    return folder / "images.safetensors"


def class_folders(images: Pixels, folder: Path) -> Path:
    root = folder / "images"
    for name in ("cats", "dogs"):
        (root / name).mkdir(parents=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(root / ("cats" if i < len(images) // 3 else "dogs") / f"{i:05d}.png")
    return root


def zip_file(images: Pixels, folder: Path) -> Path:
    root = class_folders(images, folder)
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for path in sorted(root.rglob("*.png"), reverse=True):  # an archive's own order is not the order of its images
            archive.write(path, path.relative_to(root))
    return folder / "images.zip"


def sampler(images: Pixels, folder: Path) -> Callable[[int], torch.Tensor]:
    """A function that hands out the images in turn, as a model would, floats in [-1, 1]."""
    given, whole = [0], torch.from_numpy(signed(images))

    def sample(n: int) -> torch.Tensor:
        given[0] += n
        return whole[given[0] - n : given[0]]

    return sample


def array(images: Pixels, folder: Path) -> Pixels:
    return images


def batches(images: Pixels, folder: Path) -> list[torch.Tensor]:
    return list(torch.from_numpy(signed(images)).split(37))


Form = Callable[[Pixels, Path], object]
FILES: list[Form] = [npz_uint8, npz_float, npy, pt, safetensors_file, class_folders, zip_file]


@pytest.fixture(scope="module")
def expected() -> Report:
    report = evaluated(SAMPLES, train=TRAIN, test=TEST)
    assert report.memorization is not None and report.memorization.ratio.value == 40 / 370
    return report


@pytest.mark.parametrize("form", [*FILES, sampler, batches], ids=lambda form: form.__name__)
def test_samples_in_every_form_give_one_report(form: Form, expected: Report, tmp_path: Path) -> None:
    samples = form(SAMPLES, tmp_path)
    report = evaluated(samples, train=TRAIN, test=TEST, num_samples=len(SAMPLES) if callable(samples) else None)
    assert figures(report) == figures(expected)
    assert report == expected


@pytest.mark.parametrize("form", [npz_float, safetensors_file, class_folders, zip_file], ids=lambda form: form.__name__)
def test_train_and_test_in_every_form_give_one_report(form: Form, expected: Report, tmp_path: Path) -> None:
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
    train, test = form(TRAIN, tmp_path / "train"), form(TEST, tmp_path / "test")
    assert figures(evaluated(SAMPLES, train=train, test=test)) == figures(expected)


def test_how_the_images_arrived_stands_under_provenance(expected: Report, tmp_path: Path) -> None:
    report = evaluated(class_folders(SAMPLES, tmp_path), train=TRAIN, test=TEST)
    assert report.provenance.inputs["samples"] != expected.provenance.inputs["samples"]
    assert report.provenance.names["samples"]["350"] == "dogs/00350.png"
    assert "samples" not in expected.provenance.names


def test_one_grey_level_in_one_image_makes_another_report(expected: Report) -> None:
    altered = SAMPLES.copy()
    altered[0, 0, 0, 0] ^= 1
    assert figures(evaluated(altered, train=TRAIN, test=TEST)) != figures(expected)
