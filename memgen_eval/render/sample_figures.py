"""What the figures of samples are called and mean: memorization, novelty, fidelity.

Each meaning says what is counted, which way is bad, and what unseen images give.
"""

from __future__ import annotations

from memgen_eval.render.numbers import Figure

MEMORIZATION = {
    "ratio": Figure(
        "memorization ratio",
        "share",
        "Share of samples flagged as copies: much nearer to one training image than to the next distinct one, "
        "mirrored or not. Chance flags some in the baseline too; a larger share than there is bad.",
    ),
    "plain_ratio": Figure(
        "memorization ratio, as published",
        "share",
        "The same share without merging duplicates in the training set and without mirroring. High is bad; it misses "
        "copies of images that the training set holds twice.",
    ),
    "test_ratio": Figure(
        "memorization ratio of the baseline",
        "share",
        "The same share of baseline images, which cannot have been copied: chance flags this many.",
    ),
    "excess": Figure(
        "excess over the baseline",
        "points",
        "Memorization ratio minus that of the baseline, in percentage points. About 0 if nothing is copied; above 0 "
        "is bad.",
    ),
    "ratio_curve": Figure(
        "ratio against c",
        "share",
        "Share of samples with d1/d2 < c, for every threshold c and not only the one chosen. Above the curve of the "
        "baseline at small c is bad.",
    ),
    "test_ratio_curve": Figure(
        "ratio of the baseline against c", "share", "The same curve for baseline images: what chance gives."
    ),
    "carlini": Figure(
        "relative distance rule",
        "share",
        "Share of samples at most half as far from their nearest training image as from their 50 nearest on average "
        "(Carlini et al. 2023). More than in the baseline is bad.",
    ),
    "test_carlini": Figure(
        "relative distance rule, baseline", "share", "The same share of baseline images: what chance gives."
    ),
    "carlini_absolute": Figure(
        "absolute distance rule",
        "share",
        "Share of samples nearer to a training image than the duplicate tolerance. High is bad; flat images pass it "
        "without being copies.",
    ),
    "carlini_patch": Figure(
        "patch distance rule",
        "share",
        "Share of samples of which every patch is nearer to the training image than the duplicate tolerance, so that "
        "a flat background alone does not count. High is bad.",
    ),
    "feature_similarity": Figure(
        "feature similarity",
        "share",
        "Share of samples whose features are more similar to those of a training image than a threshold. More than "
        "in the baseline is bad; it grows with the size of the training set.",
    ),
    "test_feature_similarity": Figure(
        "feature similarity, baseline", "share", "The same share of baseline images: what unseen images give."
    ),
    "repetition": Figure(
        "repetition",
        "share",
        "Share of samples much nearer to another sample than to any of an equal number of baseline images. High "
        "means that the model repeats itself, whether or not it copies.",
    ),
    "test_repetition": Figure(
        "repetition of the baseline",
        "share",
        "The same share for one half of the baseline against the other: what unseen images give.",
    ),
    "num_distinct_copied": Figure(
        "training images copied",
        "count",
        "How many different training images the flagged samples copy. Far fewer than flagged samples: the same "
        "images are copied again and again.",
    ),
    "num_near_identical": Figure(
        "near-identical samples",
        "count",
        "Samples within the duplicate tolerance of a training image: unless set, a quarter of the usual distance "
        "between training images. A larger share than in the baseline is bad. Either this count or that of the "
        "flagged samples can be the larger.",
    ),
    "test_num_near_identical": Figure(
        "near-identical baseline images",
        "count",
        "Baseline images within the same distance of a training image: duplicates between the two sets, not copies.",
    ),
    "largest_compatible_ratio": Figure(
        "largest compatible ratio",
        "share",
        "The largest true share of copies that these counts cannot rule out (one-sided, 95 %), of copies that the "
        "ratio rule sees. High: copies were found, or too few samples drawn.",
    ),
    "detectable_ratio": Figure(
        "detectable excess",
        "points",
        "The smallest excess, of copies that the ratio rule sees, that 9 of 10 such evaluations would have called "
        "copies. High: the sets are too small.",
    ),
}

NOVELTY = {
    "distance_quantiles": Figure(
        "distances to the nearest training image",
        "distance",
        "How far samples are from their nearest training image, quantile by quantile. Lower quantiles below those of "
        "the baseline are a sign of copies.",
    ),
    "test_distance_quantiles": Figure(
        "distances of the baseline", "distance", "The same quantiles for baseline images: what unseen images give."
    ),
    "distance_median": Figure(
        "median distance",
        "distance",
        "Half of the samples are nearer to a training image than this. Below the baseline's is suspicious, but blur "
        "and low contrast lower it too.",
    ),
    "test_distance_median": Figure(
        "median distance of the baseline",
        "distance",
        "Half of the baseline images are nearer to a training image than this: what unseen images give.",
    ),
    "distance_ratio": Figure(
        "ratio of median distances",
        "number",
        "Median distance of samples over that of the baseline. About 1 for unseen images; below 1 is suspicious, but "
        "blur and low contrast lower it too.",
    ),
    "auc": Figure(
        "novelty AUC",
        "number",
        "Chance that a sample is farther from the training set than a baseline image is (area under the ROC curve). "
        "Below 0.5 is bad: copies, or merely blur or low contrast. Above 0.5 is not better: noise is far from all.",
    ),
    "relative_auc": Figure(
        "relative novelty AUC",
        "number",
        "The same chance for d1/d2, the distance to the nearest training image over that to the next. Below 0.5 is "
        "suspicious. It is less fooled by blur and contrast, and does not notice a few per cent of copies.",
    ),
    "ct": Figure(
        "data-copying test C_T",
        "number",
        "Z-score of Meehan et al. for samples that are nearer to training images than unseen images are. About 0 for "
        "unseen images, below -2 suspicious; it grows with the number of samples.",
    ),
    "relative_ct": Figure(
        "relative C_T",
        "number",
        "The same z-score for d1/d2. About 0 for unseen images, below -2 suspicious.",
    ),
    "authenticity": Figure(
        "authenticity",
        "share",
        "Share of samples farther from their nearest training image than that image is from its own nearest. Less "
        "than in the baseline is suspicious; unseen images do not give 50 %.",
    ),
    "test_authenticity": Figure(
        "authenticity of the baseline", "share", "The same share of baseline images: the value to compare with."
    ),
}


def fidelity() -> dict[str, Figure]:
    """Seven figures against train, the same against test, and their differences."""
    measures: dict[str, tuple[str, str]] = {
        "precision": (
            "precision",
            "Share of samples that lie where the data lie. Low is bad quality; 1 for pure copies too.",
        ),
        "recall": (
            "recall",
            "Share of the data that lie where samples lie. Low is bad: little variety. 1 for pure copies too.",
        ),
        "density": (
            "density",
            "Samples around a data point, over the number expected. Low is bad quality; about 1 for pure copies too.",
        ),
        "coverage": (
            "coverage",
            "Share of data points with a sample around them. Low is bad: little variety. 1 for pure copies too.",
        ),
        "fid": (
            "FID",
            "Frechet distance of feature means and covariances. High is bad quality; too high in small sets.",
        ),
        "kid": ("KID", "Kernel distance of features. 0 for equal distributions, high is bad quality."),
        "swd": (
            "sliced Wasserstein distance",
            "Wasserstein distance averaged over random projections. 0 for equal sets, high is bad quality.",
        ),
    }
    against = {
        "": (" against train", " Measured against train."),
        "test_": (" against test", " Measured against test."),
        "gap_": (
            ", train minus test",
            " Here train minus test, at equal size: about 0 unless the samples are closer to train than to test.",
        ),
    }
    return {
        prefix + name: Figure(label + suffix, "number", meaning + where)
        for prefix, (suffix, where) in against.items()
        for name, (label, meaning) in measures.items()
    }
