"""What the figures of the denoiser and of the Gaussian model are called and mean.

Each meaning says what is measured, which way is bad, and what an unsuspicious model gives. Squares are per value, data
in [-1, 1].
"""

from __future__ import annotations

from memgen_eval.render.numbers import Figure

DENOISER = {
    "error_train": Figure(
        "denoising error, training images",
        "number",
        "Squared error per value of the model on noised training images. Low is good, unless it is low on these "
        "images only.",
    ),
    "error_test": Figure(
        "denoising error, test images",
        "number",
        "The same on noised test images, which the model has not seen. High is bad quality; well above the error on "
        "training images is a sign of memorization.",
    ),
    "relative_error_train": Figure(
        "error relative to D_G, training images",
        "number",
        "Denoising error over that of D_G, the Wiener denoiser: the best one that knows mean and covariance only. "
        "Below 1 the model does better, by generalizing or by copying.",
    ),
    "relative_error_test": Figure(
        "error relative to D_G, test images",
        "number",
        "The same on noised test images, where copying does not help. Below 1 the model has learned more than mean "
        "and covariance; above 1 is bad quality.",
    ),
    "generalization_gap": Figure(
        "generalization gap",
        "number",
        "Denoising error on test images minus that on training images. About 0 for a model that does not know its "
        "training images one by one; above 0 is bad.",
    ),
    "gap_train": Figure(
        "gap to D* on training images",
        "number",
        "Squared distance per value between the model and D*, the optimal denoiser, which can only reproduce "
        "training images. Well below the gap on test images, or near 0 on both, is bad.",
    ),
    "gap_test": Figure(
        "gap to D* on test images",
        "number",
        "The same on noised test images. Near 0 is bad: the model turns unseen images into training images.",
    ),
    "gap_path": Figure(
        "gap to D* on the sampler's path",
        "number",
        "The same on the points that the sampler passes through, which noised images do not represent. Near 0 is bad.",
    ),
    "optimal_error_train": Figure(
        "error of D*, training images",
        "number",
        "Squared error per value of D*, which can only reproduce training images, on noised training images. A "
        "property of the data: what pure copying gives.",
    ),
    "optimal_error_test": Figure(
        "error of D*, test images",
        "number",
        "The same on noised test images. A property of the data: what pure copying gives on unseen images.",
    ),
    "identity_residual": Figure(
        "identity residual",
        "number",
        "Error minus gap minus error of D*, on training images: 0 to within the band for every model. Outside, the "
        "run itself is faulty, not the model.",
    ),
    "memorization_index": Figure(
        "memorization index",
        "number",
        "Where the model lies between the Wiener denoiser (0), which knows mean and covariance only, and D* of the "
        "whole training set (1), which only copies. Good models rise above 0 too: read the matched index.",
    ),
    "matched_memorization_index": Figure(
        "matched memorization index",
        "number",
        "Where the model lies between the Wiener denoiser (0), which knows mean and covariance only, and D* (1), "
        "which only copies, here a D* of training images, in the control of test images. Above the control is bad.",
    ),
    "test_memorization_index": Figure(
        "memorization index, control",
        "number",
        "The same index with D* of the test images, which the model never saw: quality alone gives this much.",
    ),
    "off_line": Figure(
        "distance off the line",
        "number",
        "How far the model is from the line between the Wiener denoiser and D*, over their squared distance. 0 on "
        "it; where it is large the index describes the model badly.",
    ),
    "effective_neighbours": Figure(
        "effective neighbours, test images",
        "number",
        "How many training images D* averages for a noised test image (median). A property of the data: at 1 D* "
        "answers with a single training image.",
    ),
    "effective_neighbours_train": Figure(
        "effective neighbours, training images",
        "number",
        "The same for a noised training image. A property of the data: at 1 D* answers with that image itself.",
    ),
    "collapse_sigma": Figure(
        "collapse sigma",
        "sigma",
        "The noise level below which D* answers a noised training image mostly with that image. A property of the "
        "data, neither good nor bad: the place at which copying shows.",
    ),
    "predicted_collapse_sigma": Figure(
        "collapse sigma, predicted",
        "sigma",
        "The same predicted from the covariance of the training set; it differs where the data are not Gaussian.",
    ),
}

GAUSSIAN = {
    "nmse": Figure(
        "distance from the Gaussian model",
        "number",
        "Squared distance between the model and D_G, the Wiener denoiser, which knows mean and covariance only, over "
        "the model's own square. Near 0 the model has learned no more; no value is bad in itself.",
    ),
    "cosine": Figure(
        "cosine to the Gaussian model",
        "number",
        "Cosine between the outputs of the model and of D_G, less the training mean. 1 at D_G; neither end is bad, "
        "and only middle noise levels tell models apart.",
    ),
    "linearity": Figure(
        "linearity",
        "number",
        "Cosine between the output for a mixture of inputs and the mixture of outputs. 1 for a linear map; compare "
        "with that of D_G. Neither end is bad.",
    ),
    "gaussian_linearity": Figure(
        "linearity of the Gaussian model",
        "number",
        "The same for D_G, which is linear but for a constant that keeps it below 1: the value to compare with.",
    ),
    "distillation_r2": Figure(
        "R2 of the best affine fit",
        "number",
        "Share of the variance of the model's outputs that a linear map with a constant explains, on inputs of other "
        "images. 1 at D_G; neither end is bad.",
    ),
    "distillation_alignment": Figure(
        "alignment of the affine fit",
        "number",
        "Overlap of the directions that the fit amplifies most with those in which training images vary most. 1 at "
        "D_G; neither end is bad.",
    ),
    "wasserstein": Figure(
        "Gaussian W2 distance of samples",
        "distance",
        "Wasserstein distance between samples and training images, from mean and covariance alone. High is bad "
        "quality; unseen images give the value of the test images, not 0.",
    ),
    "test_wasserstein": Figure(
        "Gaussian W2 distance of test images",
        "distance",
        "The same for test images at the same number: the value of unseen images.",
    ),
    "subspace_overlap": Figure(
        "subspace overlap of samples",
        "number",
        "Overlap of the directions in which samples and training images vary most. Below the value of the test "
        "images is bad quality; 1 for the same directions.",
    ),
    "test_subspace_overlap": Figure(
        "subspace overlap of test images",
        "number",
        "The same for test images at the same number: the value of unseen images.",
    ),
}
