"""What may be chosen as a feature space: pixels, a network by name or file, any callable. Nothing is loaded here."""

from __future__ import annotations

import json
import numbers
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memgen_eval.errors import InputError, check_count, quoted

PIXELS = "pixels"
NETWORKS = ("inception", "sscd", "dinov2", "clip")
TAKES_WEIGHTS = ("inception", "sscd", "clip")
FORMS = {".pt": "TorchScript", ".pth": "TorchScript", ".ts": "TorchScript", ".onnx": "ONNX"}
SPACES = f"{PIXELS}, {', '.join(NETWORKS)}, a TorchScript (.pt) or .onnx file, or in Python a callable"
Channels = tuple[float, ...]


@dataclass(frozen=True)
class FeatureNet:
    """A network whose outputs are the features, and how images are prepared for it.

    Parameters
    ----------
    net : str or path
        "inception", "sscd", "dinov2" or "clip", or a TorchScript (.pt) or .onnx file.
    weights : path, optional
        For "inception" a state dict of torch-fidelity's network, for "sscd" and "clip" a published TorchScript file.
    size : int, optional
        Images are resized to size x size. For files only, like `mean` and `std`; by default the file's own metadata.
    mean, std : float or three floats, optional
        Values on [0, 1] are less `mean`, over `std`. With three the network takes colour: grey images are repeated.

    Raises
    ------
    InputError
        If a file does not exist, or a parameter is of no use for this network.
    """

    net: str | os.PathLike[str]
    weights: str | os.PathLike[str] | None = None
    size: int | None = None
    mean: float | Sequence[float] | None = None
    std: float | Sequence[float] | None = None

    def __post_init__(self) -> None:
        """Check and convert each."""
        if not self.is_file and self.net not in NETWORKS:
            raise InputError(f"features is {os.fspath(self.net)!r:.300}, expected {SPACES}")
        for path in (self.path, None if self.weights is None else Path(self.weights)):
            if path is not None and not path.is_file():
                raise InputError(f"features ({quoted(path)}): there is no such file; give the network's file")
        own = [name for name in ("size", "mean", "std") if getattr(self, name) is not None]
        if not self.is_file and own:
            raise InputError(f"features: {self.net} prepares images in its own way; leave out {' and '.join(own)}")
        if self.weights is not None and self.net not in TAKES_WEIGHTS:
            raise InputError(
                f"features: weights are given beside {quoted(self.net)}; only inception, sscd and clip take them"
            )
        size, mean, std = checked_preparation(self.size, self.mean, self.std, where="features")
        for name, value in (("size", size), ("mean", mean), ("std", std)):
            object.__setattr__(self, name, value)

    @property
    def is_file(self) -> bool:
        """Whether the network is a file, and none of the known ones."""
        return Path(self.net).suffix.lower() in FORMS

    @property
    def path(self) -> Path | None:
        """The file of the network itself."""
        return Path(self.net) if self.is_file else None

    @property
    def name(self) -> str:
        """How a report calls it: by its form, since a file's name does not determine figures; weights stand beside."""
        return FORMS[Path(self.net).suffix.lower()] if self.is_file else os.fspath(self.net)


Features = str | os.PathLike[str] | FeatureNet | Callable[..., Any]


def chosen_features(features: Features) -> str | FeatureNet | Callable[..., Any]:
    """The word "pixels", a network, or a callable. Raises InputError for all else."""
    if isinstance(features, str | os.PathLike):
        return PIXELS if features == PIXELS else FeatureNet(features)
    if isinstance(features, FeatureNet):
        return features
    if not callable(features):
        raise InputError(f"features is {features!r:.300}, expected {SPACES}")
    return features


def features_name(features: Features) -> str:
    """How the space is called in a report."""
    if isinstance(features, str | os.PathLike):
        return os.fspath(features)
    if isinstance(features, FeatureNet):
        return features.name
    return getattr(features, "__qualname__", type(features).__qualname__)


def checked_preparation(
    size: object, mean: object, std: object, *, where: str
) -> tuple[int | None, Channels | None, Channels | None]:
    """Size, mean and std as given, of the types that they are used in. Raises InputError naming what cannot be."""
    side = None if size is None else check_count(f"{where}: size", size)
    channels = [_channels(f"{where}: {name}", value) for name, value in (("mean", mean), ("std", std))]
    if (channels[0] is None) != (channels[1] is None):
        raise InputError(f"{where}: mean and std belong together; give both or neither")
    if channels[0] is not None and channels[1] is not None:
        if len(channels[0]) != len(channels[1]):
            raise InputError(f"{where}: mean has {len(channels[0])} values and std {len(channels[1])}; give as many")
        if min(channels[1]) <= 0:
            raise InputError(f"{where}: std is {channels[1]}, expected positive numbers")
    return side, channels[0], channels[1]


def _channels(name: str, value: object) -> Channels | None:
    if value is None:
        return None
    listed = list(value) if isinstance(value, Sequence) else []
    given: list[Any] = [value] if isinstance(value, numbers.Real) else listed
    real = all(isinstance(v, numbers.Real) and not isinstance(v, bool) for v in given)
    finite = real and all(abs(v) <= sys.float_info.max for v in given)
    if len(given) not in (1, 3) or not finite or isinstance(value, str):
        raise InputError(f"{name} is {value!r:.80}, expected a number, or three for colour, of values on [0, 1]")
    return tuple(float(v) for v in given)


def stored_preparation(texts: dict[str, str], *, where: str) -> tuple[int | None, Channels | None, Channels | None]:
    """Size, mean and std out of a file's metadata, JSON texts under these names. Raises InputError for other texts."""
    found = {}
    for name in ("size", "mean", "std"):
        try:
            found[name] = json.loads(texts[name]) if texts.get(name) else None
        except (ValueError, RecursionError):
            raise InputError(
                f"{where}: its metadata say {name} = {texts[name]!r:.80}, expected JSON such as 224"
            ) from None
    return checked_preparation(found["size"], found["mean"], found["std"], where=f"{where}, in its metadata")
