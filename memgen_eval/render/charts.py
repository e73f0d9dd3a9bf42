"""Which curves are drawn together, on which axes, and what each chart can and cannot tell: data, nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Form = Literal["cdf", "thresholds", "sigmas", "points"]


@dataclass(frozen=True)
class Mark:
    """A place on an axis worth a thin line: a number on y, or a figure of the report on x."""

    label: str
    y: float | None = None
    x_path: str | None = None


@dataclass(frozen=True)
class Chart:
    """A picture with its caption. `{baseline}` and `{threshold}` stand for the report's own words.

    `lines` are the paths of curves, with their names in the legend. The first is what is judged, the second its
    control: the place of a line decides its colour and its dashes.
    """

    name: str
    title: str
    lines: Mapping[str, str]
    y_label: str
    caption: str
    form: Form = "sigmas"
    marks: tuple[Mark, ...] = ()
    log_y: bool = False


SIGMA_LABEL = "noise level sigma, data in [-1, 1] (log scale)"
COLLAPSE = Mark("collapse", x_path="denoiser.collapse_sigma")

DISTANCES = Chart(
    name="distances",
    title="Distance to the nearest training image",
    form="cdf",
    lines={"novelty.distance_quantiles": "samples", "novelty.test_distance_quantiles": "{baseline}"},
    y_label="share of images at most this far",
    caption="Each curve gives the share of images that have a training image within a distance. Copies lift the "
    "foot of the samples' curve, at distances where there are no {baseline}: that is bad. A shift of the whole "
    "curve to the left can be blur or low contrast too. Without copies the two curves lie together.",
)

RATIO = Chart(
    name="ratio-curve",
    title="Flagged images against the threshold c",
    form="thresholds",
    lines={"memorization.ratio_curve": "samples", "memorization.test_ratio_curve": "{baseline}"},
    y_label="share with d1/d2 < c (square-root scale)",
    caption="Share of images that are flagged with threshold c; the verdict uses c = {threshold}. Copies keep the "
    "curve of the samples above that of the {baseline} at small c: that is bad. Without copies the two lie "
    "together. Near c = 1 every image is flagged and the curve says nothing. Copies that were cropped, shifted or "
    "recoloured do not show.",
)

NOVELTY_FIDELITY = Chart(
    name="novelty-fidelity",
    title="Novelty and fidelity",
    form="points",
    lines={},
    y_label="fidelity: precision against train",
    caption="Samples between the sets that bound them. Towards the training images, at the upper left, is bad: near "
    "copies. Towards noise, at the lower right, is bad quality. Near the {baseline} is where new images of the same "
    "kind lie. A place says nothing of a few copies among many samples, and blur moves samples to the left too.",
)

INDEX = Chart(
    name="memorization-index",
    title="Memorization index",
    lines={
        "denoiser.matched_memorization_index": "matched, training images",
        "denoiser.test_memorization_index": "control, test images",
        "denoiser.memorization_index": "whole training set",
    },
    y_label="place between Wiener (0) and D* (1)",
    marks=(Mark("D*", y=1.0), Mark("Wiener", y=0.0), COLLAPSE),
    caption="How far the model leans towards D*, which can only reproduce its images. The matched curve uses a D* "
    "of training images, the control a D* of equally many test images. The matched curve above the control is bad. "
    "A model that does not know its training images gives the same curve twice, however good it is. Left of the "
    "line marked collapse, D* answers with single training images.",
)

GAP = Chart(
    name="gap",
    title="Gap to the optimal denoiser D*",
    lines={
        "denoiser.gap_train": "noised training images",
        "denoiser.gap_test": "noised test images",
        "denoiser.gap_path": "sampler's own path",
    },
    y_label="squared distance per value",
    marks=(COLLAPSE,),
    log_y=True,
    caption="Squared distance between the model and D*, which can only reproduce training images. Near 0 left of "
    "the line marked collapse is bad: there the model copies. Far above 0 is unsuspicious. The sampler's own path "
    "counts most, since noised images do not represent it.",
)

GENERALIZATION = Chart(
    name="generalization-gap",
    title="Generalization gap",
    lines={"denoiser.generalization_gap": "test minus train"},
    y_label="difference of squared errors per value",
    marks=(Mark("no gap", y=0.0),),
    caption="Denoising error on test images minus that on training images. Above zero is bad: the model knows its "
    "training images, though its samples need not copy them. Zero is unsuspicious.",
)

ERRORS = Chart(
    name="errors",
    title="Denoising errors",
    lines={
        "denoiser.error_train": "model, training images",
        "denoiser.error_test": "model, test images",
        "denoiser.optimal_error_train": "D*, training images",
        "denoiser.optimal_error_test": "D*, test images",
    },
    y_label="squared error per value",
    log_y=True,
    caption="Squared distance between the model's answer and the clean image. The model's two curves together are "
    "unsuspicious; the one for training images below the other is bad, and at the curve of D* for training images "
    "the model copies. D* cannot be beaten on the images it holds, and is poor on others at low noise.",
)

RELATIVE_ERRORS = Chart(
    name="relative-errors",
    title="Errors relative to the Gaussian model D_G",
    lines={"denoiser.relative_error_train": "training images", "denoiser.relative_error_test": "test images"},
    y_label="squared error over that of D_G",
    marks=(Mark("D_G", y=1.0),),
    log_y=True,
    caption="Denoising error over that of D_G, the Wiener denoiser, which knows only mean and covariance of the "
    "training set. Below 1 on test images the model has learned more than these; above 1 is bad quality. On "
    "training images copying lowers the curve too: a curve far below that of test images is bad.",
)

OFF_LINE = Chart(
    name="off-line",
    title="Distance off the line between Wiener and D*",
    lines={"denoiser.off_line": "model"},
    y_label="relative squared distance",
    marks=(Mark("on the line", y=0.0),),
    caption="How far the model is from every mixture of the Wiener denoiser and D*. Large is not bad: the model is "
    "neither of the two, and the memorization index describes only a part of it.",
)

NEIGHBOURS = Chart(
    name="effective-neighbours",
    title="Training images that D* mixes",
    lines={
        "denoiser.effective_neighbours_train": "noised training images",
        "denoiser.effective_neighbours": "noised test images",
    },
    y_label="effective number of images",
    marks=(COLLAPSE, Mark("predicted", x_path="denoiser.predicted_collapse_sigma")),
    log_y=True,
    caption="How many training images D* averages in its answer. A property of the data, not of the model: below "
    "the collapse sigma D* answers with a single training image.",
)

IDENTITY_RESIDUAL = Chart(
    name="identity-residual",
    title="Check on the run",
    lines={"denoiser.identity_residual": "error - gap - error of D*"},
    y_label="residual per value",
    marks=(Mark("expected", y=0.0),),
    caption="Error minus gap minus error of D*, on training images: zero in expectation for every model. A band "
    "that misses zero means a fault of the run, not of the model.",
)

NMSE = Chart(
    name="nmse",
    title="Distance from the Gaussian model",
    lines={"gaussian.nmse": "model"},
    y_label="relative squared distance to D_G",
    marks=(Mark("Gaussian model", y=0.0),),
    caption="Squared distance between the model and D_G, the Wiener denoiser, which knows only mean and covariance "
    "of the training set. Near zero the model has learned no more; no value is bad in itself. At both ends all "
    "models are alike.",
)

COSINES = Chart(
    name="cosines",
    title="Likeness to the Gaussian model, and linearity",
    lines={
        "gaussian.linearity": "linearity of the model",
        "gaussian.gaussian_linearity": "linearity of D_G",
        "gaussian.cosine": "cosine to D_G",
    },
    y_label="cosine",
    marks=(Mark("alike", y=1.0),),
    caption="Likeness to D_G, and how nearly the model is linear. Compare the model's linearity with that of D_G, "
    "which is not quite 1. No value is bad. At both ends every denoiser has high values.",
)

DISTILLATION = Chart(
    name="distillation",
    title="Best affine fit",
    lines={"gaussian.distillation_r2": "model"},
    y_label="R2 on inputs of other images",
    marks=(Mark("affine", y=1.0),),
    caption="Share of the variance of the model's outputs that a linear map with a constant explains, in the "
    "leading principal directions. 1 at D_G. No value is bad: what is left over can be learned structure or "
    "copying.",
)

ALIGNMENT = Chart(
    name="distillation-alignment",
    title="Directions of the affine fit",
    lines={"gaussian.distillation_alignment": "model"},
    y_label="overlap with principal directions",
    marks=(Mark("aligned", y=1.0),),
    caption="Overlap of the directions that the affine fit amplifies most with those in which training images vary "
    "most. 1 at D_G; no value is bad. Chance gives more than 0, as the notes of the figure say. At low noise all "
    "directions are answered alike and the overlap says little.",
)

CHARTS: dict[str, tuple[Chart, ...]] = {
    "memorization": (RATIO,),
    "novelty": (DISTANCES,),
    "fidelity": (NOVELTY_FIDELITY,),
    "denoiser": (INDEX, GAP, GENERALIZATION, ERRORS, RELATIVE_ERRORS, OFF_LINE, NEIGHBOURS, IDENTITY_RESIDUAL),
    "gaussian": (NMSE, COSINES, DISTILLATION, ALIGNMENT),
}
