"""Networks of other libraries as denoisers: what they are called with, which images and which noise they know."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memgen_eval.adapters.labels import Labels, class_labels_for
from memgen_eval.adapters.schedulers import prediction_type, scheduled_denoiser
from memgen_eval.diffusion.denoiser import ConvertedDenoiser, LimitedDenoiser
from memgen_eval.errors import InputError
from memgen_eval.runtime import member

Sides = tuple[int, ...]  # (C, H, W)
Limited = ConvertedDenoiser | LimitedDenoiser
UNLIMITED = 0.0, float("inf")
GIVE_THEM = "wrap it in a function of x and t that gives them, and that in from_epsilon, from_v, from_x0 or from_flow"


@dataclass(frozen=True, eq=False)
class ConditionalNetwork:
    """A network that is called with the class of each image under a keyword.

    Attributes
    ----------
    network : from x (B, ...), its clock (B,) and the classes
    keyword : its parameter for them
    labels : what they are drawn from
    one_hot : how many values its vectors of zeros and a one have; None where it takes integers
    told : the classes in every batch, (B,); drawn by the places in it if None
    """

    network: Any
    keyword: str
    labels: Labels
    one_hot: int | None = None
    told: NDArray[np.int64] | None = None

    def __call__(self, x: Tensor, clock: Tensor, /) -> Any:
        """What the network returns."""
        classes = torch.from_numpy(self.labels.of_places(len(x)) if self.told is None else self.told)
        if self.one_hot is not None:
            classes = torch.nn.functional.one_hot(classes, self.one_hot).float()
        return self.network(x, clock, **{self.keyword: classes.to(x.device)})


@dataclass(frozen=True, eq=False)
class ForeignNetwork:
    """A network of another library, and how a denoiser is built of it.

    Attributes
    ----------
    called : the network, told its classes where it has any
    build : from such a callable to a denoiser
    shape : of its images, (C, H, W); None where it does not say
    name : for messages
    assumed : what was assumed of it, in words
    """

    called: Any
    build: Callable[[Any], Limited]
    shape: Sides | None
    name: str
    assumed: str

    @property
    def denoiser(self) -> Limited:
        """D(x, sigma); the classes of a conditional network are drawn by the places in a batch."""
        return self.build(self.called)

    @property
    def labels(self) -> Labels | None:
        """What classes are drawn from; None without classes."""
        return self.called.labels if isinstance(self.called, ConditionalNetwork) else None

    def told(self, classes: NDArray[np.int64]) -> Limited:
        """D(x, sigma) for batches of images of these classes, (B,)."""
        return self.build(replace(self.called, told=classes))

    @property
    def account(self) -> str:
        """What was assumed of the denoiser, in words."""
        low, high = self.denoiser.sigma_range or UNLIMITED
        known = f"at noise levels from {low:.4g} to {high:.4g}" if (low, high) != UNLIMITED else "at any noise level"
        parts = [f"{self.assumed} {known}", "no guidance"]
        if self.labels is not None:
            alone = len(self.labels.drawn_from) == 1
            parts.append(self.labels.account if alone else f"{self.labels.account}, whatever the image's own class")
        return ", ".join(parts)


def scheduled_network(network: Any, scheduler: Any, *, class_labels: Any, known: Any) -> ForeignNetwork:
    """A network of diffusers that was trained with a scheduler.

    `class_labels` are those given, `known` those of the training images: see `class_labels_for`. Raises InputError for
    a scheduler that is not supported, or a network that cannot be called with x, t and classes alone.
    """
    name, build = type(network).__name__, partial(scheduled_denoiser, scheduler=scheduler)
    build(network)
    if "encoder_hidden_states" in inspect.signature(network.forward).parameters:
        raise InputError(f"{name} needs encoder_hidden_states, such as embedded text: {GIVE_THEM}")
    assumed = f"{name} with {type(scheduler).__name__}, predicts {prediction_type(scheduler)}"
    called = _told_classes(network, "class_labels", num_classes(network), class_labels, known)
    return ForeignNetwork(called, build, image_shape(network), name, assumed)


def edm_network(network: Any, *, class_labels: Any, known: Any) -> ForeignNetwork:
    """A network of EDM or EDM2, ``net(x, sigma, class_labels=None)``, preconditioned inside; classes are vectors.

    It is given float32 and computes in float16 where it was made to, as with its own samplers.
    """
    name = type(network).__name__
    called = _told_classes(
        network, "class_labels", int(network.label_dim) or None, class_labels, known, as_vectors=True
    )
    shape = _shape(network.img_channels, network.img_resolution)
    return ForeignNetwork(called, _limited(network), shape, name, f"{name} of EDM, predicts the clean image")


def k_diffusion_network(network: Any, *, class_labels: Any, known: Any) -> ForeignNetwork:
    """A denoiser of k-diffusion, ``denoiser(x, sigma, **extra_args)``; classes are its `class_cond`."""
    name, count = type(network).__name__, member(network.inner_model, "num_classes")
    called = _told_classes(network, "class_cond", int(count) if count else None, class_labels, known)
    return ForeignNetwork(called, _limited(network), None, name, f"{name} of k-diffusion, predicts the clean image")


def num_classes(network: Any) -> int | None:
    """How many classes a network of diffusers asks for; 0 where it does not say, None where it asks for none."""
    config = member(network, "config")
    of_transformer = member(config, "num_embeds_ada_norm")
    if of_transformer is not None:
        return int(of_transformer)
    if member(network, "class_embedding") is None:
        return None
    kind = member(config, "class_embed_type")
    if kind not in (None, "timestep"):
        raise InputError(
            f"{type(network).__name__} with class_embed_type={kind!r} needs vectors for classes: {GIVE_THEM}"
        )
    return int(member(config, "num_class_embeds") or 0) if kind is None else 0


def image_shape(network: Any) -> Sides | None:
    """(C, H, W) of what a network of diffusers was made for; None where it does not say."""
    config = member(network, "config")
    return _shape(member(config, "in_channels"), member(config, "sample_size"))


def _shape(channels: Any, side: Any) -> Sides | None:
    if channels is None or side is None:
        return None
    sides = (side, side) if isinstance(side, Integral) else tuple(side)
    return (int(channels), *(int(length) for length in sides))


def _limited(network: Any) -> Callable[[Any], Limited]:
    """How a denoiser is built of a network that is one, within the noise levels that it names."""
    named = [member(network, name) for name in ("sigma_min", "sigma_max")]
    low, high = (limit if level is None else float(level) for level, limit in zip(named, UNLIMITED, strict=True))
    return partial(LimitedDenoiser, sigma_range=(low, high))


def _told_classes(
    network: Any, keyword: str, count: int | None, given: Any, known: Any, *, as_vectors: bool = False
) -> Any:
    """The network itself, or told its classes where it asks for them."""
    name = type(network).__name__
    if count is None:
        if given is not None:
            raise InputError(f"class_labels were given, and {name} has no classes: leave them out")
        return network
    labels = class_labels_for(given, num_classes=count or None, known=known, model=name)
    return ConditionalNetwork(network, keyword, labels, count if as_vectors else None)
