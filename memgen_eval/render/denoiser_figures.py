"""What the figures of the denoiser and of the Gaussian model are called and mean."""

from __future__ import annotations

from memgen_eval.render.numbers import Figure

DENOISER = {
    "error_train": Figure(
        "denoising error, training images", "number", "Squared error per value on noised training images."
    ),
    "error_test": Figure("denoising error, test images", "number", "Squared error per value on noised test images."),
    "relative_error_train": Figure(
        "error relative to D_G, training images",
        "number",
        "Denoising error over that of the Wiener denoiser D_G; below 1 the model is nearer to the clean images.",
    ),
    "relative_error_test": Figure(
        "error relative to D_G, test images",
        "number",
        "The same on noised test images: below 1 the model has learned more than mean and covariance.",
    ),
    "generalization_gap": Figure(
        "generalization gap",
        "number",
        "Denoising error on test minus on train; 0 for a model that does not know its training images.",
    ),
    "gap_train": Figure(
        "gap to D*, training images",
        "number",
        "Squared distance per value to the optimal denoiser D*, which can only copy; 0 for a pure copier.",
    ),
    "gap_test": Figure("gap to D*, test images", "number", "The same on noised test images."),
    "gap_path": Figure(
        "gap to D*, sampler's path",
        "number",
        "The same on points of the sampler's own path: a gap on noised images need not be met there.",
    ),
    "optimal_error_train": Figure(
        "error of D*, training images", "number", "Squared error per value of D* itself on noised training images."
    ),
    "optimal_error_test": Figure(
        "error of D*, test images", "number", "Squared error per value of D* itself on noised test images."
    ),
    "identity_residual": Figure(
        "identity residual",
        "number",
        "Error minus gap minus error of D*, on train: 0 in expectation; a check on the run itself.",
    ),
    "memorization_index": Figure(
        "memorization index",
        "number",
        "Place of the model on the line from the Wiener denoiser (0) to D* of the whole training set (1).",
    ),
    "matched_memorization_index": Figure(
        "matched memorization index",
        "number",
        "The index with D* of as many training images as there are test images; read its excess over the control.",
    ),
    "test_memorization_index": Figure(
        "memorization index, control",
        "number",
        "The index with D* of the test images, which the model never saw: quality alone gives this much.",
    ),
    "off_line": Figure(
        "distance off the line",
        "number",
        "How far the model is from the line between the Wiener denoiser and D*; 0 on it.",
    ),
    "effective_neighbours": Figure(
        "effective neighbours, test images", "number", "Training images that D* mixes for a noised test image (median)."
    ),
    "effective_neighbours_train": Figure(
        "effective neighbours, training images",
        "number",
        "Training images that D* mixes for a noised training image (median); 1 where D* only copies.",
    ),
    "collapse_sigma": Figure(
        "collapse sigma",
        "sigma",
        "Largest noise at which D* gives a noised training image its own image at least half the weight.",
    ),
    "predicted_collapse_sigma": Figure(
        "collapse sigma, predicted", "sigma", "The same predicted from the spectrum of the training set."
    ),
}

GAUSSIAN = {
    "nmse": Figure(
        "distance from the Gaussian model",
        "number",
        "Squared distance of the denoiser to the Wiener denoiser D_G over its own square; 0 at D_G.",
    ),
    "cosine": Figure(
        "cosine to the Gaussian model",
        "number",
        "Cosine between the denoiser and D_G about the training mean; 1 at D_G; only middle sigma tell models apart.",
    ),
    "linearity": Figure(
        "linearity",
        "number",
        "Cosine between the output of a mixture and the mixture of outputs; compare with that of D_G.",
    ),
    "gaussian_linearity": Figure(
        "linearity of the Gaussian model",
        "number",
        "The same for D_G, which is affine and yet below 1 because of its bias.",
    ),
    "distillation_r2": Figure(
        "R2 of the best affine fit",
        "number",
        "How much of the denoiser an affine map explains, on inputs of other images; 1 all of it.",
    ),
    "distillation_alignment": Figure(
        "alignment of the affine fit",
        "number",
        "Overlap of the fit's leading output directions with the leading principal directions of train; 1 at D_G.",
    ),
    "wasserstein": Figure(
        "Gaussian W2 distance of samples",
        "distance",
        "Wasserstein distance between the Gaussians of samples and train; 0 for equal means and covariances.",
    ),
    "test_wasserstein": Figure(
        "Gaussian W2 distance of test images",
        "distance",
        "The same for test images at the same size: sampling alone gives this much.",
    ),
    "subspace_overlap": Figure(
        "subspace overlap of samples",
        "number",
        "Overlap of the leading principal directions of samples and train; 1 for the same subspace.",
    ),
    "test_subspace_overlap": Figure(
        "subspace overlap of test images", "number", "The same for test images at the same size."
    ),
}
