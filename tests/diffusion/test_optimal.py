from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import denoiser_oracles as oracles
from memgen_eval.compute.products import NUMKONG, NUMPY, TORCH
from memgen_eval.diffusion import gaussian, optimal as module, tiles
from memgen_eval.diffusion.gaussian import GaussianDenoiser
from memgen_eval.diffusion.optimal import OptimalDenoiser
from memgen_eval.errors import InputError

SIGMAS = [0.002, 0.02, 0.2, 0.7, 1.3, 2.3, 4.1, 7.5, 24.5, 80.0]


def noisy(images: Any, sigma: float, seed: int) -> np.ndarray[Any, Any]:
    clean = oracles.in_model_units(images).reshape(images.shape)
    return (clean + sigma * np.random.default_rng(seed).standard_normal(images.shape)).astype(np.float32)


def rows(x: Any) -> np.ndarray[Any, Any]:
    return np.asarray(x, dtype=np.float64).reshape(len(x), -1)


def worst_error(train: Any, test: Any, sigma: float) -> float:
    """Over noised training images, noised test images and inputs far from all of them."""
    far = np.random.default_rng(2).uniform(-9, 9, (3, *train.shape[1:])).astype(np.float32)
    x = np.concatenate([noisy(train[:8], sigma, 0), noisy(test[:8], sigma, 1), far])
    found = OptimalDenoiser(train)(torch.from_numpy(x), sigma)
    assert found.dtype == torch.float32 and found.shape == x.shape
    return float(oracles.relative_errors(found, oracles.optimal(train, rows(x), sigma)).max())


@pytest.mark.parametrize("sigma", SIGMAS)
def test_equals_the_plain_formula_on_real_digits(digits: Any, sigma: float) -> None:
    assert worst_error(digits[:1500], digits[1500:], sigma) < 1e-6


def test_equals_the_plain_formula_on_real_cifar10(cifar10: Any) -> None:
    errors = {sigma: worst_error(cifar10.train[:2000], cifar10.test, sigma) for sigma in SIGMAS}
    assert max(errors.values()) < 1e-6, errors


def test_floats_are_taken_as_they_are(digits: Any) -> None:
    train = (digits[:300] / 255 * 3 + 5).astype(np.float32)
    x = noisy(train[:5], 0.8, 0)
    expected = oracles.optimal(train, rows(x), 0.8)
    assert oracles.relative_errors(OptimalDenoiser(train)(torch.from_numpy(x), 0.8), expected).max() < 1e-6


def test_every_image_may_have_its_own_sigma(digits: Any) -> None:
    denoiser, x = OptimalDenoiser(digits[:400]), torch.from_numpy(noisy(digits[:3], 1.0, 0))
    together = denoiser(x, torch.tensor([0.1, 1.0, 10.0]))
    for number, sigma in enumerate((0.1, 1.0, 10.0)):
        alone = denoiser(x[number : number + 1], sigma)
        assert torch.allclose(together[number], alone[0], atol=1e-6)


@pytest.mark.parametrize("as_float", [False, True])
def test_curve_equals_single_calls(digits: Any, as_float: bool) -> None:
    train, sigmas = digits[:1000], [0.002, 0.05, 0.5, 1.5, 5.0, 80.0]
    denoiser, x0 = OptimalDenoiser(train), np.concatenate([digits[:40], digits[1500:1560]])
    eps = np.random.default_rng(3).standard_normal(x0.shape).astype(np.float32)
    clean = (x0 / 127.5 - 1).astype(np.float32)
    curve = denoiser.curve(clean if as_float else x0, torch.from_numpy(eps), sigmas)
    assert curve.shape == (6, *x0.shape) and curve.dtype == torch.float32
    for found, sigma in zip(curve, sigmas, strict=True):
        x = (x0 / 127.5 - 1 + sigma * eps.astype(np.float64)).astype(np.float32)
        single = denoiser(torch.from_numpy(x), sigma)
        assert oracles.relative_errors(found, rows(single)).max() < 1e-5


@pytest.mark.parametrize("resident", [0, 2**24])
def test_a_curve_is_the_mean_of_the_law_to_the_bit(digits: Any, resident: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether several blocks of images take turns with all tiles, or the tiles with all blocks."""
    monkeypatch.setattr(tiles, "TILE_BYTES", 2**15)  # 512 images a tile
    monkeypatch.setattr(module, "RESIDENT_VALUES", resident)
    sigmas, x0 = np.array([0.05, 0.4, 1.5, 20.0]), digits[:150]
    eps = np.random.default_rng(4).standard_normal(x0.shape).astype(np.float32)
    law = OptimalDenoiser(digits[:1200]).posterior(x0, eps, sigmas)
    curve = OptimalDenoiser(digits[:1200]).curve(x0, eps, sigmas)
    assert law.mean is not None
    assert np.array_equal(curve.numpy().reshape(law.mean.shape), law.mean.astype(np.float32))
    monkeypatch.setattr(module, "MAX_ROWS", 16)
    again = OptimalDenoiser(digits[:1200]).posterior(x0, eps, sigmas)
    assert all(np.array_equal(one, other) for one, other in zip(vars(law).values(), vars(again).values(), strict=True))


def test_two_points_in_one_dimension_give_a_hyperbolic_tangent() -> None:
    a, x = 0.7, np.linspace(-3, 3, 41)
    denoiser = OptimalDenoiser(np.array([[-a], [a]]))
    for sigma in (0.002, 0.3, 1.0, 80.0):
        found = denoiser(torch.from_numpy(x[:, None]), sigma).numpy()[:, 0]
        assert np.abs(found - a * np.tanh(a * x / sigma**2)).max() < 1e-7


def test_one_point_is_always_returned() -> None:
    image = np.random.default_rng(0).uniform(-1, 1, (1, 3, 4, 4)).astype(np.float32)
    x = torch.from_numpy(np.random.default_rng(1).normal(0, 50, (9, 3, 4, 4)).astype(np.float32))
    for sigma in (0.002, 1.0, 80.0):
        found = OptimalDenoiser(image)(x, sigma)
        assert torch.allclose(found, torch.from_numpy(image).expand_as(found), atol=1e-7)


def test_the_limits_are_the_nearest_image_and_the_mean(digits: Any) -> None:
    train, x = digits[:500], noisy(digits[600:620], 0.5, 0)
    y = oracles.in_model_units(train)
    nearest = y[np.argmin(((y[None] - rows(x)[:, None]) ** 2).sum(axis=2), axis=1)]
    denoiser = OptimalDenoiser(train)
    assert np.abs(rows(denoiser(torch.from_numpy(x), 0.002)) - nearest).max() < 1e-6
    assert np.abs(rows(denoiser(torch.from_numpy(x), 1e5)) - y.mean(axis=0)).max() < 1e-6


@pytest.mark.parametrize("sigma", [0.05, 0.6, 1.5, 20.0])
def test_an_image_is_denoised_to_the_same_bits_whatever_stands_beside_it(digits: Any, sigma: float) -> None:
    denoiser, x = OptimalDenoiser(digits[:1000]), torch.from_numpy(noisy(digits[:256], sigma, 0))
    whole = denoiser(x, sigma)
    assert torch.equal(denoiser(x[:1], sigma), whole[:1])
    assert torch.equal(denoiser(x[:7], sigma), whole[:7])
    assert torch.equal(torch.cat([denoiser(x[:100], sigma), denoiser(x[100:], sigma)])[:64], whole[:64])


@pytest.mark.parametrize("products", [NUMKONG, TORCH, NUMPY], ids=lambda one: one.name)
def test_threads_and_engines_change_no_bit(digits: Any, products: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    x0, sigmas = digits[:70], [0.05, 0.4, 1.0, 3.0, 40.0]
    eps = np.random.default_rng(0).standard_normal(x0.shape).astype(np.float32)
    monkeypatch.setattr(module, "threads_for", lambda work: 1)
    expected = OptimalDenoiser(digits[:1500]).curve(x0, eps, sigmas)
    monkeypatch.setattr(module, "threads_for", lambda work: 3)
    monkeypatch.setattr(module, "integer_products", lambda engine, work, width: products)
    assert torch.equal(OptimalDenoiser(digits[:1500]).curve(x0, eps, sigmas), expected)


@pytest.mark.parametrize("weight", [0.49, 0.51, 1.4, 300.0, 2.0**20])
def test_many_equal_weights_below_one_large_one_are_not_lost(weight: float) -> None:
    """All of them are rounded the same way: nothing averages out."""
    generator = np.random.default_rng(0)
    own = generator.integers(100, 150, 64).astype(np.uint8)
    moved = np.argsort(generator.random((4000, 64)), axis=1)[:, :16]  # 16 of 64 values, by 40 grey levels
    others = np.repeat(own[None], 4000, axis=0)
    np.put_along_axis(others, moved, 190, axis=1)
    np.put_along_axis(others[:2000], moved[:2000], 60, axis=1)
    train = np.concatenate([own[None], others])
    distance = ((others[0] / 127.5 - own / 127.5) ** 2).sum()
    sigma = float(np.sqrt(distance / 2 / -np.log(weight * 2.0**-32)))
    x = (own[None] / 127.5 - 1).astype(np.float64)
    found = OptimalDenoiser(train)(torch.from_numpy(x), sigma)
    assert oracles.relative_errors(found, oracles.optimal(train, x, sigma)).max() < 3e-6


def test_a_memory_mapped_training_set_is_read_where_it_lies(digits: Any, tmp_path: Any) -> None:
    np.save(tmp_path / "train.npy", digits[:1500])
    mapped = np.load(tmp_path / "train.npy", mmap_mode="r")
    x = torch.from_numpy(noisy(digits[:5], 1.0, 0))
    assert torch.equal(OptimalDenoiser(mapped)(x, 1.0), OptimalDenoiser(digits[:1500])(x, 1.0))


def test_streaming_over_many_small_tiles_changes_nothing(digits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    train, x = digits[:700], torch.from_numpy(noisy(digits[:20], 1.0, 0))
    expected = [oracles.optimal(train, rows(x), sigma) for sigma in (0.1, 1.0, 5.0)]
    monkeypatch.setattr(tiles, "TILE_BYTES", 1)  # 16 images a tile
    for resident in (0, 2**24):
        monkeypatch.setattr(module, "RESIDENT_VALUES", resident)
        denoiser = OptimalDenoiser(train)
        for sigma, value in zip((0.1, 1.0, 5.0), expected, strict=True):
            assert oracles.relative_errors(denoiser(x, sigma), value).max() < 1e-6


def test_many_points_in_one_dimension_span_several_tiles() -> None:
    train = np.random.default_rng(0).normal(size=(20_000, 1))
    x = np.linspace(-2, 2, 9)[:, None]
    for sigma in (0.01, 0.5):
        found = OptimalDenoiser(train)(torch.from_numpy(x), sigma).numpy()
        # the two values near 0 make a relative error meaningless
        assert np.abs(found - oracles.optimal(train, x, sigma)).max() < 1e-6


@pytest.mark.parametrize("tile_bytes", [1, 2**21], ids=["many tiles", "one tile"])
def test_weights_of_the_own_image_count_its_duplicates(
    digits: Any, tile_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "TILE_BYTES", tile_bytes)
    train = np.concatenate([digits[:200], digits[:50]])  # the first fifty twice
    x0, sigmas = train[:100], np.array([0.3, 0.9, 3.0])
    eps = np.random.default_rng(0).standard_normal(x0.shape).astype(np.float32)
    for clean in (x0, (x0 / 127.5 - 1).astype(np.float32)):
        found = OptimalDenoiser(train).posterior(clean, eps, sigmas)
        for number, sigma in enumerate(sigmas):
            x = oracles.in_model_units(x0) + sigma * rows(eps)
            weights = oracles.optimal_weights(train, x, sigma)
            own = [weights[b, (train == x0[b]).all(axis=(1, 2, 3))].sum() for b in range(100)]
            entropy = -(weights * np.log(np.maximum(weights, 1e-300))).sum(axis=1)
            assert np.abs(found.own_weight[number] - own).max() < 1e-7
            assert np.abs(found.effective_neighbours[number] / np.exp(entropy) - 1).max() < 1e-6
            y = oracles.in_model_units(train)
            spread = [(weights[b] * ((y - weights[b] @ y) ** 2).mean(axis=1)).sum() for b in range(100)]
            assert found.variance is not None and np.abs(found.variance[number] - spread).max() < 1e-7


def test_float_training_sets_know_their_own_images_too() -> None:
    train = np.random.default_rng(0).normal(1e3, 1, (300, 5))
    eps = np.random.default_rng(1).standard_normal((20, 5)).astype(np.float32)
    found = OptimalDenoiser(train).posterior(train[:20], eps, np.array([0.4]))
    weights = oracles.optimal_weights(train, train[:20] + 0.4 * eps.astype(float), 0.4)
    assert np.abs(found.own_weight[0] - np.diag(weights[:, :20])).max() < 1e-6


def test_the_switches_of_the_caller_do_not_reach_it(digits: Any) -> None:
    denoiser, x = OptimalDenoiser(digits[:300]), torch.from_numpy(noisy(digits[:5], 1.5, 0))
    plain = denoiser(x, 1.5)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(denoiser(x, 1.5), plain)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(denoiser(x.clone().requires_grad_(), 1.5), plain)
    half = denoiser(x.half(), 1.5)
    assert half.dtype == torch.float32 and torch.allclose(half, plain, atol=0.05)


def test_inputs_are_left_as_they_were(digits: Any) -> None:
    train, x = digits[:100].copy(), torch.from_numpy(noisy(digits[:5], 1.0, 0))
    before = x.clone()
    OptimalDenoiser(train)(x, 1.0)
    assert torch.equal(x, before) and np.array_equal(train, digits[:100])


def test_no_noisy_images_give_none(digits: Any) -> None:
    assert OptimalDenoiser(digits[:10])(torch.zeros(0, 1, 8, 8), 1.0).shape == (0, 1, 8, 8)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_on_a_device_it_is_the_plain_formula(digits: Any, sigma: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs where x is, run on the processor: several tiles, several blocks of rows, and one sigma an image."""
    monkeypatch.setattr(tiles, "TILE_BYTES", 2**16)
    train = (digits[:300] / 127.5 - 1).astype(np.float32)
    x = np.concatenate([noisy(digits[:60], sigma, 0), noisy(digits[1500:1540], sigma, 1)])
    levels = sigma * (1 + torch.arange(100, dtype=torch.float64) % 3)
    found = module.device_mean(train, torch.from_numpy(rows(x)), levels)
    expected = np.concatenate([oracles.optimal(train, rows(x)[i : i + 1], float(levels[i])) for i in range(100)])
    assert found.dtype == torch.float64
    assert oracles.relative_errors(found, expected).max() < 1e-9
    some = module.device_mean(train, torch.from_numpy(rows(x))[70:75], levels[70:75])
    assert torch.allclose(some, found[70:75], rtol=0, atol=1e-12)
    assert module.device_mean(train, torch.zeros(0, 64, dtype=torch.float64), levels[:0]).shape == (0, 64)


def on_a_gpu(denoiser: Any, monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """Its answer for images on a GPU that holds no values: every operation refuses operands on different devices."""
    for used in (module, gaussian):
        monkeypatch.setattr(used, "check_noisy", lambda x, sigma, shape: torch.full((len(x),), sigma).double())
    with FakeTensorMode(allow_non_fake_inputs=True):
        answer: torch.Tensor = denoiser(torch.empty(70, 1, 8, 8, device="cuda", dtype=torch.float16), 0.5)
    return answer


@pytest.mark.parametrize("made", [OptimalDenoiser, GaussianDenoiser])
def test_every_tensor_is_where_x_is(made: Any, digits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = on_a_gpu(made((digits[:300] / 127.5 - 1).astype(np.float32)), monkeypatch)
    assert (answer.device.type, answer.dtype, answer.shape) == ("cuda", torch.float32, (70, 1, 8, 8))


IMAGES = np.zeros((4, 1, 2, 2), dtype=np.float32)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (np.zeros((0, 1, 2, 2)), "train has shape"),
        (np.zeros(5), "train has shape"),
        (np.zeros((3, 4), dtype=np.int64), "train holds int64"),
        (np.full((3, 4), np.nan), "train holds NaN"),
        ([[1.0]], "train is a list"),
    ],
)
def test_a_training_set_that_cannot_be_used_is_named(train: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        OptimalDenoiser(train)


@pytest.mark.parametrize(
    ("x", "sigma", "message"),
    [
        (torch.zeros(2, 1, 3, 3), 1.0, "x has shape"),
        (torch.zeros(2, 1, 2, 2, dtype=torch.uint8), 1.0, "x is torch.uint8"),
        (torch.full((2, 1, 2, 2), float("nan")), 1.0, "x holds NaN"),
        (torch.zeros(2, 1, 2, 2), 0.0, "sigma holds"),
        (torch.zeros(2, 1, 2, 2), torch.tensor([1.0, -1.0]), "sigma holds"),
        (torch.zeros(2, 1, 2, 2), torch.ones(3), "sigma has shape"),
    ],
)
def test_noisy_images_that_cannot_be_used_are_named(x: Any, sigma: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        OptimalDenoiser(IMAGES)(x, sigma)


def test_a_curve_refuses_what_does_not_fit() -> None:
    denoiser = OptimalDenoiser(IMAGES)
    with pytest.raises(InputError, match="eps has shape"):
        denoiser.curve(IMAGES, IMAGES[:3], [1.0])
    with pytest.raises(InputError, match="sigmas has"):
        denoiser.curve(IMAGES, IMAGES, [1.0, 0.5])
