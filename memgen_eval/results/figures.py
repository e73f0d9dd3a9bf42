"""What a figure is: an estimate or a curve with its interval, and a caption that says what it is called and means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self, TypeVar, dataclass_transform, get_type_hints

GREY_LEVELS = 255.0  # in which a distance of 1 is told too
LEVEL = 0.95  # of every interval
Z = 1.959963984540054  # the normal quantile at 97.5 %
Unit = Literal["share", "points", "count", "distance", "feature distance", "number", "sigma"]
Label = Literal["copies", "no copying found", "undecided"]
LABELS: tuple[Label, ...] = ("copies", "no copying found", "undecided")


@dataclass(frozen=True)
class Estimate:
    """One figure with its uncertainty.

    Attributes
    ----------
    value, low, high : float or None
        The figure and its 95 % interval; None where it is not defined (the first note says why) or has no interval.
    method : str
        How the interval was found.
    count : int or None
        The number of images that the figure rests on.
    notes : tuple of str
        Everything that changed or limits the figure.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    method: str = ""
    count: int | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def undefined(cls, reason: str, *, count: int | None = None) -> Estimate:
        """A figure that could not be measured, with the reason."""
        return cls(None, method="undefined", count=count, notes=(reason,))


@dataclass(frozen=True)
class Axis:
    """What a curve is drawn against: a name, a unit ("" for none) and the places."""

    name: str
    unit: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Curve:
    """A figure at several places of `x`, each with its interval; None where it is not defined there."""

    value: tuple[float | None, ...] | None
    low: tuple[float | None, ...] | None = None
    high: tuple[float | None, ...] | None = None
    method: str = ""
    count: int | None = None
    notes: tuple[str, ...] = ()
    x: Axis | None = None

    @classmethod
    def undefined(cls, reason: str) -> Curve:
        """A curve that could not be measured, with the reason."""
        return cls(None, method="undefined", notes=(reason,))

    def at(self, index: int) -> Estimate:
        """One point of the curve."""
        value, low, high = (None if part is None else part[index] for part in (self.value, self.low, self.high))
        return Estimate(value, low, high, self.method, self.count, self.notes)


@dataclass(frozen=True)
class Caption:
    """What a figure is called and means, and what to compare it with. Page, table, markdown and notebook take it here.

    Attributes
    ----------
    label, meaning : str
        The name of the figure; then what is measured, which way is bad, and what an unsuspicious model gives.
    unit : Unit
        A "distance" is a root mean square difference per value on [0, 1]; it is shown in grey levels too.
    control : str
        The value to expect, in words; with `beside`, what the control is of, where the family's columns do not say it.
        `{baseline}` stands for the report's own word for the images that cannot have been copied.
    beside : tuple of str
        Figures of the same family to compare with; the first is the control.
    """

    label: str
    meaning: str
    unit: Unit
    control: str
    beside: tuple[str, ...]


def figure(label: str, meaning: str, *, unit: Unit = "number", control: str = "", beside: tuple[str, ...] = ()) -> Any:
    """A field of a family, with its `Caption`."""
    return field(metadata={"caption": Caption(label, meaning, unit, control, beside)})


@dataclass(frozen=True)
class Family:
    """Figures that belong together, and the images that stand out among the samples."""

    @classmethod
    def captions(cls) -> dict[str, Caption]:
        """The caption of each figure of the family, by the figure's name."""
        return {f.name: f.metadata["caption"] for f in fields(cls) if "caption" in f.metadata}

    @classmethod
    def undefined(cls, reason: str) -> Self:
        """A family of which nothing could be measured, with the reason."""
        kinds, figures = get_type_hints(cls), cls.captions()
        return cls(**{f.name: kinds[f.name].undefined(reason) if f.name in figures else () for f in fields(cls)})


AnyFamily = TypeVar("AnyFamily", bound=Family)


@dataclass_transform(frozen_default=True, field_specifiers=(figure,))
def family(kind: type[AnyFamily]) -> type[AnyFamily]:
    """Make a frozen dataclass of a family; type checkers know that a field made by `figure` has no default."""
    return dataclass(frozen=True)(kind)


@dataclass(frozen=True)
class Match:
    """A sample and its nearest training image: the root mean square difference per value on [0, 1], and d1/d2."""

    sample_index: int
    train_index: int
    distance: float
    grey_levels: float
    ratio: float
    flipped: bool


@dataclass(frozen=True)
class AlteredMatch:
    """A sample and the training image that it fits best once both are evened out and aligned.

    Attributes
    ----------
    flipped : bool
        Whether the training image is mirrored.
    right, down : int
        Pixels by which the sample lies to the right of the training image and below it.
    turn, scale : float
        By how many degrees the sample is turned, about, and how much larger it shows what the training image shows.
    contrast, brightness : float
        The factor by which its grey levels deviate more, and grey levels by which its mean is higher.
    grey_levels : float
        Root mean square difference of what both show, but for these.
    ratio : float
        Of the distances to the two training images that fit best, in [0, 1].
    words : str
        What was altered, in words.
    """

    sample_index: int
    train_index: int
    flipped: bool
    right: int
    down: int
    turn: float
    scale: float
    contrast: float
    brightness: float
    grey_levels: float
    ratio: float
    words: str


@dataclass(frozen=True)
class Anchor:
    """A set whose place is known beforehand: its novelty and its fidelity, to read those of samples against.

    `name` is copies, baseline, gaussian or noise; novelty is as `novelty.distance_ratio`, fidelity as
    `fidelity.precision`.
    """

    name: str
    novelty: Estimate
    fidelity: Estimate


@dataclass(frozen=True)
class RuleFinding:
    """What one rule of the verdict found.

    Attributes
    ----------
    name : str
        "ratio" (d1/d2 below the threshold), "calibrated" (d1/d2 below that of almost all unseen images), "standardized"
        (the same with brightness, colour cast and contrast evened out), "aligned" (the same with shifts, turns and
        scales undone), "features" (d1/d2 of the features of a network that is made to find copies).
    num_below, num_samples : int
        Different training images that pictures below the rule's threshold are nearest to, and pictures; samples that
        repeat one another to within the duplicate tolerance are one picture.
    num_unseen_below, num_unseen : int
        Images below it that cannot have been copied, test images and training images left out, and all of them.
    p_value : float
        The chance of as many below if nothing is copied.
    p_value_without_leaks : float
        The same beside the unseen images that may acquit: test images where these suffice, else training images left
        out, and none that the training set holds.
    """

    name: str
    num_below: int
    num_samples: int
    num_unseen_below: int
    num_unseen: int
    p_value: float
    p_value_without_leaks: float


@dataclass(frozen=True)
class Evidence:
    """What the verdict rests on; a baseline image is a test image, or a training image left out of train."""

    num_samples: int
    num_distinct_samples: int
    num_flagged: int
    num_distinct_flagged: int
    num_baseline: int
    num_flagged_baseline: int
    num_near_identical: int
    num_near_identical_baseline: int
    num_baseline_leaks: int
    p_value_without_leaks: float | None
    first_near_identical: Match | None
    rules: tuple[RuleFinding, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """Whether the samples copy the training set, the sentence that says so, and what it rests on."""

    label: Label
    sentence: str
    p_value: float
    evidence: Evidence


@dataclass(frozen=True)
class Settings:
    """All that determines the figures; distances are root mean squares per value on [0, 1]."""

    seed: int
    metrics: tuple[str, ...] | None
    features: str
    feature_weights: str | None
    feature_preparation: str | None
    threshold: float
    duplicate_tolerance: float | None
    flip: bool
    quantize: bool
    image_shape: tuple[int, ...]
    num_samples: int
    num_train: int
    num_test: int | None
    baseline: str
    num_baseline: int
    sigmas: tuple[float, ...] | None
    num_denoiser_images: int
    num_draws: int
    denoiser_batch_size: int
    checksums: Mapping[str, str | None]


@dataclass(frozen=True)
class Provenance:
    """All that may differ between two runs of the same inputs."""

    created: str
    seconds: Mapping[str, float]
    command: str | None
    versions: Mapping[str, str]
    host: Mapping[str, str]
    engine: str
    device: str
    threads: int
    ranks: int
    batch_size: int
    memory_budget: str
    inputs: Mapping[str, Mapping[str, Any]]
    names: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Gallery:
    """Pixels of the images that `closest` and `test_closest` name, by index: uint8, (C, H, W), at most 256 a side."""

    samples: Mapping[int, Any]
    train: Mapping[int, Any]
    baseline: Mapping[int, Any]
