"""References in code, kept from one search to the next, and coded by all processes that share an evaluation."""

from __future__ import annotations

from collections.abc import Iterator
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
_TILE_VALUES = 16  # bytes of a reference in a tile beside its code
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
        for first in range(0, len(references), tile_rows):
            codes = encode(self.coder, references, first, min(first + tile_rows, len(references)), share)
            yield from _tiles(codes, first, len(references), self.coder, products)


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
        values, norms, errors = (ranks.gather(array) for array in (part.values, part.norms, part.errors))
        for first in range(0, count, tile_rows):
            at = slice(first, first + tile_rows)
            yield from _tiles(Codes(values[at], norms[at], errors[at]), first, count, coder, products)


def _tiles(codes: Codes, first: int, count: int, coder: Coder, products: Products) -> Iterator[CodedTile]:
    """The codes of references from `first` on, of `count` in all; those with unusual errors apart."""
    dtype = np.int32 if count < 2**31 else np.int64
    usual = codes.errors <= _USUAL * coder.usual_error
    for chosen in (np.flatnonzero(usual), np.flatnonzero(~usual)):
        if len(chosen):
            packed = products.pack(np.ascontiguousarray(codes.values[chosen]))
            half_norms = (codes.norms[chosen] >> 1).astype(np.int32)
            error = float(codes.errors[chosen].max())
            yield CodedTile((first + chosen).astype(dtype), packed, half_norms, error)
