"""The door for samples: read where they are given; else a sampler is asked for exactly what is missing, and judged."""

from __future__ import annotations

import inspect
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeGuard

from numpy.typing import NDArray

from memgen_eval.compute.kept import NOWHERE, Kept, checksum_of, from_json_array, json_array
from memgen_eval.compute.random_states import RandomStates
from memgen_eval.data.batches import batch_of
from memgen_eval.data.canonical import checked_range
from memgen_eval.data.images import Expected, Images, ImageSet, Shape
from memgen_eval.data.intake import take_stream
from memgen_eval.data.sources import load_images
from memgen_eval.distributed import Ranks
from memgen_eval.errors import InputError, one_line
from memgen_eval.runtime import (
    fingerprint,
    is_module,
    member,
    parameter_of,
    random_states,
    report_progress,
    weights_checksum,
)

NUM_SAMPLES = 10_000  # asked of a sampler unless another number is given
RANDOMNESS = ("seeds", "generator")  # the first of these that the signature names is given
UNSEEDED = "the sampler takes neither generator nor seeds: seed has no effect on its images"
CALLS = "samples"  # what calls are kept as
OTHER_SAMPLER = "resume holds samples, but none of sampler {} with these weights and settings: all are drawn anew"
UNSEEN_WEIGHTS = (
    "samples of sampler {} are taken from the folder of resume, and no weights of it can be seen: if its model has "
    "changed, give another folder"
)
BEGUN_AGAIN = (
    "samples (sampler {}): the first call that is not in the folder of resume returned the images of one that is, so "
    "it has begun again; let it take seeds or generator, or give an empty folder"
)


@dataclass(frozen=True, eq=False)
class SampleSource:
    """Images in any form, or a sampler that is asked for them, and what `evaluate` was told of both.

    A sampler is called as ``sampler(n)`` with ``n = min(batch_size, missing)`` until all are there, never to try it
    out. Where its signature names a parameter ``seeds``, it gets a list of n integers, ``seed + i`` for image i,
    whatever the batch size (so choose seeds `num_samples` apart for independent repetitions); else, where it names
    ``generator``, one `torch.Generator` seeded with `seed` serves all calls. Global states are left alone.

    Parameters
    ----------
    source : callable, or whatever `load_images` takes
        A sampler returns n images: an array, a tensor, a list of Pillow images, or a tuple, dict or object that holds
        one of these.
    num_samples, batch_size, value_range, data_dir
        As in `evaluate`; the samplers of this library need no range, what they give lies in [-1, 1].
    device : str or None
        Of the generator; that of the parameters of the sampler's modules otherwise, or the CPU.
    """

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

    def load(self, like: Shape | None, *, quantize: bool, seed: int, ranks: Ranks, kept: Kept = NOWHERE) -> ImageSet:
        """The samples, read or drawn, in canonical form and of the training images' shape.

        Ranks share the calls of a sampler that takes seeds; any other is called by rank 0 alone, whose images all get.
        What calls return is kept, and calls that were kept are not made again.

        Raises
        ------
        InputError
            For images that cannot be used. If the sampler fails, returns another number of images, another shape than
            the training set's or its own first, NaN or infinity, or values outside the range: the message names
            sampler and call.
        """
        if is_sampler(self.source):
            value_range = checked_range(self.value_range or _own(self.source, "value_range"), argument="samples")
            return self._draw(self.source, Expected("samples", value_range, like, quantize), seed, ranks, kept)
        return load_images(
            self.source,
            argument="samples",
            value_range=self.value_range,
            like=like,
            quantize=quantize,
            data_dir=self.data_dir,
            num_images=self.num_samples,
        )

    def _draw(
        self, sampler: Callable[..., object], expected: Expected, seed: int, ranks: Ranks, kept: Kept
    ) -> ImageSet:
        label = f"samples (sampler {_name(sampler)})"
        asked = range(self.num_samples or NUM_SAMPLES)
        randomness = _randomness(sampler)
        generator = _generator(seed, sampler, self.device) if randomness == "generator" else None

        def call(first: int) -> NDArray[Any]:
            images = asked[first : first + self.batch_size]
            keywords = {"seeds": [seed + i for i in images], "generator": generator}
            here = f"{label}, call {first // self.batch_size + 1}"
            try:
                returned = sampler(len(images), **({randomness: keywords[randomness]} if randomness else {}))
            except Exception as error:
                raise InputError(f"{here}, asked for {len(images)} images, failed: {one_line(error)}") from error
            batch = batch_of(returned, like=expected.like, label=here)
            found = len(batch) if batch.ndim else 0
            if found != len(images):
                problem = f"returned {found} images, asked for {len(images)}"
                raise InputError(f"{here}: {problem}; expected exactly as many")
            return batch

        calls = KeptCalls(kept.under(seed if randomness else None, self.batch_size), sampler, generator, randomness)
        notes = (*(() if randomness else (UNSEEDED,)), *(_own(sampler, "notes") or ()))
        given = Images(None, form=f"sampler {_name(sampler)}", notes=notes)
        starts = range(0, len(asked), self.batch_size)
        stream = _in_turn(call, starts, ranks, calls, shared=randomness == "seeds")
        return take_stream(stream, given, expected, label=label, unit="call")


class KeptCalls:
    """What the calls of a sampler returned, kept on disk with the states of the generators that it draws from.

    A call that was kept is not made again; the generators are then set to where they were after it, so that the next
    call goes on from there.
    """

    def __init__(self, kept: Kept, sampler: Callable[..., object], generator: object, randomness: str | None) -> None:
        """Before the first call. Warns where the folder holds the calls of another sampler alone."""
        self._sampler, self._generator, self._randomness = sampler, generator, randomness
        self._kept = kept.under(randomness, fingerprint(sampler)) if kept.active else kept
        self._new: tuple[int, NDArray[Any]] | None = None
        self._known: Counter[str] = Counter()  # checksums of the batches that were kept

    def images(self, call: Callable[[int], NDArray[Any]], first: int, num_images: int) -> NDArray[Any]:
        """What the call for the images from `first` on returned before, or returns now."""
        found = self._kept.read(CALLS, first, num_images)
        if found is not None and found[0] is not None and found[1] is not None:
            if not self._known:
                self._say_what_is_unseen()
            self._known[checksum_of(found[0])] += 1
            self._states().restore(from_json_array(found[1]))
            return found[0]
        if first == 0 and self._kept.holds_others_alone(CALLS):
            warnings.warn(OTHER_SAMPLER.format(_name(self._sampler)), stacklevel=2)
        batch = call(first)
        if self._kept.active:
            self._check_new(batch)
            self._new = first, batch
        return batch

    def finish(self) -> None:
        """Keep what the last call returned, once it was found to be of use."""
        if self._new is not None:
            first, batch = self._new
            self._kept.write((batch, json_array(self._states().kept())), CALLS, first, len(batch))
            self._new = None

    def _states(self) -> RandomStates:
        return random_states(self._sampler, self._generator)

    def _check_new(self, batch: NDArray[Any]) -> None:
        """Raise InputError where a sampler without seeds has begun again at its first image, after calls kept."""
        known, self._known = self._known, Counter()
        if self._randomness is None and max(known.values(), default=2) == 1 and known[checksum_of(batch)]:
            raise InputError(BEGUN_AGAIN.format(_name(self._sampler)))

    def _say_what_is_unseen(self) -> None:
        if not weights_checksum(self._sampler):
            warnings.warn(UNSEEN_WEIGHTS.format(_name(self._sampler)), stacklevel=2)


def _in_turn(
    call: Callable[[int], NDArray[Any]], starts: range, ranks: Ranks, calls: KeptCalls, *, shared: bool
) -> Iterator[NDArray[Any]]:
    """Yield the images of every call, each made by one rank: by rank 0 alone unless the calls are shared."""
    num_callers = ranks.size if shared else 1  # what goes on from its last call is called by one rank
    drawn = 0

    def made(first: int) -> NDArray[Any]:
        return calls.images(call, first, min(starts.step, starts.stop - first))

    for number in range(0, len(starts), num_callers):
        mine = starts[number : number + num_callers][ranks.rank : ranks.rank + 1]
        for images in chain.from_iterable(ranks.exchange("samples", [made(first) for first in mine])):
            drawn += len(images)
            yield images
            report_progress(drawn, starts.stop)
        calls.finish()


def is_sampler(source: object) -> TypeGuard[Callable[..., object]]:
    """Whether samples are to be drawn by calling it: a module, or callable and no collection of images."""
    kind = type(source)  # of which Python asks too: an instance may answer for any name
    is_collection = hasattr(kind, "__iter__") or hasattr(kind, "__getitem__")
    return is_module(source) or (callable(source) and not is_collection)  # an nn.Sequential iterates


def _own(sampler: object, name: str) -> Any:
    """What a sampler of this library says of itself, such as its value range; None for those of others."""
    return getattr(sampler, name, None) if type(sampler).__module__.startswith("memgen_eval.") else None


def _randomness(sampler: Callable[..., object]) -> str | None:
    """The parameter through which a sampler takes its randomness, by its signature alone."""
    try:
        parameters = inspect.signature(sampler).parameters.values()
    except Exception:  # noqa: BLE001 - built in, or an object that answers for any name
        return None
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    return next((name for name in RANDOMNESS if name in named), None)


def _generator(seed: int, sampler: object, device: str | None) -> object:
    import torch

    parameter = parameter_of(sampler) if device is None else None
    where = device or ("cpu" if parameter is None else parameter.device)
    return torch.Generator(where).manual_seed(seed)


def _name(sampler: Callable[..., object]) -> str:
    return str(_own(sampler, "name") or member(sampler, "__qualname__") or type(sampler).__qualname__)
