"""Images compared with training images at the shift, turn and scale at which they agree best.

An image is compared with candidates alone, the nearest training images without alignment: a copy that was moved so far
that its training image is not among them is missed. Unseen images are compared in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from memgen_eval.compute.resources import blocks, num_threads, single_thread, start_workers
from memgen_eval.compute.rows import mirrored
from memgen_eval.copying.standardized import LEAST_DEVIATION, MIDDLE, averaged, coarse_side
from memgen_eval.results import AlteredMatch

NUM_CANDIDATES, NUM_VIEWED = 32, 4  # nearest training images; those that turned and scaled images are laid over
MOST_SHIFT = 4  # pixels each way
FEWEST_SIDE = 8  # pixels: smaller images have nothing left when their borders are cut
NOTICED_CONTRAST, NOTICED_LEVELS = 0.08, 5.0  # a share, and grey levels
CANDIDATES_AT_ONCE = 32  # whose places a thread holds
MOST_EXACT = 1024  # products of whole numbers up to 128 whose sum float32 holds
LAST_BITS = 1e-12  # of a correlation of equal windows

Rows = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]


class View(NamedTuple):
    """An image turned by so many degrees and scaled by a factor, about its centre, before it is compared."""

    turn: float
    scale: float


VIEWS = (View(0, 1), View(0, 7 / 8), View(0, 8 / 7), View(-8, 1), View(8, 1))


@dataclass(frozen=True, eq=False)
class Aligned:
    """How well images agree with their candidates at the best shift and view.

    Attributes
    ----------
    squared : float64, (N, K)
        ``1 - r`` with r the correlation of both, about the mean of every channel; half the squared distance of what is
        compared, standardized. 0: equal; 1: unrelated.
    view : int64, (N, K)
        Of `VIEWS`.
    down, right : int64, (N, K)
        Pixels by which the image, seen so, lies below and to the right of the candidate.
    """

    squared: NDArray[np.float64]
    view: Rows
    down: Rows
    right: Rows


def largest_shift(shape: tuple[int, ...]) -> int:
    """By how many pixels images (..., H, W) are shifted each way: an eighth of the smaller side, at most 4."""
    return min(MOST_SHIFT, min(shape[-2:]) // 8)


def viewed(images: NDArray[Any], view: View) -> Floats:
    """Images, (B, C, H, W), turned and scaled about their centres, the borders repeated."""
    if view == View(0, 1):
        return images.astype(np.float32)
    count, channels, height, width = images.shape
    sources, weights = _taps(height, width, view)  # (4, H W) each
    flat = images.reshape(count * channels, height * width).astype(np.float32)
    seen: Floats = sum(flat[:, source] * weight for source, weight in zip(sources, weights, strict=True))
    return seen.reshape(images.shape)


def _taps(height: int, width: int, view: View) -> tuple[Rows, Floats]:
    """The four pixels from which each pixel of a turned and scaled image comes, and their bilinear weights."""
    angle, centre = np.deg2rad(view.turn), (np.array([height, width]) - 1) / 2
    inverse = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / view.scale
    grid = np.indices((height, width)).reshape(2, -1)  # (2, H W)
    places = np.clip(inverse @ (grid - centre[:, None]) + centre[:, None], 0, [[height - 1], [width - 1]])
    corner = np.minimum(places.astype(np.int64), [[max(height - 2, 0)], [max(width - 2, 0)]])
    down, right = places - corner
    first = corner[0] * width + corner[1]
    sources = np.stack([first, first + 1, first + width, first + width + 1])
    weights = np.stack([(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right])
    return sources, weights.astype(np.float32)


def align(images: NDArray[Any], train: NDArray[Any], candidates: Rows, flipped: Bools) -> Aligned:
    """The best agreement of each image with each of its candidates, over all shifts, and views of the best four.

    The centre of an image, without its borders, is laid over every place of the candidate that a shift of at most
    `largest_shift` reaches. What deviates by less than 4 grey levels is taken to deviate by 4, so that flat places do
    not agree. Turned and scaled images are compared only with the four candidates that agree best without.

    Parameters
    ----------
    images, train : uint8 or float32, (N, C, H, W) and (n, C, H, W)
        In grey levels, with sides of at least 8 pixels.
    candidates : int64, (N, K)
        Training images, by row.
    flipped : bool, (N, K)
        Whether each is mirrored first.
    """
    if len(images) == 0:  # the share of a process that has none
        nothing = np.zeros(candidates.shape, dtype=np.int64)
        return Aligned(np.zeros(candidates.shape), nothing, nothing, nothing)
    plain = _agreement(images, train, candidates, flipped, VIEWS[:1])
    best = np.argsort(plain.squared, axis=1, kind="stable")[:, :NUM_VIEWED]  # (N, 4)
    own, mirror = np.take_along_axis(candidates, best, axis=1), np.take_along_axis(flipped, best, axis=1)
    seen = _agreement(images, train, own, mirror, VIEWS[1:])
    better = seen.squared < np.take_along_axis(plain.squared, best, axis=1)
    for whole, part in zip(vars(plain).values(), vars(replace(seen, view=seen.view + 1)).values(), strict=True):
        np.put_along_axis(whole, best, np.where(better, part, np.take_along_axis(whole, best, axis=1)), axis=1)
    return plain


def _agreement(
    images: NDArray[Any], train: NDArray[Any], candidates: Rows, flipped: Bools, views: tuple[View, ...]
) -> Aligned:
    """The best agreement over all shifts and these views."""
    shift = largest_shift(images.shape)
    windows = _windows(images, views, shift)
    pairs = _Pairs.of(candidates, flipped)
    squared = np.empty(candidates.size)
    places = np.empty(candidates.size, dtype=np.int64)

    def compare(span: slice) -> None:
        for block in blocks(span.stop, CANDIDATES_AT_ONCE, start=span.start):
            index, mirror = np.divmod(pairs.keys[block], 2)
            own = train[index]
            own[mirror == 1] = mirrored(own[mirror == 1])
            group = pairs.groups(block)  # (G, M)
            squared[group], places[group] = _best(windows[group // candidates.shape[1]], _placed(own, shift))

    with start_workers(num_threads()) as workers, single_thread():
        workers.map(compare, blocks(len(pairs.keys), 8 * CANDIDATES_AT_ONCE))
    size = 2 * shift + 1
    view, place = np.divmod(places.reshape(candidates.shape), size * size)
    down, right = np.divmod(place, size)
    return Aligned(squared.reshape(candidates.shape), view, shift - down, shift - right)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Pairs of images and candidates by candidate and orientation, so that each of these is looked up once.

    Attributes
    ----------
    order : positions of the pairs in (N, K), those of one key beside each other, (P,)
    keys : twice the training image, plus 1 where it is mirrored, each once, those with few pairs first, (G,)
    starts, counts : where the pairs of each key begin in `order`, and how many there are, (G,)
    """

    order: Rows
    keys: Rows
    starts: Rows
    counts: Rows

    @classmethod
    def of(cls, candidates: Rows, flipped: Bools) -> _Pairs:
        keys = (2 * candidates + flipped).ravel()
        order = np.argsort(keys, kind="stable")
        unique, starts, counts = np.unique(keys[order], return_index=True, return_counts=True)
        few_first = np.argsort(counts, kind="stable")
        return cls(order, unique[few_first], starts[few_first], counts[few_first])

    def groups(self, block: slice) -> Rows:
        """The pairs of each of these keys, (B, M); the last one again where there are fewer than M."""
        starts, counts = self.starts[block, None], self.counts[block, None]
        return self.order[starts + np.minimum(np.arange(counts.max()), counts - 1)]


@dataclass(frozen=True, eq=False)
class _Levels:
    """Windows as whole numbers, so small that products of them are exact in float32, in whatever order they are added.

    Attributes
    ----------
    values : float32, (..., D)
        Grey levels less 128, averaged over squares and rounded; halved and rounded again where there are many.
    sums : float64, (..., C)
        Of each channel.
    lengths : float64, (...)
        About the means of the channels; at least that of a deviation of 4 grey levels.
    """

    values: Floats
    sums: NDArray[np.float64]
    lengths: NDArray[np.float64]

    @classmethod
    def of(cls, values: Floats, sums: NDArray[np.float64], squares: NDArray[np.float64], unit: int) -> _Levels:
        """Those of values, (..., D), with sums of channels, (..., C), and of all squares, (...)."""
        num_values = values.shape[-1]
        energy = squares - (sums**2).sum(axis=-1) / (num_values // sums.shape[-1])
        return cls(values, sums, np.sqrt(np.maximum(energy, (LEAST_DEVIATION / unit) ** 2 * num_values)))

    def __getitem__(self, rows: Any) -> _Levels:
        return _Levels(self.values[rows], self.sums[rows], self.lengths[rows])


def _levels(averages: Floats, unit: int) -> Floats:
    """Averages over squares as whole numbers."""
    levels: Floats = np.rint((averages - np.float32(MIDDLE)) / np.float32(unit))
    return levels


def _unit(shape: tuple[int, ...], shift: int) -> int:
    """Grey levels of a whole number, for windows of images (..., C, H, W)."""
    side = coarse_side(shape)
    num_values = shape[-3] * ((shape[-2] - 2 * shift) // side) * ((shape[-1] - 2 * shift) // side)
    return 1 if num_values < MOST_EXACT else 2


def _windows(images: NDArray[Any], views: tuple[View, ...], shift: int) -> _Levels:
    """The centres of some views of images, (N, V)."""
    side, unit = coarse_side(images.shape), _unit(images.shape, shift)
    height, width = (slice(shift, size - shift) for size in images.shape[2:])
    seen = [averaged(np.rint(viewed(images, view))[:, :, height, width], side) for view in views]
    levels = _levels(np.stack(seen, axis=1), unit)  # (N, V, C, h, w)
    sums = levels.sum(axis=(3, 4), dtype=np.float64)
    squares = np.square(levels).sum(axis=(2, 3, 4), dtype=np.float64)
    return _Levels.of(levels.reshape(*levels.shape[:2], -1), sums, squares, unit)


def _placed(images: NDArray[Any], shift: int) -> _Levels:
    """What a window covers at every place of images, (B, C, H, W), likewise: (B, S)."""
    count, channels, height, width = images.shape
    side, size = coarse_side(images.shape), 2 * shift + 1
    rows, columns = height - side + 1, width - side + 1
    whole = images if images.dtype == np.uint8 else np.rint(images)
    squares: Floats = np.zeros((count, channels, rows, columns), dtype=np.float32)
    for down, right in np.ndindex(side, side):
        squares += whole[:, :, down : down + rows, right : right + columns]
    squares /= np.float32(side * side)
    levels = _levels(squares, _unit(images.shape, shift))
    exact, (of_rows, of_columns) = levels.astype(np.float64), (_covers(full, side, shift) for full in (height, width))
    sums = of_rows @ exact @ of_columns.T  # (B, C, s, s)
    energy = (of_rows @ np.square(exact) @ of_columns.T).sum(axis=1)  # (B, s, s)
    spans = tuple(int(np.flatnonzero(cover[0])[-1]) + 1 for cover in (of_rows, of_columns))
    views = sliding_window_view(levels, spans, axis=(2, 3))[:, :, :size, :size, ::side, ::side]  # (B, C, s, s, h, w)
    values = views.transpose(0, 2, 3, 1, 4, 5).reshape(count, size * size, -1)
    sums = sums.transpose(0, 2, 3, 1).reshape(count, size * size, channels)
    return _Levels.of(values, sums, energy.reshape(count, -1), _unit(images.shape, shift))


def _covers(full: int, side: int, shift: int) -> NDArray[np.float64]:
    """Where along a side of `full` pixels a window has squares at each shift: 1 there, else 0."""
    covers = np.zeros((2 * shift + 1, full - side + 1))
    first = np.arange((full - 2 * shift) // side) * side  # of the squares of a window
    covers[np.arange(2 * shift + 1)[:, None], np.arange(2 * shift + 1)[:, None] + first] = 1
    return covers


def _best(windows: _Levels, places: _Levels) -> tuple[NDArray[np.float64], Rows]:
    """``1 - r`` of images, (B, M, V), at the place, (B, S), and the view where they agree best, and both as one."""
    num_keys, num_pairs, num_views, num_values = windows.values.shape
    rows = num_keys, num_pairs * num_views, -1
    products = (windows.values.reshape(rows) @ places.values.swapaxes(1, 2)).astype(np.float64)  # (B, M V, S)
    products -= windows.sums.reshape(rows) @ places.sums.swapaxes(1, 2) / (num_values // places.sums.shape[2])
    products /= windows.lengths.reshape(rows) * places.lengths[:, None]
    flat = products.reshape(num_keys * num_pairs, -1)  # (B M, V S)
    best = flat.argmax(axis=1)
    apart = 1 - flat[np.arange(len(flat)), best]
    shape = num_keys, num_pairs
    return np.where(apart < LAST_BITS, 0.0, apart).reshape(shape), best.reshape(shape)


def altered_match(
    image: NDArray[Any], train: NDArray[Any], lie: Rows, *, sample_index: int, train_index: int, ratio: float
) -> AlteredMatch:
    """How an image, (C, H, W), differs from a training image on which it lies so; `lie` is a row of `Evened.best`."""
    view, (down, right), flipped = VIEWS[lie[0]], lie[1:3].tolist(), bool(lie[3])
    shift = largest_shift(image.shape)
    height, width = (size - 2 * shift for size in image.shape[1:])
    seen = viewed(image[None], view)[0, :, shift : shift + height, shift : shift + width].astype(np.float64)
    top, left = shift - down, shift - right
    own = (mirrored(train[None])[0] if flipped else train)[:, top : top + height, left : left + width].astype(
        np.float64
    )
    varied = own - own.mean()
    contrast = float((varied * seen).sum() / max(float((varied**2).sum()), 1.0))
    brightness = float(seen.mean() - own.mean())
    residual = float(np.sqrt(np.mean((seen - seen.mean() - contrast * varied) ** 2)))
    evenly_brighter = abs(float(seen.mean()) - contrast * float(own.mean())) <= NOTICED_LEVELS
    return AlteredMatch(
        *(sample_index, train_index, flipped, right, down, -view.turn, 1 / view.scale),
        *(contrast, brightness, residual, ratio),
        words=_alterations(flipped, (right, down), view, contrast, brightness, evenly_brighter=evenly_brighter),
    )


def _alterations(
    flipped: bool, moved: tuple[int, int], view: View, contrast: float, brightness: float, *, evenly_brighter: bool
) -> str:
    """What was altered, in words; "unaltered" where nothing is noticed."""
    words = ["mirrored"] if flipped else []
    if any(moved):
        steps = [f"{abs(size)} {name}" for size, name in zip(moved, _directions(moved), strict=True) if size]
        words.append(f"shifted {' and '.join(steps)} (pixels)")
    words += [f"turned by about {abs(view.turn):g} degrees"] if view.turn else []
    words += [f"{'enlarged' if view.scale < 1 else 'reduced'} by about an eighth"] if view.scale != 1 else []
    if abs(contrast - 1) > NOTICED_CONTRAST and evenly_brighter:
        words.append(f"{100 * abs(contrast - 1):.0f} % {'brighter' if contrast > 1 else 'darker'}")
    else:
        words += [f"at {100 * contrast:.0f} % of its contrast"] if abs(contrast - 1) > NOTICED_CONTRAST else []
        way = "brighter" if brightness > 0 else "darker"
        words += [f"{abs(brightness):.0f} grey levels {way}"] if abs(brightness) > NOTICED_LEVELS else []
    return ", ".join(words) or "unaltered"


def _directions(moved: tuple[int, int]) -> tuple[str, str]:
    return "right" if moved[0] > 0 else "left", "down" if moved[1] > 0 else "up"
