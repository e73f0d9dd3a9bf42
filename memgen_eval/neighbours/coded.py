"""References in code, kept from one search to the next, and coded by all processes that share an evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.distributed import ALONE, Ranks
from memgen_eval.neighbours.arrays import as_array
from memgen_eval.neighbours.bound import CodedTile
from memgen_eval.neighbours.codes import Coder, Codes, Kind, Leading, Whole, encode, sample
from memgen_eval.neighbours.products import Products
from memgen_eval.neighbours.threads import Share

_USUAL = 1.1  # times the usual error: references with larger ones make tiles of their own
_TILE_VALUES = 16  # bytes of a reference in a tile, its code apart
_Key = tuple[type[Leading] | type[Whole], str]


@dataclass(frozen=True, eq=False)
class Coded:
    """A coder of some kind, and all tiles of the references; None where they would not fit: a pass then makes them."""

    kind: Kind
    coder: Coder
    tiles: list[CodedTile] | None

    def read(self, references: NDArray[Any], products: Products, tile_rows: int, share: Share) -> Iterator[CodedTile]:
        """All references, tile by tile."""
        if self.tiles is not None:
            yield from self.tiles
            return
        starts = range(0, len(references), tile_rows)
        blocks = (encode(self.coder, references, i, min(i + tile_rows, len(references)), share) for i in starts)
        yield from _tiles(blocks, len(references), self.coder, products, tile_rows)


@dataclass(frozen=True, eq=False)
class References:
    """Rows to search among more than once: the codes that one search makes of them serve the next ones too.

    Attributes
    ----------
    rows : uint8 or float, (M, ...)
    """

    rows: NDArray[Any]
    _kept: dict[_Key, Coded] = field(default_factory=dict, init=False, repr=False)

    @staticmethod
    def of(references: Any) -> References:
        """Those given, or a new one around an array (M, ...) or tensor."""
        return references if isinstance(references, References) else References(as_array(references, "references"))

    def coded(
        self, kind: Kind, products: Products, tile_rows: int, budget: int, share: Share, ranks: Ranks = ALONE
    ) -> Coded | None:
        """Codes of this kind, or of a wider one, kept before or made now; None where all rows are the same.

        If several ranks call it, all have to: the first fits, and each codes its part of the rows, where all can be
        kept.
        """
        key = kind.coder, products.name
        kept = self._kept.get(key)
        missing = kept is None or kept.kind.width < kind.width
        if not any(ranks.exchange("codes", missing)):
            return kept
        fitted = kind.fit(sample(self.rows, budget), products, share) if ranks.rank == 0 else None
        coder = ranks.exchange("a coder", None if fitted is None else fitted.on(products))[0]
        if coder is None:
            return None
        coder = coder.on(products)
        row_bytes = products.value_bytes * coder.width + _TILE_VALUES
        tiles = None
        if all(ranks.exchange("room for codes", len(self.rows) * row_bytes <= budget // 8)):
            tiles = list(self._all_tiles(coder, products, tile_rows, share, ranks))
        self._kept[key] = Coded(kind, coder, tiles)
        return self._kept[key]

    def _all_tiles(
        self, coder: Coder, products: Products, tile_rows: int, share: Share, ranks: Ranks
    ) -> Iterator[CodedTile]:
        mine, count = ranks.share(len(self.rows)), len(self.rows)
        part = encode(coder, self.rows, mine.start, mine.stop, share)
        codes = Codes(*(ranks.gather(array) for array in (part.values, part.norms, part.errors)))
        blocks = (codes[first : first + tile_rows] for first in range(0, count, tile_rows))
        yield from _tiles(blocks, count, coder, products, tile_rows)


def _tiles(
    blocks: Iterable[Codes], count: int, coder: Coder, products: Products, tile_rows: int
) -> Iterator[CodedTile]:
    """Tiles of codes that come block by block, of `count` references; those with unusual errors are put together."""
    dtype = np.int32 if count < 2**31 else np.int64
    apart: list[tuple[NDArray[Any], Codes]] = []
    first = 0
    for codes in blocks:
        indices = np.arange(first, first + len(codes.errors), dtype=dtype)
        usual = codes.errors <= _USUAL * coder.usual_error
        yield from _tile([(indices[usual], codes[usual])], products)
        apart.append((indices[~usual], codes[~usual]))
        first += len(usual)
        if sum(len(some) for some, _ in apart) >= tile_rows:
            yield from _tile(apart, products)
            apart = []
    yield from _tile(apart, products)


def _tile(parts: list[tuple[NDArray[Any], Codes]], products: Products) -> Iterator[CodedTile]:
    """One tile of all these rows and their codes, none where there are no rows."""
    if not sum(len(indices) for indices, _ in parts):
        return
    codes = Codes.joined([codes for _, codes in parts])
    packed, half_norms = products.pack(codes.values), (codes.norms >> 1).astype(np.int32)
    yield CodedTile(np.concatenate([indices for indices, _ in parts]), packed, half_norms, float(codes.errors.max()))
