"""Samples of a trained model, drawn in blocks of one size: an image depends on the seed and its number alone."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memgen_eval.diffusion.sampling import Sampler, Solver, Spacing
from memgen_eval.errors import InputError
from memgen_eval.shell import check_writable, write_whole
from reference_models.precond import Preconditioned

BLOCK = 64  # images to a call of the model
SUFFIXES = (".npz", ".safetensors")


@dataclass(frozen=True)
class Method:
    """A way to draw: steps of a solver, their number unless another is asked for, on a schedule of noise levels."""

    solver: Solver
    schedule: Spacing
    num_steps: int


METHODS = {
    "heun": Method("heun", "karras", num_steps=18),  # EDM's deterministic sampler: 35 calls of the model
    "euler": Method("euler", "karras", num_steps=50),
    "flow": Method("euler", "flow", num_steps=250),  # as many as Marion and Wu take, arXiv 2605.06077
    "ancestral": Method("ancestral", "karras", num_steps=250),
}


def sampler_of(
    denoiser: Preconditioned,
    image_shape: tuple[int, int, int],
    *,
    seed: int,
    method: str = "heun",
    num_steps: int | None = None,
) -> Sampler:
    """What `evaluate` is given as samples.

    Parameters
    ----------
    denoiser : Preconditioned
        Of either parametrization: every method follows ``D(x, sigma)``.
    image_shape : (C, H, W)
        Of a sample.
    seed : int
        Of the noise.
    method : str
        One of `METHODS`.
    num_steps : int, optional
        The method's own otherwise.

    Raises
    ------
    InputError
        For an unknown method, or less than one step.
    """
    if method not in METHODS:
        raise InputError(f"no way of sampling is called {method!r}: give one of {', '.join(METHODS)}")
    chosen = METHODS[method]
    return Sampler(
        denoiser,
        image_shape,
        seed=seed,
        num_steps=chosen.num_steps if num_steps is None else num_steps,
        solver=chosen.solver,
        schedule=chosen.schedule,
        batch_size=BLOCK,
    )


@contextmanager
def quiet_clipping() -> Iterator[None]:
    """Evaluate our own samples without a warning: their range is known, and the report's notes say what was clipped."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"samples \(.*clipped to")
        yield


def draw(sampler: Sampler, num_samples: int) -> Iterator[NDArray[np.uint8]]:
    """Samples as grey levels, uint8 (B, H, W, C), a block at a time.

    Image i has the noise that `evaluate` gives it for the sampler's seed, and is the same whatever their number: the
    last block is drawn whole and cut.
    """
    for start in range(0, num_samples, BLOCK):
        images = sampler(BLOCK, seeds=range(sampler.seed + start, sampler.seed + start + BLOCK))
        yield to_grey_levels(images)[: num_samples - start]


def to_grey_levels(images: Tensor) -> NDArray[np.uint8]:
    """From float (B, C, H, W), clipped to [-1, 1], to the nearest of 256 levels, uint8 (B, H, W, C)."""
    levels = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return np.ascontiguousarray(levels.permute(0, 2, 3, 1).numpy())


def check_samples_path(path: Path) -> None:
    """Find out, before anything is drawn, whether samples can be written there. Raises InputError if not."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: samples are written as .npz or .safetensors; give a name that ends in one of them")
    check_writable(path)


def write_samples(path: Path, images: NDArray[np.uint8]) -> None:
    """Write uint8 (N, H, W, C) as .npz (`arr_0`) or .safetensors (`samples`), whole or not at all."""
    check_samples_path(path)
    if path.suffix.lower() == ".safetensors":
        from safetensors.torch import save

        write_whole(path, save({"samples": torch.from_numpy(np.ascontiguousarray(images))}))
        return
    buffer = io.BytesIO()
    np.savez(buffer, images)
    write_whole(path, buffer.getvalue())
