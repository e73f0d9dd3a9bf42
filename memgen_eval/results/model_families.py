"""The figures of a denoiser, and those beside the Gaussian model, each with its caption.

Each meaning says what is measured, which way is bad, and what an unsuspicious model gives. Squares are per value, data
in [-1, 1].
"""

from __future__ import annotations

from memgen_eval.results.figures import Curve, Estimate, Family, family, figure


@family
class Denoiser(Family):
    """How far the model's denoiser is from the one that can only copy, at each noise level."""

    error_train: Curve = figure(
        "denoising error, training images",
        "Squared error per value of the model on noised training images. Low is good, unless it is low on these "
        "images only.",
    )
    error_test: Curve = figure(
        "denoising error, test images",
        "The same on noised test images, which the model has not seen. High is bad quality; well above the error on "
        "training images is a sign of memorization.",
    )
    relative_error_train: Curve = figure(
        "error relative to D_G, training images",
        "Denoising error over that of D_G, the Wiener denoiser: the best one that knows mean and covariance only. "
        "Below 1 the model does better, by generalizing or by copying.",
    )
    relative_error_test: Curve = figure(
        "error relative to D_G, test images",
        "The same on noised test images, where copying does not help. Below 1 the model has learned more than mean "
        "and covariance; above 1 is bad quality.",
    )
    generalization_gap: Curve = figure(
        "generalization gap",
        "Denoising error on test images minus that on training images. About 0 for a model that does not know its "
        "training images one by one; above 0 is bad.",
        control="0 if training images are not known better",
    )
    mean_generalization_gap: Estimate = figure(
        "generalization gap, mean over the grid",
        "The same averaged over the noise levels of the grid, image by image. About 0 for a model that does not know "
        "its training images one by one; above 0 is bad.",
        control="0 if training images are not known better",
    )
    gap_train: Curve = figure(
        "gap to D* on training images",
        "Squared distance per value between the model and D*, the optimal denoiser, which can only reproduce "
        "training images. Well below the gap on test images, or near 0 on both, is bad.",
        control="on test images",
        beside=("gap_test",),
    )
    gap_test: Curve = figure(
        "gap to D* on test images",
        "The same on noised test images. Near 0 is bad: the model turns unseen images into training images.",
    )
    gap_path: Curve = figure(
        "gap to D* on the sampler's path",
        "The same on the points that the sampler passes through, which noised images do not represent. Near 0 is bad.",
    )
    optimal_error_train: Curve = figure(
        "error of D*, training images",
        "Squared error per value of D*, which can only reproduce training images, on noised training images. A "
        "property of the data: what pure copying gives.",
    )
    optimal_error_test: Curve = figure(
        "error of D*, test images",
        "The same on noised test images. A property of the data: what pure copying gives on unseen images.",
    )
    identity_residual: Curve = figure(
        "identity residual",
        "Error minus gap minus error of D*, on training images: 0 to within the band for every model. Outside, the "
        "run itself is faulty, not the model.",
    )
    memorization_index: Curve = figure(
        "memorization index",
        "Where the model lies between the Wiener denoiser (0), which knows mean and covariance only, and D* of the "
        "whole training set (1), which only copies. Good models rise above 0 too: read the matched index.",
    )
    matched_memorization_index: Curve = figure(
        "matched memorization index",
        "Where the model lies between the Wiener denoiser (0), which knows mean and covariance only, and D* (1), "
        "which only copies, here a D* of training images, in the control of test images. Above the control is bad.",
        control="control",
        beside=("test_memorization_index",),
    )
    test_memorization_index: Curve = figure(
        "memorization index, control",
        "The same index with D* of the test images, which the model never saw: quality alone gives this much.",
    )
    off_line: Curve = figure(
        "distance off the line",
        "How far the model is from the line between the Wiener denoiser and D*, over their squared distance. 0 on "
        "it; where it is large the index describes the model badly.",
    )
    effective_neighbours: Curve = figure(
        "effective neighbours, test images",
        "How many training images D* averages for a noised test image (median). A property of the data: at 1 D* "
        "answers with a single training image.",
    )
    effective_neighbours_train: Curve = figure(
        "effective neighbours, training images",
        "The same for a noised training image. A property of the data: at 1 D* answers with that image itself.",
    )
    collapse_sigma: Estimate = figure(
        "collapse sigma",
        "The noise level below which D* answers a noised training image mostly with that image. A property of the "
        "data, neither good nor bad: the place at which copying shows.",
        unit="sigma",
    )
    predicted_collapse_sigma: Estimate = figure(
        "collapse sigma, predicted",
        "The same predicted from the covariance of the training set; it differs where the data are not Gaussian.",
        unit="sigma",
    )


@family
class Gaussian(Family):
    """How much of the model, or of its samples, the mean and covariance of the training set explain."""

    nmse: Curve = figure(
        "distance from the Gaussian model",
        "Squared distance between the model and D_G, the Wiener denoiser, which knows mean and covariance only, over "
        "the model's own square. Near 0 the model has learned no more; no value is bad in itself.",
        control="0 for the Gaussian model",
    )
    cosine: Curve = figure(
        "cosine to the Gaussian model",
        "Cosine between the outputs of the model and of D_G, less the training mean. 1 at D_G; neither end is bad, "
        "and only middle noise levels tell models apart.",
    )
    linearity: Curve = figure(
        "linearity",
        "Cosine between the output for a mixture of inputs and the mixture of outputs. 1 for a linear map; compare "
        "with that of D_G. Neither end is bad.",
    )
    gaussian_linearity: Curve = figure(
        "linearity of the Gaussian model",
        "The same for D_G, which is linear but for a constant that keeps it below 1: the value to compare with.",
    )
    distillation_r2: Curve = figure(
        "R2 of the best affine fit",
        "Share of the variance of the model's outputs that a linear map with a constant explains, on inputs of other "
        "images. 1 at D_G; neither end is bad.",
    )
    distillation_alignment: Curve = figure(
        "alignment of the affine fit",
        "Overlap of the directions that the fit amplifies most with those in which training images vary most. 1 at "
        "D_G; neither end is bad.",
    )
    wasserstein: Estimate = figure(
        "Gaussian W2 distance of samples",
        "Wasserstein distance between samples and training images, from mean and covariance alone. High is bad "
        "quality; unseen images give the value of the test images, not 0.",
        unit="distance",
        beside=("test_wasserstein",),
    )
    test_wasserstein: Estimate = figure(
        "Gaussian W2 distance of test images",
        "The same for test images at the same number: the value of unseen images.",
        unit="distance",
    )
    subspace_overlap: Estimate = figure(
        "subspace overlap of samples",
        "Overlap of the directions in which samples and training images vary most. Below the value of the test "
        "images is bad quality; 1 for the same directions.",
        beside=("test_subspace_overlap",),
    )
    test_subspace_overlap: Estimate = figure(
        "subspace overlap of test images", "The same for test images at the same number: the value of unseen images."
    )
