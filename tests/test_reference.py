"""What a `Reference` keeps rests on content: once images, weights or answers change, everything is computed anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from checking import evaluated, figures
from conftest import noise_images
from memgen_eval import Images, Reference
from memgen_eval.reference import content_of

SHAPE = (8, 8, 3)
TRAIN, TEST, SAMPLES = (noise_images(seed, count, SHAPE) for seed, count in ((0, 120), (1, 60), (2, 70)))


class Extractor(nn.Module):
    """Features that rest on a weight, on a buffer, or on an array that is neither."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(192, 8, generator=torch.Generator().manual_seed(0)))
        self.register_buffer("power", torch.ones(()))
        self.shift = np.zeros(8)
        self.num_images = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.num_images += len(x)
        rows = x.float().flatten(1) @ self.weight
        out: torch.Tensor = rows.abs() ** self.power * rows.sign() + torch.from_numpy(self.shift)
        return out


def changed_weight(net: Extractor) -> None:
    with torch.no_grad():
        net.weight[:96] = 0


def changed_buffer(net: Extractor) -> None:
    net.power.fill_(3)  # type: ignore[operator]


def changed_array(net: Extractor) -> None:
    net.shift[:] = np.arange(8) * 1e6


@pytest.mark.parametrize("change", [changed_weight, changed_buffer, changed_array])
def test_features_of_a_changed_extractor_are_computed_anew(change: Any) -> None:
    net, reference = Extractor(), Reference(TRAIN, TEST)
    first = evaluated(SAMPLES, train=reference, features=net, metrics="novelty")
    net.num_images = 0
    again = evaluated(SAMPLES, train=reference, features=lambda x: net(x), metrics="novelty")  # noqa: PLW0108
    assert again.novelty == first.novelty
    assert net.num_images == 128 + 64  # the 70 samples, and a few training images by which it is known again
    change(net)
    after = evaluated(SAMPLES, train=reference, features=net, metrics="novelty")
    assert figures(after) == figures(evaluated(SAMPLES, train=TRAIN, test=TEST, features=net, metrics="novelty"))
    if change is not changed_array:  # which moves all features alike
        assert after.novelty != first.novelty


def test_a_weight_that_the_few_images_do_not_show_counts() -> None:
    gain = nn.Parameter(torch.ones(()))

    def rare(x: torch.Tensor) -> torch.Tensor:
        return x.float().flatten(1) * torch.where(x[:, 0, 0, :1] == 255, gain, 1.0)

    train, test = np.minimum(TRAIN, 254), np.minimum(TEST, 254)
    test[::2, 0, 0] = 255
    net = nn.ParameterList([gain])
    extractor = lambda x: rare(x) if net else None  # noqa: E731
    reference = Reference(train, test)
    first = evaluated(SAMPLES, train=reference, features=extractor, metrics="novelty")
    with torch.no_grad():
        gain.fill_(0.5)
    after = evaluated(SAMPLES, train=reference, features=extractor, metrics="novelty")
    fresh = evaluated(SAMPLES, train=train, test=test, features=extractor, metrics="novelty")
    assert figures(after) == figures(fresh) != figures(first)


def of_array(array: Any, _: Path) -> Any:
    return array


def of_images(array: Any, _: Path) -> Any:
    return Images(array)


def of_tensor(array: Any, _: Path) -> Any:
    return torch.from_numpy(array)


def of_floats(array: Any, _: Path) -> Any:
    return array / 127.5 - 1


def of_file(array: Any, folder: Path) -> Any:
    np.save(folder / "train.npy", array)
    return folder / "train.npy"


def of_folder(array: Any, folder: Path) -> Any:
    from PIL import Image

    for number, image in enumerate(array):
        Image.fromarray(image).save(folder / f"{number:03}.png")
    return folder


def of_dataset(array: Any, _: Path) -> Any:
    return TensorDataset(torch.from_numpy(array.transpose(0, 3, 1, 2).copy()))


def rewritten(source: Any, folder: Path) -> None:
    """The same source with copies of the samples in it."""
    if isinstance(source, Path) and source.is_dir():
        of_folder(SAMPLES, folder)
    elif isinstance(source, Path):
        of_file(np.concatenate([SAMPLES, TRAIN[70:]]), folder)
    elif isinstance(source, TensorDataset):
        source.tensors[0][:70] = torch.from_numpy(SAMPLES.transpose(0, 3, 1, 2).copy())
    else:
        array = source.array if isinstance(source, Images) else source
        array[:70] = torch.from_numpy(SAMPLES) if isinstance(array, torch.Tensor) else SAMPLES
        if not isinstance(array, torch.Tensor) and array.dtype != np.uint8:
            array[:70] = SAMPLES / 127.5 - 1


@pytest.mark.parametrize("form", [of_array, of_images, of_tensor, of_floats, of_file, of_folder, of_dataset])
@pytest.mark.parametrize("side", ["train", "test"])
def test_images_that_changed_are_read_anew(form: Any, side: str, tmp_path: Path) -> None:
    source = form(TRAIN.copy(), tmp_path)
    reference = Reference(source, TEST) if side == "train" else Reference(noise_images(3, 90, SHAPE), source)
    first = evaluated(SAMPLES, train=reference, metrics="memorization")
    kept = reference.prepared(quantize=True, seed=0).num_kept
    assert figures(evaluated(SAMPLES, train=reference, metrics="memorization")) == figures(first)
    assert reference.prepared(quantize=True, seed=0).num_kept == kept
    rewritten(source, tmp_path)
    after = evaluated(SAMPLES, train=reference, metrics="memorization")
    fresh = evaluated(SAMPLES, train=reference.train, test=reference.test, metrics="memorization")
    assert figures(after) == figures(fresh) and after.settings.checksums[side] != first.settings.checksums[side]
    assert after.memorization is not None and (after.memorization.ratio.value == 1) == (side == "train")


def test_content_is_that_of_values_not_of_objects() -> None:
    assert content_of(TRAIN) == content_of(TRAIN.copy()) == content_of(np.asfortranarray(TRAIN))
    assert content_of(TRAIN) != content_of(TRAIN[::-1]) and content_of(TRAIN) != content_of(TRAIN.reshape(120, 8, 24))
    assert content_of(Images(TRAIN, (0, 1))) != content_of(Images(TRAIN, (-1, 1)))
    assert content_of("digits") == content_of("digits") != content_of("cifar10")
