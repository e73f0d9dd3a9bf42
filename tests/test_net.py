"""A net of fixed weights as denoiser and sampler: one report however it runs, and nothing of the caller's changed."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from checking import evaluated, figures
from memgen_eval import Curve, Report, Sampler, evaluate

FEW: dict[str, Any] = {"num_denoiser_images": 130, "num_draws": 2, "sigmas": [0.05, 0.3, 1.0, 3.0, 20.0]}


class Net(nn.Module):
    """A convolutional denoiser with what evaluations get wrong: dropout, running statistics, and a frozen part."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.body = nn.Sequential(
                nn.Conv2d(2, 16, 3, padding=1),
                nn.BatchNorm2d(16),
                nn.SiLU(),
                nn.Dropout(0.5),
                nn.Conv2d(16, 1, 3, padding=1),
            )
            self.mix = nn.Linear(64, 64)
            self.frozen = nn.BatchNorm2d(1)
            for norm in (self.body[1], self.frozen):
                norm.running_mean.normal_()
                norm.running_var.uniform_(0.5, 2)
        self.train()
        self.frozen.eval()
        self.mix.bias.requires_grad_(False)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        level = sigma.reshape(-1, 1, 1, 1)
        total = level**2 + 0.25
        hidden = self.body(torch.cat([x / total.sqrt(), (level.log() / 4).expand(x.shape)], dim=1))
        hidden = self.frozen(hidden + self.mix(hidden.flatten(1)).reshape(x.shape))
        found: Tensor = 0.25 / total * x + 0.5 * level / total.sqrt() * torch.tanh(
            hidden + 0 * torch.rand(1, dtype=x.dtype)
        )
        return found.clamp(-1, 1)


@pytest.fixture
def net() -> Net:
    return Net().float()


def measured(net: Any, digits: Any, *, batch_size: int = 64, **settings: Any) -> Report:
    return evaluated(
        Sampler(net, (1, 8, 8), num_steps=8),
        train=digits[:400],
        test=digits[400:600],
        denoiser=net,
        num_samples=70,
        batch_size=batch_size,
        **FEW,
        **settings,
    )


@pytest.fixture
def expected(net: Net, digits: Any) -> Report:
    return measured(net, digits)


@pytest.mark.parametrize("quantize", [True, False])
def test_batches_of_the_sampler_change_no_byte(net: Net, digits: Any, quantize: bool) -> None:
    reports = [measured(net, digits, batch_size=size, quantize=quantize) for size in (1, 7, 64)]
    assert len({figures(report) for report in reports}) == 1
    assert reports[0].denoiser is not None and reports[0].denoiser.gap_path.value is not None
    assert len({report.settings.checksums["samples"] for report in reports}) == 1


def numbers(report: Report) -> Iterator[tuple[str, list[float]]]:
    """Every value and every end of an interval, by path; NaN for None."""
    for path, figure in report.figures():
        for part in ("value", "low", "high"):
            found = getattr(figure, part)
            values = (found or ()) if isinstance(figure, Curve) else (found,)
            yield f"{path}.{part}", [np.nan if value is None else value for value in values]


def shrinking(x: Tensor, sigma: Tensor) -> Tensor:
    """Sums nothing: the same on any number of threads."""
    return x * (0.04 / (0.04 + sigma.reshape(-1, 1, 1, 1) ** 2))


def on_threads(model: Any, digits: Any) -> list[Report]:
    """Reports made by torch on one and on two threads."""
    before, reports = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            reports.append(measured(model, digits))
    finally:
        torch.set_num_threads(before)
    return reports


def test_one_and_two_threads_agree_as_far_as_the_net_does(net: Net, digits: Any) -> None:
    one, two = (dict(numbers(report)) for report in on_threads(net, digits))
    assert one.keys() == two.keys() and len(one) > 150
    for path, values in one.items():
        assert values == pytest.approx(two[path], rel=1e-5, abs=1e-12, nan_ok=True), path


def test_one_and_two_threads_agree_to_the_byte_where_the_model_does(digits: Any) -> None:
    one, two = on_threads(shrinking, digits)
    assert figures(one) == figures(two)
    assert one.gaussian is not None and one.gaussian.nmse.value is not None


def of_tensor(x: Tensor) -> Any:
    return x.detach().numpy().tobytes(), x.dtype, x.shape, x.stride(), x.requires_grad, x.grad, x._version, x.data_ptr()


def of_array(x: Any) -> Any:
    return x.tobytes(), x.dtype, x.shape, x.strides, x.flags.writeable, x.ctypes.data


def switches() -> dict[str, Any]:
    """Everything of torch's, numpy's and Python's that a caller may have set."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002
    backends = torch.backends
    return {
        "random": (random.getstate(), kind, np.asarray(keys).tobytes(), rest, torch.get_rng_state().numpy().tobytes()),
        "dtype": torch.get_default_dtype(),
        "grad": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_anomaly_enabled()),
        "precision": (torch.get_float32_matmul_precision(), backends.mkldnn.allow_tf32, backends.mkldnn.enabled),
        "cuda": (backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32, backends.cudnn.benchmark),
        "deterministic": (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            backends.cudnn.deterministic,
        ),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "filters": list(warnings.filters),
        "errors": np.geterr(),
    }


def state(net: Net) -> dict[str, Any]:
    """The switches, and everything of the net's."""
    held = [*net.named_parameters(), *net.named_buffers()]
    return switches() | {
        "modes": [(name, module.training) for name, module in net.named_modules()],
        "tensors": {name: of_tensor(tensor) for name, tensor in held},
        "hooks": [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in net.modules()],
    }


@pytest.fixture
def unusual() -> Iterator[None]:
    """Switches of a caller's that are not those of a fresh process."""
    before = torch.get_float32_matmul_precision()
    torch.set_default_dtype(torch.float64)
    torch.set_float32_matmul_precision("medium")
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_float32_matmul_precision(before)
        torch.use_deterministic_algorithms(False)


def changed_nothing(net: Net, digits: Any) -> None:
    turned = np.ascontiguousarray(digits[:400].transpose(0, 1, 3, 2)).transpose(0, 1, 3, 2)  # not in C order
    samples = torch.from_numpy(digits[600:800] / 127.5 - 1).transpose(2, 3).contiguous().transpose(2, 3)
    samples.requires_grad_()
    test = torch.from_numpy(digits[400:600].copy())
    random.seed(1), np.random.seed(2), torch.manual_seed(3)  # noqa: NPY002
    import sklearn.cluster  # noqa: F401  adds a filter of warnings of its own

    given = {"train": turned, "test": test, "denoiser": net, **FEW}
    before = state(net), of_tensor(samples), of_array(turned), of_tensor(test)
    reports = [evaluated(samples, **given) for _ in range(2)]
    evaluated(Sampler(net, (1, 8, 8), num_steps=3), num_samples=20, **given)
    assert (state(net), of_tensor(samples), of_array(turned), of_tensor(test)) == before
    assert figures(reports[0]) == figures(reports[1])


def test_nothing_of_the_caller_changes(net: Net, digits: Any) -> None:
    changed_nothing(net, digits)
    assert net.training and net.body[3].training and not net.frozen.training


@pytest.mark.usefixtures("unusual")
def test_nor_do_switches_that_are_set_otherwise(net: Net, digits: Any) -> None:
    changed_nothing(net, digits)


def test_nor_after_a_denoiser_that_fails(net: Net, digits: Any) -> None:
    def failing(x: Tensor, sigma: Tensor) -> Tensor:
        clean: Tensor = net(x, sigma)
        return clean if sigma[0] < 1 else clean[:, :, :4]

    before = state(net)
    with pytest.raises(ValueError, match="denoiser returned shape"):
        evaluate(digits[600:700], train=digits[:400], denoiser=failing, metrics=["denoiser"], **FEW)
    assert state(net) == before


def test_a_default_dtype_of_the_callers_changes_no_figure(net: Net, digits: Any, expected: Report) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        other = measured(net, digits)
    finally:
        torch.set_default_dtype(torch.float32)
    assert figures(other) == figures(expected)
