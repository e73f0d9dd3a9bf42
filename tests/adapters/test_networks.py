"""EDM networks and denoisers of k-diffusion, written here after their papers; what is recognised, and what is not."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from checking import evaluated
from conftest import noise_images
from exact_models import EDMPrecond, Exact, Small, expected
from memgen_eval import InputError, Model, evaluate, sample
from memgen_eval.adapters.labels import Labels, labels_of
from memgen_eval.adapters.model import recognised

pytestmark = [
    pytest.mark.filterwarnings(rf"ignore:{text}")
    for text in (r"the denoiser's (error|output)", r"samples \(sampler .* clipped to", "__array")
]  # random weights, and what numpy says of diffusers
TRAIN = noise_images(0, 60, (8, 8, 3))
FEW: dict[str, Any] = {"num_samples": 20, "num_denoiser_images": 4, "denoiser_batch_size": 4, "num_draws": 1}


class Classes(nn.Module):
    """An inner network that keeps the class vectors it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Small()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor, t: Tensor, class_labels: Tensor | None = None) -> Tensor:
        assert class_labels is not None
        self.seen.append(class_labels)
        out: Tensor = self.inner(x, t)
        return out


def test_an_edm_network_goes_through_evaluate() -> None:
    report = evaluated(EDMPrecond(8, 3, Small()), train=TRAIN, **FEW)
    assert report.denoiser is not None and report.denoiser.gap_path.value is not None  # on its own sampler's path
    inputs = report.provenance.inputs
    assert inputs["denoiser"]["account"] == (
        "EDMPrecond of EDM, predicts the clean image at any noise level, no guidance"
    )
    assert (
        "drawn by following a denoiser: 18 steps of heun from noise level 80 to 0.002" in inputs["samples"]["account"]
    )


def test_an_edm_network_is_called_as_its_own_samplers_call_it() -> None:
    images = noise_images(0, 6, (3, 4, 4))
    network = EDMPrecond(4, 3, Exact(images, "edm"))
    x, sigma = torch.randn(3, 3, 4, 4), torch.tensor([0.1, 1.0, 20.0])
    found = Model(network).denoiser(x, sigma)
    assert torch.equal(found, network(x, sigma))
    exact = expected(images, x, sigma)
    assert float((found - exact).abs().max()) < 1e-4


def test_classes_of_an_edm_network_are_vectors() -> None:
    inner = Classes()
    network = EDMPrecond(8, 3, inner, label_dim=5)
    evaluated(Model(network, class_labels=3, num_steps=2), train=TRAIN, **FEW)
    assert all(torch.equal(seen, torch.eye(5)[[3] * len(seen)]) for seen in inner.seen)
    inner.seen.clear()
    evaluated(Model(network, num_steps=2), train=TRAIN, **FEW)
    told = torch.cat(inner.seen)
    assert torch.equal(told.sum(dim=1), torch.ones(len(told))) and (told.sum(dim=0) > 0).all()
    with pytest.raises(
        InputError, match="samples: class_labels: label 5 is out of range; EDMPrecond knows classes 0 to 4"
    ):
        evaluate(Model(network, class_labels=[1, 5]), train=TRAIN)


def test_noise_levels_of_an_edm_network_limit_grid_and_sampler() -> None:
    network = EDMPrecond(8, 3, Small(), sigma_min=0.5)
    report = evaluated(Model(network, num_steps=3), train=TRAIN, **FEW)
    assert report.settings.sigmas[0] >= 0.5
    assert "from noise level 80 to 0.5" in report.provenance.inputs["samples"]["account"]


def test_an_edm2_network_without_limits_is_one() -> None:
    network = EDMPrecond(8, 3, Small())
    del network.sigma_min, network.sigma_max
    assert recognised(network) == "edm" and Model(network).denoiser.sigma_range == (0.0, float("inf"))


class KDenoiser(nn.Module):
    """`denoiser(x, sigma, **extra_args)`, as k-diffusion wraps an inner model."""

    __module__ = "k_diffusion.layers"

    def __init__(self, inner_model: nn.Module, sigma_min: float | None = None) -> None:
        super().__init__()
        self.inner_model = inner_model
        if sigma_min is not None:
            self.sigma_min = torch.tensor(sigma_min)

    def forward(self, x: Tensor, sigma: Tensor, **extra: Any) -> Tensor:
        assert sigma.shape == (len(x),)
        scale = 1 / (1 + sigma.reshape(-1, 1, 1, 1) ** 2)
        if "class_cond" in extra:
            assert extra["class_cond"].shape == (len(x),)
            return x * scale * (1 + 0.01 * extra["class_cond"].reshape(-1, 1, 1, 1))
        return x * scale


def test_a_denoiser_of_k_diffusion_goes_through_evaluate() -> None:
    report = evaluated(Model(KDenoiser(Small(), 0.1), num_steps=3), train=TRAIN, **FEW)
    assert report.settings.sigmas[0] > 0.1
    assert "KDenoiser of k-diffusion, predicts the clean image" in report.provenance.inputs["denoiser"]["account"]
    inner = Small()
    inner.num_classes = 4
    told = Model(KDenoiser(inner), class_labels=2).denoiser(torch.ones(2, 3, 8, 8), torch.ones(2))
    assert torch.allclose(told, torch.full((2, 3, 8, 8), 0.51))


def test_a_denoiser_is_found_without_a_training_set() -> None:
    drawn = sample(Model(EDMPrecond(8, 3, Small())).denoiser, 2, (3, 8, 8), num_steps=2)
    assert drawn.shape == (2, 3, 8, 8)


@pytest.mark.parametrize(
    "thing",
    [
        Small(),
        lambda n: TRAIN[:n],
        TRAIN,
        (TRAIN, np.zeros(60)),
        "cifar10",
        None,
        torch.zeros(2),
        [Small()],
        (1, 2),
        {},
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_everything_else_is_left_as_it_is(thing: Any) -> None:
    assert recognised(thing) is None
    with pytest.raises(InputError, match="is not a model that is recognised; expected a diffusers pipeline, a tuple"):
        Model(thing)


class Liar:
    """Has every attribute, and none of them is what it says."""

    def __getattr__(self, name: str) -> Any:
        return Liar()

    def __call__(self, n: int) -> Any:
        return TRAIN[:n]


def test_objects_that_answer_to_any_name_are_no_models() -> None:
    assert recognised(Liar()) is None and recognised(Liar) is None


def test_labels_of_seeds_have_the_frequencies_given() -> None:
    labels = Labels(np.array([0, 1, 1, 1]), "")
    drawn = labels.of_seeds(range(4000))
    assert abs(drawn.mean() - 0.75) < 4 * np.sqrt(0.75 * 0.25 / 4000)
    assert np.array_equal(drawn[7:9], labels.of_seeds([7, 8]))
    assert np.array_equal(labels.of_places(5), labels.of_places(9)[:5])


def test_labels_are_those_that_a_dataset_lists() -> None:
    listed = SimpleNamespace(targets=[3, 4, 5])
    assert labels_of(listed) == [3, 4, 5]
    assert labels_of(SimpleNamespace(dataset=listed, indices=[2, 0])).tolist() == [5, 3]
    assert labels_of(TRAIN) is None and labels_of("cifar10") is None and labels_of(None) is None


def test_no_library_is_imported_to_recognise_a_model() -> None:
    code = (
        "import sys, numpy as np\nfrom memgen_eval import evaluate\n"
        "x = np.random.default_rng(0).integers(0, 256, (40, 4, 4, 3), dtype=np.uint8)\n"
        "evaluate(x, train=x[::-1], metrics='memorization')\n"
        "assert not {'diffusers', 'k_diffusion', 'transformers'} & set(sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
