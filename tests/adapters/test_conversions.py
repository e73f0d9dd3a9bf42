"""D* dressed up as every parametrisation, and the schedulers' own words for x0, against the denoisers made of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from checking import evaluated
from conftest import noise_images
from exact_models import EDMPrecond, Exact, expected, log_sigmas_of
from memgen_eval import InputError, Model
from memgen_eval.adapters.schedulers import FLOWS, PRECONDITIONED, SUPPORTED, VARIANCE_PRESERVING
from memgen_eval.runtime import foreign

diffusers = pytest.importorskip("diffusers", reason="reads diffusers' own schedulers, of the extra diffusers")

pytestmark = pytest.mark.filterwarnings("ignore:__array")  # what numpy says of diffusers
TRAIN = noise_images(0, 12, (3, 4, 4))
X0 = torch.from_numpy(TRAIN / 127.5 - 1)
RMS = float((X0**2).mean().sqrt())
STEPPED = ("epsilon", "v_prediction", "sample")
PREDICTIONS = dict.fromkeys(VARIANCE_PRESERVING, STEPPED) | dict.fromkeys(FLOWS, ("flow",))
PREDICTIONS |= dict.fromkeys(PRECONDITIONED, ("epsilon", "v_prediction"))
CASES = [(name, kind) for name in SUPPORTED for kind in PREDICTIONS[name]]


def scheduler_of(name: str, kind: str, **settings: Any) -> Any:
    told = {} if kind == "flow" else {"prediction_type": kind}
    return getattr(diffusers, name)(**told, **settings)


def exact_pair(name: str, kind: str) -> tuple[nn.Module, Any]:
    scheduler = scheduler_of(name, kind)
    if name in PRECONDITIONED:
        return Exact(TRAIN, "edm" if kind == "epsilon" else "edm_v"), scheduler
    if kind == "flow":
        return Exact(TRAIN, kind), scheduler
    return Exact(TRAIN, kind, log_sigmas_of(scheduler.alphas_cumprod)), scheduler


def own_levels(scheduler: Any, name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Noise levels of training, a dozen."""
    if name in VARIANCE_PRESERVING:
        return np.exp(log_sigmas_of(scheduler.alphas_cumprod))[np.linspace(0, 900, 12).astype(int)]
    if name in FLOWS:
        share = np.linspace(0.02, 0.98, 12)
        return share / (1 - share)
    return np.geomspace(0.01, 60, 12)


def between(levels: Any) -> Any:
    return np.sqrt(levels[1:] * levels[:-1]) * 1.0123


def noisy(sigma: Tensor, kind: torch.dtype) -> Tensor:
    eps = torch.randn(len(sigma), *X0.shape[1:], dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return (X0[: len(sigma)] + sigma.double().reshape(-1, 1, 1, 1) * eps).to(kind)


def missed(denoiser: Any, sigma: Any, kind: torch.dtype) -> Any:
    """Root mean square error of each image, in those of x0."""
    told = torch.from_numpy(np.asarray(sigma)).to(kind)
    x = noisy(told, kind)
    with foreign(denoiser):
        found = denoiser(x, told)
    assert found.dtype == kind
    gaps = (found.double() - expected(TRAIN, x, told)).flatten(1)
    return (gaps**2).mean(dim=1).sqrt().numpy() / RMS


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_an_exact_network_is_an_exact_denoiser(name: str, kind: str) -> None:
    network, scheduler = exact_pair(name, kind)
    denoiser, levels = Model((network, scheduler)).denoiser, own_levels(scheduler, name)
    assert (missed(denoiser, levels, torch.float32) <= 1e-5 * (1 + levels / 10)).all()
    assert (missed(denoiser, levels, torch.float64) <= 1e-10 * (1 + levels / 10)).all()
    apart = between(levels)  # between timesteps: the clock is a fraction, of a step of float32 or float64
    assert (missed(denoiser, apart, torch.float32) <= 1e-5 * (1 + apart / 10)).all()
    assert (missed(denoiser, apart, torch.float64) <= 1e-10 * (1 + apart / 10)).all()


def test_a_wrong_parametrisation_is_far_from_exact() -> None:
    network, _ = exact_pair("DDPMScheduler", "epsilon")
    other = Model((network, scheduler_of("DDPMScheduler", "v_prediction"))).denoiser
    assert missed(other, [0.5, 2.0], torch.float32).min() > 0.1


class Constant(nn.Module):
    """Returns what it was given, whatever the input."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.output.to(x.dtype)


@pytest.mark.parametrize("kind", STEPPED)
@pytest.mark.parametrize("name", ["DDPMScheduler", "DDIMScheduler"])
def test_x0_is_what_the_scheduler_steps_towards(name: str, kind: str) -> None:
    plain, clipping = (scheduler_of(name, kind, clip_sample=clip) for clip in (False, True))
    for scheduler in (plain, clipping):
        scheduler.set_timesteps(1000)
    generator = torch.Generator().manual_seed(0)
    x_t, output = (3 * torch.randn(1, 3, 4, 4, generator=generator) for _ in range(2))
    for t in (3, 250, 800):
        abar = plain.alphas_cumprod[t].double()
        x, sigma = x_t.double() / abar.sqrt(), ((1 - abar) / abar).sqrt().reshape(1)
        found, other = (Model((Constant(output), held)).denoiser(x, sigma) for held in (plain, clipping))
        theirs = plain.step(output, t, x_t).pred_original_sample
        assert torch.allclose(found.float(), theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))
        assert torch.equal(found, other) and float(found.abs().max()) > 1  # nothing is clipped


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", PRECONDITIONED)
def test_the_preconditioning_is_the_schedulers_own(name: str, kind: str) -> None:
    scheduler, generator = scheduler_of(name, kind, sigma_data=0.7), torch.Generator().manual_seed(0)
    x, output = (torch.randn(1, 3, 4, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    seen: list[tuple[Tensor, Tensor]] = []

    class Recorded(Constant):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            seen.append((x, t))
            return super().forward(x, t)

    for level in (0.05, 1.0, 40.0):
        sigma = torch.tensor([level], dtype=torch.float64)
        found = Model((Recorded(output), scheduler)).denoiser(x, sigma)
        assert torch.allclose(found, scheduler.precondition_outputs(x, output, sigma), rtol=1e-12)
        assert torch.allclose(seen[-1][0], scheduler.precondition_inputs(x, sigma), rtol=1e-12)
        assert torch.allclose(seen[-1][1], scheduler.precondition_noise(sigma), rtol=1e-12)


def test_a_flow_is_the_schedulers_own() -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(10)
    clean, eps = (torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(i)) for i in range(2))
    t = scheduler.timesteps[4:5]
    x_t, share = scheduler.scale_noise(clean, t, eps), float(scheduler.sigmas[4])
    sigma = torch.tensor([share / (1 - share)], dtype=torch.float64)
    times: list[Tensor] = []

    class Velocity(nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            times.append(t)
            return (eps - clean).double()

    found = Model((Velocity(), scheduler)).denoiser(x_t.double() / (1 - share), sigma)
    assert torch.allclose(found.float(), clean, atol=1e-5)
    assert torch.allclose(times[0].float(), t, rtol=1e-6)


REFUSED = {
    "ScoreSdeVeScheduler": "the scheduler ScoreSdeVeScheduler is not supported: expected one of DDPMScheduler, DDIM",
    "LCMScheduler": "the scheduler LCMScheduler is not supported: expected one of .*FlowMatchEulerDiscreteScheduler",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_scheduler_that_is_not_supported_is_named(name: str) -> None:
    with pytest.raises(InputError, match=REFUSED[name]) as caught:
        _ = Model((Constant(X0), getattr(diffusers, name)())).denoiser
    assert "\n" not in str(caught.value)


def test_settings_that_change_the_clock_are_refused() -> None:
    with pytest.raises(InputError, match="use_flow_sigmas=True is not supported"):
        _ = Model((Constant(X0), diffusers.DPMSolverMultistepScheduler(use_flow_sigmas=True))).denoiser
    with pytest.raises(InputError, match="timestep_type='continuous' is not supported"):
        _ = Model((Constant(X0), diffusers.EulerDiscreteScheduler(timestep_type="continuous"))).denoiser
    with pytest.raises(InputError, match="invert_sigmas=True is not supported"):
        _ = Model((Constant(X0), diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True))).denoiser
    odd = scheduler_of("DDPMScheduler", "epsilon")
    odd.register_to_config(prediction_type="flow_prediction")
    with pytest.raises(InputError, match="says prediction_type='flow_prediction': expected one of epsilon, v_pred"):
        _ = Model((Constant(X0), odd)).denoiser


def test_a_subclass_of_a_scheduler_is_one() -> None:
    class Own(diffusers.DDPMScheduler):  # type: ignore[misc, name-defined, unused-ignore]
        pass

    network, scheduler = exact_pair("DDPMScheduler", "epsilon")
    levels = own_levels(scheduler, "DDPMScheduler")[2:]
    assert missed(Model((network, Own())).denoiser, levels, torch.float32).max() < 1e-4


def test_reports_of_one_model_dressed_up_as_six_agree() -> None:
    """Between timesteps, on the same noise levels: the largest difference of any point of any curve of the denoiser."""
    dressed: dict[str, Any] = {
        f"{name} {kind}": exact_pair(name, kind)
        for name, kind in [
            ("DDPMScheduler", "epsilon"),
            ("DDIMScheduler", "v_prediction"),
            ("EulerDiscreteScheduler", "sample"),
            ("FlowMatchEulerDiscreteScheduler", "flow"),
            ("EDMEulerScheduler", "epsilon"),
        ]
    }
    dressed["EDM"] = EDMPrecond(4, 3, Exact(TRAIN, "edm"))
    samples = noise_images(1, 12, (3, 4, 4))
    curves = []
    for denoiser in dressed.values():
        report = evaluated(
            samples,
            train=TRAIN,
            test=noise_images(2, 12, (3, 4, 4)),
            denoiser=denoiser,
            sigmas=[0.05, 0.3, 1.0, 5.0, 40.0],
            num_denoiser_images=12,
            denoiser_batch_size=12,
        )
        assert report.denoiser is not None and report.gaussian is not None
        found = [
            report.denoiser.error_train,
            report.denoiser.error_test,
            report.denoiser.gap_train,
            report.denoiser.gap_test,
            report.gaussian.nmse,
            report.gaussian.linearity,
        ]
        curves.append(np.stack([np.asarray(curve.value, dtype=np.float64) for curve in found]))
    assert np.isfinite(curves[0]).all()
    assert max(np.abs(other - curves[0]).max() for other in curves[1:]) < 1e-4
