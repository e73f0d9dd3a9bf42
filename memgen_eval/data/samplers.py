"""The door for samples: read where they are given; else a sampler is asked for exactly what is missing, and judged."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeGuard

from numpy.typing import NDArray

from memgen_eval.data.batches import batch_of
from memgen_eval.data.canonical import checked_range
from memgen_eval.data.images import Expected, Images, ImageSet, Shape
from memgen_eval.data.intake import take_stream
from memgen_eval.data.sources import load_images
from memgen_eval.distributed import ALONE, Ranks
from memgen_eval.errors import InputError, check_count, one_line
from memgen_eval.runtime import is_module, member, parameter_of, report_progress

NUM_SAMPLES = 10_000  # asked of a sampler unless another number is given
RANDOMNESS = ("seeds", "generator")  # the first of these that the signature names is given


@dataclass(frozen=True, eq=False)
class SampleSource:
    """A sampler, or images in any form, and what `evaluate` was told of them: see the keywords there."""

    source: object
    num_samples: int | None
    batch_size: int
    value_range: tuple[float, float] | None
    data_dir: str | Path | None
    device: str | None

    @property
    def drawn(self) -> bool:
        """Whether the samples are drawn by calling a sampler."""
        return is_sampler(self.source)

    def load(self, like: Shape, *, quantize: bool, seed: int, ranks: Ranks) -> ImageSet:
        """The samples, read or drawn, of the training images' shape. Raises InputError."""
        if not is_sampler(self.source):
            return load_images(
                self.source,
                argument="samples",
                value_range=self.value_range,
                like=like,
                quantize=quantize,
                data_dir=self.data_dir,
                num_images=self.num_samples,
            )
        return draw_samples(
            self.source,
            num_samples=self.num_samples or NUM_SAMPLES,
            batch_size=self.batch_size,
            seed=seed,
            value_range=self.value_range or _own_range(self.source),
            like=like,
            quantize=quantize,
            on_progress=report_progress,
            device=self.device,
            ranks=ranks,
        )


def is_sampler(source: object) -> TypeGuard[Callable[..., object]]:
    """Whether samples are to be drawn by calling it: a module, or callable and no collection of images."""
    kind = type(source)  # of which Python asks too: an instance may answer for any name
    is_collection = hasattr(kind, "__iter__") or hasattr(kind, "__getitem__")
    return is_module(source) or (callable(source) and not is_collection)  # an nn.Sequential iterates


def _own_range(sampler: object) -> tuple[float, float] | None:
    """[-1, 1] for samplers of this library, whose excursions are clipped; None for others."""
    own = sys.modules.get("memgen_eval.diffusion.sampling")  # imported by whoever made one
    return (-1.0, 1.0) if own is not None and isinstance(sampler, own.Sampler) else None


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
    device: Any = None,
    ranks: Ranks = ALONE,
) -> ImageSet:
    """Exactly `num_samples` images of a sampler, in canonical form.

    Called as ``sampler(n)`` with ``n = min(batch_size, missing)`` until all are there, never to try it out. Where its
    signature names a parameter ``seeds``, it gets a list of n integers, ``seed + i`` for image i, whatever the batch
    size (so choose seeds `num_samples` apart for independent repetitions); else, where it names ``generator``, one
    `torch.Generator` seeded with `seed`, on the sampler's device, serves all calls. Global states are left alone.

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
    device : torch.device or str, optional
        Of the generator; that of the parameters of the sampler's modules otherwise, or the CPU.
    ranks : Ranks
        They share the calls of a sampler that takes seeds; any other is called by rank 0 alone, whose images all get.

    Raises
    ------
    InputError
        If the sampler fails, returns another number of images, another shape than the training set's or its own
        first, NaN or infinity, or values outside the range: the message names sampler and call.
    """
    num_samples, batch_size = check_count("num_samples", num_samples), check_count("batch_size", batch_size)
    label = f"samples (sampler {_name(sampler)})"
    expected = Expected("samples", checked_range(value_range, argument="samples"), like, quantize)
    randomness = _randomness(sampler)
    generator = _generator(seed, sampler, device) if randomness == "generator" else None
    stream = _calls(sampler, num_samples, batch_size, seed, generator, expected, label, on_progress, ranks)
    notes = () if randomness else ("the sampler takes neither generator nor seeds: seed has no effect on its images",)
    given = Images(None, form=f"sampler {_name(sampler)}", notes=notes)
    return take_stream(stream, given, expected, label=label, unit="call")


def _calls(
    sampler: Callable[..., object],
    num_samples: int,
    batch_size: int,
    seed: int,
    generator: object,
    expected: Expected,
    label: str,
    on_progress: Callable[[int, int], None] | None,
    ranks: Ranks,
) -> Iterator[NDArray[Any]]:
    takes_seeds = _randomness(sampler) == "seeds"

    def call(first: int) -> NDArray[Any]:
        asked, here = min(batch_size, num_samples - first), f"{label}, call {first // batch_size + 1}"
        keywords: dict[str, object] = {}
        if takes_seeds:
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
    num_callers = ranks.size if takes_seeds else 1  # what goes on from its last call is called by one rank
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
    except Exception:  # noqa: BLE001 - built in, or an object that answers for any name
        return None
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    return next((name for name in RANDOMNESS if name in named), None)


def _generator(seed: int, sampler: object, device: Any) -> object:
    import torch

    parameter = parameter_of(sampler) if device is None else None
    where = device or ("cpu" if parameter is None else parameter.device)
    return torch.Generator(where).manual_seed(seed)


def _name(sampler: Callable[..., object]) -> str:
    return str(member(sampler, "__qualname__") or type(sampler).__qualname__)
