"""`evaluate` as a whole: what it measures, leaves out, keeps and refuses to lose; samplers, references, features."""

from __future__ import annotations

import html
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import memgen_eval.data.images
from checking import checked, evaluated, figures
from conftest import Pixels, noise_images
from memgen_eval import Estimate, Images, InputError, Reference, Report, evaluate
from memgen_eval.copying.memorization import without_features
from memgen_eval.neighbours import index
from memgen_eval.neighbours.search import both_orientations, nearest_neighbours
from memgen_eval.render.table import render_markdown

SHAPE = (8, 8, 3)
TRAIN, TEST = noise_images(0, 500, SHAPE), noise_images(1, 320, SHAPE)
SAMPLES = np.concatenate([noise_images(2, 340, SHAPE), TRAIN[:20], TRAIN[20:40, :, ::-1]])


@pytest.fixture(scope="module")
def report() -> Report:
    return evaluated(SAMPLES, train=TRAIN, test=TEST)


def memorization(report: Report) -> Any:
    assert report.memorization is not None
    return report.memorization


def test_every_family_of_samples_is_measured_and_the_others_say_why_not(report: Report) -> None:
    assert None not in (report.verdict, report.memorization, report.novelty, report.fidelity, report.gaussian)
    assert report.denoiser is None
    assert report.skipped["denoiser"].startswith("needs a denoiser")
    undefined = {path for path, figure in report.figures() if figure.value is None}
    assert set(report.skipped) == {"denoiser"} | undefined
    assert all(report.skipped.values())


def test_mirrored_copies_count_and_are_said_to_be(report: Report) -> None:
    family = memorization(report)
    assert family.ratio.value == 40 / 380 and family.plain_ratio.value == 20 / 380
    assert [match.flipped for match in family.copies] == [False] * 20 + [True] * 20
    assert [match.train_index for match in family.copies] == list(range(40))
    assert [match.sample_index for match in family.copies] == list(range(340, 380))
    bare = memorization(evaluated(SAMPLES, train=TRAIN, test=TEST, flip=False, metrics="memorization"))
    assert bare.ratio.value == bare.plain_ratio.value == 20 / 380


def test_settings_hold_what_determines_the_figures(report: Report) -> None:
    settings = report.settings
    assert (settings.num_samples, settings.num_train, settings.num_test, settings.num_baseline) == (380, 500, 320, 320)
    assert (settings.image_shape, settings.baseline, settings.features) == ((3, 8, 8), "test", "pixels")
    own = np.sort(squared(TRAIN, TRAIN), axis=1)[:, 5]  # all 500 are drawn; the first column is the image itself
    tolerance = np.median(np.sqrt(own)) / 4 / (255 * np.sqrt(192))
    assert settings.duplicate_tolerance == pytest.approx(tolerance, rel=1e-12)
    assert all(isinstance(value, str) and len(value) == 64 for value in settings.checksums.values())


def squared(first: Pixels, second: Pixels) -> np.ndarray[Any, np.dtype[np.int64]]:
    differences = first[:, None].astype(np.int64) - second[None].astype(np.int64)
    return (differences**2).reshape(len(first), len(second), -1).sum(axis=2)


def test_the_ratio_against_every_pair_of_images(report: Report) -> None:
    table = np.minimum(squared(SAMPLES, TRAIN), squared(SAMPLES, TRAIN[:, :, ::-1]))
    first, second = np.sort(table, axis=1)[:, :2].T
    flagged = (first == 0) | (first * 9 < second)
    assert memorization(report).ratio.value == flagged.mean()
    plain = np.sort(squared(SAMPLES, TRAIN), axis=1)
    assert memorization(report).plain_ratio.value == ((plain[:, 0] == 0) | (plain[:, 0] * 9 < plain[:, 1])).mean()
    nearest = [match.distance for match in memorization(report).closest]
    assert nearest == [0] * 32


def test_without_a_test_set_training_images_left_out_are_the_baseline() -> None:
    report = evaluated(SAMPLES, train=TRAIN)
    assert (report.settings.baseline, report.settings.num_baseline) == ("train, leave one out", 500)
    assert report.settings.num_test is None and report.settings.checksums["test"] is None
    assert all(match.sample_index != match.train_index for match in memorization(report).test_closest)
    assert report.gaussian is not None and "no test set" in " ".join(report.gaussian.test_wasserstein.notes)
    assert report.verdict is not None and "left out" in report.verdict.sentence


def test_authenticity_against_every_pair_of_images(report: Report) -> None:
    """Leaving one out, an image is left out of its neighbour's neighbours too."""
    among = squared(TRAIN, TRAIN)
    np.fill_diagonal(among, 2**62)
    for images, found in ((SAMPLES, report.novelty), (TEST, report.novelty)):
        table = squared(images, TRAIN)
        nearest = table.argmin(axis=1)
        expected = (table.min(axis=1) > among[nearest].min(axis=1)).mean()
        assert found is not None
        assert (found.authenticity if images is SAMPLES else found.test_authenticity).value == expected
    alone = evaluated(SAMPLES, train=TRAIN, metrics=["novelty.test_authenticity", "novelty.authenticity"]).novelty
    expected_left_out = []
    for i, row in enumerate(among):
        nearest_other = row.argmin()
        expected_left_out.append(row.min() > np.delete(among[nearest_other], i).min())
    assert alone is not None and alone.test_authenticity.value == np.mean(expected_left_out)


def test_patches_against_every_pair_of_images() -> None:
    samples = SAMPLES.copy()
    samples[340:350, :2, :2] ^= 0x60  # one patch of sixteen differs by far, the image by little
    report = evaluated(samples, train=TRAIN, test=TEST, metrics="memorization", duplicate_tolerance=0.2)
    worst = np.full(len(samples), np.inf)
    for train in (TRAIN, TRAIN[:, :, ::-1]):
        squares = (samples[:, None].astype(np.float64) - train[None]) ** 2
        patches = squares.reshape(len(samples), len(TRAIN), 4, 2, 4, 2, 3).mean(axis=(3, 5, 6))
        worst = np.minimum(worst, np.sqrt(patches.max(axis=(2, 3))).min(axis=1))
    family = memorization(report)
    assert family.carlini_patch.value == (worst < 0.2 * 255).mean() == 30 / 380
    assert family.num_near_identical.value == 40


def test_repetition_against_every_pair_of_images() -> None:
    samples = np.concatenate([noise_images(7, 100, SHAPE), np.tile(noise_images(8, 30, SHAPE), (3, 1, 1, 1))])
    family = memorization(evaluated(samples, train=TRAIN, test=TEST, metrics="memorization", seed=9))
    shuffled, halves = (np.random.default_rng(9).permutation(n) for n in (len(samples), len(TEST)))
    size = min(len(samples), len(TEST) // 2)
    for drawn, found in ((samples[shuffled[:size]], family.repetition), (TEST[halves[:size]], family.test_repetition)):
        others, baseline = (
            np.minimum(squared(drawn, images), squared(drawn, images[:, :, ::-1]))
            for images in (drawn, TEST[halves[size : 2 * size]])
        )
        np.fill_diagonal(others, 2**60)
        near, far = others.min(axis=1), baseline.min(axis=1)
        assert found.value == ((near == 0) | (9 * near < far)).mean()
        assert found.count == len(np.unique(drawn, axis=0))
    assert family.repetition.value > 0.3 > 0.0 == family.test_repetition.value


@pytest.mark.parametrize(
    ("metrics", "measured"),
    [
        ("memorization", {"memorization"}),
        ("novelty", {"novelty"}),
        (["novelty.auc", "gaussian"], {"novelty", "gaussian"}),
        ("auc", {"novelty"}),
        (["fidelity"], {"fidelity"}),
        ("fidelity.swd", {"fidelity"}),
        (["denoiser", "verdict"], None),
    ],
)
def test_only_what_was_asked_for_is_measured(metrics: Any, measured: set[str] | None, report: Report) -> None:
    if measured is None:
        with pytest.raises(InputError, match="verdict"):
            evaluate(SAMPLES, train=TRAIN, metrics=metrics)
        return
    part = evaluated(SAMPLES, train=TRAIN, test=TEST, metrics=metrics)
    families = ("memorization", "novelty", "fidelity", "denoiser", "gaussian")
    assert {name for name in families if getattr(part, name) is not None} == measured
    assert {name for name in families if name in part.skipped} == set(families) - measured
    assert (part.verdict is not None) == ("memorization" in measured) == ("verdict" not in part.skipped)
    named = {"auc": "novelty.auc"}.get(str(metrics), str(metrics))
    for path, figure in part.figures():
        family, name = path.split(".")
        if path in named or (family in named and f"{family}." not in named):
            assert figure == getattr(getattr(report, family), name)
        else:
            assert (figure.value, figure.notes) == (None, ("not asked for",))


class Counting:
    """A sampler that remembers what it was asked for."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.seeds: list[int] = []

    def __call__(self, n: int) -> Pixels:
        self.calls.append(n)
        return noise_images(len(self.calls), n, SHAPE)


@pytest.mark.parametrize(
    ("num_samples", "calls"), [(1, [1]), (5, [5]), (64, [64]), (128, [64, 64]), (130, [64, 64, 2])]
)
def test_a_sampler_is_asked_for_what_is_missing_and_never_probed(num_samples: int, calls: list[int]) -> None:
    sampler = Counting()
    report = evaluated(sampler, train=TRAIN, num_samples=num_samples, metrics="memorization")
    assert sampler.calls == calls
    assert report.settings.num_samples == memorization(report).ratio.count == num_samples


def test_a_sampler_gets_a_seeded_generator_or_seeds_if_it_wants_them() -> None:
    def with_generator(n: int, generator: torch.Generator) -> torch.Tensor:
        return torch.randint(0, 256, (n, 3, 8, 8), generator=generator, dtype=torch.uint8)

    seen: list[int] = []

    def with_seeds(n: int, *, seeds: Any) -> Pixels:
        assert len(seeds) == n
        seen.extend(int(seed) for seed in seeds)
        return np.concatenate([noise_images(int(seed), 1, SHAPE) for seed in seeds])

    keywords: dict[str, Any] = {"train": TRAIN, "metrics": "memorization", "num_samples": 100}
    drawn = [evaluated(with_generator, **keywords, seed=seed).settings.checksums["samples"] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    drawn = [evaluated(with_seeds, **keywords, seed=seed).settings.checksums["samples"] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(seen[:100])) == 100 and seen[:100] == seen[100:200]


class Images3(torch.nn.Sequential):
    """A module that can be iterated over, and is a sampler all the same."""

    def forward(self, n: Any) -> torch.Tensor:
        return torch.randint(0, 256, (n, 3, 8, 8), generator=torch.Generator().manual_seed(n), dtype=torch.uint8)


def test_a_module_is_a_sampler_even_where_it_can_be_iterated_over() -> None:
    report = evaluated(Images3(torch.nn.ReLU()), train=TRAIN, num_samples=10, metrics="memorization")
    assert report.settings.num_samples == 10


def test_samples_that_were_drawn_can_be_kept() -> None:
    drawn = noise_images(5, 40, SHAPE)
    report = evaluate(lambda n: drawn[:n], train=TRAIN, num_samples=40, metrics="memorization")
    assert np.array_equal(report.samples, np.moveaxis(drawn, 3, 1))
    assert "samples" not in report.to_dict()
    assert evaluate(drawn, train=TRAIN, metrics="memorization").samples is None


def test_of_images_given_the_first_so_many_are_taken() -> None:
    first = evaluated(SAMPLES, train=TRAIN, num_samples=100, metrics="memorization")
    assert figures(first) == figures(evaluated(SAMPLES[:100], train=TRAIN, metrics="memorization"))


def test_an_iterable_is_read_once_and_to_its_end() -> None:
    def batches() -> Iterator[Pixels]:
        yield from np.array_split(SAMPLES, 7)

    whole = evaluated(batches(), train=TRAIN, test=TEST, metrics="memorization")
    assert figures(whole) == figures(evaluated(SAMPLES, train=TRAIN, test=TEST, metrics="memorization"))


def test_a_reference_is_searched_once_and_gives_the_same_report(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    searches: list[int] = []

    def counted(queries: Any, *arguments: Any, **keywords: Any) -> Any:
        searches.append(len(queries))
        return nearest_neighbours(queries, *arguments, **keywords)

    def mirrored_too(plain: Any, *arguments: Any, **keywords: Any) -> Any:
        searches.append(len(plain))
        return both_orientations(plain, *arguments, **keywords)

    monkeypatch.setattr(index, "nearest_neighbours", counted)
    monkeypatch.setattr(index, "both_orientations", mirrored_too)
    reference = Reference(TRAIN, TEST)
    assert figures(evaluated(SAMPLES, train=reference)) == figures(report)
    once = list(searches)
    assert figures(evaluated(SAMPLES, train=reference)) == figures(report)
    assert sum(n == len(TEST) for n in once) == 5  # as they are and standardized, mirrored too; a bound
    assert sum(n == len(TEST) for n in searches[len(once) :]) == 0
    changes: list[dict[str, Any]] = [{"flip": False}, {"duplicate_tolerance": 0.38}, {"seed": 1}]
    for change in changes:
        other = evaluated(SAMPLES, train=reference, metrics="memorization", **change)
        assert figures(other) == figures(evaluated(SAMPLES, train=TRAIN, test=TEST, metrics="memorization", **change))
        assert (memorization(other) == memorization(report)) == ("seed" in change)


def test_a_named_set_brings_its_test_split() -> None:
    reports = [evaluated(noise_images(3, 300, (8, 8)), train=name) for name in ("digits", "digits:train")]
    assert figures(reports[0]) == figures(reports[1])
    assert (reports[0].settings.num_train, reports[0].settings.num_test) == (1297, 500)
    alone = evaluated(noise_images(3, 300, (8, 8)), train="digits:test")
    assert (alone.settings.num_train, alone.settings.num_test) == (500, None)


def test_floats_are_compared_as_they_are_where_rounding_is_off() -> None:
    generator = np.random.default_rng(0)
    train = generator.uniform(-1, 1, (400, 8, 8)).astype(np.float32)
    samples = np.concatenate([generator.uniform(-1, 1, (300, 8, 8)), train[:50] + 1e-3]).clip(-1, 1).astype(np.float32)
    rounded = evaluated(samples, train=train, metrics="memorization")
    kept = evaluated(samples, train=train, metrics="memorization", quantize=False)
    assert memorization(kept).ratio.value == memorization(rounded).ratio.value == 50 / 350
    distances = np.array([match.distance for match in sorted(memorization(kept).copies, key=lambda m: m.sample_index)])
    expected = np.sqrt(((samples[300:].astype(np.float64) - train[:50]) ** 2).mean(axis=(1, 2))) / 2
    np.testing.assert_allclose(distances, expected, rtol=1e-4)  # levels are float32 in [0, 255]
    assert kept.settings.checksums != rounded.settings.checksums
    assert not kept.settings.quantize


def pooled(images: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.avg_pool2d(images.float(), 4).flatten(1)


@pytest.mark.parametrize("test", [TEST, None], ids=["test", "leave one out"])
def test_features_move_novelty_and_their_own_figures_alone(test: Pixels | None) -> None:
    pixels, features = (evaluated(SAMPLES, train=TRAIN, test=test, features=f) for f in ("pixels", pooled))
    assert pixels.memorization is not None and features.memorization is not None
    assert without_features(features.memorization, "") == without_features(pixels.memorization, "")
    assert features.memorization.feature_p_value.value is not None
    assert (features.verdict, features.gaussian) == (pixels.verdict, pixels.gaussian)
    assert features.settings.features == "pooled"
    assert features.novelty is not None and features.novelty != pixels.novelty
    embedded = [pooled(torch.from_numpy(np.moveaxis(x, -1, 1).copy())).numpy() for x in (SAMPLES, TRAIN)]
    expected = np.median(nearest_neighbours(*embedded, 1).distances)
    assert features.novelty.distance_median.value == pytest.approx(expected, rel=1e-12)
    only = evaluated(SAMPLES, train=TRAIN, test=test, features=pooled, metrics="novelty")
    assert only.novelty == features.novelty


def broken(images: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("CUDA out of\nmemory </script>")


def of_wrong_length(images: torch.Tensor) -> torch.Tensor:
    return pooled(images)[:-1]


def test_a_failure_late_in_the_run_loses_nothing_that_was_found(report: Report) -> None:
    survived = evaluated(SAMPLES, train=TRAIN, test=TEST, features=broken)
    assert survived.memorization is not None and report.memorization is not None
    assert without_features(survived.memorization, "") == without_features(report.memorization, "")
    assert survived.gaussian == report.gaussian
    assert survived.novelty is None and "RuntimeError" in survived.skipped["novelty"]
    survived = evaluated(SAMPLES, train=TRAIN, test=TEST, features=of_wrong_length)
    assert survived.novelty is None and "features of" in survived.skipped["novelty"]
    failed = r"features failed on images of train, uint8 \(\d+, 3, 8, 8\) on cpu: RuntimeError: .*out of"
    with pytest.raises(InputError, match=failed):
        evaluate(SAMPLES, train=TRAIN, features=broken, metrics="novelty")
    with pytest.raises(InputError, match="features of"):
        evaluate(SAMPLES, train=TRAIN, features=of_wrong_length, metrics=["novelty.auc"])


def of_changing_width(images: torch.Tensor) -> torch.Tensor:
    return torch.zeros(len(images), 1 + int(images[0, 0, 0, 0]))


def not_a_number(images: torch.Tensor) -> Any:
    return np.full((len(images), 2), np.nan)


@pytest.mark.parametrize(
    ("features", "reason"),
    [(of_changing_width, "columns in different blocks"), (not_a_number, "NaN"), (of_wrong_length, "shape")],
)
def test_features_that_cannot_be_used(features: Any, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memgen_eval.data.images, "IMAGE_BLOCK_VALUES", 300 * 192)
    with pytest.raises(InputError, match=f"features of train.*{reason}"):
        evaluate(SAMPLES, train=TRAIN, features=features, metrics="novelty")


def test_features_of_one_training_image() -> None:
    report = evaluated(SAMPLES[:5], train=TRAIN[:1], features=pooled)
    assert report.novelty is not None and report.novelty.auc.value is None
    assert report.novelty.distance_median.count == 5


def test_a_fault_in_one_family_is_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def faulty(*arguments: object, **keywords: object) -> Any:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("memgen_eval.embedding.placing.measure_gaussian", faulty)
    report = evaluated(SAMPLES, train=TRAIN, test=TEST)
    assert report.gaussian is None and report.skipped["gaussian"] == "ZeroDivisionError: ours"
    assert "gaussian could not be measured" in caplog.text


@pytest.mark.parametrize("num_samples", [1, 2, 3])
@pytest.mark.parametrize("num_train", [1, 2, 3])
@pytest.mark.parametrize("test", [None, TEST[:1], TEST[:2]], ids=["none", "one", "two"])
def test_sets_of_few_images(num_samples: int, num_train: int, test: Pixels | None) -> None:
    report = evaluated(TRAIN[:num_samples], train=TRAIN[:num_train], test=test)
    assert report.verdict is not None and report.verdict.label == "undecided"
    assert memorization(report).ratio.value == min(num_samples, num_train) / num_samples
    for path, figure in report.figures():
        if figure.value is None:
            assert figure.notes[0], path
            assert report.skipped[path] == figure.notes[0]
    if num_train == 1 and test is None:
        assert report.settings.baseline == "none" and memorization(report).test_ratio.value is None
    assert report._repr_html_() and str(report)


def test_one_sample_and_one_training_image_that_differ() -> None:
    report = evaluated(SAMPLES[:1], train=TRAIN[:1])
    assert memorization(report).ratio.value == 0
    assert any("undefined" in note for note in memorization(report).ratio.notes)
    assert report.verdict is not None and report.verdict.label == "undecided"


@pytest.mark.parametrize("same", [0, 40], ids=["all", "all but some"])
def test_training_sets_of_duplicates(same: int) -> None:
    train = np.repeat(TRAIN[:1], 100, axis=0)
    train[:same] = TRAIN[:same]
    samples = np.concatenate([TRAIN[:1], TRAIN[60:70]])
    report = evaluated(np.repeat(samples[:1], 30, axis=0), train=train)
    assert memorization(report).ratio.value == 1
    family = memorization(evaluated(samples, train=train, test=TEST))
    assert family.ratio.value == 1 / 11


def test_images_of_one_size_up_to_another() -> None:
    for shape in ((1, 1), (2, 1, 3), (2, 3), (5, 4, 1), (3, 20, 20)):
        train, samples = noise_images(0, 40, shape), noise_images(1, 30, shape)
        report = evaluated(samples, train=train)
        assert report.settings.num_samples == 30


def test_large_images_are_searched_whole_and_shown_small() -> None:
    train, samples = noise_images(0, 20, (300, 60)), noise_images(1, 12, (300, 60))
    samples[3] = train[4]
    report = evaluated(samples, train=train, test=noise_images(2, 10, (300, 60)))
    assert memorization(report).ratio.value == 1 / 12
    assert report.gaussian is None and report.novelty is not None
    assert report.skipped["gaussian"] and report.skipped["novelty.ct"] and "12,288" in report.skipped["gaussian"]
    assert report.gallery is not None and {image.shape for image in report.gallery.train.values()} == {(1, 256, 51)}


def test_figures_and_scalars_and_text(report: Report, tmp_path: Path) -> None:
    scalars = report.scalars()
    assert scalars["memorization.ratio"] == memorization(report).ratio.value
    assert scalars["memorization.ratio.low"] == memorization(report).ratio.low
    assert all(isinstance(value, float) for value in scalars.values())
    assert "copies" in str(report)
    report.save(tmp_path / "report.json")
    assert checked(Report.load(tmp_path / "report.json")) == report


def test_every_estimate_is_finite_and_inside_its_interval(report: Report) -> None:
    for path, figure in report.figures():
        if isinstance(figure, Estimate) and figure.value is not None and figure.low is not None:
            assert figure.high is not None and figure.low <= figure.value <= figure.high, path
            assert figure.method and figure.count, path


def test_images_carry_names_and_ranges() -> None:
    floats = (SAMPLES / 255).astype(np.float32)
    names = [f"out/{i}.png" for i in range(len(SAMPLES))]
    report = evaluated(Images(floats, value_range=(0, 1), names=names), train=TRAIN, test=TEST, metrics="memorization")
    assert figures(report) == figures(evaluated(SAMPLES, train=TRAIN, test=TEST, metrics="memorization"))
    assert "sample 340 is out/340.png" in report.displayed_sentence


def test_torch_is_not_needed_for_pixels() -> None:
    script = (
        "import sys, numpy as np\nfrom memgen_eval import evaluate\n"
        "draw = lambda s, n: np.random.default_rng(s).integers(0, 256, (n, 8, 8), dtype=np.uint8)\n"
        "evaluate(draw(0, 50), train=draw(1, 60), metrics=['memorization', 'novelty'])\n"
        "print('torch' in sys.modules)\n"
    )
    root = Path(__file__).parent.parent
    run = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


def test_the_data_alone_is_measured_where_it_is_asked_for() -> None:
    part = evaluated(SAMPLES, train=TRAIN, test=TEST, metrics="denoiser", num_denoiser_images=32, num_draws=1)
    assert part.denoiser is not None and part.denoiser.collapse_sigma.value is not None
    assert part.denoiser.effective_neighbours.value is not None and part.settings.sigmas is not None
    assert part.denoiser.error_train.value is None and part.skipped["denoiser.error_train"] == "needs a denoiser"
    assert part.gaussian is None


@pytest.fixture(scope="module")
def optimal() -> Report:
    """D* of the training set as the model, and as its own sampler."""
    from memgen_eval import OptimalDenoiser, Sampler

    model = OptimalDenoiser(TRAIN.transpose(0, 3, 1, 2))
    return evaluated(
        Sampler(model, (3, 8, 8), num_steps=8),
        train=TRAIN,
        test=TEST,
        denoiser=model,
        num_samples=40,
        num_denoiser_images=32,
        num_draws=1,
        sigmas=[0.05, 0.5, 5.0],
    )


def test_the_optimal_denoiser_copies_and_is_its_own_measure(optimal: Report) -> None:
    assert optimal.denoiser is not None and optimal.gaussian is not None
    assert memorization(optimal).ratio.value == 1 and optimal.settings.sigmas == (0.05, 0.5, 5.0)
    assert max(value or 0 for value in optimal.denoiser.gap_train.value or ()) < 1e-10
    assert optimal.denoiser.gap_path.value is not None  # the sampler is ours
    assert optimal.gaussian.nmse.value is not None and optimal.gaussian.nmse.value[1] > 0.01
    assert optimal.provenance.inputs["samples"]["value_range"] == [-1.0, 1.0]


def ignoring(x: Any, sigma: Any) -> Any:
    return x * 0.9


def of_another_range(x: Any, sigma: Any) -> Any:
    return x.clamp(0, 1) / (1 + sigma.reshape(-1, 1, 1, 1) ** 2)


@pytest.mark.parametrize(
    ("model", "warned"), [(ignoring, "ignores sigma"), (of_another_range, "trained on another range")]
)
def test_what_is_odd_about_a_denoiser_stands_in_the_report(model: Any, warned: str) -> None:
    few: dict[str, Any] = {"num_denoiser_images": 16, "num_draws": 1, "metrics": ["denoiser", "gaussian"]}
    with pytest.warns(UserWarning, match=warned) as caught:
        report = evaluated(SAMPLES, train=TRAIN, test=TEST, denoiser=model, **few)
    assert report.denoiser is not None and report.gaussian is not None
    affected = [getattr(report.denoiser, f"{name}_{side}") for name in ("error", "relative_error")
                for side in ("train", "test")]  # fmt: skip
    notes = tuple(str(one.message) for one in caught)
    assert all(curve.value is not None and curve.notes == notes for curve in [*affected, report.gaussian.nmse])
    sentence = f"Denoising error, training images: {notes[0]}."
    assert sentence in str(report).splitlines()
    assert sentence in html.unescape(report._repr_html_())
    assert sentence in render_markdown(report).replace("\\", "")
    with pytest.warns(UserWarning, match=warned):
        assert figures(evaluated(SAMPLES, train=TRAIN, test=TEST, denoiser=model, **few)) == figures(report)


def test_where_the_model_beats_the_gaussian_one_is_said(optimal: Report) -> None:
    """Uniform pixels: D* of other images is nowhere nearer than D_G."""
    assert optimal.denoiser is not None
    assert optimal.denoiser.relative_error_train.value is not None
    assert optimal.denoiser.relative_error_train.value[0] < 1e-6
    assert "On noised test images the model is nowhere nearer to the clean image than D_G" in str(optimal)


def test_a_failing_denoiser_is_one_line_before_samples_are_drawn() -> None:
    def broken(x: Any, sigma: Any) -> Any:
        raise RuntimeError("first line\nsecond line")

    drawn: list[int] = []
    said = r"denoiser failed on x, float32 \(64, 3, 8, 8\) on cpu, and float32 \(64,\) on cpu: RuntimeError: first line"
    for metrics in (None, ["denoiser"], ["gaussian"]):
        with pytest.raises(InputError, match=said) as caught:
            evaluate(drawn.append, train=TRAIN, test=TEST, denoiser=broken, metrics=metrics)
        assert isinstance(caught.value.__cause__, RuntimeError)
    assert drawn == []
