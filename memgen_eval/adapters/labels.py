"""Class labels for models that ask for one with every image."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.errors import InputError
from memgen_eval.runtime import member

LABEL_KEY = zlib.crc32(b"class labels")  # beside a seed: labels are no function of the noise


@dataclass(frozen=True, eq=False)
class Labels:
    """What the class of each image is drawn from, with replacement: classes (K,), and how that was decided."""

    drawn_from: NDArray[np.int64]
    account: str

    def of_seeds(self, seeds: Sequence[int]) -> NDArray[np.int64]:
        """A label for each seed, (N,), which depends on that seed alone."""
        places = [np.random.default_rng((int(seed), LABEL_KEY)).integers(len(self.drawn_from)) for seed in seeds]
        return self.drawn_from[places]

    def of_places(self, num_images: int) -> NDArray[np.int64]:
        """Labels for the images of a batch whose seeds nobody knows, (B,): the same in every batch."""
        return self.of_seeds(range(num_images))


def class_labels_for(given: Any, *, num_classes: int | None, known: Any, model: str) -> Labels:
    """The labels that a class-conditional model is told.

    Parameters
    ----------
    given : int, sequence of int, or None
        One class for all images, or labels to draw from, such as those of the training set.
    num_classes : int, optional
        How many classes the model knows.
    known : sequence of int, optional
        The labels of the training images, drawn from where none are given; without them all classes are equally likely.
    model : str
        The model's name in messages.

    Raises
    ------
    InputError
        For labels that are no integers or that the model does not know, or if nothing says which there are.
    """
    if given is not None:
        labels = checked_labels(given, num_classes, argument="class_labels", model=model)
        alone = labels.size == 1
        told = f"class {labels[0]} alone" if alone else f"classes drawn from the {labels.size:,} labels given"
        return Labels(labels, told)
    if known is not None:
        labels = checked_labels(known, num_classes, argument="the training set's labels", model=model)
        return Labels(labels, "classes drawn with the frequencies of the training set")
    if num_classes is None:
        raise InputError(
            f"{model} is class-conditional and does not say how many classes there are: give them as "
            "Model(..., class_labels=), one label for all images or many to draw from"
        )
    return Labels(np.arange(num_classes), f"classes drawn uniformly from 0 to {num_classes - 1}")


def checked_labels(given: Any, num_classes: int | None, *, argument: str, model: str) -> NDArray[np.int64]:
    """Labels as int64 (K,). Raises InputError for anything but integers that the model knows."""
    host = member(given, "cpu")
    labels = np.atleast_1d(np.asarray(host() if callable(host) else given))
    if labels.ndim != 1 or labels.size == 0 or labels.dtype.kind not in "iu":
        raise InputError(f"{argument}: {labels.dtype} of shape {labels.shape}; expected an integer or a list of them")
    most = np.iinfo(np.int64).max if num_classes is None else num_classes - 1
    outside = labels[(labels < 0) | (labels > most)]
    if outside.size:
        raise InputError(f"{argument}: label {outside[0]} is out of range; {model} knows classes 0 to {most}")
    return labels.astype(np.int64)


def labels_of(train: Any) -> Any:
    """The labels of a Dataset that lists them as `targets`, as those of torchvision do, or of a Subset of one."""
    targets, indices = member(train, "targets"), member(train, "indices")
    if targets is not None:
        return targets
    inside = member(member(train, "dataset"), "targets")
    if inside is None or indices is None:
        return None
    return np.asarray(inside)[np.asarray(indices)]
