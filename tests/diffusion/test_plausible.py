"""Networks in the wrong conversion are named with the right one; weak networks in the right one are not."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from memgen_eval.diffusion.denoiser import from_epsilon, from_flow, from_score, from_v, from_x0
from memgen_eval.diffusion.gaussian import GaussianDenoiser
from memgen_eval.diffusion.optimal import OptimalDenoiser
from memgen_eval.diffusion.probe import probe
from memgen_eval.errors import InputError

ABAR = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
LOG_SIGMAS = np.log((1 - ABAR) / ABAR) / 2


@pytest.fixture(scope="module")
def train(digits: Any) -> Any:
    return digits[:300]


@pytest.fixture(scope="module")
def optimal(train: Any) -> OptimalDenoiser:
    return OptimalDenoiser(train)


def column(values: Tensor) -> Tensor:
    return values.float().reshape(-1, 1, 1, 1)


class Dressed:
    """A denoiser in the clothes of each parametrisation, with noise of its own: `weakness` 0 is the Wiener denoiser."""

    def __init__(self, train: Any, weakness: float) -> None:
        self.denoiser, self.weakness = GaussianDenoiser(train), weakness

    def noisy(self, target: Tensor) -> Tensor:
        """Shrunk and disturbed, as an early network's outputs are."""
        noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(0))
        return target / (1 + self.weakness) + self.weakness * target.square().mean().sqrt() * noise

    def preserving(self, kind: str) -> Callable[[Tensor, Tensor], Tensor]:
        def network(x_t: Tensor, t: Tensor) -> Tensor:
            sigma = torch.from_numpy(np.exp(np.interp(t.double().numpy(), np.arange(1000), LOG_SIGMAS)))
            a, s = column((1 + sigma**2).rsqrt()), column(sigma * (1 + sigma**2).rsqrt())
            x0 = self.denoiser(x_t / a, sigma.float())
            eps = (x_t - a * x0) / s
            return self.noisy({"epsilon": eps, "v": a * eps - s * x0, "x0": x0, "score": -eps / s}[kind])

        return network

    def flow(self, data_time: int, scale: float = 1.0) -> Callable[[Tensor, Tensor], Tensor]:
        def network(x_t: Tensor, t: Tensor) -> Tensor:
            noise = (t / scale if data_time == 0 else 1 - t / scale).clamp(1e-4, 1 - 1e-4)
            x0 = self.denoiser(x_t / column(1 - noise), (noise / (1 - noise)).float())
            eps = (x_t - column(1 - noise) * x0) / column(noise)
            return self.noisy(eps - x0 if data_time == 0 else x0 - eps)

        return network


CONVERSIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Dressed], Any]]] = {
    "from_epsilon": (lambda net: from_epsilon(net, alphas_cumprod=ABAR), lambda d: d.preserving("epsilon")),
    "from_v": (lambda net: from_v(net, alphas_cumprod=ABAR), lambda d: d.preserving("v")),
    "from_x0": (lambda net: from_x0(net, alphas_cumprod=ABAR), lambda d: d.preserving("x0")),
    "from_score": (lambda net: from_score(net, alphas_cumprod=ABAR), lambda d: d.preserving("score")),
    "from_flow(data_time=0)": (lambda net: from_flow(net, data_time=0), lambda d: d.flow(0)),
    "from_flow(data_time=1)": (lambda net: from_flow(net, data_time=1), lambda d: d.flow(1)),
    "from_flow(data_time=0, time_scale=1000)": (
        lambda net: from_flow(net, data_time=0, time_scale=1000),
        lambda d: d.flow(0, 1000),
    ),
}
PRESERVING = [name for name in CONVERSIONS if "flow" not in name]
WRONG = [(given, right) for given in PRESERVING for right in PRESERVING if given != right]
WRONG += [("from_flow(data_time=0)", "from_flow(data_time=1)"), ("from_flow(data_time=1)", "from_flow(data_time=0)")]
WRONG += [("from_epsilon", "from_flow(data_time=0, time_scale=1000)")]


@pytest.mark.parametrize(("given", "right"), WRONG)
def test_the_conversion_that_would_fit_is_named(given: str, right: str, train: Any, optimal: OptimalDenoiser) -> None:
    network = CONVERSIONS[right][1](Dressed(train, 0.02))
    said = rf"error at sigma = .* per value; as {re.escape(right)} it would be [0-9.e-]+: its network seems to predict"
    with pytest.warns(UserWarning, match=said):
        found = probe(CONVERSIONS[given][0](network), optimal=optimal, gaussian=None, num_images=16, batch_size=16)
    assert len(found.notes) == 1 and right in found.notes[0]


@pytest.mark.parametrize("weakness", [0.0, 0.1, 0.4, 1.0])
@pytest.mark.parametrize("name", CONVERSIONS)
def test_a_weak_network_in_the_right_conversion_is_told_of_no_other(
    name: str, weakness: float, train: Any, optimal: OptimalDenoiser
) -> None:
    convert, dress = CONVERSIONS[name]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = probe(
            convert(dress(Dressed(train, weakness))), optimal=optimal, gaussian=None, num_images=16, batch_size=16
        )
    assert not any("seems" in str(warning.message) for warning in caught)
    assert weakness > 0 or found.notes == ()


@pytest.mark.parametrize("name", CONVERSIONS)
def test_an_untrained_network_is_told_of_no_other(name: str, optimal: OptimalDenoiser) -> None:
    random = torch.Generator().manual_seed(0)
    for network in (lambda x, t: torch.zeros_like(x), lambda x, t: torch.randn(x.shape, generator=random)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            probe(CONVERSIONS[name][0](network), optimal=optimal, gaussian=None, num_images=16, batch_size=16)
        assert not any("seems" in str(warning.message) for warning in caught)


def test_an_error_far_above_the_variance_is_noted_without_a_conversion(optimal: OptimalDenoiser) -> None:
    def bad_at_large_sigma(x: Tensor, sigma: Tensor) -> Tensor:
        return x / (1 + column(sigma).clamp(max=3) ** 2)

    with pytest.warns(UserWarning, match=r"error at sigma = 80 is .* returning the mean gives .* something else"):
        found = probe(bad_at_large_sigma, optimal=optimal, gaussian=None, num_images=16)
    assert len(found.notes) == 1


def test_a_schedule_narrower_than_the_usual_sigmas_cuts_them(optimal: OptimalDenoiser, train: Any) -> None:
    narrow = np.cumprod(1 - np.linspace(1e-3, 0.05, 100))  # sigma from 0.03 to 3.3
    low, high = np.sqrt((1 - narrow) / narrow)[[0, -1]]
    network = lambda x, t: torch.zeros_like(x)  # noqa: E731
    denoiser = from_x0(network, alphas_cumprod=narrow)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = probe(denoiser, optimal=optimal, gaussian=None, num_images=4)
    usual = np.geomspace(0.02, 80, 15)
    assert np.allclose(found.sigmas, usual[(usual > low) & (usual < high)])
    assert any(f"{low:.4g} to {high:.4g}, is narrower than the usual" in note for note in found.notes)
    with pytest.raises(InputError, match=r"sigma 0\.02 is outside the model's schedule"):
        probe(denoiser, optimal=optimal, gaussian=None, num_images=4, sigmas=[0.02, 1.0])
    with pytest.raises(InputError, match="holds no usual noise level"):
        probe(from_x0(network, alphas_cumprod=[1e-8, 1e-9]), optimal=optimal, gaussian=None)


def test_a_learned_variance_is_noted(optimal: OptimalDenoiser, train: Any) -> None:
    network = Dressed(train, 0).preserving("epsilon")
    doubled = from_epsilon(lambda x, t: torch.cat([network(x, t), x], dim=1), alphas_cumprod=ABAR)
    found = probe(doubled, optimal=optimal, gaussian=None, num_images=8)
    alone = probe(from_epsilon(network, alphas_cumprod=ABAR), optimal=optimal, gaussian=None, num_images=8)
    assert found.notes == ("the network returns 2 channels for 1: the first 1 are its prediction",)
    assert found.train.error is not None and alone.train.error is not None
    assert np.array_equal(found.train.error, alone.train.error)
