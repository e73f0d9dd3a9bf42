"""What was read is what was meant: wrong readings are refused or cautioned against, and acquit nobody."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.stats import binomtest

from checking import evaluated
from conftest import Pixels, noise_images
from memgen_eval import Images, InputError, Report, evaluate
from memgen_eval.copying.copy_rules import CopyRules
from memgen_eval.data.sources import load_images
from memgen_eval.neighbours import index as index_module
from memgen_eval.neighbours.index import Index
from memgen_eval.neighbours.pruning import References
from memgen_eval.neighbours.search import nearest_neighbours
from memgen_eval.resemblance import cautions
from memgen_eval.resemblance.appearance import Appearance, appearance, better_reading, is_flat, level_mismatch, turned

SIZE = 8


def pictures(seed: int, num_images: int) -> Pixels:
    """Smooth colour pictures with more light above and more red than blue, N H W C."""
    draw = np.random.default_rng(seed)
    blobs = np.kron(draw.normal(0, 50, (num_images, 4, 4, 3)), np.ones((1, SIZE // 4, SIZE // 4, 1)))
    smooth = 1.6 * gaussian_filter(blobs, (0, 1, 1, 0)) + draw.normal(0, 4, blobs.shape)
    tint = draw.normal(0, 30, (num_images, 1, 1, 3)) * [1.2, 0.8, 0.6] + [15, 0, -20]
    light = np.linspace(40, -30, SIZE)[:, None, None] + np.linspace(-12, 12, SIZE)[:, None]
    return (128 + smooth + tint + light).clip(0, 255).astype(np.uint8)


def floats(images: Pixels) -> NDArray[np.float32]:
    """In [-1, 1]."""
    return images.astype(np.float32) / np.float32(127.5) - 1


TRAIN, TEST, FRESH = pictures(0, 800), pictures(1, 400), pictures(2, 320)
CONTENTS = {
    "copies": np.where(np.arange(320)[:, None, None, None] % 4, FRESH, TRAIN[:320]),
    "fresh": FRESH,
    "blurred": np.rint(gaussian_filter(FRESH.astype(float), (0, 1, 1, 0))).astype(np.uint8),
    "noise": noise_images(3, 320, (SIZE, SIZE, 3)),
}

Misread = Callable[[Pixels], NDArray[Any]]
IN_FLOATS: dict[str, tuple[Misread, tuple[float, float]]] = {
    "[0, 1] with overshoot": (lambda u: u / 255 + np.random.default_rng(9).normal(0, 0.01, u.shape), (-1, 1)),
    "[0, 255]": (lambda u: u.astype(np.float32), (-1, 1)),
    "[-1, 1] given as [0, 1]": (floats, (0, 1)),
    "half the scale": (lambda u: floats(u) / 2, (-1, 1)),
    "an offset, cut": (lambda u: (floats(u) + 0.6).clip(-1, 1), (-1, 1)),
    "other means and deviations": (lambda u: (u / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225], (-3, 3)),
}
IN_BYTES: dict[str, tuple[Misread, str]] = {
    "zeros and ones": (
        lambda u: (u > 127).astype(np.uint8),
        "98 % of their values in channel 0 are grey levels 0 to 1, of the training set's",
    ),
    "signed bytes": (
        lambda u: (u.astype(np.int16) - 128).astype(np.int8).view(np.uint8),
        "Read as signed bytes, 62 of 250 samples would be copies of training images",
    ),
    "blue before red": (lambda u: u[..., ::-1], "Read with the channels in the order BGR, 62 of 250 samples"),
    "upside down": (lambda u: u[:, ::-1], "Read upside down, 62 of 250 samples would be copies"),
    "rows for columns": (lambda u: u.swapaxes(1, 2), "Read with rows and columns exchanged, 62 of 250 samples"),
    "channels first in channels last": (
        lambda u: np.moveaxis(u, 3, 1).reshape(u.shape),
        "Read as N C H W, which were taken for N H W C, 62 of 250 samples",
    ),
    "negatives": (lambda u: 255 - u, "Read as negatives, 62 of 250 samples"),
    "linear light": (
        lambda u: np.rint(255 * (u / 255) ** 2.2).astype(np.uint8),
        "Read with the grey levels of the training set, 6",
    ),
}
RIGHT_UNASKED = {"[-1, 1] given as [0, 1]"}  # wrong only where the range is given


def outcome(samples: Any, **keywords: Any) -> tuple[str, str]:
    """The label and the cautions, or "refused" and the message."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of values that were clipped
        try:
            report = evaluate(samples, train=TRAIN, test=TEST, metrics="memorization", **keywords)
        except InputError as error:
            return "refused", str(error)
    return label(report), "\n".join(report.cautions)


def label(report: Report) -> str:
    assert report.verdict is not None
    return report.verdict.label


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("given", [False, True], ids=["not given", "given"])
@pytest.mark.parametrize("reading", IN_FLOATS)
def test_floats_that_are_read_wrongly(reading: str, given: bool, content: str) -> None:
    misread, value_range = IN_FLOATS[reading]
    found, message = outcome(misread(CONTENTS[content]).astype(np.float32), value_range=value_range if given else None)
    if not given and reading in RIGHT_UNASKED:
        assert found == {"copies": "copies", "noise": "undecided", "blurred": found}.get(content, "no copying found")
        assert content == "copies" or found != "copies"
        return
    if found == "refused":
        assert not given and "--range" in message and "\n" not in message
    if content == "copies":
        assert found != "no copying found" and (message or found == "copies")


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("reading", IN_BYTES)
def test_bytes_that_are_read_wrongly(reading: str, content: str) -> None:
    misread, words = IN_BYTES[reading]
    found, message = outcome(misread(CONTENTS[content]))
    assert found != "refused"
    if content == "copies":
        assert found == "copies" or (found == "undecided" and words in message)
    if content == "fresh" and reading in ("blue before red", "upside down", "rows for columns", "negatives"):
        assert "resemble the training set more when they are read" in message


def test_what_was_read_rightly_is_judged_as_before() -> None:
    expected = {"copies": "copies", "fresh": "no copying found", "blurred": "no copying found", "noise": "undecided"}
    for content, images in CONTENTS.items():
        found, message = outcome(images)
        assert found == expected[content] or (content, found) == ("blurred", "undecided")
        assert ("do not resemble the training set" in message) == (content == "noise")


def test_one_value_below_zero_does_not_make_a_range() -> None:
    train, test = noise_images(0, 800, (8, 8, 3)), noise_images(1, 400, (8, 8, 3))
    samples = (train[:400] / 255).astype(np.float32)
    for lowest in (-0.02, -0.5, -1.0):
        samples[0, 0, 0, 0] = lowest
        with pytest.raises(InputError, match=r"samples: floats from .* of 76,800 values below -0\.1.*--range 0,1"):
            evaluate(samples, train=train, test=test)


def test_floats_without_a_range_must_fill_the_grey_levels_of_the_training_set() -> None:
    narrow = floats(CONTENTS["copies"]) / 2
    assert "taken to be in [-1, 1]" in outcome(narrow)[1] and outcome(narrow)[0] == "refused"
    found, message = outcome(narrow, value_range=(-1, 1))
    assert found == "copies" and "do not fill the grey levels of the training set" in message
    assert outcome(narrow, value_range=(-0.5, 0.5))[0] == "copies"


def test_a_training_set_that_was_read_wrongly_is_named() -> None:
    with pytest.raises(InputError, match=r"^train: floats without a range.*--train-range"):
        evaluate(FRESH, train=floats(TRAIN) / 2, test=TEST)
    with pytest.raises(InputError, match=r"^test: floats without a range.*--test-range"):
        evaluate(FRESH, train=TRAIN, test=floats(TEST) / 2)


def test_a_test_set_that_was_read_wrongly_acquits_nobody() -> None:
    report = evaluated(FRESH, train=TRAIN, test=TEST[..., ::-1], metrics="memorization")
    assert label(report) == "undecided"
    assert report.cautions[0].startswith("The test images resemble the training set more when they are read with")


def test_flat_samples_are_said_to_be_flat() -> None:
    colours = np.random.default_rng(4).integers(0, 256, (320, 1, 1, 3), dtype=np.uint8)
    found, message = outcome(np.broadcast_to(colours, (320, SIZE, SIZE, 3)).copy())
    assert found == "undecided"
    assert "320 of 320 samples have a single colour" in message and "little contrast" in message


def test_clipping_is_cautioned_against() -> None:
    found, message = outcome(floats(FRESH) * 1.5, value_range=(-1, 1))
    assert found == "undecided" and "% of the values of the samples lay far outside the range" in message
    dark = np.where(FRESH < 128, np.float32(-1), floats(FRESH))  # as a model of drawings leaves its background
    noisy = dark + np.random.default_rng(4).normal(0, 0.03, dark.shape).astype(np.float32)
    assert (np.abs(noisy) > 1).mean() > 0.2
    assert "far outside" not in outcome(noisy, value_range=(-1, 1))[1]


def test_mirrored_copies_are_counted_where_flip_is_off() -> None:
    samples = np.concatenate([FRESH[:300], TRAIN[5:6, :, ::-1]])
    report = evaluated(samples, train=TRAIN, test=TEST, metrics="memorization", flip=False)
    assert report.memorization is not None and report.verdict is not None
    assert report.memorization.num_near_identical.value == 1 and report.memorization.ratio.value == 0
    assert label(report) == "undecided"
    assert "Sample 300 is training image 5, mirrored, to within noise (0.00 grey levels" in report.verdict.sentence
    all_mirrored = evaluated(TRAIN[:300, :, ::-1], train=TRAIN, test=TEST, metrics="memorization", flip=False)
    assert all_mirrored.memorization is not None and all_mirrored.memorization.num_near_identical.value == 300


@pytest.mark.parametrize("times", [2, 4])
def test_training_images_that_stand_twice_leave_the_baseline(times: int) -> None:
    train = np.concatenate([TRAIN, *[TRAIN[:200]] * (times - 1)])
    report = evaluated(CONTENTS["copies"], train=train, metrics="memorization")
    assert label(report) == "copies" and report.verdict is not None and report.memorization is not None
    assert (report.settings.num_baseline, report.verdict.evidence.num_baseline_leaks) == (600, 0)
    left_out = (
        f"{200 * times:,} of {len(train):,} training images have an exact duplicate; the baseline leaves them out"
    )
    assert left_out in report.memorization.test_ratio.notes
    assert label(evaluated(FRESH, train=train, metrics="memorization")) == "no copying found"


def test_a_training_set_that_stands_twice_has_no_baseline_and_its_own_tolerance() -> None:
    twice = evaluated(FRESH, train=np.tile(TRAIN, (8, 1, 1, 1)), metrics="memorization")
    assert twice.settings.baseline == "none" and label(twice) == "undecided"
    once = evaluated(FRESH, train=TRAIN, metrics="memorization")
    assert twice.settings.duplicate_tolerance == once.settings.duplicate_tolerance


def test_repeated_test_images_count_once() -> None:
    report = evaluated(FRESH, train=TRAIN, test=np.tile(TEST[:100], (4, 1, 1, 1)))
    assert report.settings.num_test == 400 and report.settings.num_baseline == 100
    assert label(report) == "undecided"  # 300 baseline images are needed
    assert report.memorization is not None and report.novelty is not None
    note = "300 of 400 test images repeat an earlier one; the baseline leaves them out"
    assert note in report.memorization.test_ratio.notes and note in report.novelty.auc.notes
    assert report.memorization.test_ratio.count == report.novelty.test_distance_median.count == 100


def test_every_interval_counts_repeated_samples_once() -> None:
    once, four_times = (evaluated(np.tile(FRESH[:150], (times, 1, 1, 1)), train=TRAIN, test=TEST) for times in (1, 4))
    assert once.memorization is not None and four_times.memorization is not None
    ratio = four_times.memorization.ratio
    assert (ratio.value, ratio.count) == (0, 150)
    assert ratio.high == pytest.approx(binomtest(0, 150).proportion_ci(0.95, method="exact").high, rel=1e-12)
    assert "450 samples repeat another sample;" in ratio.notes[-1]
    for name in ("ratio", "plain_ratio", "carlini", "carlini_absolute", "carlini_patch", "excess"):
        few, many = (getattr(report.memorization, name) for report in (once, four_times))
        assert (few.value, few.low, few.high, few.count) == (many.value, many.low, many.high, many.count), name
    assert once.novelty is not None and four_times.novelty is not None
    assert once.gaussian is not None and four_times.gaussian is not None
    for family in ("novelty", "gaussian"):
        figures = vars(getattr(once, family)), vars(getattr(four_times, family))
        for name, few in figures[0].items():
            assert (few.value, few.low, few.high) == (
                figures[1][name].value,
                figures[1][name].low,
                figures[1][name].high,
            )
    repetition = four_times.memorization.repetition.value
    assert repetition is not None and repetition > 0.5  # it is there to see repeats


def test_a_share_of_repeats_is_of_all_samples_and_its_interval_of_the_distinct_ones() -> None:
    samples = np.concatenate([np.repeat(TRAIN[:1], 290, axis=0), FRESH[:10]])
    report = evaluated(samples, train=TRAIN, test=TEST, metrics="memorization")
    assert report.memorization is not None and report.verdict is not None
    ratio = report.memorization.ratio
    assert (ratio.value, ratio.count) == (290 / 300, 11)
    assert ratio.low is not None and ratio.low < 0.75
    assert report.verdict.p_value > 1e-5 and label(report) == "undecided"  # one distinct copy is no proof


def test_the_account_of_each_set_says_what_was_read_and_assumed() -> None:
    samples = floats(FRESH[:50])
    samples[7], samples[20:22], samples[3, 0, 0, 0] = samples[2], 0.25, 1.05
    report = evaluated(samples, train=Images(TRAIN, value_range=(0, 255)), test=TEST, metrics="memorization")
    inputs = report.provenance.inputs
    assert inputs["samples"]["account"] == (
        "50 images of 3 x 8 x 8 (array); float32 in N H W C, taken to be in [-1, 1] because no range was given; "
        "grey levels from 0 to 255; 2 images repeat an earlier one (the first: image 7); "
        "2 images have a single colour (the first: image 20); "
        "clipped to [-1, 1]: 1 of 9,600 values (0.01 %), from -1 to 1.05"
    )
    assert inputs["samples"]["repeats"] == {"count": 2, "first": 7}
    assert inputs["samples"]["single_colour"] == {"count": 2, "first": 20}
    assert inputs["train"]["account"].startswith(
        "800 images of 3 x 8 x 8 (array); uint8 in N H W C; grey levels from 0"
    )
    for name in ("samples", "train", "test"):
        account = inputs[name]["account"]
        assert f"{name}: {account}" in str(report)


def test_grey_images_in_three_channels_are_noted() -> None:
    grey = np.repeat(FRESH[..., :1], 3, axis=3)
    report = evaluated(grey, train=TRAIN, test=TEST, metrics="memorization")
    assert "all images are grey, in three equal channels" in report.provenance.inputs["samples"]["account"]


def fresh_sets() -> list[tuple[Pixels, Pixels]]:
    """200 pairs of a training set and fresh samples of the same kind: digits, pictures and noise of several sizes."""
    from sklearn.datasets import load_digits

    digits = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)[..., None]
    pairs = []
    for seed in range(100):
        draw = np.random.default_rng(seed)
        order = draw.permutation(len(digits))
        pairs.append((digits[order[:1000]], digits[order[1000 : 1000 + int(draw.integers(10, 700))]]))
        make = pictures if seed % 2 else noise
        pairs.append((make(1000 + seed, 300), make(2000 + seed, int(draw.integers(10, 300)))))
    return pairs


def noise(seed: int, num_images: int) -> Pixels:
    return noise_images(seed, num_images, (SIZE, SIZE, 3))


def read_unasked(reference: Appearance, samples: Pixels) -> list[str]:
    """What is said of samples that come as floats in [-1, 1] and without a range."""
    images = load_images(floats(samples), argument="samples", like=(samples.shape[3], *samples.shape[1:3]))
    own = appearance(images.array())
    checks = {
        "levels": level_mismatch(own, reference),
        "flat": is_flat(own, reference),
        "reading": better_reading(own, reference, turned(images.shape)),
    }
    return [name for name, found in checks.items() if found]


def test_fresh_sets_read_rightly_are_neither_refused_nor_cautioned_against() -> None:
    said = [read_unasked(appearance(np.moveaxis(train, 3, 1)), samples) for train, samples in fresh_sets()]
    assert len(said) == 200 and sum(map(bool, said)) == 0, said


def test_fresh_cifar10_is_neither_refused_nor_cautioned_against(cifar10: Any) -> None:
    reference, test = appearance(cifar10.train[::25]), np.moveaxis(cifar10.test, 1, 3)
    draw = np.random.default_rng(0)
    said = [read_unasked(reference, test[draw.choice(len(test), int(draw.integers(10, 200)))]) for _ in range(40)]
    assert sum(map(bool, said)) == 0, said


@pytest.mark.parametrize("tolerance", [0.0, 60.0])
@pytest.mark.parametrize("threshold", [1 / 3, 0.77])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("num_train", [2, 3, 800])
def test_neighbours_that_are_not_looked_for_copy_nothing(
    num_train: int, dtype: type, threshold: float, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The published ratio rule, with and without duplicates within a tolerance, as two neighbours of all have it."""
    monkeypatch.setattr(index_module, "SOME_ROWS", 20)
    train = TRAIN[:num_train].astype(dtype)
    noise = np.random.default_rng(0).normal(0, np.linspace(0, 40, 200)[:, None, None, None], (200, *TRAIN.shape[1:]))
    noisy = np.rint(TRAIN[:200] + noise).clip(0, 255)
    images = np.concatenate([noisy, FRESH]).astype(dtype)
    rules = CopyRules(threshold, tolerance, flip=True)
    found = cautions._copies_among(images, Index(References(train)), rules)
    assert found.tolist() == cautions._copied(nearest_neighbours(images, train, 2), rules).tolist()
    assert 0 < found.sum() < len(found)
