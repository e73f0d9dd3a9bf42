from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import denoiser_oracles as oracles
from memgen_eval.diffusion.gaussian import GaussianDenoiser
from memgen_eval.diffusion.inputs import draw_noise, draw_order
from memgen_eval.diffusion.measurements import Probe
from memgen_eval.diffusion.optimal import OptimalDenoiser
from memgen_eval.diffusion.probe import probe
from memgen_eval.diffusion.sampling import Sampler
from memgen_eval.errors import InputError

SIGMAS = [0.05, 0.3, 0.8, 2.0, 10.0]


class Shrinking(nn.Module):
    """Returns less of x the noisier it is, after dropout: an elementwise model, the same for any batch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))
        self.dropout = nn.Dropout(0.5)
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        self.seen.append((len(x), len(sigma)))
        return self.dropout(x) * self.weight / (1 + sigma.reshape(-1, 1, 1, 1) ** 2)


@pytest.fixture(scope="module")
def optimal(digits: Any) -> OptimalDenoiser:
    return OptimalDenoiser(digits[:400])


@pytest.fixture(scope="module")
def gaussian(optimal: OptimalDenoiser) -> GaussianDenoiser:
    return GaussianDenoiser(optimal.train)


@pytest.fixture(scope="module")
def found(digits: Any, optimal: OptimalDenoiser, gaussian: GaussianDenoiser) -> Probe:
    return probe(Shrinking(), optimal=optimal, gaussian=gaussian, test=digits[400:500], sigmas=SIGMAS, num_images=40)


def inputs(images: Any, name: str, num_images: int, draw: int, sigma: float) -> tuple[Any, Any, Any]:
    """Clean and noisy rows as the probe makes them, and which images they are."""
    chosen = draw_order(len(images), seed=0, name=name)[:num_images]
    eps = np.stack([draw_noise(images.shape[1:], seed=0, name=name, index=int(i), draw=draw) for i in chosen])
    clean = oracles.in_model_units(images[chosen])
    return clean, (clean + sigma * eps.reshape(len(eps), -1)).astype(np.float32).astype(np.float64), chosen


def square(rows: Any) -> Any:
    return (rows**2).mean(axis=1)


def test_every_figure_is_that_of_the_plain_formulas(digits: Any, optimal: OptimalDenoiser, found: Probe) -> None:
    train, test = optimal.train, digits[400:500]
    order = draw_order(400, seed=0, name="train")
    sides = [("train", train, found.train, train[order[:100]]), ("test", test, found.test, test)]
    for number, sigma in enumerate(SIGMAS):
        for name, images, measured, matched in sides:
            assert measured is not None
            of_draws: dict[str, list[Any]] = {}
            for draw in (0, 1):
                clean, x, _ = inputs(images, name, 40, draw, sigma)
                model = x / (1 + sigma**2)
                best, wiener = oracles.optimal(train, x, sigma), oracles.wiener(train, x, sigma)
                near = oracles.optimal(matched, x, sigma)
                weights = oracles.optimal_weights(train, x, sigma)
                among = (
                    (weights[:, :, None] * (oracles.in_model_units(train) - best[:, None]) ** 2)
                    .mean(axis=2)
                    .sum(axis=1)
                )
                missed = square(best - clean)
                residual = square(model - clean) - square(model - best) - missed
                mean = oracles.in_model_units(train).mean(axis=0)
                norms = np.linalg.norm(model - mean, axis=1) * np.linalg.norm(wiener - mean, axis=1)
                values = {
                    "optimal_error": square(best - clean),
                    "error": square(model - clean),
                    "gap": square(model - best),
                    "residual": residual,
                    "residual_variance": residual**2 * among / np.maximum(missed, 1e-300) / 2,
                    "variance": among,
                    "projection": ((model - wiener) * (best - wiener)).mean(axis=1),
                    "optimal_to_gaussian": square(best - wiener),
                    "matched_projection": ((model - wiener) * (near - wiener)).mean(axis=1),
                    "matched_optimal_to_gaussian": square(near - wiener),
                    "to_gaussian": square(model - wiener),
                    "gaussian_error": square(wiener - clean),
                    "energy": square(model),
                    "gaussian_energy": square(wiener - mean),
                    "cosine": ((model - mean) * (wiener - mean)).sum(axis=1) / norms,
                    "effective_neighbours": np.exp(-(weights * np.log(np.maximum(weights, 1e-300))).sum(axis=1)),
                }
                for key, value in values.items():
                    of_draws.setdefault(key, []).append(value)
            expected = {key: np.mean(value, axis=0) for key, value in of_draws.items()}
            for key, value in expected.items():
                seen = getattr(measured, key)
                assert seen.shape == (5, 40) and seen.dtype == np.float64
                assert np.allclose(seen[number], value, rtol=1e-5, atol=3e-6), (key, name, sigma)
    assert found.num_matched == 100 and found.num_train == 400 and found.notes == ()


def test_linearity_is_measured_on_pairs_of_different_images(optimal: OptimalDenoiser, found: Probe) -> None:
    train = optimal.train
    assert found.linearity is not None and found.linearity.model.shape == (5, 20)
    assert np.allclose(found.linearity.model, 1)  # a linear model
    for number, sigma in enumerate(SIGMAS):
        _, x, _ = inputs(train, "train", 40, 0, sigma)
        mixed, apart = oracles.wiener(train, (x[::2] + x[1::2]) / 2**0.5, sigma), oracles.wiener(train, x, sigma)
        apart = (apart[::2] + apart[1::2]) / 2**0.5
        cosines = (mixed * apart).sum(axis=1) / np.linalg.norm(mixed, axis=1) / np.linalg.norm(apart, axis=1)
        assert np.allclose(found.linearity.gaussian[number], np.abs(cosines), atol=1e-5)


def test_projections_are_coordinates_in_the_leading_directions(
    optimal: OptimalDenoiser, gaussian: GaussianDenoiser
) -> None:
    found = probe(Shrinking(), optimal=optimal, gaussian=gaussian, sigmas=SIGMAS, num_images=130)
    assert found.projections is not None and found.projections.inputs.shape == (5, 130, 2, 32)
    y = oracles.in_model_units(optimal.train)
    _, vectors = np.linalg.eigh(np.cov(y.T, bias=True))
    for draw in (0, 1):
        _, x, _ = inputs(optimal.train, "train", 130, draw, SIGMAS[2])
        expected = np.abs((x - y.mean(axis=0)) @ vectors[:, :-33:-1])  # signs of eigenvectors are free
        assert np.allclose(np.abs(found.projections.inputs[2, :, draw]), expected, atol=1e-5)
        answered = np.abs((x / (1 + SIGMAS[2] ** 2) - y.mean(axis=0)) @ vectors[:, :-33:-1])
        assert np.allclose(np.abs(found.projections.outputs[2, :, draw]), answered, atol=1e-5)


def equal(first: Any, second: Any, tolerance: float = 0.0) -> bool:
    """Two trees of results, array by array."""
    if isinstance(first, np.ndarray):
        return (
            np.array_equal(first, second)
            if tolerance == 0
            else np.allclose(first, second, rtol=tolerance, atol=tolerance)
        )
    if hasattr(first, "__dataclass_fields__"):
        return all(equal(getattr(first, name), getattr(second, name), tolerance) for name in first.__dataclass_fields__)
    return bool(first == second)


def test_a_probe_is_the_same_twice_and_calls_the_denoiser_in_blocks_of_one_size(
    digits: Any, optimal: OptimalDenoiser, gaussian: GaussianDenoiser, found: Probe
) -> None:
    model = Shrinking()
    again = probe(model, optimal=optimal, gaussian=gaussian, test=digits[400:500], sigmas=SIGMAS, num_images=40)
    assert set(model.seen) == {(64, 64)}
    assert equal(again, found)
    other = probe(
        Shrinking(), optimal=optimal, gaussian=gaussian, test=digits[400:500], sigmas=SIGMAS, num_images=40, seed=1
    )
    assert not equal(other.train, found.train)


@pytest.mark.parametrize("batch_size", [1, 7, 200])
def test_the_denoisers_batch_size_is_kept_and_changes_nothing_for_an_elementwise_model(
    digits: Any, optimal: OptimalDenoiser, gaussian: GaussianDenoiser, found: Probe, batch_size: int
) -> None:
    model = Shrinking()
    other = probe(
        model,
        optimal=optimal,
        gaussian=gaussian,
        test=digits[400:500],
        sigmas=SIGMAS,
        num_images=40,
        batch_size=batch_size,
    )
    assert set(model.seen) == {(batch_size, batch_size)}
    assert equal(other.train, found.train, 1e-6) and equal(other.test, found.test, 1e-6)


def test_one_and_two_threads_agree(
    digits: Any, optimal: OptimalDenoiser, gaussian: GaussianDenoiser, found: Probe
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3 - min(before, 2))
    try:
        other = probe(
            Shrinking(), optimal=optimal, gaussian=gaussian, test=digits[400:500], sigmas=SIGMAS, num_images=40
        )
    finally:
        torch.set_num_threads(before)
    assert equal(other, found, 1e-5)


def test_sigmas_may_be_worked_on_a_few_at_a_time(
    digits: Any, optimal: OptimalDenoiser, gaussian: GaussianDenoiser, found: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memgen_eval.diffusion.probe.HELD_VALUES", 64 * 64 * 2)
    other = probe(Shrinking(), optimal=optimal, gaussian=gaussian, test=digits[400:500], sigmas=SIGMAS, num_images=40)
    assert equal(other, found)


def test_the_optimal_denoiser_as_a_model(digits: Any, optimal: OptimalDenoiser, gaussian: GaussianDenoiser) -> None:
    found = probe(optimal, optimal=optimal, gaussian=gaussian, test=digits[400:600])
    train, test = found.train, found.test
    assert train.gap is not None and train.residual is not None and test is not None and test.gap is not None
    assert train.gap.max() < 1e-10 and test.gap.max() < 1e-10
    # zero but for the rounding of x to float32, which the denoiser sees and the shared products do not
    assert np.abs(train.residual.mean(axis=1)).max() < 1e-9
    assert train.projection is not None and train.optimal_to_gaussian is not None
    assert np.allclose(train.projection, train.optimal_to_gaussian, atol=1e-6)


def test_the_gaussian_denoiser_as_a_model(digits: Any, optimal: OptimalDenoiser, gaussian: GaussianDenoiser) -> None:
    found = probe(gaussian, optimal=optimal, gaussian=gaussian, test=digits[400:600]).train
    assert found.to_gaussian is not None and found.energy is not None and found.projection is not None
    assert (found.to_gaussian.sum(axis=1) / found.energy.sum(axis=1)).max() < 1e-10
    assert np.abs(found.projection).max() < 1e-10


def test_collapse_is_where_the_weight_of_the_own_image_falls_through_a_half(
    optimal: OptimalDenoiser, found: Probe
) -> None:
    grid = probe(None, optimal=optimal, gaussian=None, num_images=40)
    clean, _, chosen = inputs(optimal.train, "train", 40, 0, 1.0)
    assert np.isfinite(grid.collapse).all() and (grid.collapse > 0).all()
    for row in range(40):
        eps = inputs(optimal.train, "train", 40, 0, 1.0)[1][row] - clean[row]
        weights = []
        for factor in (0.99, 1.01):
            sigma = grid.collapse[row] * factor
            weights.append(
                oracles.optimal_weights(optimal.train, (clean[row] + sigma * eps)[None], sigma)[0, chosen[row]]
            )
        assert weights[0] >= 0.5 > weights[1]
    # inside another grid the same, up to its precision; beyond a grid's ends there is no number
    assert np.allclose(found.collapse, grid.collapse, rtol=0.01)
    low = probe(None, optimal=optimal, gaussian=None, num_images=4, sigmas=[0.01, 0.02])
    high = probe(None, optimal=optimal, gaussian=None, num_images=4, sigmas=[20.0, 80.0])
    assert np.isinf(low.collapse).all() and (high.collapse == 0).all()


def test_the_data_alone_needs_no_denoiser(
    digits: Any, optimal: OptimalDenoiser, gaussian: GaussianDenoiser, found: Probe
) -> None:
    alone = probe(None, optimal=optimal, gaussian=gaussian, test=digits[400:500], sigmas=SIGMAS, num_images=40)
    assert alone.train.error is None and alone.train.to_gaussian is None and alone.linearity is None
    assert np.array_equal(alone.train.optimal_error, found.train.optimal_error)
    assert alone.spectrum is not None and np.array_equal(alone.collapse, found.collapse)


def test_without_a_test_set_or_a_gaussian_what_needs_them_is_missing(optimal: OptimalDenoiser) -> None:
    found = probe(Shrinking(), optimal=optimal, gaussian=None, sigmas=SIGMAS, num_images=10)
    assert (
        found.test is None and found.train.to_gaussian is None and found.spectrum is None and found.num_matched is None
    )
    assert found.no_gaussian is not None and found.train.error is not None


def test_images_too_large_for_a_covariance_are_probed_without_one() -> None:
    train = np.random.default_rng(0).integers(0, 256, (20, 3, 65, 64), dtype=np.uint8)
    found = probe(
        lambda x, sigma: x / (1 + sigma[0]), optimal=OptimalDenoiser(train), gaussian=None, num_images=4, batch_size=4
    )
    assert found.no_gaussian is not None and "12,288" in found.no_gaussian and found.train.error is not None


def test_fewer_images_than_asked_for_are_all_used(digits: Any) -> None:
    few = OptimalDenoiser(digits[:5])
    found = probe(Shrinking(), optimal=few, gaussian=GaussianDenoiser(few.train), test=digits[9:12], sigmas=SIGMAS)
    assert found.train.optimal_error.shape == (5, 5) and found.num_matched == 3
    assert found.test is not None and found.test.optimal_error.shape == (5, 3)
    alone = probe(
        Shrinking(), optimal=OptimalDenoiser(digits[:1]), gaussian=GaussianDenoiser(digits[:1]), sigmas=SIGMAS
    )
    assert alone.linearity is None and alone.projections is None


def test_the_path_is_where_the_sampler_goes(optimal: OptimalDenoiser) -> None:
    def shrinking(x: Tensor, sigma: Tensor) -> Tensor:
        return x / (1 + sigma**2).reshape(-1, 1, 1, 1)

    sampler = Sampler(shrinking, (1, 8, 8), num_steps=5, batch_size=20)
    found = probe(shrinking, optimal=optimal, gaussian=None, sampler=sampler, sigmas=SIGMAS, num_images=8)
    assert found.path is not None and found.path.gap.shape == (5, 64)
    assert np.allclose(found.path.sigmas, sampler.sigmas[::-1])
    steps = [step for step in sampler.path(range(64), torch.device("cpu")) if step.sigma > 0][::-1]
    for number, step in enumerate(steps):
        x = step.x.float().double().numpy().reshape(64, -1)
        expected = square(x / (1 + step.sigma**2) - oracles.optimal(optimal.train, x, step.sigma))
        assert np.allclose(found.path.gap[number], expected, rtol=1e-4, atol=1e-7)
    with pytest.raises(InputError, match="the sampler draws images of shape"):
        probe(
            shrinking, optimal=optimal, gaussian=None, sampler=Sampler(shrinking, (8, 8)), sigmas=SIGMAS, num_images=8
        )


def test_the_callers_modules_and_states_are_left_as_they_were(digits: Any, optimal: OptimalDenoiser) -> None:
    torch.manual_seed(0)
    model, test = Shrinking(), digits[400:450].copy()
    state, legacy = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    for wrapped in (model, lambda x, sigma: -model(-x, sigma), model.forward):
        probe(wrapped, optimal=optimal, gaussian=None, test=test, sigmas=SIGMAS, num_images=8)
        assert model.training and model.dropout.training
    assert torch.equal(torch.get_rng_state(), state)
    assert np.random.get_state()[1].tolist() == legacy  # noqa: NPY002
    assert np.array_equal(test, digits[400:450]) and torch.is_grad_enabled()
    # dropout was off: the answers are those of the model in eval mode
    first = probe(model, optimal=optimal, gaussian=None, sigmas=SIGMAS, num_images=8)
    assert equal(first, probe(model.eval(), optimal=optimal, gaussian=None, sigmas=SIGMAS, num_images=8))


def ignoring(x: Tensor, sigma: Tensor) -> Tensor:
    return x * 0.9


def constant(x: Tensor, sigma: Tensor) -> Tensor:
    return torch.zeros_like(x)


def of_another_range(x: Tensor, sigma: Tensor) -> Tensor:
    """A perfect copy of x at low noise, from a model that thinks in [0, 1]."""
    return x.clamp(0, 1) / (1 + sigma.reshape(-1, 1, 1, 1) ** 2)


@pytest.mark.parametrize("model", [ignoring, constant])
@pytest.mark.filterwarnings("ignore:the denoiser's error")
def test_a_denoiser_that_ignores_sigma_is_warned_of(optimal: OptimalDenoiser, model: Any) -> None:
    with pytest.warns(UserWarning, match="ignores sigma"):
        found = probe(model, optimal=optimal, gaussian=None, num_images=8)
    assert any("ignores sigma" in note for note in found.notes)


def test_a_denoiser_of_another_range_is_warned_of(optimal: OptimalDenoiser) -> None:
    with pytest.warns(UserWarning, match=r"error at sigma = 0\.02.*another range"):
        found = probe(of_another_range, optimal=optimal, gaussian=None, num_images=8)
    assert any("another range" in note for note in found.notes)


def test_a_single_image_may_be_answered_with_itself(digits: Any) -> None:
    one = OptimalDenoiser(digits[:1])  # the same whatever x and sigma, and right: no warning
    assert probe(one, optimal=one, gaussian=None, num_images=1).notes == ()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda x, s: x[:, :, :4], r"denoiser returned shape \(64, 1, 4, 8\)"),
        (lambda x, s: x[:5], r"denoiser returned shape \(5, 1, 8, 8\)"),
        (lambda x, s: x.int(), "denoiser returned torch.int32"),
        (lambda x, s: x.numpy(), "denoiser returned a ndarray"),
        (lambda x, s: (x, x), r"denoiser returned a tuple \(\(64, 1, 8, 8\), \(64, 1, 8, 8\)\)"),
        (lambda x, s: x.to("meta"), "denoiser returned a tensor on meta for x on cpu"),
        (lambda x, s: x * float("nan"), "denoiser returned NaN or infinity at sigma = "),
        (lambda x, s: x / 0, "denoiser returned NaN or infinity at sigma = "),
    ],
)
def test_what_is_no_denoiser_is_named(optimal: OptimalDenoiser, wrong: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        probe(wrong, optimal=optimal, gaussian=None, num_images=8)


def test_half_precision_is_a_float(optimal: OptimalDenoiser) -> None:
    found = probe(lambda x, s: (x / (1 + s.reshape(-1, 1, 1, 1))).half(), optimal=optimal, gaussian=None, num_images=8)
    assert found.train.error is not None and np.isfinite(found.train.error).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_images": 0}, "num_images is 0"),
        ({"num_draws": 1.5}, "num_draws is 1.5"),
        ({"batch_size": -1}, "batch_size is -1"),
        ({"sigmas": [1.0, 0.5]}, "0.5 after 1"),
        ({"test": np.zeros((5, 1, 9, 9), dtype=np.uint8)}, "test holds images of shape"),
    ],
)
def test_settings_that_cannot_be_used_are_named(
    optimal: OptimalDenoiser, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        probe(ignoring, optimal=optimal, gaussian=None, **settings)
