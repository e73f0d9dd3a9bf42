"""Networks out of files: TorchScript by torch, ONNX by onnxruntime. No pickle is run, and what ran has its checksum."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from memgen_eval.compute.resources import num_threads
from memgen_eval.errors import InputError, optional_package, place, reading
from memgen_eval.features.preparation import Preparation
from memgen_eval.features.spaces import FeatureNet, checked_preparation, stored_preparation

NETWORK_BATCH = 32
ASK = "give --feature-size, --feature-mean and --feature-std, in Python FeatureNet(file, size=..., mean=..., std=...)"


@dataclass(frozen=True, eq=False)
class Extractor:
    """What makes features of images.

    Attributes
    ----------
    name : str
        How a report calls the space.
    compute : callable
        From uint8 images (B, C, H, W), a tensor on the CPU, to features (B, F).
    weights : str or None
        SHA-256 of the weights; None for a callable, which nothing identifies from one process to the next.
    preparation : str or None
        How images are prepared, in one line; None for a callable.
    runtime : str
        Package and version that runs the network, and the device.
    batch_size : int or None
        How many images it is given at a time, always; None: what the size of the images allows.
    copy_threshold : float or None
        The published cosine similarity from which a network's authors call two images copies.
    """

    name: str
    compute: Callable[[Any], Any]
    weights: str | None = None
    preparation: str | None = None
    runtime: str = ""
    batch_size: int | None = None
    copy_threshold: float | None = None

    @property
    def identity(self) -> str | None:
        """A checksum of all that determines the features of an image; None for a callable."""
        if self.weights is None:
            return None
        held = [self.name, self.weights, self.preparation, self.runtime, self.batch_size]
        return hashlib.sha256(json.dumps(held).encode()).hexdigest()


def open_file(net: FeatureNet, *, device: str) -> Extractor:
    """The network of a TorchScript or ONNX file. Raises InputError for one that cannot be used."""
    assert net.path is not None
    return (open_onnx if net.name == "ONNX" else open_torchscript)(net.path, net, device=device)


def open_torchscript(
    path: Path, net: FeatureNet, *, device: str, name: str = "TorchScript", known: Preparation | None = None
) -> Extractor:
    """The network of a TorchScript file; `known` says how images are prepared where nothing else does."""
    import torch

    content, where = _read(path), place("features", path)
    texts = {"size": "", "mean": "", "std": ""}
    remedy = "give a network saved by torch.jit.save, whole and no state dict"
    with reading(where, "no TorchScript network can be read from it", remedy), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torch prefers another format
        load: Any = torch.jit.load
        module = load(BytesIO(content), map_location=device, _extra_files=texts).eval()
        stored = {key: text.decode() if isinstance(text, bytes) else text for key, text in texts.items()}
    size, mean, std = _chosen(net, stored, where)
    said = None if mean is None or std is None or size is None else Preparation(size, mean, std, colour=len(mean) == 3)
    prepare = said or known
    if prepare is None:
        raise InputError(f"{where}: neither it nor you say size, mean and std; {ASK}")

    def compute(images: Any) -> Any:
        return module(prepare(images.to(device)))

    return Extractor(
        name, compute, _checksum(content), prepare.words, f"torch {torch.__version__} on {device}", NETWORK_BATCH
    )


def open_onnx(path: Path, net: FeatureNet, *, device: str, name: str = "ONNX", size: int | None = None) -> Extractor:
    """The network of an .onnx file, on the CPU; `size` is that of the images where nothing else says it."""
    del device  # onnxruntime's own package for GPUs would be another one
    runtime = optional_package("onnxruntime", extra="sscd" if name == "sscd" else "onnx")
    content, where = _read(path), place("features", path)
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = num_threads(), 3
    with reading(where, "no ONNX network can be read from it", "give one whole .onnx file with its weights inside"):
        session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        entries, outputs = [_Entry(e.name, e.type, list(e.shape)) for e in session.get_inputs()], session.get_outputs()
        stored = dict(session.get_modelmeta().custom_metadata_map)
    if len(entries) != 1 or len(outputs) != 1:
        held = f"{len(entries)} inputs and {len(outputs)} outputs"
        raise InputError(f"{where}: has {held}, expected one of each; export the features alone")
    prepare = _onnx_preparation(entries[0], _chosen(net, stored, where), size, where)
    batch_size = entries[0].shape[0] if isinstance(entries[0].shape[0], int) else NETWORK_BATCH

    def compute(images: Any) -> Any:
        return session.run(None, {entries[0].name: prepare(images).numpy()})[0]

    return Extractor(
        name, compute, _checksum(content), prepare.words, f"onnxruntime {runtime.__version__} on cpu", batch_size
    )


@dataclass(frozen=True)
class _Entry:
    """An input of an ONNX network."""

    name: str
    type: str
    shape: list[Any]


def _onnx_preparation(entry: _Entry, chosen: Any, known_size: int | None, where: str) -> Preparation:
    """How images become an ONNX network's input, whose shape says layout, channels and perhaps size."""
    size, mean, std = chosen
    if len(entry.shape) != 4 or entry.type not in ("tensor(uint8)", "tensor(float)"):
        raise InputError(
            f"{where}: takes {entry.type} of shape {entry.shape}, expected float or uint8 images of 4 axes"
        )
    channels_last = entry.shape[3] in (1, 3) and entry.shape[1] not in (1, 3)
    side = entry.shape[1 if channels_last else 2]
    size = size or (side if isinstance(side, int) else known_size)
    colour = entry.shape[3 if channels_last else 1] == 3 or (mean is not None and len(mean) == 3)
    if entry.type == "tensor(uint8)":
        if mean is not None:
            raise InputError(f"{where}: takes uint8 and normalises by itself; leave out mean and std")
    elif mean is None:
        raise InputError(f"{where}: neither it nor you say mean and std; {ASK}")
    if size is None:
        raise InputError(f"{where}: neither it nor you say the size of its images; {ASK}")
    return Preparation(size, mean, std, colour=colour, channels_last=channels_last)


def _chosen(net: FeatureNet, stored: dict[str, str], where: str) -> Any:
    """Size, mean and std: what was given, else what the file says."""
    size, mean, std = stored_preparation(stored, where=where)
    return checked_preparation(
        net.size if net.size is not None else size,
        net.mean if net.mean is not None else mean,
        net.std if net.std is not None else std,
        where=where,
    )


def _read(path: Path) -> bytes:
    with reading(place("features", path), "cannot be read", "give the network's file"):
        if path.exists() and path.stat().st_size == 0:  # one of the kernel's too, which may have no end
            raise InputError(f"{place('features', path)}: the file is empty; give the network's file")
        return path.read_bytes()


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
