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
    squared : float32, (N, K)
        ``1 - r`` with r the correlation of both, about the mean of every channel; half the squared distance of what is
        compared, standardized. 0: equal; 1: unrelated.
    view : int64, (N, K)
        Of `VIEWS`.
    down, right : int64, (N, K)
        Pixels by which the image, seen so, lies below and to the right of the candidate.
    """

    squared: Floats
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
    windows = _windows(images, views, shift)  # (N, V, D)
    pairs = _Pairs.of(candidates, flipped)
    squared = np.empty(candidates.size, dtype=np.float32)
    places = np.empty(candidates.size, dtype=np.int64)

    def compare(span: slice) -> None:
        for block in blocks(span.stop, CANDIDATES_AT_ONCE, start=span.start):
            index, mirror = np.divmod(pairs.keys[block], 2)
            images_placed = train[index]
            images_placed[mirror == 1] = mirrored(images_placed[mirror == 1])
            for group, *placed in zip(pairs.groups(block), *_placed(images_placed, shift), strict=True):
                squared[group], places[group] = _best(windows[group // candidates.shape[1]], *placed)

    with single_thread(), start_workers(num_threads()) as workers:
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
    order : positions of the pairs in (N, K) in that order, (P,)
    keys : twice the training image, plus 1 where it is mirrored, (G,), each once
    starts : where the pairs of each key begin in `order`, and the end of all, (G + 1,)
    """

    order: Rows
    keys: Rows
    starts: Rows

    @classmethod
    def of(cls, candidates: Rows, flipped: Bools) -> _Pairs:
        keys = (2 * candidates + flipped).ravel()
        order = np.argsort(keys, kind="stable")
        unique, starts = np.unique(keys[order], return_index=True)
        return cls(order, unique, np.append(starts, len(order)))

    def groups(self, block: slice) -> list[Rows]:
        """The pairs of each of these keys."""
        first, last = self.starts[block.start], self.starts[block.stop]
        return np.split(self.order[first:last], self.starts[block.start + 1 : block.stop] - first)


def _windows(images: NDArray[Any], views: tuple[View, ...], shift: int) -> Floats:
    """The centres of some views of images, averaged over squares and standardized to length 1, (N, V, D)."""
    side = coarse_side(images.shape)
    height, width = (slice(shift, size - shift) for size in images.shape[2:])
    parts = []
    for view in views:
        centre = averaged(viewed(images, view)[:, :, height, width], side)
        flat = centre - centre.mean(axis=(2, 3), keepdims=True)
        parts.append(flat.reshape(len(images), -1))
    windows = np.stack(parts, axis=1)  # (N, V, D)
    windows /= _lengths(np.square(windows).sum(axis=2), windows.shape[2])[:, :, None]
    return windows


def _placed(images: NDArray[Any], shift: int) -> tuple[Floats, Floats]:
    """What a window covers at every place of images (B, C, H, W), averaged likewise, and its length.

    (B, S, D) and (B, S). Channels keep their means, which the products with windows do not see; lengths are without.
    """
    count, channels, height, width = images.shape
    side, size = coarse_side(images.shape), 2 * shift + 1
    rows, columns = height - side + 1, width - side + 1
    squares = np.full((count, channels, rows, columns), -MIDDLE, dtype=np.float32)
    for down, right in np.ndindex(side, side):
        squares += images[:, :, down : down + rows, right : right + columns] / np.float32(side * side)
    of_rows, of_columns = (_covers(full, side, shift) for full in (height, width))  # (s, R), (s, Q)
    sums = of_rows @ squares @ of_columns.T  # (B, C, s, s)
    num_squares = of_rows[0].sum() * of_columns[0].sum()
    energy = (of_rows @ np.square(squares) @ of_columns.T - sums**2 / num_squares).sum(axis=1).reshape(count, -1)
    spans = tuple(int(np.flatnonzero(cover[0])[-1]) + 1 for cover in (of_rows, of_columns))
    views = sliding_window_view(squares, spans, axis=(2, 3))[:, :, :size, :size, ::side, ::side]  # (B, C, s, s, h, w)
    places = views.transpose(0, 2, 3, 1, 4, 5).reshape(count, size * size, -1)
    return places, _lengths(energy, places.shape[2])


def _covers(full: int, side: int, shift: int) -> NDArray[np.float64]:
    """Which of the places of a square along a side of `full` pixels a window has squares at, for each shift, 0 or 1."""
    covers = np.zeros((2 * shift + 1, full - side + 1))
    first = np.arange((full - 2 * shift) // side) * side  # of the squares of a window
    covers[np.arange(2 * shift + 1)[:, None], np.arange(2 * shift + 1)[:, None] + first] = 1
    return covers


def _lengths(squares: NDArray[Any], num_values: int) -> Floats:
    """Lengths of what is a number of values about their means, in grey levels; those of flat ones are made longer."""
    lengths: Floats = np.sqrt(np.maximum(squares, LEAST_DEVIATION**2 * num_values)).astype(np.float32)
    return lengths


def _best(windows: Floats, places: Floats, lengths: Floats) -> tuple[Floats, Rows]:
    """``1 - r`` of images (P, V, D) at the place among (S, D) and the view where they agree best, and both as one."""
    num_pairs, num_views, num_values = windows.shape
    correlations = (windows.reshape(-1, num_values) @ places.T) / lengths  # (P V, S)
    flat = correlations.reshape(num_pairs, num_views * len(places))
    best = flat.argmax(axis=1)
    return np.maximum(1 - flat[np.arange(num_pairs), best], 0), best


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
