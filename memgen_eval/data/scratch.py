"""Room on disk for sets too large for memory that have no file to be mapped: gone when the process is."""

from __future__ import annotations

import os
import tempfile
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.errors import InputError, one_line


def scratch(shape: tuple[int, ...], dtype: np.dtype[Any], *, label: str) -> NDArray[Any]:
    """An array of zeros in a temporary file without a name, which the system removes however the process ends.

    Its pages are the file's: memory that the system takes back when it needs it.

    Raises
    ------
    InputError
        If there is no room for it, or nowhere to write.
    """
    num_bytes = prod(shape) * dtype.itemsize
    try:
        with tempfile.TemporaryFile(prefix="memgen-eval-") as file:
            if hasattr(os, "posix_fallocate"):  # a full disk would otherwise kill the process when a page is written
                os.posix_fallocate(file.fileno(), 0, num_bytes)
            return np.memmap(file, dtype=dtype, mode="r+", shape=shape)
    except OSError as error:
        raise InputError(
            f"{label}: unpacked it takes {num_bytes / 2**30:.1f} GiB, which no temporary file could hold "
            f"({one_line(error)}); set TMPDIR to a folder with room, or give the images as one .npy file of uint8"
        ) from error
