"""What a diffusers scheduler says of the network that was trained with it: its prediction, its clock, its noise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from memgen_eval.diffusion.denoiser import ConvertedDenoiser, from_epsilon, from_flow, from_v, from_x0
from memgen_eval.errors import InputError
from memgen_eval.runtime import member

VARIANCE_PRESERVING = (
    "DDPMScheduler",
    "DDIMScheduler",
    "PNDMScheduler",
    "LMSDiscreteScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "UniPCMultistepScheduler",
)
PRECONDITIONED = ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler")
FLOWS = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")
SUPPORTED = (*VARIANCE_PRESERVING, *PRECONDITIONED, *FLOWS)

STEPPED_PREDICTIONS = {"epsilon": from_epsilon, "v_prediction": from_v, "sample": from_x0}
SIGN_OF_OUTPUT = {"epsilon": 1, "v_prediction": -1}  # of a preconditioned network
OTHER_CLOCKS = {"use_flow_sigmas": True, "timestep_type": "continuous", "invert_sigmas": True}


def scheduled_denoiser(network: Any, scheduler: Any) -> ConvertedDenoiser:
    """The denoiser of a network that was trained with a diffusers scheduler.

    Only the scheduler's noise schedule and prediction type count, never its `step`: what `clip_sample` or thresholding
    do to samples leaves the denoiser as it is.

    Raises
    ------
    InputError
        For a scheduler, or a setting of one, whose networks cannot be read as denoisers.
    """
    kind = next((base.__name__ for base in type(scheduler).__mro__ if base.__name__ in SUPPORTED), None)
    name, config = type(scheduler).__name__, member(scheduler, "config")
    if kind is None:
        raise InputError(f"the scheduler {name} is not supported: expected one of {', '.join(SUPPORTED)}")
    for setting, value in OTHER_CLOCKS.items():
        if member(config, setting) == value:
            raise InputError(f"the scheduler {name} with {setting}={value!r} is not supported: give a denoiser")
    prediction = prediction_type(scheduler)
    if kind in FLOWS:  # the network's time is the share of noise, counted in training steps
        return from_flow(network, data_time=0, time_scale=float(member(config, "num_train_timesteps")))
    expected = SIGN_OF_OUTPUT if kind in PRECONDITIONED else STEPPED_PREDICTIONS
    if prediction not in expected:
        raise InputError(
            f"the scheduler {name} says prediction_type={prediction!r}: expected one of {', '.join(expected)}"
        )
    if kind in PRECONDITIONED:
        return _preconditioned(network, config, SIGN_OF_OUTPUT[prediction])
    return STEPPED_PREDICTIONS[prediction](network, alphas_cumprod=scheduler.alphas_cumprod)


def prediction_type(scheduler: Any) -> str:
    """What a network trained with it predicts, in diffusers' words."""
    names = {base.__name__ for base in type(scheduler).__mro__}
    return "flow" if names & set(FLOWS) else str(member(member(scheduler, "config"), "prediction_type"))


def _preconditioned(network: Any, config: Any, sign: int) -> ConvertedDenoiser:
    """``c_skip x + c_out network(c_in x, c_noise)``, in the notation of Karras et al. 2022, table 1."""
    sigma_data = float(member(config, "sigma_data"))

    def path(sigma: Tensor) -> tuple[Tensor, Tensor]:
        c_in = (sigma**2 + sigma_data**2).rsqrt()
        c_noise = torch.log(sigma) / 4
        return c_in, c_noise

    def row(c_in: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        c_skip = (sigma_data * c_in) ** 2
        c_out = sign * sigma * sigma_data * c_in
        return c_skip, c_out

    limits = float(member(config, "sigma_min")), float(member(config, "sigma_max"))
    return ConvertedDenoiser(network, "the EDM preconditioning", row, path, sigma_range=limits)
