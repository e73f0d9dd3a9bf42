"""Which curves are drawn together, on which axes, and what each chart can and cannot tell: data, nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["samples", "baseline", "third", "fourth"]
Form = Literal["cdf", "thresholds", "sigmas"]


@dataclass(frozen=True)
class Line:
    """One curve of a report: its colour goes by its role, "samples" for what is judged, "baseline" for its control."""

    path: str
    label: str
    role: Role


@dataclass(frozen=True)
class Mark:
    """A place on an axis worth a thin line: a number on y, or a figure of the report on x."""

    label: str
    y: float | None = None
    x_path: str | None = None


@dataclass(frozen=True)
class Chart:
    """A picture with its caption. `{baseline}` and `{threshold}` stand for the report's own words."""

    name: str
    title: str
    form: Form
    lines: tuple[Line, ...]
    y_label: str
    caption: str
    marks: tuple[Mark, ...] = ()
    log_y: bool = False


SIGMA_LABEL = "noise level sigma, data in [-1, 1] (log scale)"
COLLAPSE = Mark("collapse", x_path="denoiser.collapse_sigma")

DISTANCES = Chart(
    name="distances",
    title="Distance to the nearest training image",
    form="cdf",
    lines=(
        Line("novelty.distance_quantiles", "samples", "samples"),
        Line("novelty.test_distance_quantiles", "{baseline}", "baseline"),
    ),
    y_label="share of images at most this far",
    caption="A curve further left means images nearer to the training set. Copies lift its foot, at distances where no "
    "unseen image lies; a shift of the whole curve can be blur or low contrast as well as closeness to the data.",
)

RATIO = Chart(
    name="ratio-curve",
    title="Flagged images against the threshold c",
    form="thresholds",
    lines=(
        Line("memorization.ratio_curve", "samples", "samples"),
        Line("memorization.test_ratio_curve", "{baseline}", "baseline"),
    ),
    y_label="share with d1/d2 < c (square-root scale)",
    caption="The verdict uses c = {threshold}. Copies keep the curve of the samples above that of the {baseline} at "
    "small c; near c = 1 every image passes and the curve says nothing. It cannot show copies that were cropped, "
    "shifted or recoloured.",
)

INDEX = Chart(
    name="memorization-index",
    title="Memorization index",
    form="sigmas",
    lines=(
        Line("denoiser.matched_memorization_index", "matched, training images", "samples"),
        Line("denoiser.test_memorization_index", "control, test images", "baseline"),
        Line("denoiser.memorization_index", "whole training set", "third"),
    ),
    y_label="place between Wiener (0) and D* (1)",
    marks=(Mark("D*", y=1.0), Mark("Wiener", y=0.0), COLLAPSE),
    caption="Only the excess of the matched curve over its control speaks of memorization: a model that saw neither "
    "set gives the same curve twice, however good it is. Where D* and the Wiener denoiser agree there is nothing to "
    "measure.",
)

GAP = Chart(
    name="gap",
    title="Gap to the optimal denoiser D*",
    form="sigmas",
    lines=(
        Line("denoiser.gap_train", "noised training images", "samples"),
        Line("denoiser.gap_test", "noised test images", "baseline"),
        Line("denoiser.gap_path", "sampler's own path", "third"),
    ),
    y_label="squared distance per value",
    marks=(COLLAPSE,),
    log_y=True,
    caption="A sampler that follows D* can only reproduce training images, so a small gap where D* copies is a bad "
    "sign. A large gap on noised test images need not be met on the path that sampling takes.",
)

GENERALIZATION = Chart(
    name="generalization-gap",
    title="Generalization gap",
    form="sigmas",
    lines=(Line("denoiser.generalization_gap", "test minus train", "samples"),),
    y_label="difference of squared errors per value",
    marks=(Mark("no gap", y=0.0),),
    caption="Above zero the model denoises its training images better than unseen ones: it knows them. "
    "That alone does not say that its samples copy them.",
)

ERRORS = Chart(
    name="errors",
    title="Denoising errors",
    form="sigmas",
    lines=(
        Line("denoiser.error_train", "model, training images", "samples"),
        Line("denoiser.error_test", "model, test images", "baseline"),
        Line("denoiser.optimal_error_train", "D*, training images", "third"),
        Line("denoiser.optimal_error_test", "D*, test images", "fourth"),
    ),
    y_label="squared error per value",
    log_y=True,
    caption="D* is unbeatable on the images it holds and poor on others at low noise; a model that generalizes "
    "stays between. Low error is fidelity, and says nothing of novelty.",
)

RELATIVE_ERRORS = Chart(
    name="relative-errors",
    title="Errors relative to the Gaussian model D_G",
    form="sigmas",
    lines=(
        Line("denoiser.relative_error_train", "training images", "samples"),
        Line("denoiser.relative_error_test", "test images", "baseline"),
    ),
    y_label="squared error over that of D_G",
    marks=(Mark("D_G", y=1.0),),
    log_y=True,
    caption="Below 1 the model is nearer to the clean images than the Wiener denoiser, which knows only the mean and "
    "covariance of the training set. On training images copying lowers it too: read it on test images.",
)

OFF_LINE = Chart(
    name="off-line",
    title="Distance off the line between Wiener and D*",
    form="sigmas",
    lines=(Line("denoiser.off_line", "model", "samples"),),
    y_label="relative squared distance",
    marks=(Mark("on the line", y=0.0),),
    caption="Where this is large, the model is neither of the two extremes nor a mixture of them, and the index above "
    "describes only a part of it.",
)

NEIGHBOURS = Chart(
    name="effective-neighbours",
    title="Training images that D* mixes",
    form="sigmas",
    lines=(
        Line("denoiser.effective_neighbours_train", "noised training images", "samples"),
        Line("denoiser.effective_neighbours", "noised test images", "baseline"),
    ),
    y_label="effective number of images",
    marks=(COLLAPSE, Mark("predicted", x_path="denoiser.predicted_collapse_sigma")),
    log_y=True,
    caption="A property of the data alone, not of the model: below the collapse sigma D* answers with a single "
    "training image.",
)

RESIDUAL = Chart(
    name="identity-residual",
    title="Check on the run",
    form="sigmas",
    lines=(Line("denoiser.identity_residual", "error - gap - error of D*", "samples"),),
    y_label="residual per value",
    marks=(Mark("expected", y=0.0),),
    caption="Zero in expectation on training images. A band that misses zero points at a fault of the run, "
    "not of the model.",
)

NMSE = Chart(
    name="nmse",
    title="Distance from the Gaussian model",
    form="sigmas",
    lines=(Line("gaussian.nmse", "model", "samples"),),
    y_label="relative squared distance to D_G",
    marks=(Mark("Gaussian model", y=0.0),),
    caption="Near zero the model does no more than the mean and covariance of the training set allow. "
    "All models are alike at the ends; only middle sigma tell them apart.",
)

COSINES = Chart(
    name="cosines",
    title="Likeness to the Gaussian model, and linearity",
    form="sigmas",
    lines=(
        Line("gaussian.linearity", "linearity of the model", "samples"),
        Line("gaussian.gaussian_linearity", "linearity of D_G", "baseline"),
        Line("gaussian.cosine", "cosine to D_G", "third"),
    ),
    y_label="cosine",
    marks=(Mark("alike", y=1.0),),
    caption="Linearity is to be compared with that of D_G, which its bias keeps below 1. "
    "High values at the ends hold for every denoiser.",
)

DISTILLATION = Chart(
    name="distillation",
    title="Best affine fit",
    form="sigmas",
    lines=(Line("gaussian.distillation_r2", "model", "samples"),),
    y_label="R2 on inputs of other images",
    marks=(Mark("affine", y=1.0),),
    caption="How much of the denoiser an affine map explains in the leading principal directions; "
    "it does not say which affine map, nor whether the rest is copying.",
)

ALIGNMENT = Chart(
    name="distillation-alignment",
    title="Directions of the affine fit",
    form="sigmas",
    lines=(Line("gaussian.distillation_alignment", "model", "samples"),),
    y_label="overlap with principal directions",
    marks=(Mark("aligned", y=1.0),),
    caption="Near 1 the fit answers most strongly in the directions in which the training images vary most, as the "
    "Gaussian model does. Chance is not 0: it stands in the notes. Where the model hardly changes its input, at low "
    "noise, all directions are answered alike and the overlap says little.",
)

SECTIONS: dict[str, tuple[Chart, ...]] = {
    "memorization": (RATIO,),
    "novelty": (DISTANCES,),
    "denoiser": (INDEX, GAP, GENERALIZATION, ERRORS, RELATIVE_ERRORS, OFF_LINE, NEIGHBOURS, RESIDUAL),
    "gaussian": (NMSE, COSINES, DISTILLATION, ALIGNMENT),
}
