"""FID and KID: torch-fidelity, torchmetrics, clean-fid, closed forms, and what is said where there are none."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import oracles
from memgen_eval.fidelity import feature_distances
from memgen_eval.fidelity.feature_distances import NUM_SUBSETS, Moved, Subsets, frechet, kernel_subsets, torch_fidelity

torch = pytest.importorskip("torch")
PACKAGE = torch_fidelity()
pytestmark = pytest.mark.skipif(PACKAGE is None, reason="torch-fidelity cannot be imported here")
Floats = NDArray[np.float64]
WIDTH = 12


def features(seed: int, count: int, *, shift: float = 0.0, stretch: float = 1.0) -> NDArray[np.float32]:
    mixing = np.random.default_rng(99).normal(size=(WIDTH, WIDTH)) / 4
    rows = np.random.default_rng(seed).normal(size=(count, WIDTH)) @ mixing
    return (stretch * rows + shift).astype(np.float32)


FIRST, SECOND = features(0, 500), features(1, 500, shift=0.2, stretch=1.2)


def fid(first: Any, second: Any) -> Moved:
    return frechet(first, second, package=PACKAGE)


def kid(first: Any, second: Any, seed: int = 0) -> Subsets:
    return kernel_subsets(first, second, package=PACKAGE, seed=seed)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # clean-fid calls scipy as it was
def test_fid_agrees_with_its_peers() -> None:
    found = fid(FIRST, SECOND).figure.value
    statistics = [PACKAGE.metric_fid.fid_features_to_statistics(torch.from_numpy(rows)) for rows in (FIRST, SECOND)]
    theirs = PACKAGE.metric_fid.fid_statistics_to_metric(*statistics, False)["frechet_inception_distance"]
    assert found == pytest.approx(theirs, rel=1e-4)
    clean = pytest.importorskip("cleanfid.fid", reason="clean-fid is the peer")
    assert found == pytest.approx(clean.fid_from_feats(FIRST, SECOND), rel=1e-4)
    image_fid = pytest.importorskip("torchmetrics.image.fid", reason="torchmetrics is the peer")
    moments = [(torch.from_numpy(r.astype(np.float64)).mean(0), torch.from_numpy(np.cov(r.T))) for r in (FIRST, SECOND)]
    theirs = image_fid._compute_fid(*moments[0], *moments[1])
    assert found == pytest.approx(float(theirs), rel=1e-4)


def test_fid_is_the_square_of_the_gaussian_distance() -> None:
    slow = oracles.gaussian_wasserstein(FIRST, SECOND)  # with 1/n moments
    assert fid(FIRST, SECOND).figure.value == pytest.approx(slow**2, rel=0.02)


def test_fid_of_a_shift_is_its_squared_length() -> None:
    shift = np.linspace(-0.5, 0.5, WIDTH, dtype=np.float32)
    assert fid(FIRST, FIRST + shift).figure.value == pytest.approx(float(shift @ shift), rel=1e-4)
    assert fid(FIRST, FIRST).figure.value == pytest.approx(0, abs=1e-9)


def test_fid_of_shifted_gaussians_and_its_extrapolation() -> None:
    """|shift|^2 in the limit; finite sets give more, and the extrapolated figure is nearer."""
    shift, values, extrapolated = 0.25, [], []
    for seed in range(12):
        found = fid(features(2 * seed, 150), features(2 * seed + 1, 150, shift=shift))
        values.append(found.figure.value)
        assert found.extrapolated is not None
        extrapolated.append(found.extrapolated)
    truth = WIDTH * shift**2
    error = np.std(extrapolated, ddof=1) / np.sqrt(12)
    assert np.mean(values) - truth > 5 * abs(np.mean(extrapolated) - truth)
    assert abs(np.mean(extrapolated) - truth) < 4 * error


def test_the_weight_of_each_image_in_fid_is_its_derivative() -> None:
    figure = fid(FIRST, SECOND).figure
    assert figure.without_sample is not None and figure.without_reference is not None
    for i in (0, 17):
        without = fid(np.delete(FIRST, i, axis=0), SECOND).figure.value
        assert figure.without_sample[i] - figure.value == pytest.approx(without - figure.value, rel=0.1, abs=2e-5)
        without = fid(FIRST, np.delete(SECOND, i, axis=0)).figure.value
        assert figure.without_reference[i] - figure.value == pytest.approx(without - figure.value, rel=0.1, abs=2e-5)


def test_fewer_images_than_features_have_no_interval() -> None:
    found = fid(FIRST[:10], SECOND[:10])
    assert found.figure.without_sample is None and "lower rank" in found.figure.reason
    assert found.extrapolated is None and found.figure.value > 0


def drawn(seed: int, size: int) -> list[tuple[Any, Any]]:
    """The subsets of both sets, in the order of their seeds."""
    found = []
    for one in np.random.SeedSequence(seed).generate_state(NUM_SUBSETS):
        rng = np.random.default_rng(int(one))
        found.append(tuple(rng.choice(500, size, replace=False) for _ in range(2)))
    return found


def test_kid_agrees_with_its_peers_on_the_same_subsets() -> None:
    found = kid(FIRST, SECOND, seed=4)
    assert (found.size, len(found.values)) == (250, NUM_SUBSETS)
    subsets = [(FIRST[i].astype(np.float64), SECOND[j].astype(np.float64)) for i, j in drawn(4, 250)]
    clean = pytest.importorskip("cleanfid.fid", reason="clean-fid is the peer")
    theirs = [clean.kernel_distance(x, y, num_subsets=1, max_subset_size=250) for x, y in subsets[:20]]
    assert found.values[:20] == pytest.approx(theirs, abs=1e-6)
    image_kid = pytest.importorskip("torchmetrics.image.kid", reason="torchmetrics is the peer")
    theirs = [float(image_kid.poly_mmd(torch.from_numpy(x), torch.from_numpy(y))) for x, y in subsets[:20]]
    assert found.values[:20] == pytest.approx(theirs, abs=1e-6)
    few = subsets[0][0][:30], subsets[0][1][:30]
    own = PACKAGE.metric_kid.kernel_mmd(
        *few, kid_kernel="poly", kid_kernel_poly_degree=3, kid_kernel_poly_gamma=None, kid_kernel_poly_coef0=1
    )
    assert oracles.kernel_distance(*few) == pytest.approx(own, abs=1e-9)


def kernel_distance_of_gaussians(width: int, squared_length: float) -> float:
    """The squared MMD of N(0, I) and N(d, I) with the kernel (x.y / F + 1)^3, from the moments of x.y."""
    f, d = width, squared_length
    own = 1 + 3 / f
    shifted = 1 + 3 * d / f + 3 * (d**2 + 2 * d + f) / f**2 + (d**3 + 6 * d**2 + 3 * d * f + 6 * d) / f**3
    return own + shifted - 2 * (1 + 3 * (d + f) / f**2)


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_kid_of_shifted_gaussians(shift: float) -> None:
    truth, values = kernel_distance_of_gaussians(6, 6 * shift**2), []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        values.append(
            kid(rng.normal(size=(300, 6)), rng.normal(size=(300, 6)) + shift).estimate(count=300, notes=()).value
        )
    error = np.std(values, ddof=1) / np.sqrt(10)
    assert abs(np.mean(values) - truth) < 4 * error
    assert shift == 0 or np.mean(values) > 10 * error


@pytest.mark.parametrize("factor", [1e30, 1e38])
def test_features_whose_powers_overflow_have_no_kid_but_a_fid(factor: float) -> None:
    scaled = [(rows / 10).astype(np.float64) * factor for rows in (FIRST, SECOND)]
    figure = kid(*scaled).estimate(count=500, notes=())
    assert figure.value is None and "overflow" in figure.notes[0]
    assert fid(*scaled).figure.value == pytest.approx(fid(FIRST, SECOND).figure.value * (factor / 10) ** 2, rel=1e-6)


def test_the_same_samples_are_drawn_against_every_reference() -> None:
    """So that a gap is of the same samples."""
    constant = np.zeros_like(SECOND)
    first, second = kid(FIRST, constant), kid(FIRST, constant)
    assert np.array_equal(first.values, second.values)
    gap = first.less(second).estimate(count=500, notes=())
    assert (gap.value, gap.low, gap.method) == (0.0, None, "no interval")


@pytest.mark.parametrize(
    "error", [ImportError("no module"), RuntimeError("operator torchvision::nms does not exist"), OSError("libc")]
)
def test_a_package_that_cannot_be_imported_is_none(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Any:
        raise error

    monkeypatch.setattr(feature_distances.importlib, "import_module", broken)
    assert torch_fidelity() is None


def test_it_is_imported_only_when_used() -> None:
    assert "memgen_eval.fidelity.feature_distances" in sys.modules
    assert not hasattr(feature_distances, "torch")
