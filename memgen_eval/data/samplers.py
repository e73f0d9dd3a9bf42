"""The door for images that are drawn: a sampler is asked for exactly what is missing, and what it returns is judged."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

from numpy.typing import NDArray

from memgen_eval.data.batches import batch_of
from memgen_eval.data.canonical import checked_range
from memgen_eval.data.images import Images, ImageSet, Shape
from memgen_eval.data.intake import Expected, take_stream
from memgen_eval.distributed import ALONE, Ranks
from memgen_eval.errors import InputError, one_line

RANDOMNESS = ("seeds", "generator")  # the first of these that the signature names is given


def draw_samples(
    sampler: Callable[..., object],
    *,
    num_samples: int,
    batch_size: int,
    seed: int,
    value_range: tuple[float, float] | None = None,
    like: Shape | None,
    quantize: bool = True,
    on_progress: Callable[[int, int], None] | None = None,
    ranks: Ranks = ALONE,
) -> ImageSet:
    """Exactly `num_samples` images of a sampler, in canonical form.

    Called as ``sampler(n)`` with ``n = min(batch_size, missing)`` until all are there, never to try it out. Where its
    signature names a parameter ``seeds``, it gets a list of n integers, ``seed + i`` for image i, whatever the batch
    size (so choose seeds `num_samples` apart for independent repetitions); else, where it names ``generator``, one CPU
    `torch.Generator` seeded with `seed` serves all calls. Global random states are not touched.

    Parameters
    ----------
    sampler : callable
        Returns n images: an array, a tensor, a list of Pillow images, a tuple, dict or object that holds one of these.
    num_samples, batch_size : int
        How many images, and how many at once.
    seed : int
        Of the generator, or of the first image.
    value_range : (float, float), optional
        The values of black and white in floats.
    like : (C, H, W), optional
        The shape that the images must have.
    quantize : bool
        False keeps floats, as float32 in [0, 255].
    on_progress : callable, optional
        Called with the number of images drawn and `num_samples` after each call.
    ranks : Ranks
        They share the calls of a sampler that takes seeds; any other is called by rank 0 alone, whose images all get.

    Raises
    ------
    InputError
        If the sampler fails, returns another number of images, another shape than the training set's or its own
        first, NaN or infinity, or values outside the range: the message names sampler and call.
    """
    for name, count in (("num_samples", num_samples), ("batch_size", batch_size)):
        if count < 1:
            raise InputError(f"{name}: {count}; expected at least 1")
    label = f"samples (sampler {_name(sampler)})"
    expected = Expected("samples", checked_range(value_range, argument="samples"), like, quantize)
    stream = _calls(sampler, num_samples, batch_size, seed, expected, label, on_progress, ranks)
    return take_stream(stream, Images(None, form=f"sampler {_name(sampler)}"), expected, label=label, unit="call")


def _calls(
    sampler: Callable[..., object],
    num_samples: int,
    batch_size: int,
    seed: int,
    expected: Expected,
    label: str,
    on_progress: Callable[[int, int], None] | None,
    ranks: Ranks,
) -> Iterator[NDArray[Any]]:
    randomness = _randomness(sampler)
    generator = _generator(seed) if randomness == "generator" else None

    def call(first: int) -> NDArray[Any]:
        asked, here = min(batch_size, num_samples - first), f"{label}, call {first // batch_size + 1}"
        keywords: dict[str, object] = {}
        if randomness == "seeds":
            keywords["seeds"] = [seed + i for i in range(first, first + asked)]
        elif generator is not None:
            keywords["generator"] = generator
        try:
            returned = sampler(asked, **keywords)
        except Exception as error:
            raise InputError(f"{here}, asked for {asked} images, failed: {one_line(error)}") from error
        images = batch_of(returned, like=expected.like, label=here)
        num_returned = len(images) if images.ndim else 0
        if num_returned != asked:
            raise InputError(f"{here}: returned {num_returned} images, asked for {asked}; expected exactly as many")
        return images

    starts = range(0, num_samples, batch_size)
    num_callers = ranks.size if randomness == "seeds" else 1  # what goes on from its last call is called by one rank
    drawn = 0
    for number in range(0, len(starts), num_callers):
        mine = starts[number : number + num_callers][ranks.rank : ranks.rank + 1]
        for images in chain.from_iterable(ranks.exchange("samples", [call(first) for first in mine])):
            drawn += len(images)
            yield images
            if on_progress is not None:
                on_progress(drawn, num_samples)


def _randomness(sampler: Callable[..., object]) -> str | None:
    """The parameter through which a sampler takes its randomness, by its signature alone."""
    try:
        parameters = inspect.signature(sampler).parameters.values()
    except (TypeError, ValueError):  # built in: it has no signature
        return None
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    return next((name for name in RANDOMNESS if name in named), None)


def _generator(seed: int) -> object:
    import torch

    return torch.Generator().manual_seed(seed)


def _name(sampler: Callable[..., object]) -> str:
    return getattr(sampler, "__qualname__", None) or type(sampler).__qualname__
