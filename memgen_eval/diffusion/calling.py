"""Calling a denoiser that belongs to somebody else: its device, its modes, and what it returns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from memgen_eval.errors import InputError
from memgen_eval.guests import guests, modules_of


def call_denoiser(denoiser: Any, x: Tensor, sigma: Tensor) -> Tensor:
    """``denoiser(x, sigma)``, once it is found to be clean images: of the shape of x, float, on its device, finite.

    Raises
    ------
    InputError
        Naming what came instead.
    """
    clean = denoiser(x, sigma)
    expected = f"expected E[x0 | x] for x of shape {tuple(x.shape)}"
    if not isinstance(clean, Tensor):
        raise InputError(f"denoiser returned a {type(clean).__name__}, {expected}: return a float tensor")
    if clean.shape != x.shape:
        raise InputError(f"denoiser returned shape {tuple(clean.shape)}, {expected}: return the shape of x")
    if not clean.is_floating_point():
        raise InputError(f"denoiser returned {clean.dtype}, {expected}: return float values in [-1, 1]")
    if clean.device != x.device:
        raise InputError(
            f"denoiser returned a tensor on {clean.device} for x on {x.device}: return it there, or say device="
        )
    if not torch.isfinite(clean).all():
        raise InputError(
            f"denoiser returned NaN or infinity at sigma = {float(sigma.min()):.4g}: check its weights and range"
        )
    return clean


def device_of(denoiser: Any, device: Any = None) -> torch.device:
    """`device` where it is given, else that of the denoiser's parameters, else the CPU."""
    if device is not None:
        return torch.device(device)
    for module in modules_of(denoiser):
        for parameter in module.parameters():
            return torch.device(parameter.device)
    return torch.device("cpu")


@contextmanager
def as_guest(denoiser: Any, device: torch.device) -> Iterator[None]:
    """No gradients, modules in eval mode; afterwards their modes and the random states are as they were."""
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), guests(denoiser):
        yield
