from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from memgen_eval import InputError
from memgen_eval.data import images as images_module
from memgen_eval.data.images import Images
from memgen_eval.data.sources import load_images


def load(source, **keywords):
    return load_images(source, **{"argument": "samples", **keywords})


def refusal(source, **keywords):
    with pytest.raises(InputError) as caught:
        load(source, **keywords)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.fixture
def signed(nchw):
    return nchw.astype(np.float32) / np.float32(127.5) - 1


@pytest.mark.parametrize(("low", "high"), [(0, 255), (0, 1)], ids=["floats from 0 to 255", "floats from 0 to 1"])
def test_floats_of_another_range_are_refused_until_it_is_given(nchw, low, high):
    floats = (nchw / 255 * (high - low) + low).astype(np.float32)
    message = refusal(floats)
    assert f"from {floats.min():.4g} to {floats.max():.4g}" in message
    assert "--range 0,1" in message and "--range 0,255" in message and "value_range=(0, 1)" in message
    assert np.array_equal(load(floats, value_range=(low, high)).array(), nchw)
    assert "--train-range 0,1" in refusal(floats, argument="train")
    assert "--test-range 0,1" in refusal(floats, argument="test")


def test_a_grey_half_could_be_anything():
    assert "from 0.5 to 0.5" in refusal(np.full((4, 8, 8), 0.5, np.float32))
    assert (load(np.full((4, 8, 8), 0.5), value_range=(0, 1)).array() == 128).all()


def test_a_value_a_little_beyond_one_is_clipped_and_counted(signed, nchw):
    signed[5, 1, 2, 3] = 1.02
    found = load(signed)
    expected = nchw.copy()
    expected[5, 1, 2, 3] = 255
    assert np.array_equal(found.array(), expected)
    assert found.arrival["clipped"]["count"] == 1
    assert found.arrival["clipped"]["maximum"] == pytest.approx(1.02)
    assert any("clipped to [-1, 1]: 1 of" in note for note in found.arrival["notes"])


@pytest.mark.parametrize(
    ("factor", "accepted"), [(1.0, True), (1.099, True), (1.101, False), (1.2, False), (0.101, True), (0.1, False)]
)
def test_the_bounds_of_what_is_accepted_unasked(factor, accepted):
    values = np.zeros((4, 8, 8))
    values[0, 0, :2] = -factor, min(factor, 1.0)
    if accepted:
        assert load(values).arrival["value_range"] == [-1.0, 1.0]
    else:
        assert "without a range" in refusal(values)


@pytest.mark.parametrize(("num_dark", "accepted"), [(15, False), (16, True)])
def test_a_thousandth_of_the_values_must_be_dark(num_dark, accepted):
    values = np.ones((16, 25, 40))  # 16,000 values
    values.reshape(-1)[:num_dark] = -1
    if accepted:
        assert load(values).arrival["range_given"] is False
    else:
        assert "15 of 16,000 values below -0.1" in refusal(values)


def test_ranges_are_judged_over_the_whole_set(signed, nchw, monkeypatch):
    monkeypatch.setattr(images_module, "IMAGE_BLOCK_VALUES", 1)
    bright = np.maximum(signed, 0)
    bright[-1] = signed[-1]
    assert load(bright).arrival["value_range"] == [-1.0, 1.0]
    signed[-1, 0, 0, 0] = 1.2
    assert "to 1.2" in refusal(signed)


def test_with_a_range_what_lies_beyond_is_clipped_with_its_share_and_maximum(signed, nchw):
    signed[0, 0] *= 5  # 48 of 8,640 values, most of which now lie beyond
    beyond = int((np.abs(signed) > 1).sum())
    found = load(signed, value_range=(-1, 1))
    clipped = found.arrival["clipped"]
    assert clipped == {
        "count": beyond,
        "share": beyond / signed.size,
        "far_share": int((np.abs(signed) > 1.2).sum()) / signed.size,
        "minimum": float(signed.min()),
        "maximum": float(signed.max()),
    }
    assert np.array_equal(found.array()[1:], nchw[1:])
    assert set(np.unique(found.array()[0, 0][np.abs(signed[0, 0]) > 1])) == {0, 255}
    kept = load(signed, value_range=(-1, 1), quantize=False).array()
    assert kept.min() == 0 and kept.max() == 255


def test_above_a_twentieth_beyond_the_range_warns():
    values = np.zeros((100, 1, 1))
    values[:5] = 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(values, value_range=(-1, 1))
    values[:6] = 2
    with pytest.warns(UserWarning, match="is the range right"):
        load(values, value_range=(-1, 1))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("value_range", [None, (-1, 1)])
def test_nan_and_infinity_name_the_image(signed, bad, value_range, monkeypatch):
    monkeypatch.setattr(images_module, "IMAGE_BLOCK_VALUES", 1)
    signed[37, 2, 1, 0] = bad
    assert "image 37 holds NaN or infinity" in refusal(signed, value_range=value_range)
    assert "image 37 ('x/37.png')" in refusal(Images(signed, names=[f"x/{i}.png" for i in range(60)]))
    assert "image 37 " in refusal(torch.from_numpy(signed).bfloat16())


@pytest.mark.parametrize("bad", [256, -1])
def test_integers_outside_the_grey_levels(nchw, bad):
    integers = nchw.astype(np.int64)
    integers[5, 0, 0, 0] = bad
    assert f"{bad}" in refusal(integers) and "0 to 255" in refusal(integers)


def test_integers_with_a_range_that_is_not_theirs(nchw):
    assert "leave the range out" in refusal(nchw, value_range=(-1, 1))
    assert np.array_equal(load(nchw, value_range=(0, 255)).array(), nchw)


@pytest.mark.parametrize(
    "value_range",
    [(1, -1), (0, 0), (float("nan"), 1), (0, float("inf")), (0,), (0, 1, 2), "ab", 5, ("a", "b")],
    ids=str,
)
def test_a_range_is_two_finite_increasing_numbers(signed, value_range):
    assert "two finite increasing numbers" in refusal(signed, value_range=value_range)
    assert "two finite increasing numbers" in refusal(Images(signed, value_range=value_range))


def test_a_range_in_images_and_another_beside_it(signed, nchw):
    assert "leave one of them out" in refusal(Images(signed, value_range=(0, 1)), value_range=(-1, 1))
    assert np.array_equal(load(Images(signed, value_range=(-1, 1)), value_range=(-1, 1)).array(), nchw)
    assert np.array_equal(load(Images(nchw / 255), value_range=(0, 1)).array(), nchw)


def test_images_may_wrap_a_path_to_say_its_range(nchw, tmp_path):
    np.save(tmp_path / "a.npy", (nchw / 255).astype(np.float32))
    found = load(Images(tmp_path / "a.npy", value_range=(0, 1)))
    assert np.array_equal(found.array(), nchw) and found.arrival["form"] == "npy"
    assert np.array_equal(load(Images(str(tmp_path / "a.npy"), value_range=(0, 1))).array(), nchw)


def test_the_map_agrees_with_exact_fractions():
    from fractions import Fraction

    values = np.random.default_rng(8).uniform(-0.3, 2.2, (3, 8, 8))
    low, high = -0.3, 2.2
    exact = [round((Fraction(v) - Fraction(low)) / (Fraction(high) - Fraction(low)) * 255) for v in values.ravel()]
    assert load(values, value_range=(low, high)).array().ravel().tolist() == exact
