"""Real classes of diffusers with random weights: pipelines and pairs go through `evaluate` as they are."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from checking import evaluated
from conftest import noise_images
from exact_models import Exact
from memgen_eval import InputError, Model, evaluate
from memgen_eval.adapters.pipelines import PipelineSampler
from memgen_eval.runtime import foreign

diffusers = pytest.importorskip("diffusers", reason="builds diffusers' own models, of the extra diffusers")

pytestmark = [
    pytest.mark.filterwarnings(rf"ignore:{text}")
    for text in (r"the denoiser's (error|output)", r"samples \(sampler .* clipped to", "__array")
]  # random weights, and what numpy says of diffusers
TRAIN = noise_images(0, 60, (8, 8, 3))
FEW: dict[str, Any] = {"num_samples": 20, "batch_size": 8, "num_denoiser_images": 4, "denoiser_batch_size": 4}
FEW |= {"num_draws": 1}


def unet(**settings: Any) -> Any:
    torch.manual_seed(0)
    small: dict[str, Any] = {
        "sample_size": 8,
        "block_out_channels": (8, 8),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "down_block_types": ("DownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "UpBlock2D"),
    }
    return diffusers.UNet2DModel(**small | settings)


def dit(channels: int = 3, **settings: Any) -> Any:
    torch.manual_seed(0)
    small: dict[str, Any] = {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 4, "sample_size": 8}
    small |= {"in_channels": channels, "num_embeds_ada_norm": 4, "norm_num_groups": 4}
    return diffusers.DiTTransformer2DModel(**small | settings)


def autoencoder() -> Any:
    torch.manual_seed(0)
    return diffusers.AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4, sample_size=8)


def ddpm(network: Any = None, scheduler: Any = None) -> Any:
    return diffusers.DDPMPipeline(network or unet(), scheduler or diffusers.DDPMScheduler())


def inputs_of(report: Any, name: str) -> str:
    return str(report.provenance.inputs[name]["account"])


def test_a_ddpm_pipeline_goes_through_evaluate() -> None:
    pipeline = ddpm()
    pipeline.unet.train()
    before = {name: id(value) for name, value in {**vars(pipeline.scheduler), **vars(pipeline)}.items()}
    report = evaluated(Model(pipeline, num_steps=3), train=TRAIN, **FEW)
    assert report.denoiser is not None and report.memorization is not None
    assert report.settings.sigmas[-1] == 80 and report.settings.sigmas[0] == 0.02
    assert inputs_of(report, "denoiser") == (
        "UNet2DModel with DDPMScheduler, predicts epsilon at noise levels from 0.01 to 157.4, no guidance"
    )
    assert "(sampler DDPMPipeline)" in inputs_of(report, "samples")
    assert "3 steps of its DDPMScheduler; tensors in [0, 1], cut there by" in inputs_of(report, "samples")
    assert pipeline.unet.training
    assert before == {name: id(value) for name, value in {**vars(pipeline.scheduler), **vars(pipeline)}.items()}


def test_the_grid_is_cut_to_the_models_noise_levels() -> None:
    short = diffusers.DDPMScheduler(num_train_timesteps=100)  # sigma from 0.01 to 1.3
    report = evaluated(Model((unet(), short), num_steps=2), train=TRAIN, **FEW)
    assert report.denoiser is not None
    assert 0.5 < report.settings.sigmas[-1] < 1.4
    assert any("narrower than the usual noise levels" in note for note in report.denoiser.error_train.notes)


@pytest.mark.parametrize(
    "scheduler",
    [
        diffusers.DDPMScheduler(),
        diffusers.FlowMatchEulerDiscreteScheduler(),
        diffusers.DDPMScheduler(clip_sample=False),
    ],
    ids=["ddpm", "flow", "unclipped"],
)
def test_an_image_depends_on_its_seed_alone(scheduler: Any) -> None:
    pipeline = ddpm(scheduler=scheduler)
    sampler = Model(pipeline, num_steps=4).pipeline(None, None)
    with foreign(pipeline):
        whole = torch.as_tensor(sampler(6, seeds=[5, 6, 7, 8, 9, 10]))
        parts = [torch.as_tensor(sampler(len(seeds), seeds=seeds)) for seeds in ([5], [6, 7], [8, 9, 10])]
        theirs = pipeline(
            batch_size=2,
            generator=[torch.Generator().manual_seed(seed) for seed in (5, 6)],
            num_inference_steps=4,
            output_type="pt",
        ).images
    assert whole.shape == (6, 3, 8, 8) and torch.allclose(whole, torch.cat(parts), atol=1e-5)
    assert torch.allclose(whole[:2], torch.as_tensor(theirs), atol=1e-5)
    assert float(whole.min()) >= 0 and float(whole.max()) <= 1 and float(whole.std()) > 0.05


def test_flow_matching_and_pairs_draw_and_denoise() -> None:
    flow = evaluated(
        Model(ddpm(scheduler=diffusers.FlowMatchEulerDiscreteScheduler()), num_steps=2), train=TRAIN, **FEW
    )
    assert "FlowMatchEulerDiscreteScheduler, predicts flow at any noise level" in inputs_of(flow, "denoiser")
    pair = evaluated(Model((unet(), diffusers.DDIMScheduler()), num_steps=2), train=TRAIN, **FEW)
    assert "drawn by following a denoiser: 2 steps of heun from noise level 80 to 0.01" in inputs_of(pair, "samples")
    assert pair.denoiser is not None and pair.denoiser.gap_path.value is not None


def test_a_conditional_unet_is_told_classes() -> None:
    network = unet(num_class_embeds=3)
    pair = (network, diffusers.DDPMScheduler())
    report = evaluated(Model(pair, num_steps=2), train=TRAIN, **FEW)
    assert "classes drawn uniformly from 0 to 2, whatever the image's own class" in inputs_of(report, "denoiser")
    assert "classes drawn uniformly from 0 to 2" in inputs_of(report, "samples")
    seen: list[list[int]] = []
    network.register_forward_pre_hook(
        lambda _, args, told: seen.append(told["class_labels"].tolist()), with_kwargs=True
    )
    one = evaluated(Model(pair, class_labels=2, num_steps=2), train=TRAIN, **FEW)
    assert {label for labels in seen for label in labels} == {2}
    assert "class 2 alone" in inputs_of(one, "denoiser")
    seen.clear()
    data = SimpleNamespace(targets=torch.tensor([0] * 30 + [1] * 30))
    network_known = Model(pair).network((3, 8, 8), data)
    assert network_known.labels is not None
    assert "frequencies of the training set" in network_known.account


def test_samples_of_a_conditional_network_do_not_depend_on_the_batch() -> None:
    from memgen_eval.adapters.following import followed

    sampler = followed(Model((unet(num_class_embeds=3), diffusers.DDPMScheduler())).network(None, None), None, 2)
    assert sampler is not None
    seeds = list(range(70))  # more than a batch of the denoiser
    whole, parts = sampler(70, seeds=seeds), [sampler(35, seeds=seeds[:35]), sampler(35, seeds=seeds[35:])]
    assert torch.equal(whole, torch.cat(parts))


def test_a_dit_on_pixels_is_one() -> None:
    report = evaluated(Model((dit(), diffusers.DDIMScheduler()), num_steps=2), train=TRAIN, **FEW)
    assert "DiTTransformer2DModel with DDIMScheduler, predicts epsilon" in inputs_of(report, "denoiser")
    learned = evaluated((dit(out_channels=6), diffusers.DDIMScheduler()), train=TRAIN, **FEW)  # a variance too
    assert learned.denoiser is not None
    assert any("returns 6 channels for 3" in note for note in learned.denoiser.error_train.notes)


def test_a_dit_pipeline_is_a_sampler_whose_denoiser_is_of_latents() -> None:
    pipeline = diffusers.DiTPipeline(dit(4, out_channels=4), autoencoder(), diffusers.DDIMScheduler())
    report = evaluated(Model(pipeline, class_labels=[0, 3], num_steps=2), train=TRAIN, **FEW)
    assert report.denoiser is None
    assert report.skipped["denoiser"].startswith("the denoiser of DiTPipeline works on latents of its vae")
    assert "no guidance" in inputs_of(report, "samples")
    assert "classes drawn from the 2 labels given" in inputs_of(report, "samples")
    with pytest.raises(InputError, match=r"^denoiser: the denoiser of DiTPipeline works on latents of its vae"):
        evaluate(TRAIN, train=TRAIN, denoiser=pipeline)
    assert not isinstance(report.skipped.get("gaussian"), str)


def test_an_unconditional_latent_pipeline_is_a_sampler() -> None:
    network = unet(in_channels=4, out_channels=4)
    pipeline = diffusers.LDMPipeline(autoencoder(), network, diffusers.DDIMScheduler())
    report = evaluated(Model(pipeline, num_steps=2), train=TRAIN, **FEW)
    assert report.memorization is not None and "latents of its vqvae" in report.skipped["denoiser"]


def test_a_denoiser_that_is_given_wins() -> None:
    network, scheduler = unet(), diffusers.DDPMScheduler()
    given = Model((network, scheduler)).denoiser
    told: list[int] = []

    def own(x: Any, sigma: Any) -> Any:
        told.append(len(x))
        return given(x, sigma)

    report = evaluated(Model(ddpm(network), num_steps=2), train=TRAIN, denoiser=own, **FEW)
    assert told and "denoiser" not in report.provenance.inputs


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_a_pipeline_in_half_precision(kind: torch.dtype) -> None:
    whole = evaluated(Model(ddpm(), num_steps=3), train=TRAIN, **FEW)
    half = evaluated(Model(ddpm().to(kind), num_steps=3), train=TRAIN, **FEW)
    assert whole.denoiser is not None and half.denoiser is not None
    for first, second in zip(whole.denoiser.error_train.value, half.denoiser.error_train.value, strict=True):
        assert second == pytest.approx(first, rel=0.05)


def test_an_exact_pipeline_finds_itself() -> None:
    """A pipeline that follows D* of the training set copies it, and its denoiser is D*."""
    train = noise_images(0, 40, (4, 4, 3))
    scheduler = diffusers.DDIMScheduler(clip_sample=False)
    levels = np.log((1 - scheduler.alphas_cumprod.double()) / scheduler.alphas_cumprod.double()) / 2

    class Net(Exact, diffusers.ModelMixin, diffusers.ConfigMixin):  # type: ignore[misc, name-defined, unused-ignore]
        config_name = "config.json"

        def forward(self, x: Any, t: Any) -> Any:
            times = torch.as_tensor(t).reshape(-1).expand(len(x))
            return SimpleNamespace(sample=super().forward(x, times))

    network = Net(train.transpose(0, 3, 1, 2), "epsilon", levels.numpy())
    network.register_to_config(in_channels=3, sample_size=4)
    network.scale.data = network.scale.data.float()
    report = evaluated(
        Model(ddpm(network, scheduler), num_steps=20),
        train=train,
        test=noise_images(1, 40, (4, 4, 3)),
        num_samples=20,
        num_denoiser_images=8,
        denoiser_batch_size=8,
    )
    assert report.verdict is not None and report.verdict.label == "copies"
    assert report.memorization.ratio.value == 1.0
    assert max(report.denoiser.gap_train.value) < 1e-8


def bad(name: str) -> Any:
    """Pipelines that cannot be used."""
    kind: dict[str, Any] = {
        "text": lambda self, prompt=None, height=None, generator=None, output_type="pil": None,
        "fails": lambda self, batch_size=1, generator=None: 1 / 0,
        "held back": lambda self, batch_size=1, generator=None: SimpleNamespace(images=[None] * batch_size),
        "nothing": lambda self, batch_size=1, generator=None: (None,),
        "an image": lambda self, image, batch_size=1: SimpleNamespace(images=image),
        "no number": lambda self, generator=None: SimpleNamespace(images=[]),
    }
    made = type("Odd", (diffusers.DDPMPipeline,), {"__call__": kind[name]})
    return made(unet(), diffusers.DDPMScheduler())


BAD = {
    "text": "samples: Odd draws images from text and needs prompts: wrap it in a function",
    "fails": r"samples \(sampler Odd\), call 1, asked for 8 images, failed: ZeroDivisionError",
    "held back": r"samples \(sampler Odd\), call 1.*an image is None, as where a safety checker holds it back",
    "nothing": r"samples \(sampler Odd\), call 1.*an image is None",
    "an image": "samples: Odd needs image with every call: wrap it in a function",
    "no number": "samples: Odd takes neither batch_size nor class_labels",
}


@pytest.mark.parametrize("name", BAD)
def test_a_pipeline_that_cannot_be_used_is_one_line(name: str) -> None:
    with pytest.raises(InputError, match=BAD[name]) as caught:
        evaluate(bad(name), train=TRAIN, metrics="memorization", **FEW)
    assert "\n" not in str(caught.value)


SIZES = r"samples: {} makes images of 3 x 8 x 8, train holds 1 x 28 x 28: give the training images in the size"
REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "size": (ddpm, {"train": noise_images(0, 30, (28, 28))}, SIZES.format("DDPMPipeline")),
    "size of a pair": (
        lambda: (unet(), diffusers.DDPMScheduler()),
        {"train": noise_images(0, 30, (28, 28))},
        SIZES.format("UNet2DModel"),
    ),
    "bare": (unet, {}, r"samples: a UNet2DModel does not know the noise .* give \(network, scheduler\)"),
    "scheduler": (
        lambda: (unet(), diffusers.ScoreSdeVeScheduler()),
        {},
        "samples: the scheduler ScoreSdeVeScheduler is not supported",
    ),
    "no scheduler": (lambda: (unet(), 3), {}, "samples: the scheduler int is not supported"),
    "label": (
        lambda: Model((unet(num_class_embeds=3), diffusers.DDPMScheduler()), class_labels=3),
        {},
        "samples: class_labels: label 3 is out of range; UNet2DModel knows classes 0 to 2",
    ),
    "labels of a Dataset": (
        lambda: (unet(num_class_embeds=3), diffusers.DDPMScheduler()),
        {"train": type("Labelled", (list,), {"targets": [7, 1]})(list(TRAIN))},
        "samples: the training set's labels: label 7 is out of range",
    ),
    "no labels": (
        lambda: (unet(class_embed_type="timestep"), diffusers.DDPMScheduler()),
        {},
        r"samples: UNet2DModel is class-conditional and does not say how many classes",
    ),
    "labels of no use": (lambda: Model(ddpm(), class_labels=1), {}, "samples: class_labels were given, and DDPMPip"),
    "labels of no use to a pair": (
        lambda: Model((unet(), diffusers.DDPMScheduler()), class_labels=1),
        {},
        "samples: class_labels were given, and UNet2DModel has no classes",
    ),
    "labels that are none": (
        lambda: Model((unet(num_class_embeds=3), diffusers.DDPMScheduler()), class_labels=[0.5]),
        {},
        r"samples: class_labels: float64 of shape \(1,\); expected an integer",
    ),
    "vectors": (
        lambda: (unet(class_embed_type="identity"), diffusers.DDPMScheduler()),
        {},
        "samples: UNet2DModel with class_embed_type='identity' needs vectors",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_used_is_one_line(name: str) -> None:
    make, told, said = REFUSED[name]
    with pytest.raises(InputError, match=said) as caught:
        evaluate(make(), **{"train": TRAIN, **told}, **FEW)
    assert "\n" not in str(caught.value)


def test_a_pipeline_that_tells_its_network_no_class_is_one_line() -> None:
    with pytest.raises(InputError, match=r"\(sampler DDPMPipeline\), call 1, .*class_labels should be provided"):
        evaluate(Model(ddpm(unet(num_class_embeds=3)), num_steps=2), train=TRAIN, metrics="memorization", **FEW)


def test_text_conditional_networks_are_refused() -> None:
    network = diffusers.UNet2DConditionModel(
        sample_size=8,
        in_channels=3,
        out_channels=3,
        block_out_channels=(8,),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=8,
        attention_head_dim=4,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
    )
    with pytest.raises(InputError, match="denoiser: UNet2DConditionModel needs encoder_hidden_states"):
        evaluate(TRAIN, train=TRAIN, denoiser=(network, diffusers.DDPMScheduler()))


def test_a_pipeline_with_another_scheduler_is_still_a_sampler() -> None:
    pipeline = ddpm(scheduler=diffusers.DDPMScheduler())
    pipeline.scheduler = diffusers.LCMScheduler()
    report = evaluated(Model(pipeline, num_steps=2), train=TRAIN, **FEW)
    assert report.memorization is not None
    assert report.skipped["denoiser"].startswith("the scheduler LCMScheduler is not supported")
    with pytest.raises(InputError, match="denoiser: the scheduler LCMScheduler is not supported"):
        evaluate(TRAIN, train=TRAIN, denoiser=pipeline)


def test_progress_bars_are_silent(capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(Model(ddpm(), num_steps=2), train=TRAIN, metrics="memorization", **FEW)
    assert "it/s" not in capsys.readouterr().err


def test_steps_are_those_of_the_pipeline_unless_told() -> None:
    assert isinstance(Model(ddpm()).pipeline(None, None), PipelineSampler)
    assert Model(ddpm()).pipeline(None, None).notes[0] == "1000 steps of its DDPMScheduler"
    with pytest.raises(InputError, match="num_steps is 0, expected an integer of at least 1"):
        Model(ddpm(), num_steps=0)
