"""Features on disk: nothing is computed twice, and no file stands for images, weights or a preparation of others."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import memgen_eval.features.embed
from checking import evaluated, figures
from conftest import noise_images
from memgen_eval import FeatureNet, InputError, Reference, evaluate
from memgen_eval.data import images as images_module
from memgen_eval.data.sources import load_images
from memgen_eval.features import store
from memgen_eval.features.embed import embed, unit_rows
from memgen_eval.features.network_files import Extractor
from small_networks import MEAN, STD, Tiny, scripted

SHAPE = (8, 8, 3)
TRAIN, TEST, SAMPLES = (noise_images(seed, count, SHAPE) for seed, count in ((0, 90), (1, 50), (2, 70)))
WHOLE = {"size": 8, "mean": MEAN, "std": STD}
ANCHORS = 2 * 256  # Gaussian images and noise, two sets


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEMGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many images of each set an extractor was given."""
    counts: Counter[str] = Counter()
    real = memgen_eval.features.embed._embedded

    def counted(block: Any, extractor: Extractor, argument: str, batch_size: int) -> Any:
        counts[argument] += len(block)
        return real(block, extractor, argument, batch_size)

    monkeypatch.setattr(memgen_eval.features.embed, "_embedded", counted)
    return counts


@pytest.fixture
def net(tmp_path: Path) -> FeatureNet:
    return FeatureNet(scripted(tmp_path / "net.pt"), **WHOLE)


def test_nothing_is_computed_twice(net: FeatureNet, computed: Counter[str], cache: Path) -> None:
    first = evaluated(SAMPLES, train=TRAIN, test=TEST, features=net)
    assert computed == {"samples": 70, "train": 90, "test": 50, "anchors": ANCHORS}
    assert len(list(cache.iterdir())) == 5
    computed.clear()
    again = evaluated(SAMPLES, train=TRAIN, test=TEST, features=net)
    assert computed == {} and figures(again) == figures(first)
    evaluated(SAMPLES[:30], train=TRAIN, test=TEST, features=net)
    assert computed == {"samples": 30}


def test_samples_of_a_sampler_are_not_kept(net: FeatureNet, computed: Counter[str], cache: Path) -> None:
    for _ in range(2):
        evaluated(lambda n: SAMPLES[:n], num_samples=64, train=TRAIN, test=TEST, features=net)
    assert computed == {"samples": 128, "train": 90, "test": 50, "anchors": ANCHORS}
    assert len(list(cache.iterdir())) == 4


def test_a_file_stands_for_its_images_weights_and_preparation_alone(
    net: FeatureNet, computed: Counter[str], tmp_path: Path
) -> None:
    others = [
        FeatureNet(scripted(tmp_path / "other.pt", Tiny(scale=2.0)), **WHOLE),
        FeatureNet(net.net, **WHOLE | {"size": 16}),
        FeatureNet(net.net, **WHOLE | {"std": 1, "mean": 0}),
    ]
    for given in (net, *others):
        computed.clear()
        evaluated(SAMPLES, train=TRAIN, features=given, metrics="novelty")
        assert computed == {"samples": 70, "train": 90}
    changed = TRAIN.copy()
    changed[0, 0, 0, 0] ^= 1
    computed.clear()
    evaluated(SAMPLES, train=changed, features=net, metrics="novelty")
    assert computed == {"train": 90}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def with_another_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def of_another_block(path: Path) -> None:
    first = min(path.parent.iterdir())
    path.write_bytes(first.read_bytes() if first != path else b"nothing")


@pytest.mark.parametrize("damage", [cut, emptied, with_another_bit, of_another_block])
def test_a_damaged_file_is_computed_again(damage: Any, net: FeatureNet, computed: Counter[str], cache: Path) -> None:
    first = evaluated(SAMPLES, train=TRAIN, features=net)
    for path in cache.iterdir():
        damage(path)
    computed.clear()
    assert figures(evaluated(SAMPLES, train=TRAIN, features=net)) == figures(first)
    assert computed == {"samples": 70, "train": 90, "anchors": ANCHORS}
    computed.clear()
    evaluated(SAMPLES, train=TRAIN, features=net)
    assert computed == {}


def test_a_folder_that_cannot_be_written_to_is_warned_of_once(
    net: FeatureNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = evaluated(SAMPLES, train=TRAIN, test=TEST, features=net)
    (tmp_path / "file").touch()
    monkeypatch.setenv("MEMGEN_CACHE", str(tmp_path / "file" / "below"))
    with pytest.warns(UserWarning, match="nothing more can be kept in .*set MEMGEN_CACHE") as warned:
        plain = evaluated(SAMPLES, train=TRAIN, test=TEST, features=net)
    assert len(warned) == 1 and figures(plain) == figures(kept)


def test_a_full_disk_costs_the_file_alone(net: FeatureNet, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    kept = evaluated(SAMPLES, train=TRAIN, features=net, metrics="novelty")
    for path in cache.iterdir():
        path.unlink()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(UserWarning, match="No space left"):
        again = evaluated(SAMPLES, train=TRAIN, features=net, metrics="novelty")
    assert figures(again) == figures(kept) and list(cache.iterdir()) == []


def test_a_failure_half_way_leaves_what_was_finished(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter(range(100))

    def failing(x: Any) -> Any:
        if next(calls) == 1:
            raise RuntimeError("the power failed")
        return x.flatten(1).float()

    extractor = Extractor("f", failing, weights="w", batch_size=2)
    images = load_images(SAMPLES, argument="samples")
    monkeypatch.setattr(memgen_eval.features.embed, "BATCHES_AT_ONCE", 1)
    with pytest.raises(InputError, match="the power failed"):
        embed(images, extractor, argument="samples", kept=store.kept_features())
    assert len(list(cache.iterdir())) == 1
    rows = embed(images, extractor, argument="samples", kept=store.kept_features())
    assert next(calls) == 36  # one failed, 34 were left
    assert np.array_equal(rows, SAMPLES.transpose(0, 3, 1, 2).reshape(70, -1))


def test_large_features_lie_in_a_file(net: FeatureNet, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = evaluated(SAMPLES, train=TRAIN, features=lambda x: x.flatten(1).float())
    monkeypatch.setattr(images_module, "HELD_BYTES", 0)
    mapped = evaluated(SAMPLES, train=TRAIN, features=lambda x: x.flatten(1).float())
    assert figures(mapped) == figures(kept)
    rows = unit_rows(np.ones((3, 4), dtype=np.float32), argument="train")
    assert isinstance(rows, np.memmap) and np.allclose(np.linalg.norm(rows, axis=1), 1)


def test_features_without_room_are_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(images_module, "HELD_BYTES", 0)
    monkeypatch.setattr(images_module, "IN_MEMORY", TRAIN.nbytes)  # enough for the images
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"features of 90 images take 0\.0 GiB, .*set TMPDIR to a folder with room"):
        evaluate(SAMPLES, train=TRAIN, features=lambda x: x.flatten(1).float(), metrics="novelty")


def test_a_reference_keeps_features_too(net: FeatureNet, computed: Counter[str], cache: Path) -> None:
    reference = Reference(TRAIN, TEST)
    first = evaluated(SAMPLES, train=reference, features=net)
    for path in cache.iterdir():
        path.unlink()
    computed.clear()
    again = evaluated(SAMPLES, train=reference, features=net)
    assert computed == {"samples": 70} and figures(again) == figures(first)


def test_the_cache_is_that_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MEMGEN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert store.feature_folder() == tmp_path / "memgen-eval" / "features"


def test_zeros_have_no_direction() -> None:
    dark = TRAIN.copy()
    dark[3] = 0
    report = evaluated(SAMPLES, train=dark, features=lambda x: x.flatten(1).float())
    assert report.novelty is not None and report.novelty.auc.value is not None
    said = "features of train are all zero for image 3: no cosine similarity is defined"
    assert report.skipped["memorization.calibrated_feature_similarity"] == said
    with pytest.raises(InputError, match=said):
        evaluate(SAMPLES, train=dark, features=lambda x: x.flatten(1).float(), metrics="memorization")
