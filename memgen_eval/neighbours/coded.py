"""References in code, kept from one search to the next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.neighbours.arrays import as_array
from memgen_eval.neighbours.bound import CodedTile
from memgen_eval.neighbours.codes import Coder, Kind, Leading, Whole, encode, sample
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
            return iter(self.tiles)
        return _tiles(references, self.coder, products, tile_rows, share)


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

    def coded(self, kind: Kind, products: Products, tile_rows: int, budget: int, share: Share) -> Coded | None:
        """Codes of this kind, or of a wider one, kept before or made now; None where all rows are the same."""
        key = kind.coder, products.name
        kept = self._kept.get(key)
        if kept is not None and kept.kind.width >= kind.width:
            return kept
        coder = kind.fit(sample(self.rows, budget), products, share)
        if coder is None:
            return None
        row_bytes = products.value_bytes * coder.width + _TILE_VALUES
        tiles = None
        if len(self.rows) * row_bytes <= budget // 8:
            tiles = list(_tiles(self.rows, coder, products, tile_rows, share))
        self._kept[key] = Coded(kind, coder, tiles)
        return self._kept[key]


def _tiles(
    references: NDArray[Any], coder: Coder, products: Products, tile_rows: int, share: Share
) -> Iterator[CodedTile]:
    """All references in code; those with unusual errors apart."""
    dtype = np.int32 if len(references) < 2**31 else np.int64
    for first in range(0, len(references), tile_rows):
        codes = encode(coder, references, first, min(first + tile_rows, len(references)), share)
        usual = codes.errors <= _USUAL * coder.usual_error
        for chosen in (np.flatnonzero(usual), np.flatnonzero(~usual)):
            if len(chosen):
                packed = products.pack(np.ascontiguousarray(codes.values[chosen]))
                half_norms = (codes.norms[chosen] >> 1).astype(np.int32)
                error = float(codes.errors[chosen].max())
                yield CodedTile((first + chosen).astype(dtype), packed, half_norms, error)
