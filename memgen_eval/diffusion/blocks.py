"""Blocks of fixed shape, in float64: torch's float32 products become bfloat16 or TF32 at a switch of the caller's."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK_ROWS = 64  # images that are worked on together; the last block is padded, so that no sum depends on their number


def padded(rows: Tensor, num_rows: int = BLOCK_ROWS) -> Tensor:
    """(B, ...) with zeros after it, (num_rows, ...)."""
    if len(rows) == num_rows:
        return rows
    return torch.cat([rows, rows.new_zeros(num_rows - len(rows), *rows.shape[1:])])


def working_device(device: torch.device) -> torch.device:
    """`device` itself where it knows float64, else the CPU."""
    return torch.device("cpu") if device.type == "mps" else device
