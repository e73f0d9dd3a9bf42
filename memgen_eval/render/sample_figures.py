"""What the figures of samples are called and mean: memorization, novelty, fidelity."""

from __future__ import annotations

from memgen_eval.render.numbers import Figure

MEMORIZATION = {
    "ratio": Figure(
        "memorization ratio",
        "share",
        "Samples nearer to one training image than to c times the next distinct one; mirrored images included.",
    ),
    "plain_ratio": Figure(
        "memorization ratio, as published",
        "share",
        "The same rule without merging duplicates and without mirrored images.",
    ),
    "test_ratio": Figure(
        "memorization ratio of the baseline",
        "share",
        "The ratio for images that cannot have been copied: what chance gives.",
    ),
    "excess": Figure(
        "excess over the baseline",
        "points",
        "Memorization ratio minus that of the baseline, in percentage points; 0 if nothing is copied.",
    ),
    "ratio_curve": Figure(
        "ratio against c", "share", "The memorization ratio for every threshold c, not only the one chosen."
    ),
    "test_ratio_curve": Figure(
        "ratio of the baseline against c", "share", "The same curve for images that cannot have been copied."
    ),
    "carlini": Figure(
        "relative distance rule",
        "share",
        "Samples no farther than half the mean distance of their 50 nearest training images (Carlini 2023).",
    ),
    "test_carlini": Figure(
        "relative distance rule, baseline", "share", "The same share for the baseline: what chance gives."
    ),
    "carlini_absolute": Figure(
        "absolute distance rule", "share", "Samples nearer to a training image than a fixed distance."
    ),
    "carlini_patch": Figure(
        "patch distance rule",
        "share",
        "Samples whose every patch is nearer than a fixed distance, so that flat backgrounds do not match.",
    ),
    "feature_similarity": Figure(
        "feature similarity",
        "share",
        "Samples whose largest cosine similarity to train passes a threshold; grows with the size of train.",
    ),
    "test_feature_similarity": Figure(
        "feature similarity, baseline", "share", "The same share for the baseline: what unseen images give."
    ),
    "repetition": Figure(
        "repetition", "share", "Samples much nearer to another sample than to any of as many baseline images: collapse."
    ),
    "test_repetition": Figure(
        "repetition of the baseline", "share", "The same share for one half of the baseline against the other."
    ),
    "num_distinct_copied": Figure(
        "training images copied", "count", "Different training images that flagged samples copy."
    ),
    "num_near_identical": Figure(
        "near-identical samples", "count", "Samples that are a training image to within the duplicate tolerance."
    ),
    "test_num_near_identical": Figure(
        "near-identical baseline images",
        "count",
        "Baseline images that are a training image to within the duplicate tolerance: leaks, if any.",
    ),
    "largest_compatible_ratio": Figure(
        "largest compatible ratio",
        "share",
        "The largest true share of copies seen by the rule that these counts still allow (one-sided, 95 %).",
    ),
    "detectable_ratio": Figure(
        "detectable excess",
        "points",
        "The smallest excess, of copies seen by the rule, that 9 of 10 such evaluations would have called copies.",
    ),
}

NOVELTY = {
    "distance_quantiles": Figure(
        "distances to the nearest training image",
        "distance",
        "Quantiles of the samples' distances to their nearest training image.",
    ),
    "test_distance_quantiles": Figure("distances of the baseline", "distance", "The same quantiles for the baseline."),
    "distance_median": Figure(
        "median distance", "distance", "Half of the samples are nearer to a training image than this."
    ),
    "test_distance_median": Figure(
        "median distance of the baseline",
        "distance",
        "Half of the baseline images are nearer to a training image than this.",
    ),
    "distance_ratio": Figure(
        "ratio of median distances",
        "number",
        "Median distance of samples over that of the baseline; 1 for unseen images.",
    ),
    "auc": Figure(
        "novelty AUC",
        "number",
        "Chance that a sample is farther from train than a baseline image; below 0.5: copies, or blur or low contrast.",
    ),
    "relative_auc": Figure(
        "relative novelty AUC",
        "number",
        "The same on d1/d2: less fooled by blur and contrast, not immune, and blind to a few per cent of copies.",
    ),
    "ct": Figure(
        "data-copying test C_T",
        "number",
        "Meehan's z-score on distances: negative if samples are nearer than test images; grows with the sample size.",
    ),
    "relative_ct": Figure("relative C_T", "number", "The same test on d1/d2."),
    "authenticity": Figure(
        "authenticity",
        "share",
        "Samples farther from their nearest training image than that one from its own neighbour; null not 50 %.",
    ),
    "test_authenticity": Figure(
        "authenticity of the baseline", "share", "The same share for the baseline: the value to compare with."
    ),
}


def fidelity() -> dict[str, Figure]:
    """Seven figures against train, the same against test, and their differences."""
    measures: dict[str, tuple[str, str]] = {
        "precision": (
            "precision",
            "Share of samples inside the estimated support of the data; 1 for a copy of the training set too.",
        ),
        "recall": (
            "recall",
            "Share of the data inside the estimated support of the samples; 1 for a copy of the training set too.",
        ),
        "density": (
            "density",
            "How many data balls hold a sample, on average, over their expected number; about 1 for a copy too.",
        ),
        "coverage": (
            "coverage",
            "Share of data points with a sample in their ball; 1 for a copy of the training set too.",
        ),
        "fid": (
            "FID",
            "Frechet distance of feature means and covariances; smaller is closer; biased upward at small sizes.",
        ),
        "kid": ("KID", "Kernel distance of features; 0 for equal distributions; unbiased in the size."),
        "swd": (
            "sliced Wasserstein distance",
            "Wasserstein distance averaged over random projections; smaller is closer.",
        ),
    }
    against = {
        "": (" against train", " Measured against train."),
        "test_": (" against test", " Measured against test."),
        "gap_": (
            ", train minus test",
            " Train minus test at one size; 0 if the samples are no closer to train than to test.",
        ),
    }
    return {
        prefix + name: Figure(label + suffix, "number", meaning + where)
        for prefix, (suffix, where) in against.items()
        for name, (label, meaning) in measures.items()
    }
