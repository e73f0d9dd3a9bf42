"""Every alteration against a formula or a library that shares no code with it, on images of every shape."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter
from scipy import ndimage

from conftest import Pixels
from memgen_eval.battery import alterations as alter
from memgen_eval.battery.catalogue import ALTERATIONS, COUNTED, SLIGHT, altered
from memgen_eval.battery.draws import smooth_pictures

SHAPES = [(3, 3, 32, 32), (4, 1, 8, 8), (2, 3, 5, 7), (1, 1, 1, 9), (0, 3, 4, 4)]


def images(shape: tuple[int, ...] = (6, 3, 12, 10)) -> Pixels:
    return np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8)


def smooth(number: int = 40, shape: tuple[int, int, int] = (3, 32, 32)) -> Pixels:
    return smooth_pictures(number, shape, np.random.default_rng(5))


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_alteration_takes_every_shape_and_is_the_same_twice(shape: tuple[int, ...]) -> None:
    for name in ALTERATIONS:
        check_shape(name, images(shape), images(shape)[::-1])


def check_shape(name: str, given: Pixels, others: Pixels) -> None:
    kept = given.copy()
    first, second = (altered(name, given, others, rng()) for _ in range(2))
    assert (first.shape, first.dtype) == (given.shape, np.uint8), name
    assert np.array_equal(first, second)
    assert np.array_equal(given, kept)


def test_every_alteration_alters_colour_images() -> None:
    given, others = smooth(), smooth(80)[40:]
    for name in ALTERATIONS:
        share = (altered(name, given, others, rng()) != given).any(axis=(1, 2, 3)).mean()
        assert share == 1 or (name.startswith("solarised") and share > 0.5), name  # some have no bright places


def test_only_what_needs_colour_leaves_grey_images_alone() -> None:
    given, others = smooth(20, (1, 16, 16)), smooth(40, (1, 16, 16))[20:]
    same = {name for name in ALTERATIONS if np.array_equal(altered(name, given, others, rng()), given)}
    assert same == {name for name, kind in ALTERATIONS.items() if kind.in_colour}


def test_there_are_more_than_enough_kinds_at_three_strengths() -> None:
    strengths: dict[str, int] = {}
    for alteration in ALTERATIONS.values():
        strengths[alteration.kind] = strengths.get(alteration.kind, 0) + 1
    assert len(strengths) >= 29 and min(strengths.values()) >= 3
    assert len(set(COUNTED)) == 29 and set(COUNTED) | set(SLIGHT) <= ALTERATIONS.keys()
    assert not set(COUNTED) & set(SLIGHT)


@pytest.mark.parametrize("deviation", [1, 10, 30])
def test_noise_has_its_deviation(deviation: float) -> None:
    given = np.full((50, 3, 16, 16), 128, dtype=np.uint8)
    added = alter.noisy(given, deviation, rng()) - 128.0
    rounding = 1 / 12  # of a value to the nearest grey level
    assert added.std() == pytest.approx(np.sqrt(deviation**2 + rounding), rel=0.01)
    assert abs(added.mean()) < 4 * deviation / np.sqrt(added.size)


@pytest.mark.parametrize("share", [0.01, 0.1])
def test_salt_and_pepper_hits_pixels_in_all_channels_half_and_half(share: float) -> None:
    given = np.full((100, 3, 20, 20), 100, dtype=np.uint8)
    hit = alter.speckled(given, share, rng())
    assert np.array_equal(hit.min(axis=1), hit.max(axis=1))
    for value in (0, 255):
        assert np.mean(hit == value) == pytest.approx(share / 2, rel=0.1)


def one_by_one(given: Pixels, formula: object) -> Pixels:
    """A formula of one value in plain Python, over all values: an oracle for whole arrays."""
    table = np.array([min(255, max(0, round(formula(v)))) for v in range(256)], dtype=np.uint8)  # type: ignore[operator]
    return table[given]


@pytest.mark.parametrize(
    ("changed", "formula"),
    [
        (alter.brightened(images(), 1.3), lambda v: 1.3 * v),
        (alter.with_contrast(images(), 0.8), lambda v: 128 + 0.8 * (v - 128)),
        (alter.with_contrast(images(), 2), lambda v: 128 + 2 * (v - 128)),
        (alter.with_gamma(images(), 1.5), lambda v: 255 * (v / 255) ** 1.5),
        (alter.solarised(images(), 128), lambda v: 255 - v if v >= 128 else v),
        (alter.solarised(images(), 0), lambda v: 255 - v),
        (alter.posterised(images(), 2), lambda v: min((0, 85, 170, 255), key=lambda level: abs(level - v))),
    ],
    ids=["brightness", "less contrast", "more contrast", "gamma", "solarised", "negative", "posterised"],
)
def test_values_follow_their_formula(changed: Pixels, formula: object) -> None:
    expected = one_by_one(images(), formula)
    assert np.abs(changed.astype(int) - expected).max() <= 1  # halves round either way
    assert np.mean(changed == expected) > 0.99


def test_grey_is_that_of_pillow_and_more_colour_lies_on_the_same_line() -> None:
    given = images()
    grey = alter.saturated(given, 0)
    expected = [np.asarray(Image.fromarray(image.transpose(1, 2, 0)).convert("L")) for image in given]
    assert np.abs(grey[:, 0].astype(int) - np.stack(expected)).max() <= 1
    assert np.ptp(grey, axis=1).max() == 0
    assert np.array_equal(alter.saturated(given, 1), given)
    soft = (given // 4 + 96).astype(np.uint8)  # nothing is cut off
    double, lone = alter.saturated(soft, 2).astype(int), alter.saturated(soft, 0)
    assert np.abs(double - (2.0 * soft - lone)).max() <= 1.5


def test_casts_and_exchanged_channels() -> None:
    given = images()
    cast = alter.tinted(given, 20).astype(int)
    assert np.array_equal(cast[:, 0], np.minimum(given[:, 0].astype(int) + 20, 255))
    assert np.array_equal(cast[:, 1], given[:, 1])
    assert np.array_equal(cast[:, 2], np.maximum(given[:, 2].astype(int) - 20, 0))
    assert np.array_equal(alter.exchanged(given, (2, 1, 0)), given[:, ::-1])


def test_palettes_have_as_many_colours() -> None:
    for colours in (4, 16):
        for image in alter.paletted(smooth(5), colours):
            assert len(np.unique(image.reshape(3, -1), axis=1).T) <= colours


def test_jpeg_is_what_pillow_writes() -> None:
    given = smooth(3)
    for image, changed in zip(given, alter.compressed(given, 10), strict=True):
        file = io.BytesIO()
        Image.fromarray(image.transpose(1, 2, 0)).save(file, "JPEG", quality=10)
        assert np.array_equal(np.asarray(Image.open(file)).transpose(2, 0, 1), changed)


def test_blur_is_about_scipys() -> None:
    given = smooth(5)
    for radius in (0.7, 1.5):
        expected = ndimage.gaussian_filter(given.astype(float), (0, 0, radius, radius), mode="nearest")
        assert np.abs(alter.blurred(given, radius) - expected)[:, :, 4:-4, 4:-4].mean() < 1.5


def test_motion_blur_and_median_are_scipys() -> None:
    given = images()
    for length in (3, 5, 7):
        expected = ndimage.uniform_filter1d(given.astype(float), length, axis=3, mode="nearest")
        assert np.abs(alter.smeared(given, length) - expected).max() <= 0.5 + 1e-9
    middle = ndimage.median_filter(given, (1, 1, 3, 3))
    assert np.array_equal(alter.median_filtered(given, 3)[:, :, 1:-1, 1:-1], middle[:, :, 1:-1, 1:-1])


def test_sharpened_is_the_image_and_what_blur_takes_from_it() -> None:
    given = smooth(5)
    for image, changed in zip(given, alter.sharpened(given, 150), strict=True):
        blur = Image.fromarray(image.transpose(1, 2, 0)).filter(ImageFilter.GaussianBlur(1))
        soft = np.asarray(blur).transpose(2, 0, 1).astype(float)
        expected = (image + 1.5 * (image - soft)).clip(0, 255)
        assert np.abs(changed - expected).max() <= 2


def test_scaled_down_by_two_knows_the_means_of_blocks_alone() -> None:
    given = images((4, 3, 16, 16))
    blocks = given.reshape(4, 3, 8, 2, 8, 2).mean(axis=(3, 5))
    small = np.rint(blocks).astype(np.uint8)
    same = small.repeat(2, axis=2).repeat(2, axis=3)
    for image, changed in zip(small, alter.reduced(same, 0.5), strict=True):
        up = Image.fromarray(image.transpose(1, 2, 0)).resize((16, 16), Image.Resampling.BICUBIC)
        assert np.array_equal(np.asarray(up).transpose(2, 0, 1), changed)
    assert np.abs(alter.reduced(given, 0.5).astype(int) - alter.reduced(same, 0.5)).max() <= 3  # rounded twice


@pytest.mark.parametrize(("right", "down"), [(1, 0), (4, 0), (1, 1), (3, 2), (-2, 0)])
def test_shifts_are_scipys(right: int, down: int) -> None:
    given = images()
    expected = ndimage.shift(given, (0, 0, down, right), order=0, mode="nearest")
    assert np.array_equal(alter.shifted(given, right, down), expected)


def test_crops_enlarge_the_part_that_they_keep() -> None:
    ramp = np.broadcast_to(np.arange(32) * 8.0, (1, 1, 32, 32)).astype(np.uint8)
    centre = alter.cropped(ramp, 0.75)[0, 0, 16].astype(float)
    expected = 8 * (4 + 0.75 * (np.arange(32) + 0.5) - 0.5)  # 24 of 32 columns, from the fourth on
    assert np.abs(centre - expected).max() <= 2.5  # the border is extrapolated flat
    assert np.abs(centre - expected)[2:-2].max() <= 1
    stretched = alter.stretched(ramp, 0.75)[0, 0, 16].astype(float)
    assert np.abs(stretched - expected)[2:-2].max() <= 1
    tall = ramp.transpose(0, 1, 3, 2)
    assert np.array_equal(alter.stretched(tall, 0.75), tall)


def test_random_crops_lie_anywhere_and_stay_inside() -> None:
    ramp = np.broadcast_to(np.arange(32) * 8.0, (200, 1, 32, 32)).astype(np.uint8)
    starts = alter.cropped(ramp, 0.75, rng())[:, 0, 16, 0] / 8
    assert starts.min() < 1 and starts.max() > 7 and starts.max() <= 8.5
    assert starts.mean() == pytest.approx(4, abs=0.7)


def test_rotation_is_scipys_inside() -> None:
    given = smooth(4)
    for degrees in (3, 10):
        expected = ndimage.rotate(given.astype(float), degrees, axes=(3, 2), reshape=False, order=1, mode="nearest")
        opposite = ndimage.rotate(given.astype(float), -degrees, axes=(3, 2), reshape=False, order=1, mode="nearest")
        changed = alter.rotated(given, degrees)
        far, near = sorted(np.abs(changed - other)[:, :, 6:-6, 6:-6].mean() for other in (expected, opposite))[::-1]
        assert near < 2 < far
    assert np.array_equal(alter.rotated(given, 0), given)


def test_mirrors_and_right_angles() -> None:
    square = images((3, 3, 9, 9))
    assert np.array_equal(alter.reversed_sideways(square), np.flip(square, axis=3))
    assert np.array_equal(alter.upside_down(square), np.flip(square, axis=2))
    assert np.array_equal(alter.quarter_turned(square, 2), np.flip(square, axis=(2, 3)))
    once = np.stack([[np.rot90(channel) for channel in image] for image in square])
    assert np.array_equal(alter.quarter_turned(square, 1), once)


def test_cut_outs_are_one_grey_box_each() -> None:
    given = np.zeros((100, 3, 32, 32), dtype=np.uint8)
    holed = alter.cut_out(given, 8 / 32, rng())
    corners = set()
    for image in holed:
        rows, columns = (np.flatnonzero((image[0] == 128).any(axis=axis)) for axis in (1, 0))
        assert len(rows) == len(columns) == 8 and np.ptp(rows) == np.ptp(columns) == 7
        assert (image[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] == 128).all()
        assert (image == 128).sum() == 3 * 64
        corners.add((int(rows[0]), int(columns[0])))
    assert len(corners) > 50


def test_frames_cover_the_border_alone() -> None:
    given = np.full((2, 3, 10, 12), 9, dtype=np.uint8)
    for width in (1, 3):
        inside = alter.framed(given, width)
        assert (inside[:, :, width:-width, width:-width] == 9).all()
        assert (inside == 9).sum() == 2 * 3 * (10 - 2 * width) * (12 - 2 * width)


def test_mixtures_of_two_images() -> None:
    given, others = images(), images()[::-1]
    mixed = alter.blended(given, others, 0.7)
    assert np.abs(mixed - (0.7 * given + 0.3 * others)).max() <= 0.5 + 1e-9
    joined = alter.joined_to(given, others, 0.5)
    assert np.array_equal(joined[..., :5], given[..., :5]) and np.array_equal(joined[..., 5:], others[..., 5:])
    square, frame = images((3, 3, 32, 32)), images((3, 3, 32, 32))[::-1]
    placed = alter.set_into(square, frame, 20 / 32)
    assert np.array_equal(placed[:, :, 6:26, 6:26], square[:, :, 6:26, 6:26])
    outside = np.ones((32, 32), dtype=bool)
    outside[6:26, 6:26] = False
    assert np.array_equal(placed[:, :, outside], frame[:, :, outside])
