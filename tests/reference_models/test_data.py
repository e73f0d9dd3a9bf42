"""Which images are trained on, and what each step sees of them."""

from __future__ import annotations

from fractions import Fraction
from math import floor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from memgen_eval import InputError
from memgen_eval.data.sources import load_images
from reference_models import data
from reference_models.data import HALVES, Selection, batch_indices, draw_batch, reduced, to_model


def rows(images: np.ndarray) -> list[bytes]:
    return [image.tobytes() for image in images]


def test_a_number_of_images_is_a_part_in_order_and_grows_by_more() -> None:
    whole = load_images("digits", argument="train").array()
    few, many = (Selection("digits", n).train().array() for n in (50, 200))
    places = [rows(whole).index(image) for image in rows(many)]
    assert places == sorted(places) and len(set(places)) == 200
    assert set(rows(few)) <= set(rows(many)) and few.shape == (50, 1, 8, 8)
    assert np.array_equal(Selection("digits").train().array(), whole)


def test_every_class_folder_is_met_and_names_are_kept(tmp_path: Path) -> None:
    for label in range(4):
        (tmp_path / str(label)).mkdir()
        for i in range(10):
            level = np.full((8, 8), 10 * label + i, dtype=np.uint8)
            Image.fromarray(level).save(tmp_path / str(label) / f"{i}.png")
    chosen = Selection(str(tmp_path), 12).train()
    assert chosen.names is not None
    assert {name.split("/")[0] for name in chosen.names} == set("0123")
    assert [10 * int(name[0]) + int(name[2]) for name in chosen.names] == chosen.array()[:, 0, 0, 0].tolist()


def test_halves_share_nothing_and_hold_almost_all() -> None:
    whole = rows(Selection("digits").train().array())
    first, second = (rows(Selection("digits", half=half).train().array()) for half in HALVES)
    assert len(first) == len(second) == 648 and len(whole) == 1297
    places = [[whole.index(image) for image in half] for half in (first, second)]
    assert all(half == sorted(half) for half in places) and not set(places[0]) & set(places[1])
    few, many = (rows(Selection("digits", n, half="second").train().array()) for n in (20, 300))
    assert set(few) <= set(many) <= set(second)
    assert rows(Selection("digits", 20, half="first").train().array()) == rows(Selection("digits", 20).train().array())


def test_reduced_images_by_brute_force() -> None:
    """In exact fractions, pixel by pixel: 8 to 3 pixels splits old ones, and luma is not rounded before the mean."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8), dtype=np.uint8)
    luma = (Fraction(299, 1000), Fraction(587, 1000), Fraction(114, 1000))
    found = reduced(pixels, side=3, grey=True)
    assert found.shape == (2, 1, 3, 3) and found.dtype == np.uint8
    for image, row, column in np.ndindex(2, 3, 3):
        total = Fraction(0)
        for y, x in np.ndindex(8, 8):
            share = overlap(row, y) * overlap(column, x)
            total += share * sum((w * int(v) for w, v in zip(luma, pixels[image, :, y, x], strict=True)), Fraction(0))
        assert found[image, 0, row, column] == floor(total / Fraction(64, 9) + Fraction(1, 2))


def overlap(new: int, old: int) -> Fraction:
    """Of new pixel and old one along a side, in old ones: 8 of them under 3."""
    side = Fraction(8, 3)
    return max(Fraction(0), min((new + 1) * side, Fraction(old + 1)) - max(new * side, Fraction(old)))


def test_halves_are_rounded_up_and_the_same_size_changes_nothing() -> None:
    pixels = np.array([[[[0, 1], [0, 1]]], [[[255, 254], [255, 254]]]], dtype=np.uint8)  # means 0.5 and 254.5
    assert reduced(pixels, side=1, grey=False).ravel().tolist() == [1, 255]
    assert np.array_equal(reduced(pixels, side=2, grey=True), pixels)
    grey = np.repeat(pixels, 3, axis=1)  # luma's weights sum to 1
    assert np.array_equal(reduced(grey, side=None, grey=True), pixels)


def test_the_test_set_is_reduced_alike() -> None:
    selection = Selection("digits", 30, side=4)
    train, test = selection.train(), selection.test()
    assert test is not None and train.shape == test.shape == (1, 4, 4) and (len(train), len(test)) == (30, 500)
    whole = load_images("digits:test", argument="test").array()
    means = whole.reshape(500, 1, 4, 2, 4, 2).astype(int).sum(axis=(3, 5))
    assert np.array_equal(test.array(), (means + 2) // 4)
    assert Selection("digits:test").test() is None


def test_a_reduced_set_keeps_order_and_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = Selection("digits", 50, side=5).train()
    monkeypatch.setattr(data, "REDUCED_AT_ONCE", 7)
    assert Selection("digits", 50, side=5).train().checksum == expected.checksum


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_images": 0}, "num_images is 0, expected an integer of at least 1"),
        ({"num_images": 1298}, "--num-images is 1298, and digits holds 1297 images: give 1 to 1297"),
        (
            {"num_images": 649, "half": "first"},
            "--num-images is 649, and the first half of digits holds 648 images: give 1 to 648",
        ),
        ({"half": "third"}, "half is 'third', expected one of first, second"),
        ({"side": 9}, "--side is 9, and the images are 8 x 8: only square ones are made smaller"),
        ({"side": 0}, "side is 0, expected an integer of at least 1"),
        ({"grey": 1}, "grey is 1, expected a text, and True or False"),
    ],
)
def test_selections_that_cannot_be(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as error:
        Selection("digits", **changes).train()
    assert said in str(error.value)


@pytest.mark.parametrize(("num_images", "batch_size"), [(10, 4), (4, 10), (6, 6), (1, 3)])
def test_every_epoch_shows_every_image_once(num_images: int, batch_size: int) -> None:
    steps = range(2 * num_images)
    seen = np.concatenate([batch_indices(num_images, batch_size=batch_size, seed=3, step=step) for step in steps])
    epochs = seen.reshape(-1, num_images)
    assert (np.sort(epochs, axis=1) == np.arange(num_images)).all()
    if num_images > 4:
        assert len(np.unique(epochs, axis=0)) > 1


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    def drawn(seed: int, step: int) -> list[bytes]:
        batch = draw_batch((100, 1, 8, 8), batch_size=16, seed=seed, step=step)
        return [
            batch.indices.tobytes(),
            batch.z.numpy().tobytes(),
            batch.flips.numpy().tobytes(),
            batch.eps.numpy().tobytes(),
        ]

    state = np.random.get_state()[1].tobytes(), torch.get_rng_state()  # type: ignore[index, union-attr]  # noqa: NPY002
    assert drawn(0, 5) == drawn(0, 5)
    for other in ((0, 6), (1, 5), (5, 0)):
        assert all(mine != theirs for mine, theirs in zip(drawn(0, 5), drawn(*other), strict=True))
    assert state[0] == np.random.get_state()[1].tobytes()  # type: ignore[index, union-attr]  # noqa: NPY002
    assert torch.equal(state[1], torch.get_rng_state())


def test_noise_levels_and_noise_are_normal_and_half_is_mirrored() -> None:
    batches = [draw_batch((100, 1, 8, 8), batch_size=500, seed=0, step=step) for step in range(20)]
    z = torch.cat([batch.z for batch in batches]).double()
    assert z.mean().item() == pytest.approx(0, abs=5 / 100)  # 10,000 draws: five standard errors
    assert z.std().item() == pytest.approx(1, rel=5 / 2**0.5 / 100)
    flips = torch.cat([batch.flips for batch in batches]).double()
    assert flips.mean().item() == pytest.approx(0.5, abs=5 * 0.5 / 100)
    assert abs(np.corrcoef(flips.numpy(), z.numpy())[0, 1]) < 5 / 100
    eps = torch.cat([batch.eps for batch in batches]).double()
    assert eps.mean().item() == pytest.approx(0, abs=5 / 800)
    assert eps.std().item() == pytest.approx(1, rel=5 / 2**0.5 / 800)
    # noise is its own: neither its level nor its image is in it
    assert abs(np.corrcoef(z.numpy(), eps.mean(dim=(1, 2, 3)).numpy())[0, 1]) < 5 / 100


def test_grey_levels_are_the_denoisers_units() -> None:
    levels = torch.tensor([0, 51, 255], dtype=torch.uint8)
    assert torch.allclose(to_model(levels), torch.tensor([-1, -0.6, 1]), atol=1e-7)
