"""Models of other libraries and other people's habits: where modules hide, how networks are called, what comes back."""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from checking import evaluated
from conftest import noise_images
from memgen_eval import InputError, evaluate, from_epsilon, from_v, sample
from memgen_eval.diffusion.calling import device_of
from memgen_eval.runtime import foreign, modules_of

SHAPE = (8, 8, 3)
TRAIN, SAMPLES = noise_images(0, 60, SHAPE), noise_images(1, 50, SHAPE)
ABAR = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
FEW: dict[str, Any] = {"num_denoiser_images": 4, "num_draws": 1, "denoiser_batch_size": 4, "sigmas": [0.1, 2.0]}


class Net(nn.Module):
    """A convolution and dropout, which keeps the modes it was called in."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.dropout = nn.Conv2d(3, 3, 1), nn.Dropout(0.5)
        self.modes: list[bool] = []

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.modes.append(self.training or self.dropout.training or torch.is_grad_enabled())
        out: Tensor = self.dropout(self.layer(x))
        return out


GLOBAL = Net()
LIBRARY = ModuleType("library")
LIBRARY.net = GLOBAL  # type: ignore[attr-defined]


class Holder:
    """Calls a module that one of its slots holds."""

    __slots__ = ("held",)

    def __init__(self, held: Any) -> None:
        self.held = held

    def __call__(self, x: Tensor, t: Tensor) -> Any:
        return self.held["nets"][0](x, t)

    def method(self, x: Tensor, t: Tensor) -> Any:
        return self(x, t)


def of_a_global(x: Tensor, t: Tensor) -> Any:
    return [GLOBAL(x, t) for _ in range(1)][0]  # noqa: RUF015 - a name inside a nested function


def of_a_library(x: Tensor, t: Tensor) -> Any:
    return LIBRARY.net(x, t)


def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def inner(*given: Any) -> Any:
        return function(*given)

    return inner


HIDDEN: dict[str, Callable[[Net], Any]] = {
    "a closure": lambda net: lambda x, t: net(x, t=t),
    "a closure of a closure": lambda net: functools.partial(lambda call, x, t: call(x, t), lambda x, t: net(x, t=t)),
    "a default": lambda net: lambda x, t, net=net: net(x, t=t),
    "a slot, a dict and a list": lambda net: Holder({"nets": [net]}),
    "a bound method": lambda net: Holder({"nets": (net,)}).method,
    "a decorator": lambda net: wrapped(lambda x, t: net(x, t=t)),
    "a cache": lambda net: functools.lru_cache(lambda x, t: net(x, t=t)),
    "a global": lambda _: of_a_global,
    "a library": lambda _: of_a_library,
    "a conversion": lambda net: from_epsilon(lambda x, t: SimpleNamespace(sample=net(x, t=t)), alphas_cumprod=ABAR),
}


@pytest.mark.parametrize("place", HIDDEN)
def test_a_module_is_found_wherever_it_hides(place: str) -> None:
    net = GLOBAL if "global" in place or "library" in place else Net()
    net.train().modes.clear()
    hidden = HIDDEN[place](net)
    assert net in modules_of(hidden)
    assert device_of(hidden) == torch.device("cpu")
    with foreign(hidden):
        first, second = (hidden(torch.ones(2, 3, 8, 8), torch.tensor([1.0, 2.0])) for _ in range(2))
        assert torch.equal(first, second)  # no dropout
    assert net.modes and not any(net.modes)
    assert net.training and net.dropout.training


def test_a_device_is_found_in_a_closure() -> None:
    net = nn.Linear(2, 2, device="meta")
    assert device_of(from_v(lambda x, t: net(x), alphas_cumprod=ABAR)) == torch.device("meta")


def test_a_module_that_is_not_found_is_in_eval_mode_while_it_is_called() -> None:
    net = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5).eval())
    with foreign():  # of nothing
        assert torch.equal(net(torch.ones(50)), torch.ones(50))
    assert net.training and net[0].training and not net[1].training


def test_other_threads_train_on() -> None:
    net, seen = nn.Dropout(0.5), []

    def train() -> None:
        net(torch.ones(3))
        seen.append(net.training)

    with foreign():
        thread = threading.Thread(target=train)
        thread.start()
        thread.join()
    assert seen == [True]


def test_eval_mode_is_set_by_flags_alone() -> None:
    class Merging(Net):
        """Merges something into its weights in eval mode, as low-rank adapters do."""

        def train(self, mode: bool = True) -> Merging:
            with torch.no_grad():
                self.layer.weight += 1
            return super().train(mode)

    net = Merging()
    before = net.layer.weight.clone()
    evaluated(SAMPLES, train=TRAIN, denoiser=lambda x, s: net(x, s) * 0 + x / 2, metrics="memorization", **FEW)
    assert torch.equal(net.layer.weight, before) and net.training


class FrozenDict(OrderedDict[str, Any]):
    """A config of diffusers: entries are attributes too."""

    def __init__(self, *given: Any, **keywords: Any) -> None:
        super().__init__(*given, **keywords)
        for key, value in self.items():
            setattr(self, key, value)


class BaseOutput(OrderedDict[str, Any]):
    """An output of diffusers: fields as entries and as attributes."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self.__dict__.update(fields)


class Configured:
    """What models, schedulers and pipelines of diffusers have in common: whatever a dict answers to, they answer to."""

    def __init__(self, **config: Any) -> None:
        self._internal_dict = FrozenDict(config)

    def __getattr__(self, name: str) -> Any:
        if "_internal_dict" in self.__dict__ and hasattr(self.__dict__["_internal_dict"], name):
            return self._internal_dict[name]
        raise AttributeError(name)


class UNet(nn.Module):
    """`UNet2DModel`: timesteps embedded in float32, then in the type of the sample; an object with `.sample`."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.out = nn.Linear(8, 3), nn.Conv2d(3, channels, 1)
        self.dtypes: list[tuple[torch.dtype, torch.dtype]] = []

    def forward(self, sample: Tensor, timestep: Tensor, return_dict: bool = True) -> Any:
        self.dtypes.append((sample.dtype, timestep.dtype))
        frequencies = torch.exp(-torch.arange(4, device=sample.device) / 4)
        angles = timestep[:, None].float() * frequencies[None]
        embedded = self.embed(torch.cat([angles.sin(), angles.cos()], dim=1).to(sample.dtype))
        found = self.out(sample + embedded[:, :, None, None])
        return BaseOutput(sample=found) if return_dict else (found,)


class Pipeline(Configured):
    """`DDPMPipeline`, shortened."""

    def __init__(self) -> None:
        super().__init__(unet=("diffusers", "UNet2DModel"), scheduler=("diffusers", "DDPMScheduler"))
        self.unet, self.scheduler = UNet(), Configured(num_train_timesteps=1000)
        self.devices: list[str] = []

    @torch.no_grad()
    def __call__(
        self, batch_size: int = 1, generator: Any = None, num_inference_steps: int = 2, output_type: str = "pil"
    ) -> BaseOutput:
        from PIL import Image

        self.devices.append(str(generator.device))
        image = torch.randn((batch_size, 3, 8, 8), generator=generator)
        image = image - self.unet(image, torch.full((batch_size,), 5)).sample
        pixels = ((image / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        return BaseOutput(images=[Image.fromarray(array) for array in pixels])


def test_a_pipeline_is_a_sampler() -> None:
    pipeline = Pipeline()
    with pytest.raises(KeyError):
        hasattr(pipeline, "__iter__")  # as with diffusers'
    reports = [
        evaluated(pipeline, train=TRAIN, num_samples=40, batch_size=20, metrics="memorization") for _ in range(2)
    ]
    assert reports[0].settings.checksums == reports[1].settings.checksums
    assert set(pipeline.devices) == {"cpu"} and pipeline.unet.training
    with pytest.raises(InputError, match=r"denoiser is a pipeline: give its network in a conversion"):
        evaluate(SAMPLES, train=TRAIN, denoiser=pipeline)


def denoised(model: Any, x: Tensor) -> Tensor:
    with foreign(model):
        return from_epsilon(model, alphas_cumprod=ABAR)(x, torch.full((len(x),), 2.0))


RETURNED: dict[str, Callable[[UNet], Any]] = {
    "an object": lambda unet: unet,
    "a tuple": lambda unet: functools.partial(unet, return_dict=False),
    "a dict": lambda unet: lambda x, t: {"pred": unet(x, t).sample, "t": t},
    "a tensor and a loss": lambda unet: lambda x, t: (unet(x, t).sample, t.mean()),
    "a variance too": lambda unet: lambda x, t: torch.cat([unet(x, t).sample, torch.ones_like(x)], dim=1),
    "whole steps alone": lambda unet: lambda x, t: (nn.functional.one_hot(t, 1000), unet(x, t).sample)[1],
}


@pytest.mark.parametrize("form", RETURNED)
def test_predictions_come_in_many_forms(form: str) -> None:
    unet = UNet().eval()
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    step = np.interp(np.log(2), np.log((1 - ABAR) / ABAR) / 2, np.arange(1000))
    with torch.no_grad():
        time = torch.full((4,), float(np.rint(step) if form == "whole steps alone" else step))
        expected = x - 2 * unet(x / np.sqrt(5), time).sample
    assert torch.allclose(denoised(RETURNED[form](unet), x), expected, atol=1e-5)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64])
def test_a_network_is_called_in_the_type_of_its_parameters(kind: torch.dtype) -> None:
    unet, x = UNet().to(kind), torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = denoised(lambda x, t: unet(x, t).sample, x)
    assert found.dtype == (torch.float64 if kind == torch.float64 else torch.float32)
    assert unet.dtypes[-1] == (kind, torch.float32)  # 999 is not a bfloat16
    assert torch.allclose(found.float(), denoised(UNet(), x), rtol=0.02, atol=0.05)
    linear = nn.Linear(1, 3).to(kind)  # of the time itself
    assert torch.isfinite(denoised(lambda x, t: x * linear(t[:, None])[:, :, None, None], x)).all()


def test_a_network_that_works_in_float32_is_not_rounded() -> None:
    net, seen = UNet().bfloat16(), []

    def preconditioned(x: Tensor, sigma: Tensor) -> Tensor:
        seen.append(x.dtype)
        out: Tensor = x / (1 + sigma.reshape(-1, 1, 1, 1) ** 2) + 0 * net(x.bfloat16(), sigma).sample.float()
        return out

    evaluated(SAMPLES, train=TRAIN, denoiser=preconditioned, metrics="denoiser", **FEW)
    assert set(seen) == {torch.float32}


def test_timesteps_are_whole_where_they_are_nearly_so() -> None:
    seen: list[Tensor] = []

    def table(x: Tensor, t: Tensor) -> Tensor:
        seen.append(t)
        return x * torch.arange(1000.0)[t.long()].reshape(-1, 1, 1, 1) * 0  # truncates: 498.9999 would be 498

    steps = torch.arange(1, 1000, 83)
    sigma = torch.from_numpy(np.sqrt((1 - ABAR) / ABAR)).float()[steps]
    from_epsilon(table, alphas_cumprod=ABAR)(torch.zeros(len(steps), 3, 2, 2), sigma)
    assert torch.equal(seen[0].long(), steps)


def test_what_a_network_raises_is_one_sentence() -> None:
    def failing(x: Tensor, t: Tensor) -> Tensor:
        raise RuntimeError("mat1 and mat2\nshapes")

    said = (
        r"the network in from_epsilon failed on x, float32 \(4, 3, 8, 8\) on cpu, and float32 \(4,\) on cpu: "
        "RuntimeError: mat1 and mat2 shapes"
    )
    with pytest.raises(InputError, match=said):
        denoised(failing, torch.zeros(4, 3, 8, 8))
    with pytest.raises(InputError, match=r"the network in from_epsilon returned shape \(4, 9, 8, 8\)"):
        denoised(lambda x, t: x.repeat(1, 3, 1, 1), torch.zeros(4, 3, 8, 8))


@pytest.mark.parametrize(
    ("thing", "said"),
    [
        (UNet, "the class UNet: give an instance"),
        (UNet().state_dict(), "a state dict: build the network"),
        (
            {"epoch": 3, "state_dict": {}, "pytorch-lightning_version": "2.0"},
            r"a dict \(epoch, state_dict, .* checkpoint",
        ),
        ("unet.ckpt", "the text or path 'unet.ckpt': load the model"),
        (
            SimpleNamespace(step=len, alphas_cumprod=ABAR),
            "a SimpleNamespace, a scheduler or an optimizer: give the net",
        ),
        (7, "a int: give a callable"),
    ],
    ids=["class", "state dict", "checkpoint", "path", "scheduler", "number"],
)
def test_what_is_given_for_a_denoiser_by_mistake_is_named(thing: Any, said: str) -> None:
    with pytest.raises(InputError, match=f"denoiser is {said}"):
        evaluate(SAMPLES, train=TRAIN, denoiser=thing)
    with pytest.raises(InputError, match=f"denoiser is {said}"):
        sample(thing, 2, (3, 8, 8))


def test_a_state_dict_or_scheduler_for_samples_is_named() -> None:
    for thing, said in ((UNet().state_dict(), "a state dict"), (SimpleNamespace(step=len), "a scheduler or an optim")):
        with pytest.raises(InputError, match=said):
            evaluate(thing, train=TRAIN)


def test_a_generator_is_where_the_sampler_draws() -> None:
    net, devices = nn.Linear(1, 1, device="meta"), []

    def sampler(n: int, generator: torch.Generator) -> Any:
        devices.append(generator.device.type)
        return noise_images(generator.initial_seed(), n, SHAPE) if net else None

    class Meta(torch.Generator):
        """Stands in for one of a device that this machine may lack."""

        def __new__(cls, device: Any = "cpu") -> Meta:
            devices.append(str(device))
            made: Meta = super().__new__(cls, "cpu")
            return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "Generator", Meta)
        evaluate(sampler, train=TRAIN, num_samples=20, metrics="memorization")
        evaluate(sampler, train=TRAIN, num_samples=20, metrics="memorization", device="cpu")
    assert devices == ["meta", "cpu", "cpu", "cpu"]


def test_a_seed_without_effect_is_noted() -> None:
    def notes(sampler: Any) -> Any:
        report = evaluate(sampler, train=TRAIN, num_samples=20, metrics="memorization")
        return report.provenance.inputs["samples"]["notes"]

    assert any("seed has no effect" in note for note in notes(lambda n: SAMPLES[:n]))
    assert notes(lambda n, seeds: SAMPLES[:n]) == notes(lambda n, generator=None: SAMPLES[:n]) == []


FEATURES: dict[str, Callable[[Tensor], Any]] = {
    "a tuple": lambda x: (x.float().flatten(1),),
    "a dict": lambda x: {"embedding": x.float().flatten(1)},
    "an output": lambda x: BaseOutput(image_embeds=x.float().flatten(1)),
    "an object": lambda x: SimpleNamespace(pooled=x.float().flatten(1), config=3),
}


@pytest.mark.parametrize("form", FEATURES)
def test_features_come_in_many_forms(form: str) -> None:
    plain = evaluated(SAMPLES, train=TRAIN, features=lambda x: x.float().flatten(1), metrics="novelty")
    assert evaluated(SAMPLES, train=TRAIN, features=FEATURES[form], metrics="novelty").novelty == plain.novelty


def test_features_of_several_tensors_are_one_line() -> None:
    two = lambda x: {"logits": x.float().flatten(1)[:, :9], "hidden": x.float().flatten(1)}  # noqa: E731
    said = r"features of train are a dict \(logits \(\d+, 9\), hidden \(\d+, 192\)\), expected one tensor"
    with pytest.raises(InputError, match=said):
        evaluate(SAMPLES, train=TRAIN, features=two, metrics="novelty")


def test_integers_of_numpy_are_integers() -> None:
    denoiser = lambda x, s: x / (1 + s.reshape(-1, 1, 1, 1) ** 2)  # noqa: E731
    given: dict[str, Any] = {
        "num_samples": np.int64(30),
        "batch_size": np.int32(16),
        "num_denoiser_images": np.int64(4),
        "num_draws": np.uint8(1),
        "denoiser_batch_size": np.int64(4),
        "seed": np.int64(3),
    }
    plain = {name: int(value) for name, value in given.items()}
    sampler: Any = lambda n, seeds: SAMPLES[:n]  # noqa: E731
    reports = [
        evaluated(sampler, train=TRAIN, denoiser=denoiser, sigmas=[0.1, 2.0], **counts) for counts in (given, plain)
    ]
    assert reports[0].settings == reports[1].settings and reports[0].denoiser == reports[1].denoiser
    for wrong in (np.float64(3), np.bool_(True), np.array([3]), "3"):
        with pytest.raises(InputError, match="num_samples is"):
            evaluate(sampler, train=TRAIN, num_samples=wrong)
