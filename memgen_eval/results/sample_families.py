"""The figures of samples: memorization, novelty and fidelity, each with its caption.

Each meaning says what is counted, which way is bad, and what unseen images give.
"""

from __future__ import annotations

from memgen_eval.results.figures import Anchor, Curve, Estimate, Family, Match, family, figure


@family
class Memorization(Family):
    """Copies of training images among the samples, in pixels."""

    ratio: Estimate = figure(
        "memorization ratio",
        "Share of samples flagged as copies: much nearer to one training image than to the next distinct one, "
        "mirrored or not. Chance flags some in the baseline too; a larger share than there is bad.",
        unit="share",
        beside=("test_ratio",),
    )
    plain_ratio: Estimate = figure(
        "memorization ratio, as published",
        "The same share without merging duplicates in the training set and without mirroring. High is bad; it misses "
        "copies of images that the training set holds twice.",
        unit="share",
    )
    test_ratio: Estimate = figure(
        "memorization ratio of the baseline",
        "The same share of baseline images, which cannot have been copied: chance flags this many.",
        unit="share",
    )
    excess: Estimate = figure(
        "excess over the baseline",
        "Memorization ratio minus that of the baseline, in percentage points. About 0 if nothing is copied; above 0 "
        "is bad.",
        unit="points",
        control="0 if nothing is copied",
    )
    ratio_curve: Curve = figure(
        "ratio against c",
        "Share of samples with d1/d2 < c, for every threshold c and not only the one chosen. Above the curve of the "
        "baseline at small c is bad.",
        unit="share",
    )
    test_ratio_curve: Curve = figure(
        "ratio of the baseline against c", "The same curve for baseline images: what chance gives.", unit="share"
    )
    calibrated_threshold: Estimate = figure(
        "calibrated threshold of d1/d2",
        "One of the smallest ratios d1/d2 of the baseline, at most 1 % of the way up: unseen images almost never fall "
        "below it. The larger it is, the more a copy may differ from its training image and still be seen.",
    )
    calibrated_ratio: Estimate = figure(
        "calibrated memorization ratio",
        "Share of samples with d1/d2 below the calibrated threshold. It sees copies with noise, small shifts, blur or "
        "compression, which the rule at c misses. More than unseen images give is bad.",
        unit="share",
        beside=("test_calibrated_ratio",),
    )
    test_calibrated_ratio: Estimate = figure(
        "calibrated memorization ratio of unseen images",
        "The share of unseen images below the calibrated threshold, by its rank among the baseline images.",
        unit="share",
    )
    calibrated_excess: Estimate = figure(
        "calibrated excess",
        "Calibrated memorization ratio of the samples minus that of unseen images, in percentage points. About 0 if "
        "nothing is copied; above 0 is bad.",
        unit="points",
        control="0 if nothing is copied",
    )
    calibrated_p_value: Estimate = figure(
        "p-value of the calibrated memorization ratio",
        "Chance that at least this many samples fall below such a threshold if nothing is copied and samples are "
        "independent: then they are exchangeable with the baseline images. Near 0 is bad.",
        control="above 0.05 in 19 of 20 sets without copies",
    )
    carlini: Estimate = figure(
        "relative distance rule",
        "Share of samples at most half as far from their nearest training image as from their 50 nearest on average "
        "(Carlini et al. 2023). More than in the baseline is bad.",
        unit="share",
        beside=("test_carlini",),
    )
    test_carlini: Estimate = figure(
        "relative distance rule, baseline", "The same share of baseline images: what chance gives.", unit="share"
    )
    carlini_absolute: Estimate = figure(
        "absolute distance rule",
        "Share of samples nearer to a training image than the duplicate tolerance. High is bad; flat images pass it "
        "without being copies.",
        unit="share",
    )
    carlini_patch: Estimate = figure(
        "patch distance rule",
        "Share of samples of which every patch is nearer to the training image than the duplicate tolerance, so that "
        "a flat background alone does not count. High is bad.",
        unit="share",
    )
    feature_similarity: Estimate = figure(
        "feature similarity",
        "Share of samples whose features have a cosine similarity above 0.6, the published threshold for SSCD, to "
        "those of a training image. More than in the baseline is bad; flat and common images pass without being "
        "copies, and the share grows with the size of the training set.",
        unit="share",
        beside=("test_feature_similarity",),
    )
    test_feature_similarity: Estimate = figure(
        "feature similarity, baseline", "The same share of baseline images: what unseen images give.", unit="share"
    )
    feature_threshold: Estimate = figure(
        "calibrated threshold of feature similarity",
        "The largest cosine similarity to the training set that 1 of 1,000 baseline images exceeds (of fewer images, "
        "the largest of all). The nearer to 1, the less can be told of copies on this data.",
    )
    calibrated_feature_similarity: Estimate = figure(
        "calibrated feature similarity",
        "Share of samples above that threshold. It sees crops, shifts and changed colours, which pixels miss, and "
        "misses noise and blur. More than in the baseline is bad.",
        unit="share",
        control="about 0.1 % if nothing is copied",
    )
    feature_p_value: Estimate = figure(
        "p-value of calibrated feature similarity",
        "Chance that at least this many samples exceed the threshold if nothing is copied: then samples and baseline "
        "images are exchangeable. Near 0 is bad.",
        control="above 0.05 in 19 of 20 sets without copies",
    )
    feature_margin_threshold: Estimate = figure(
        "calibrated threshold of the feature margin",
        "The same for the margin: the largest cosine similarity less the second largest, of distinct training images. "
        "1 of 1,000 baseline images has a larger one.",
    )
    calibrated_feature_margin: Estimate = figure(
        "calibrated feature margin",
        "Share of samples whose margin is above that threshold. It loses less than the similarity itself as the "
        "training set grows, and does not see copies of images that the training set holds in several versions.",
        unit="share",
        control="about 0.1 % if nothing is copied",
    )
    feature_margin_p_value: Estimate = figure(
        "p-value of the calibrated feature margin",
        "Chance that at least this many samples have such a margin if nothing is copied. Near 0 is bad.",
        control="above 0.05 in 19 of 20 sets without copies",
    )
    repetition: Estimate = figure(
        "repetition",
        "Share of samples much nearer to another sample than to any of an equal number of baseline images. High "
        "means that the model repeats itself, whether or not it copies.",
        unit="share",
        beside=("test_repetition",),
    )
    test_repetition: Estimate = figure(
        "repetition of the baseline",
        "The same share for one half of the baseline against the other: what unseen images give.",
        unit="share",
    )
    num_distinct_copied: Estimate = figure(
        "training images copied",
        "How many different training images the flagged samples copy. Far fewer than flagged samples: the same "
        "images are copied again and again.",
        unit="count",
        control="0 if nothing is flagged",
    )
    num_near_identical: Estimate = figure(
        "near-identical samples",
        "Samples within the duplicate tolerance of a training image: unless set, a quarter of the usual distance "
        "between training images. A larger share than in the baseline is bad. Either this count or that of the "
        "flagged samples can be the larger.",
        unit="count",
        beside=("test_num_near_identical",),
    )
    test_num_near_identical: Estimate = figure(
        "near-identical baseline images",
        "Baseline images within the same distance of a training image: duplicates between the two sets, not copies.",
        unit="count",
    )
    largest_compatible_ratio: Estimate = figure(
        "largest compatible ratio",
        "The largest true share of copies that these counts cannot rule out (one-sided, 95 %), of copies that the "
        "ratio rule sees. High: copies were found, or too few samples drawn.",
        unit="share",
    )
    detectable_ratio: Estimate = figure(
        "detectable excess",
        "The smallest excess, of copies that the ratio rule sees, that 9 of 10 such evaluations would have called "
        "copies. High: the sets are too small.",
        unit="points",
    )
    copies: tuple[Match, ...]
    closest: tuple[Match, ...]
    test_closest: tuple[Match, ...]


@family
class Novelty(Family):
    """How far samples lie from the training set, beside how far unseen images lie."""

    distance_quantiles: Curve = figure(
        "distances to the nearest training image",
        "How far samples are from their nearest training image, quantile by quantile. Lower quantiles below those of "
        "the baseline are a sign of copies.",
        unit="distance",
    )
    test_distance_quantiles: Curve = figure(
        "distances of the baseline", "The same quantiles for baseline images: what unseen images give.", unit="distance"
    )
    distance_median: Estimate = figure(
        "median distance",
        "Half of the samples are nearer to a training image than this. Below the baseline's is suspicious, but blur "
        "and low contrast lower it too.",
        unit="distance",
        beside=("test_distance_median",),
    )
    test_distance_median: Estimate = figure(
        "median distance of the baseline",
        "Half of the baseline images are nearer to a training image than this: what unseen images give.",
        unit="distance",
    )
    distance_ratio: Estimate = figure(
        "ratio of median distances",
        "Median distance of samples over that of the baseline. About 1 for unseen images; below 1 is suspicious, but "
        "blur and low contrast lower it too.",
        control="1 if as far as {baseline}",
    )
    auc: Estimate = figure(
        "novelty AUC",
        "Chance that a sample is farther from the training set than a baseline image is (area under the ROC curve). "
        "Below 0.5 is bad: copies, or merely blur or low contrast. Above 0.5 is not better: noise is far from all.",
        control="0.5 if as novel as {baseline}",
    )
    relative_auc: Estimate = figure(
        "relative novelty AUC",
        "The same chance for d1/d2, the distance to the nearest training image over that to the next. Below 0.5 is "
        "suspicious. It is less fooled by blur and contrast, and does not notice a few per cent of copies.",
        control="0.5 if as novel as {baseline}",
    )
    ct: Estimate = figure(
        "data-copying test C_T",
        "Z-score of Meehan et al. for samples that are nearer to training images than unseen images are. About 0 for "
        "unseen images, below -2 suspicious; it grows with the number of samples.",
        control="0 if as far as {baseline}",
    )
    relative_ct: Estimate = figure(
        "relative C_T",
        "The same z-score for d1/d2. About 0 for unseen images, below -2 suspicious.",
        control="0 if as far as {baseline}",
    )
    authenticity: Estimate = figure(
        "authenticity",
        "Share of samples farther from their nearest training image than that image is from its own nearest. Less "
        "than in the baseline is suspicious; unseen images do not give 50 %.",
        unit="share",
        beside=("test_authenticity",),
    )
    test_authenticity: Estimate = figure(
        "authenticity of the baseline", "The same share of baseline images: the value to compare with.", unit="share"
    )


# Name and meaning of the seven measures, each taken against train, against test, and as the difference of both.
MEASURES = {
    "precision": "Share of samples that lie where the data lie. Low is bad quality; 1 for pure copies too.",
    "recall": "Share of the data that lie where samples lie. Low is bad: little variety. "
    "High for copies and noise too.",
    "density": "Samples around a data point, over the number expected. Low is bad quality; "
    "about 1 for pure copies too.",
    "coverage": "Share of data points with a sample around them. Low is bad: little variety. 1 for pure copies too.",
    "FID": "Frechet distance of feature means and covariances. High is bad quality; too high in small sets.",
    "KID": "Kernel distance of features. 0 for equal distributions, high is bad quality.",
    "sliced Wasserstein distance": "Wasserstein distance along random directions, root mean square. 0 for equal sets; "
    "high is bad quality. Too high in small sets.",
}


def _against(images: str, measure: str) -> tuple[str, str]:
    return f"{measure} against {images}", f"{MEASURES[measure]} Measured against {images}."


def _gap(measure: str) -> tuple[str, str]:
    sentence = "Here train minus test, at equal size: about 0 unless the samples are closer to train than to test."
    return f"{measure}, train minus test", f"{MEASURES[measure]} {sentence}"


@family
class Fidelity(Family):
    """How like the data the samples are: against train, against test, and train minus test."""

    precision: Estimate = figure(*_against("train", "precision"), beside=("test_precision", "gap_precision"))
    recall: Estimate = figure(*_against("train", "recall"), beside=("test_recall", "gap_recall"))
    density: Estimate = figure(*_against("train", "density"), beside=("test_density", "gap_density"))
    coverage: Estimate = figure(*_against("train", "coverage"), beside=("test_coverage", "gap_coverage"))
    fid: Estimate = figure(*_against("train", "FID"), beside=("test_fid", "gap_fid"))
    kid: Estimate = figure(*_against("train", "KID"), beside=("test_kid", "gap_kid"))
    swd: Estimate = figure(
        *_against("train", "sliced Wasserstein distance"), unit="distance", beside=("test_swd", "gap_swd")
    )
    test_precision: Estimate = figure(*_against("test", "precision"))
    test_recall: Estimate = figure(*_against("test", "recall"))
    test_density: Estimate = figure(*_against("test", "density"))
    test_coverage: Estimate = figure(*_against("test", "coverage"))
    test_fid: Estimate = figure(*_against("test", "FID"))
    test_kid: Estimate = figure(*_against("test", "KID"))
    test_swd: Estimate = figure(*_against("test", "sliced Wasserstein distance"), unit="distance")
    gap_precision: Estimate = figure(*_gap("precision"))
    gap_recall: Estimate = figure(*_gap("recall"))
    gap_density: Estimate = figure(*_gap("density"))
    gap_coverage: Estimate = figure(*_gap("coverage"))
    gap_fid: Estimate = figure(*_gap("FID"))
    gap_kid: Estimate = figure(*_gap("KID"))
    gap_swd: Estimate = figure(*_gap("sliced Wasserstein distance"), unit="distance")
    anchors: tuple[Anchor, ...]
