"""The figures of memorization, each with its caption.

Each meaning says what is counted, which way is bad, and what unseen images give.
"""

from __future__ import annotations

from memgen_eval.results.figures import AlteredMatch, Curve, Estimate, Family, Match, family, figure


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
    standardized_ratio: Estimate = figure(
        "standardized memorization ratio",
        "Share of samples with d1/d2 below a calibrated threshold once brightness, colour cast and contrast are evened "
        "out and squares of pixels averaged. It sees copies with another brightness, colour or contrast, with noise or "
        "compression. More than unseen images give is bad.",
        unit="share",
        beside=("test_standardized_ratio",),
    )
    test_standardized_ratio: Estimate = figure(
        "standardized ratio of unseen images",
        "The share of unseen images below the same threshold, by its rank among the baseline images.",
        unit="share",
    )
    standardized_p_value: Estimate = figure(
        "p-value of the standardized ratio",
        "Chance that at least this many samples fall below such a threshold if nothing is copied. Near 0 is bad.",
        control="above 0.05 in 19 of 20 sets without copies",
    )
    aligned_ratio: Estimate = figure(
        "aligned memorization ratio",
        "The same once each sample is also shifted, turned and scaled to fit each of its 32 nearest training images "
        "best. It sees copies that were moved by a few pixels, cropped or turned a little. More than unseen images "
        "give is bad.",
        unit="share",
        beside=("test_aligned_ratio",),
    )
    test_aligned_ratio: Estimate = figure(
        "aligned ratio of unseen images",
        "The share of unseen images below the same threshold, by its rank among the baseline images.",
        unit="share",
    )
    aligned_p_value: Estimate = figure(
        "p-value of the aligned ratio",
        "Chance that at least this many samples fall below such a threshold if nothing is copied. Near 0 is bad.",
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
    altered: tuple[AlteredMatch, ...]
