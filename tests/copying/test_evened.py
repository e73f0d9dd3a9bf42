"""Images evened out, aligned and merged: against float64 loops, SciPy's transforms, and copies made on purpose."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from memgen_eval.altered import alignment
from memgen_eval.altered.alignment import align
from memgen_eval.altered.matches import altered_match
from memgen_eval.altered.standardized import averaged, averaged_levels, coarse_side, lacks_contrast, standardized
from memgen_eval.altered.views import VIEWS, View, viewed
from memgen_eval.altered.windows import Geometry
from memgen_eval.copying.copy_rules import CopyRules
from memgen_eval.copying.evened import EvenTrain, even_out
from memgen_eval.copying.same_pictures import same_pictures
from memgen_eval.neighbours.duplicates import without_duplicates
from memgen_eval.neighbours.index import Index
from memgen_eval.neighbours.pruning import References
from metric_tables import brute_force, smooth_images

Pixels = NDArray[np.uint8]


TRAIN = smooth_images(60, (3, 32, 32), seed=0)


@pytest.mark.parametrize(
    ("shape", "side"), [((3, 32, 32), 2), ((1, 28, 28), 1), ((1, 8, 8), 1), ((3, 64, 48), 4), ((3, 2, 100), 2)]
)
def test_sixteen_squares_remain_along_the_longer_side(shape: tuple[int, ...], side: int) -> None:
    assert coarse_side(shape) == side


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (3, 35, 50)])
def test_standardized_images_follow_their_definition(shape: tuple[int, int, int]) -> None:
    images = smooth_images(5, shape, seed=1)
    side = coarse_side(shape)
    for image, found in zip(images, standardized(images), strict=True):
        squares = [
            [
                [channel[i : i + side, j : j + side].astype(float).mean() for j in range(0, shape[2] - side + 1, side)]
                for i in range(0, shape[1] - side + 1, side)
            ]
            for channel in image
        ]
        centred = np.array([np.array(channel) - np.mean(channel) for channel in squares])
        expected = np.clip(128 + 32 * centred / np.sqrt((centred**2).mean()), 0, 255)
        assert found.shape == expected.shape and np.abs(found - expected).max() <= 0.501


@pytest.mark.parametrize(
    "change", [lambda x: 0.6 * x + 20, lambda x: x + 12, lambda x: 0.8 * x + [[[9]], [[0]], [[-9]]]]
)
def test_brightness_contrast_and_colour_cast_are_evened_out(change: Any) -> None:
    altered = np.rint(change(TRAIN.astype(float))).clip(0, 255).astype(np.uint8)
    apart = standardized(altered).astype(float) - standardized(TRAIN)
    assert np.sqrt((apart**2).mean()) < 1.5  # of 32 grey levels, by rounding and clipping


def test_images_without_contrast_are_known_and_never_enlarged() -> None:
    flat = np.full((3, 1, 16, 16), 77, dtype=np.uint8)
    flat[1, :, ::2] += 1
    flat[2] = smooth_images(1, (1, 16, 16), seed=3)[0]
    even = standardized(flat)
    assert lacks_contrast(even).tolist() == [True, True, False]
    assert np.abs(even[1].astype(int) - 128).max() <= 4  # half a grey level of deviation, divided by four


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 9, 14)])
def test_views_are_those_of_scipy(view: View, shape: tuple[int, int, int]) -> None:
    image = smooth_images(1, shape, seed=4)
    angle, centre = np.deg2rad(view.turn), (np.array(shape[1:]) - 1) / 2
    inverse = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / view.scale
    expected = [
        ndimage.affine_transform(
            channel.astype(np.float64), inverse, centre - inverse @ centre, order=1, mode="nearest"
        )
        for channel in image[0]
    ]
    np.testing.assert_allclose(viewed(image, view)[0], expected, atol=2e-3)


def best_by_hand(image: Pixels, other: Pixels, views: tuple[View, ...]) -> tuple[float, int, int, int]:
    """``1 - r`` at the best view and shift, by loops over float64 squares: value, view, down, right."""
    shift, side = Geometry.of(image.shape).shift, coarse_side(image.shape)
    height, width = (size - 2 * shift for size in image.shape[1:])

    def flat(window: NDArray[Any]) -> NDArray[np.float64]:
        squares = np.rint(averaged(np.rint(window[None]), side)[0].astype(np.float64) - 128)
        centred = (squares - squares.mean(axis=(1, 2), keepdims=True)).ravel()
        return centred / np.sqrt(max((centred**2).sum(), 16 * centred.size))

    found = []
    for v, view in enumerate(views):
        own = flat(viewed(image[None], view)[0, :, shift : shift + height, shift : shift + width])
        for top in range(2 * shift + 1):
            for left in range(2 * shift + 1):
                place = flat(other[:, top : top + height, left : left + width])
                found.append((1 - float(own @ place), v, shift - top, shift - left))
    return min(found)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 17, 25), (1, 8, 8), (3, 33, 37), (1, 165, 162)])
def test_the_best_agreement_is_that_of_loops(shape: tuple[int, int, int]) -> None:
    train, images = smooth_images(9, shape, seed=5), smooth_images(4, shape, seed=6)
    rng = np.random.default_rng(7)
    candidates = np.stack([rng.permutation(9)[:6] for _ in images])
    flipped = rng.random((4, 6)) < 0.5
    found = align(images, train, candidates, flipped)
    plain = np.array(
        [
            [
                best_by_hand(image, train[c][..., ::-1] if f else train[c], VIEWS[:1])[0]
                for c, f in zip(row, mirror, strict=True)
            ]
            for image, row, mirror in zip(images, candidates, flipped, strict=True)
        ]
    )
    for i, image in enumerate(images):
        best_four = np.argsort(plain[i], kind="stable")[:4]
        for j in range(6):
            other = train[candidates[i, j]][..., ::-1] if flipped[i, j] else train[candidates[i, j]]
            value, view, down, right = best_by_hand(image, other, VIEWS if j in best_four else VIEWS[:1])
            assert found.squared[i, j] == pytest.approx(value, abs=1e-12)
            assert (found.view[i, j], found.down[i, j], found.right[i, j]) == (view, down, right)


def test_work_in_small_pieces_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    candidates = np.stack([np.random.default_rng(i).permutation(20)[:8] for i in range(10)])
    flipped = candidates % 3 == 0
    whole = align(TRAIN[:10], TRAIN, candidates, flipped)
    monkeypatch.setattr(alignment, "CANDIDATES_AT_ONCE", 3)
    monkeypatch.setattr(alignment, "MOST_AT_ONCE", 2)
    parts = align(TRAIN[:10], TRAIN, candidates, flipped)
    for name in vars(whole):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))


def test_no_images_align_with_nothing() -> None:
    found = align(TRAIN[:0], TRAIN, np.zeros((0, 8), dtype=np.int64), np.zeros((0, 8), dtype=bool))
    assert {values.shape for values in vars(found).values()} == {(0, 8)}
    nobody = even_out(TRAIN[:0], even_train(TRAIN))
    assert nobody.aligned is not None and len(nobody.aligned) == len(nobody.standardized) == 0


def even_train(images: Pixels, *, flip: bool = True, tolerance: float = 20.0) -> EvenTrain:
    return EvenTrain(Index(References(standardized(images))), images, tolerance, flip)


SHIFTED = np.roll(TRAIN, (2, -3), axis=(2, 3))
DARKER = np.rint(0.8 * TRAIN[..., ::-1]).clip(0, 255).astype(np.uint8)
TURNED = ndimage.rotate(TRAIN.astype(np.float32), 8, axes=(3, 2), reshape=False, order=3, mode="nearest")
CROPPED = np.stack(
    [ndimage.zoom(image[:, 2:30, 2:30].astype(np.float32), (1, 8 / 7, 8 / 7), order=1) for image in TRAIN]
)


@pytest.mark.parametrize(
    ("altered", "words"),
    [
        (TRAIN, "unaltered"),
        (SHIFTED, r"shifted 3 left and 2 down \(pixels\)"),
        (DARKER, r"mirrored, \d+ % darker"),
        (TURNED, "turned by about 8 degrees"),
        (CROPPED, "enlarged by about an eighth"),
    ],
)
def test_an_altered_copy_is_found_and_what_was_altered_is_named(altered: NDArray[Any], words: str) -> None:
    images = np.rint(altered).clip(0, 255).astype(np.uint8)
    found = even_out(images, even_train(TRAIN))
    assert found.aligned is not None and found.best is not None
    assert np.count_nonzero(found.aligned.nearest == np.arange(60)) >= 58  # of 32 candidates only
    assert np.median(found.aligned.ratios) < 0.1  # squared; the nearest other training image is far
    named = [
        altered_match(images[i], TRAIN[i], found.best[i], sample_index=i, train_index=i, ratio=0.1) for i in range(60)
    ]
    assert sum(re.fullmatch(words, match.words) is not None for match in named) >= 54
    assert np.median([match.grey_levels for match in named]) < 8


def test_unseen_images_fit_two_training_images_alike() -> None:
    found = even_out(smooth_images(200, (3, 32, 32), seed=9), even_train(TRAIN))
    assert found.aligned is not None
    for rated in (found.standardized, found.aligned):
        assert np.median(rated.ratios) > 0.8 and rated.ratios.min() > 0.5 and rated.ratios.max() <= 1


def test_a_copy_of_an_image_that_train_holds_twice_is_found() -> None:
    twice = np.concatenate([TRAIN, TRAIN ^ 1])
    found = even_out(SHIFTED, even_train(twice))
    assert found.aligned is not None and np.median(found.aligned.ratios) < 0.05
    apart = even_out(TRAIN, even_train(twice), excluded=np.arange(60), apart=True)
    assert apart.aligned is not None
    assert min(apart.standardized.ratios.min(), apart.aligned.ratios.min()) > 0.4  # both versions are left out
    assert even_out(TRAIN, even_train(twice), excluded=np.arange(60)).standardized.ratios.max() < 0.05


def test_flat_images_and_those_too_small_say_nothing() -> None:
    flat = np.stack([np.full((3, 32, 32), level, dtype=np.uint8) for level in (0, 100, 255)])
    train = np.concatenate([TRAIN, flat])
    found = even_out(flat, even_train(train))
    assert found.aligned is not None
    assert found.standardized.ratios.tolist() == found.aligned.ratios.tolist() == [1.0, 1.0, 1.0]
    small = smooth_images(20, (1, 7, 9), seed=1)
    assert even_out(small, even_train(small)).aligned is None
    one = even_out(TRAIN[:3], even_train(TRAIN[:1]))
    assert one.aligned is None and (one.standardized.ratios >= 0).all()


def test_duplicates_of_a_left_out_image_are_dropped_from_its_row() -> None:
    rng = np.random.default_rng(0)
    train = rng.integers(0, 256, (40, 6)).astype(np.uint8)
    train[30:33] = train[0] ^ 1
    table = brute_force(train, train, 8, exclude=range(40))
    apart = without_duplicates(table, tolerance=3.0)
    distances = np.sqrt(((train[:, None].astype(float) - train) ** 2).sum(axis=2))
    for i in range(40):
        others = [j for j in np.argsort(distances[i], kind="stable") if j != i and distances[i, j] > 3]
        assert apart.indices[i].tolist() == others[: apart.indices.shape[1]]
    assert apart.indices.shape == (40, 5)


@pytest.mark.parametrize("flip", [False, True])
def test_each_picture_counts_once(flip: bool) -> None:
    pictures = np.random.default_rng(1).integers(0, 256, (12, 1, 4, 5)).astype(np.uint8)
    noise = np.random.default_rng(2).integers(0, 2, (12, 1, 4, 5)).astype(np.uint8)
    samples = np.concatenate([pictures, pictures ^ noise, pictures[:5, :, :, ::-1], pictures[:2]])
    repeats = np.zeros(len(samples), dtype=bool)
    repeats[-2:] = True
    rules = CopyRules(1 / 3, tolerance=6.0, flip=flip)
    same = same_pictures(samples, repeats, Index(References.of(pictures)), rules)
    assert (~same).sum() == (12 if flip else 17)
    assert not same[:12].any() and same[12:24].all()
    exact = same_pictures(samples, repeats, Index(References.of(pictures)), CopyRules(1 / 3, 0.0, flip))
    np.testing.assert_array_equal(exact, repeats)


def test_what_hangs_together_by_steps_is_one_picture() -> None:
    """A hundred images in a row, each within the tolerance of the next, and one far away."""
    samples = np.repeat(np.arange(101, dtype=np.uint8), 4).reshape(101, 1, 2, 2)
    samples[100] = 255
    rules = CopyRules(1 / 3, tolerance=2.0, flip=True)
    kept = np.flatnonzero(~same_pictures(samples, np.zeros(101, dtype=bool), Index(References.of(samples)), rules))
    assert kept.tolist() == [0, 100]


@pytest.mark.parametrize("side", [1, 2, 3, 5])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_whole_numbers_are_averaged_as_others_are(side: int, dtype: type) -> None:
    levels = smooth_images(3, (2, 17, 23), seed=2).astype(dtype)
    np.testing.assert_array_equal(averaged_levels(levels, side), averaged(levels.astype(np.float32), side))
    assert averaged_levels(levels, side).dtype == np.float32
