"""The training set and its held-out images, and what can be kept of them over many evaluations."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from memgen_eval.data.content import content_of
from memgen_eval.data.datasets import is_known, test_split
from memgen_eval.data.images import ImageSet
from memgen_eval.data.sources import load_images

Kept = TypeVar("Kept")


@dataclass(frozen=True, eq=False)
class Reference:
    """A training set and its test set, kept over many evaluations.

    Pass it as ``train=`` instead of the set itself: what rests on the training set alone (its reading, the baseline's
    neighbours, moments, cells) is then computed once. Everything is computed anew once the images have changed
    (`memgen_eval.data.content`), and features once the extractor has.

    Parameters
    ----------
    train : path, known name, array, Images, Dataset or iterable
        The training images, all of them.
    test : the same, or None
        Held-out images; a known name of `train` brings its own.
    data_dir : path, optional
        Where named sets lie.
    """

    train: object
    test: object | None = None
    data_dir: str | Path | None = None
    _kept: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False)

    def keep(self, key: Hashable, compute: Callable[[], Kept], *, bound_to: Hashable = None) -> Kept:
        """The value kept under `key`, computed the first time, and again where it was bound to something else."""
        if key not in self._kept or self._kept[key][0] != bound_to:
            self._kept[key] = bound_to, compute()
        value: Kept = self._kept[key][1]
        return value

    def renew(self) -> None:
        """Forget everything if the training or test images have changed since."""
        content = content_of(self.train), content_of(self.test)
        if self._kept.setdefault("content", (None, content))[1] != content:
            self._kept.clear()
        self._kept["content"] = None, content

    @property
    def num_kept(self) -> int:
        """How many things are kept by now."""
        return len(self._kept)

    def train_set(self, *, quantize: bool) -> ImageSet:
        """The training images in canonical form."""
        return self.keep(
            ("train", quantize),
            lambda: load_images(self.train, argument="train", quantize=quantize, data_dir=self.data_dir),
        )

    def test_set(self, *, quantize: bool) -> ImageSet | None:
        """The test images in canonical form, of the training images' shape; None without any."""
        source = self.test if self.test is not None else _own_test_split(self.train)
        if source is None:
            return None
        like = self.train_set(quantize=quantize).shape
        return self.keep(
            ("test", quantize),
            lambda: load_images(source, argument="test", like=like, quantize=quantize, data_dir=self.data_dir),
        )


def _own_test_split(train: object) -> str | None:
    return test_split(train) if isinstance(train, str) and is_known(train) else None
