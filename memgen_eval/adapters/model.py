"""Which models of other libraries are recognised, and what they become: a sampler and a denoiser."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from memgen_eval.adapters.labels import class_labels_for, labels_of
from memgen_eval.errors import InputError, check_count, shape_text
from memgen_eval.runtime import check_denoiser, is_module, member

if TYPE_CHECKING:  # these import torch
    from memgen_eval.adapters.networks import ForeignNetwork, Sides
    from memgen_eval.adapters.pipelines import PipelineSampler

Kind = Literal["pipeline", "scheduled", "edm", "k-diffusion"]
OF_EDM = ("img_resolution", "img_channels", "label_dim")
NO_DENOISER = "needs a denoiser: pass denoiser="
RECOGNISED = (
    "a diffusers pipeline, a tuple (network, scheduler) of diffusers, an EDM or EDM2 network, or a denoiser of "
    "k-diffusion"
)


def recognised(model: Any) -> Kind | None:
    """What a model is, by the names of its classes and attributes; its library is not imported to find out."""
    if isinstance(model, tuple):
        return "scheduled" if len(model) == 2 and is_module(model[0]) else None
    if _is_of("diffusers", "DiffusionPipeline", model):
        return "pipeline"
    if not is_module(model):
        return None
    if member(model, "inner_model") is not None and _is_of("k_diffusion", None, model):
        return "k-diffusion"
    named = all(member(model, name) is not None for name in OF_EDM)
    return "edm" if named and "sigma" in inspect.signature(model.forward).parameters else None


def _is_of(package: str, name: str | None, thing: object) -> bool:
    """Whether a class of the package, of this name if one is given, is among those that a thing descends from."""
    bases = ((base.__module__.partition(".")[0], base.__name__) for base in type(thing).__mro__)
    return any(home == package and name in (None, own) for home, own in bases)


@dataclass(frozen=True, eq=False)
class Model:
    """A model of another library, with what it does not say itself: `evaluate` takes it for samples or for a denoiser.

    Where there is nothing to say, give `evaluate` the model as it is.

    Parameters
    ----------
    model : DiffusionPipeline, (network, scheduler), EDM or EDM2 network, denoiser of k-diffusion
        As its library makes it. No file is opened.
    class_labels : int or sequence of int, optional
        For a class-conditional model: one class for all images, or labels from which that of each image is drawn. By
        default those that the training set lists as `targets`; without such, all classes are equally likely.
    num_steps : int, optional
        Of the sampler: `num_inference_steps` of a pipeline (by default its own number); Heun steps otherwise (18).

    Raises
    ------
    InputError
        For any other model.
    """

    model: Any
    class_labels: Any = None
    num_steps: int | None = None

    def __post_init__(self) -> None:
        """Check what can be checked without a training set."""
        if self.num_steps is not None:
            object.__setattr__(self, "num_steps", check_count("num_steps", self.num_steps))
        if recognised(self.model) is None:
            raise InputError(f"a {type(self.model).__name__} is not a model that is recognised; expected {RECOGNISED}")

    @property
    def denoiser(self) -> Any:
        """Its denoiser ``D(x, sigma)``. Raises InputError if it has none for images."""
        return self.network(None, None).denoiser

    def network(self, like: Sides | None, train: Any) -> ForeignNetwork:
        """Its network, for training images of the shape `like`. Raises InputError if no denoiser can be made of it."""
        from memgen_eval.adapters import networks, pipelines

        kind, known = recognised(self.model), labels_of(train)
        if kind in ("pipeline", "scheduled"):
            pair = self.model if kind == "scheduled" else pipelines.denoising_pair(self.model)
            found = networks.scheduled_network(*pair, class_labels=self.class_labels, known=known)
        elif kind == "edm":
            found = networks.edm_network(self.model, class_labels=self.class_labels, known=known)
        else:
            found = networks.k_diffusion_network(self.model, class_labels=self.class_labels, known=known)
        _check_shape(found.shape, like, found.name)
        return found

    def pipeline(self, like: Sides | None, train: Any) -> PipelineSampler:
        """Its pipeline as a sampler. Raises InputError if it cannot be called for a number of images alone."""
        from memgen_eval.adapters import networks, pipelines

        name, network = type(self.model).__name__, pipelines.network_of(self.model)
        parameter, labels = pipelines.parameters_of(self.model).get("class_labels"), None
        count = None if parameter is None else networks.num_classes(network)
        needs_labels = parameter is not None and parameter.default is parameter.empty
        if needs_labels or count is not None:
            labels = class_labels_for(self.class_labels, num_classes=count or None, known=labels_of(train), model=name)
        elif self.class_labels is not None:
            raise InputError(f"class_labels were given, and {name} takes none: leave them out")
        sampler = pipelines.PipelineSampler(self.model, labels, self.num_steps)
        if pipelines.autoencoder_of(self.model) is None:
            _check_shape(networks.image_shape(network), like, name)
        return sampler


def _check_shape(own: Sides | None, like: Sides | None, name: str) -> None:
    if own is not None and like is not None and own != tuple(like):
        raise InputError(
            f"{name} makes images of {shape_text(own)}, train holds {shape_text(like)}: give the training images in "
            "the size and with the channels that it was trained on"
        )


@dataclass(frozen=True, eq=False)
class Met:
    """What is measured: samples or a sampler, and a denoiser or why there is none.

    `account` says what was assumed of a denoiser of another library.
    """

    samples: Any
    denoiser: Any
    no_denoiser: str = NO_DENOISER
    account: str | None = None


@dataclass(frozen=True, eq=False)
class Guests:
    """The samples and the denoiser that `evaluate` was given; recognised models as `Model`."""

    samples: Any
    denoiser: Any

    @classmethod
    def of(cls, samples: Any, denoiser: Any) -> Guests:
        """Recognise models. Raises InputError for what cannot be used, as far as that shows without a training set."""
        guests = cls(_received("samples", samples), _received("denoiser", denoiser))
        if not isinstance(guests.denoiser, Model):
            check_denoiser(guests.denoiser)
        guests.met(None, None)
        return guests

    def met(self, like: Sides | None, train: Any) -> Met:
        """What becomes of them for training images of this shape, given as `train`. Raises InputError."""
        found = Met(self.samples, self.denoiser)
        if isinstance(self.samples, Model):
            with _named("samples"):
                found = _sampled(self.samples, like, train)
        if isinstance(self.denoiser, Model):
            with _named("denoiser"):
                network = self.denoiser.network(like, train)
            return replace(found, denoiser=network.denoiser, account=network.account)
        return found if self.denoiser is None else replace(found, denoiser=self.denoiser, account=None)


def _sampled(model: Model, like: Sides | None, train: Any) -> Met:
    """The sampler and the denoiser of a model."""
    from memgen_eval.adapters.following import followed

    if recognised(model.model) != "pipeline":
        network = model.network(like, train)
        return Met(followed(network, like, model.num_steps), network.denoiser, account=network.account)
    sampler = model.pipeline(like, train)
    try:
        network = model.network(like, train)
    except InputError as error:  # its samples can be measured all the same
        return Met(sampler, None, no_denoiser=str(error))
    return Met(sampler, network.denoiser, account=network.account)


def _received(argument: str, given: Any) -> Any:
    """A recognised model as `Model`; anything else as it is, unless it is a network without its schedule."""
    if recognised(given) is not None:
        return Model(given)
    if _is_of("diffusers", "ModelMixin", given):
        raise InputError(
            f"{argument}: a {type(given).__name__} does not know the noise that it was trained on: give "
            "(network, scheduler)"
        )
    return given


@contextmanager
def _named(argument: str) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"{argument}: {error}") from error
