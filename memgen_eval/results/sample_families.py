"""The figures of novelty and fidelity, each with its caption.

Each meaning says what is counted, which way is bad, and what unseen images give.
"""

from __future__ import annotations

from memgen_eval.results.figures import Anchor, Curve, Estimate, Family, family, figure


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
