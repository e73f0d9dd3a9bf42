"""Small made images, and the ways to write them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray


@pytest.fixture
def nhwc() -> NDArray[np.uint8]:
    """Sixty colour images of 8 x 6 pixels, N H W C; height and width differ, so that a mix-up shows."""
    return np.random.default_rng(3).integers(0, 256, (60, 8, 6, 3), dtype=np.uint8)


@pytest.fixture
def nchw(nhwc: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same images in canonical order."""
    return np.ascontiguousarray(nhwc.transpose(0, 3, 1, 2))


@pytest.fixture
def grey() -> NDArray[np.uint8]:
    """Forty grey images of 8 x 6 pixels, N H W."""
    return np.random.default_rng(4).integers(0, 256, (40, 8, 6), dtype=np.uint8)
