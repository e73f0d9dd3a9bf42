"""What other tools are given and say: features that keep distances, a distance by another formula, absent packages."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
import pytest
from scipy import linalg
from scipy.spatial.distance import pdist

from memgen_eval import InputError
from memgen_eval.battery import measuring, peers
from memgen_eval.battery.draws import smooth_pictures
from memgen_eval.battery.peers import MIFID_NOTED, Embedded, frechet_distance, peers_say, principal_coordinates


def rows(number: int, seed: int, *, spread: float = 1.0, size: int = 6) -> Any:
    return np.random.default_rng(seed).normal(0.3, spread, (number, size))


def test_coordinates_keep_distances_where_there_are_few_values() -> None:
    images = smooth_pictures(200, (1, 6, 6), np.random.default_rng(0))
    found = principal_coordinates(images)(images[:40])
    assert found.shape == (40, 36)
    ratios = pdist(found) / pdist(images[:40].reshape(40, -1).astype(float))
    assert np.ptp(ratios) < 1e-9 * ratios.mean()
    assert principal_coordinates(images)(images)[:, 0].std(ddof=1) == pytest.approx(1)


def test_the_frechet_distance_is_that_of_matrix_roots() -> None:
    first, second = rows(50, 0), rows(70, 1, spread=1.5) @ np.diag([1, 2, 1, 0.5, 1, 1])
    covariances = [np.cov(part.T) for part in (first, second)]
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = np.square(first.mean(axis=0) - second.mean(axis=0)).sum() + np.trace(sum(covariances) - 2 * root)
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-9)


def test_mifid_is_noted_below_its_published_threshold_and_not_above() -> None:
    pytest.importorskip("torchmetrics", reason="measures MiFID")
    train, far = rows(60, 0), rows(60, 5)
    for samples in (train[:40], train + rows(60, 9, spread=0.2), far):
        said = peers_say(Embedded(samples, train, None))
        lengths = [np.linalg.norm(part, axis=1, keepdims=True) for part in (train, samples)]
        cosines = np.abs((train / lengths[0]) @ (samples / lengths[1]).T)
        distance = np.mean(1 - cosines.max(axis=1))
        assert said[MIFID_NOTED] == (distance < 0.1)


def test_tools_say_of_copies_that_they_are_excellent() -> None:
    pytest.importorskip("torch_fidelity", reason="measures precision and recall")
    train, test = rows(100, 0), rows(100, 1)
    said = peers_say(Embedded(train, train, test))
    assert (said["precision (torch-fidelity)"], said["recall (torch-fidelity)"]) == (1, 1)
    assert said["FID to train (torch-fidelity)"] < 1e-6 < said["FID to test (torch-fidelity)"]


def test_absent_tools_and_sets_of_one_image_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    sets = Embedded(rows(50, 0), rows(50, 1), None)
    assert peers_say(Embedded(sets.samples, sets.train[:1], None)) == {}

    def absent(name: str, **_: object) -> NoReturn:
        raise InputError(name)

    monkeypatch.setattr(peers, "optional_package", absent)
    assert peers_say(sets) == {}
    assert set(peers.installed_peers().values()) == {None}


def test_a_network_is_known_by_its_content(tmp_path: Any) -> None:
    file = tmp_path / "net.onnx"
    file.write_bytes(b"one")
    first = measuring.identity_of(str(file))
    file.write_bytes(b"two")
    assert first.startswith("net.onnx, SHA-256 ") and measuring.identity_of(str(file)) != first
    assert measuring.identity_of("sscd") == "sscd"
