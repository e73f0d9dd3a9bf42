"""What neighbouring tools say of the same sets.

The weights of their networks are not needed: the features are principal coordinates of the pixels, fitted to the
training images.
"""

from __future__ import annotations

import importlib.metadata
import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.battery.alterations import Pixels
from memgen_eval.errors import InputError, optional_package

NUM_DIRECTIONS = 64
FITTED = 2000  # training images that the coordinates are fitted to
MOST_REFERENCES = 2000  # training images in tables of all pairs
PRDC_NEAREST = 5
MIFID_THRESHOLD = 0.1  # of the cosine distance, as published
SUBSETS = 4
MIFID, MIFID_NOTED = "MiFID (torchmetrics)", "MiFID: threshold of 0.1 passed (torchmetrics)"

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Embedded:
    """Features of the three sets, (n, F) each; test is None without a test set."""

    samples: Floats
    train: Floats
    test: Floats | None


@dataclass(frozen=True)
class Peer:
    """A tool: the distribution that brings it, the module that is imported, and what it makes of features."""

    distribution: str
    module: str
    measure: Callable[[Any, Embedded], Mapping[str, float]]


def principal_coordinates(train: Pixels) -> Callable[[Pixels], Floats]:
    """A map from images to their leading coordinates, which have a deviation of about 1."""
    from sklearn.decomposition import PCA

    rows = train[:FITTED].reshape(min(len(train), FITTED), -1).astype(np.float64)
    fitted = PCA(min(NUM_DIRECTIONS, *rows.shape), whiten=False, svd_solver="randomized", random_state=0).fit(rows)
    scale = max(float(np.sqrt(fitted.explained_variance_[0])), 1e-9)
    return lambda images: np.asarray(fitted.transform(images.reshape(len(images), -1).astype(np.float64)) / scale)


def _torch_fidelity(package: Any, sets: Embedded) -> Mapping[str, float]:
    import torch

    del package  # its functions for features lie in modules of it
    fid = optional_package("torch_fidelity.metric_fid", extra="peers")
    prc = optional_package("torch_fidelity.metric_prc", extra="peers")

    def distance(references: Floats) -> float:
        laws = (fid.fid_features_to_statistics(torch.from_numpy(rows)) for rows in (sets.samples, references))
        return float(fid.fid_statistics_to_metric(*laws, False)["frechet_inception_distance"])

    samples, train = (torch.from_numpy(rows[:MOST_REFERENCES]) for rows in (sets.samples, sets.train))
    keywords = {"prc_neighborhood": 3, "prc_batch_size": 10_000, "save_cpu_ram": False, "verbose": False}
    found = prc.prc_features_to_metric(samples, train, **keywords)
    values = {"FID to train (torch-fidelity)": distance(sets.train)}
    if sets.test is not None:
        values["FID to test (torch-fidelity)"] = distance(sets.test)
    return values | {f"{name} (torch-fidelity)": float(found[name]) for name in ("precision", "recall")}


def _prdc(package: Any, sets: Embedded) -> Mapping[str, float]:
    with redirect_stdout(io.StringIO()):  # it prints the sizes
        found = package.compute_prdc(sets.train[:MOST_REFERENCES], sets.samples, nearest_k=PRDC_NEAREST)
    return {f"{name} (prdc)": float(value) for name, value in found.items() if name in ("density", "coverage")}


def _clean_fid(package: Any, sets: Embedded) -> Mapping[str, float]:
    size = min(1000, len(sets.samples), len(sets.train))
    state = np.random.get_state()  # noqa: NPY002 - it draws its subsets from the global state
    np.random.seed(0)  # noqa: NPY002
    try:
        return {"KID to train (clean-fid)": float(package.kernel_distance(sets.samples, sets.train, SUBSETS, size))}
    finally:
        np.random.set_state(state)  # noqa: NPY002


def _torchmetrics(package: Any, sets: Embedded) -> Mapping[str, float]:
    import torch

    metric = package.MemorizationInformedFrechetInceptionDistance(torch.nn.Identity())
    for rows, real in ((sets.train, True), (sets.samples, False)):
        metric.update(torch.from_numpy(rows), real=real)
    value = float(metric.compute())
    plain = frechet_distance(sets.samples, sets.train)
    return {MIFID: value, MIFID_NOTED: float(abs(value) > plain / MIFID_THRESHOLD / 2)}  # else it is FID itself


PEERS = (
    Peer("torch-fidelity", "torch_fidelity", _torch_fidelity),
    Peer("prdc", "prdc", _prdc),
    Peer("clean-fid", "cleanfid.fid", _clean_fid),
    Peer("torchmetrics", "torchmetrics.image.mifid", _torchmetrics),
)


def installed_peers() -> dict[str, str | None]:
    """The version of each tool; None where it is not installed or cannot be imported."""
    return {peer.distribution: _version(peer) for peer in PEERS}


def _version(peer: Peer) -> str | None:
    try:
        optional_package(peer.module, extra="peers")
        return importlib.metadata.version(peer.distribution)
    except (InputError, importlib.metadata.PackageNotFoundError):
        return None


def peers_say(sets: Embedded) -> dict[str, float]:
    """The figures of all tools that are installed, by name; what a tool cannot compute is left out."""
    found: dict[str, float] = {}
    if min(len(sets.samples), len(sets.train)) <= PRDC_NEAREST:
        return found  # no covariance, no nearest others
    for peer in PEERS:
        found |= {name: value for name, value in _figures(peer, sets) if np.isfinite(value)}
    return found


def _figures(peer: Peer, sets: Embedded) -> Iterator[tuple[str, float]]:
    try:
        with warnings.catch_warnings(action="ignore"):
            yield from peer.measure(optional_package(peer.module, extra="peers"), sets).items()
    except (InputError, ValueError, ArithmeticError, RuntimeError, np.linalg.LinAlgError):
        return  # absent, or unable to treat sets such as a single image


def frechet_distance(first: Floats, second: Floats) -> float:
    """The squared Frechet distance of the Gaussians with the moments of two sets, (n, F) each."""
    covariances = [np.cov(rows, rowvar=False) for rows in (first, second)]
    roots = np.sqrt(np.maximum(np.linalg.eigvals(covariances[0] @ covariances[1]).real, 0))
    means = first.mean(axis=0) - second.mean(axis=0)
    return float(means @ means + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * roots.sum())
