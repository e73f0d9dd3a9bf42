"""Image-like sets that break inexact searches."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from memgen_eval.compute import engines

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="session")
def bright() -> tuple[Pixels, Pixels]:
    """Queries and bright references with exact copies, copies off by one grey level, and duplicated references."""
    generator = np.random.default_rng(7)
    base = generator.integers(120, 236, (400, 1, 1, 3))
    references = (base + generator.integers(0, 20, (400, 12, 12, 3))).astype(np.uint8)
    references[300:350] = references[:50]
    queries = np.concatenate([references[250:400], references[100:130]])
    queries[150:, 0, 0, 0] ^= 1
    return queries, references


@pytest.fixture(autouse=True, scope="session")
def processor_for_a_gpu() -> Iterator[None]:
    """Where there is no GPU, the code of ``engine="cuda"`` computes on the processor."""
    with pytest.MonkeyPatch.context() as patch:
        if not torch.cuda.is_available():
            patch.setattr(engines, "gpu", lambda: torch.device("cpu"))
        yield
