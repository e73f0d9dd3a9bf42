"""Calling a network that belongs to somebody else: how x and its clock are given to it, and what it returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from memgen_eval.errors import InputError, MemgenError, lacks_memory, one_line
from memgen_eval.runtime import member, parameter_of


def call_denoiser(denoiser: Any, x: Tensor, sigma: Tensor) -> Tensor:
    """``denoiser(x, sigma)``, once it is found to be clean images: of the shape of x, float, on its device, finite.

    Raises
    ------
    InputError
        Naming what came instead.
    """
    clean = predict(denoiser, x, sigma, what="denoiser")
    if clean.shape != x.shape:
        raise InputError(
            f"denoiser returned shape {tuple(clean.shape)} for x of shape {tuple(x.shape)}: return E[x0 | x] alone, "
            "the first half if the network predicts a variance too"
        )
    if not torch.isfinite(clean).all():
        raise InputError(
            f"denoiser returned NaN or infinity at sigma = {float(sigma.min()):.4g}: check its weights and range"
        )
    return clean


def predict(network: Any, x: Tensor, clock: Tensor, *, what: str, in_steps: bool = False) -> Tensor:
    """What a network returns for x (B, C, ...) and its clock (B,): float, on the device of x, of C or of 2 C channels.

    A network that refuses the type of x is called in the type of its parameters, and one that refuses fractions where
    its clock counts steps (`in_steps`) with the nearest whole step. Of an output with several tensors the only one of
    this shape is taken, or the one that is called `sample`.

    Raises
    ------
    InputError
        Naming what was given and what came. Where memory was short the network's own error is raised.
    """
    refusal: Exception | None = None
    for given, told in _forms(network, x, clock, in_steps):
        try:
            return _prediction(network(given, told), x, what)
        except MemgenError:
            raise
        except Exception as error:
            if lacks_memory(error):
                raise
            refusal = refusal or error
    assert refusal is not None
    failed = f"{what} failed on x, {_described(x)}, and {_described(clock)}: {one_line(refusal)}"
    raise InputError(failed) from refusal


def _forms(network: Any, x: Tensor, clock: Tensor, in_steps: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """How a network may be given its inputs; a form is used where those before it were refused."""
    yield x.clone(), clock  # some networks change what they are given
    parameter = parameter_of(network)
    kind = x.dtype if parameter is None else parameter.dtype
    if kind != x.dtype:
        yield x.to(kind), clock
        yield x.to(kind), clock.to(kind)
    if in_steps:
        yield x.to(kind, copy=True), clock.round().long()


def _prediction(returned: Any, x: Tensor, what: str) -> Tensor:
    expected = f"expected a prediction for x of shape {tuple(x.shape)}"
    doubled = (len(x), 2 * x.shape[1], *x.shape[2:]) if x.ndim > 1 else None
    tensors = _tensors_in(returned)
    fitting = [tensor for tensor in tensors if tensor.shape in (x.shape, doubled)]
    if len(fitting) != 1 and not isinstance(returned, Tensor):
        found = ", ".join(str(tuple(tensor.shape)) for tensor in tensors) or "no tensors"
        raise InputError(
            f"{what} returned a {type(returned).__name__} ({found}), {expected}: return one float tensor of that shape"
        )
    prediction = fitting[0] if fitting else returned
    if not fitting:
        raise InputError(f"{what} returned shape {tuple(prediction.shape)}, {expected}: return the shape of x")
    if not prediction.is_floating_point():
        raise InputError(f"{what} returned {prediction.dtype}, {expected}: return float values in [-1, 1]")
    if prediction.device != x.device:
        raise InputError(
            f"{what} returned a tensor on {prediction.device} for x on {x.device}: return it there, or say device="
        )
    return prediction


def _tensors_in(returned: Any) -> list[Tensor]:
    """The tensors of an output: itself, its `sample`, or those it holds."""
    if isinstance(returned, Tensor):
        return [returned]
    if isinstance(sample := member(returned, "sample"), Tensor):
        return [sample]
    if isinstance(returned, Mapping):
        returned = list(returned.values())
    return [value for value in returned if isinstance(value, Tensor)] if isinstance(returned, list | tuple) else []


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)} on {tensor.device}"


def device_of(denoiser: Any, device: Any = None) -> torch.device:
    """`device` where it is given, else that of the denoiser's parameters, else the CPU."""
    if device is not None:
        return torch.device(device)
    parameter = parameter_of(denoiser)
    return torch.device("cpu") if parameter is None else torch.device(parameter.device)
