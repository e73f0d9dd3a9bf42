"""diffusers pipelines as samplers: a generator for each image, values in [0, 1], nothing left behind in them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from memgen_eval.adapters.labels import Labels
from memgen_eval.errors import InputError
from memgen_eval.runtime import member

NETWORK_PARTS = ("unet", "transformer")
AUTOENCODERS = ("vae", "vqvae", "vqgan", "movq")
STEPS = "num_inference_steps"
FILLED_IN = ("batch_size", "class_labels", "generator", STEPS, "output_type", "guidance_scale")
WRAP_IT = "wrap it in a function, such as lambda n, seeds: pipeline(...).images, and give that"


@dataclass(frozen=True, eq=False)
class PipelineSampler:
    """A pipeline called for n images, with a generator on the CPU for each, so that no image depends on the others.

    Attributes
    ----------
    pipeline : DiffusionPipeline
    labels : what its classes are drawn from; None where it has none
    num_steps : its inference steps; its own number if None
    """

    pipeline: Any
    labels: Labels | None
    num_steps: int | None

    def __post_init__(self) -> None:
        """Refuse pipelines that cannot be called for a number of images alone. Raises InputError."""
        name, parameters = self.name, parameters_of(self.pipeline)
        if "prompt" in parameters:
            raise InputError(f"{name} draws images from text and needs prompts: {WRAP_IT}")
        missing = [key for key, p in parameters.items() if p.default is p.empty and key not in FILLED_IN]
        if missing:
            raise InputError(f"{name} needs {', '.join(missing)} with every call: {WRAP_IT}")
        if not {"batch_size", "class_labels"} & set(parameters):
            raise InputError(f"{name} takes neither batch_size nor class_labels, so no number of images: {WRAP_IT}")
        if self.num_steps is not None and STEPS not in parameters:
            raise InputError(f"{name} takes no {STEPS}: leave num_steps out")

    @property
    def name(self) -> str:
        """For messages."""
        return type(self.pipeline).__name__

    @property
    def value_range(self) -> tuple[float, float] | None:
        """That of diffusers' tensors; None where the pipeline is not asked for tensors."""
        return (0.0, 1.0) if "output_type" in parameters_of(self.pipeline) else None

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed."""
        parameters = parameters_of(self.pipeline)
        steps = self.num_steps or parameters[STEPS].default if STEPS in parameters else None
        scheduler = type(member(self.pipeline, "scheduler")).__name__
        return (
            *((f"{steps} steps of its {scheduler}",) if steps else ()),
            *(("no guidance",) if "guidance_scale" in parameters else ()),
            *(("tensors in [0, 1], cut there by the pipeline itself",) if self.value_range else ()),
            *((self.labels.account,) if self.labels is not None else ()),
            *(() if "generator" in parameters else ("it takes no generator: seed has no effect on its images",)),
        )

    def __call__(self, num_samples: int, *, seeds: Sequence[int]) -> Any:
        """Draw samples; `seeds` are N, one for each. Raises InputError if an image is missing."""
        told = self.labels.of_seeds(seeds).tolist() if self.labels is not None else None
        given = {
            "batch_size": num_samples,
            "class_labels": told,
            "generator": [torch.Generator("cpu").manual_seed(int(seed)) for seed in seeds],
            STEPS: self.num_steps,
            "output_type": "pt",
            "guidance_scale": 1.0,
        }
        parameters = parameters_of(self.pipeline)
        keywords = {name: value for name, value in given.items() if name in parameters and value is not None}
        with _left_as_found(self.pipeline):
            returned = self.pipeline(**keywords)
        images = member(returned, "images")
        images = returned[0] if images is None and isinstance(returned, tuple) and returned else images
        if images is None or (isinstance(images, list) and any(image is None for image in images)):
            raise InputError("an image is None, as where a safety checker holds it back: switch the checker off")
        return images


@contextmanager
def _left_as_found(pipeline: Any) -> Iterator[None]:
    """Without progress bars; the scheduler's attributes are given back, since a call sets its timesteps."""
    own, bars = vars(pipeline), vars(pipeline).get("_progress_bar_config")
    scheduler = member(pipeline, "scheduler")
    held = vars(scheduler) if hasattr(scheduler, "__dict__") else {}
    before = dict(held)
    own["_progress_bar_config"] = {"disable": True}
    try:
        yield
    finally:
        own["_progress_bar_config"] = bars
        if bars is None:
            del own["_progress_bar_config"]
        held.clear()
        held.update(before)


def parameters_of(pipeline: Any) -> Mapping[str, inspect.Parameter]:
    """The named parameters of a pipeline's call."""
    found = inspect.signature(pipeline.__call__).parameters
    return {name: p for name, p in found.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}


def autoencoder_of(pipeline: Any) -> str | None:
    """The name of the part that makes images of latents; None where the pipeline works on images."""
    return next((part for part in AUTOENCODERS if member(pipeline, part) is not None), None)


def network_of(pipeline: Any) -> Any:
    """The part that denoises; None without one."""
    return next((found for part in NETWORK_PARTS if (found := member(pipeline, part)) is not None), None)


def denoising_pair(pipeline: Any) -> tuple[Any, Any]:
    """The network and scheduler of a pipeline that denoises images. Raises InputError for any other."""
    name, encoder, network = type(pipeline).__name__, autoencoder_of(pipeline), network_of(pipeline)
    if encoder is not None:
        raise InputError(
            f"the denoiser of {name} works on latents of its {encoder}, and the optimal denoiser on images: only its "
            "samples can be measured"
        )
    if network is None:
        raise InputError(f"{name} has neither a unet nor a transformer: give a denoiser")
    return network, member(pipeline, "scheduler")
