"""Torch tensors of any device and type as rows of numpy arrays, without importing torch for those who have none."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.errors import InputError, one_line

if TYPE_CHECKING:
    from torch import Tensor


def is_tensor(value: object) -> bool:
    """Whether a value is a torch tensor."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def to_numpy(value: Any, *, label: str) -> NDArray[Any]:
    """A tensor or anything array-like as an array; a view where memory can be shared, bfloat16 and float8 as float32.

    Raises
    ------
    InputError
        For tensors that have no dense values.
    """
    check_plain(value, label=label)
    if not is_tensor(value):
        try:
            return np.asarray(value)
        except Exception as error:
            raise InputError(
                f"{label}: a {type(value).__name__} that does not turn into a numpy array ({one_line(error)}); "
                "give it as one"
            ) from error
    import torch

    tensor = value.detach()
    try:
        if tensor.is_floating_point() and tensor.dtype not in (torch.float16, torch.float32, torch.float64):
            tensor = tensor.float()
        array: NDArray[Any] = tensor.cpu().resolve_neg().numpy()
    except (TypeError, RuntimeError, NotImplementedError) as error:
        raise InputError(f"{label}: a tensor that has no plain values ({one_line(error)}); give a dense one") from error
    return array


def check_plain(value: Any, *, label: str) -> None:
    """Refuse arrays and tensors of which some values are hidden or absent. Raises InputError naming the kind."""
    kind = None
    if isinstance(value, np.ma.MaskedArray):
        kind = "a masked array: give a plain one, without the images that hold masked values"
    elif hasattr(type(value), "toarray"):
        kind = f"a sparse {type(value).__name__}: call its toarray()"
    elif is_tensor(value):
        import torch

        if value.device.type == "meta":
            kind = "a tensor on the device meta, which holds no values: give a dense one on a real device"
        elif value.is_nested:
            kind = "a nested tensor: give images of one shape"
        elif value.layout != torch.strided:
            kind = f"a tensor of layout {value.layout}: call its to_dense()"
        elif value.is_quantized:
            kind = "a quantized tensor: call its dequantize()"
    if kind is not None:
        raise InputError(f"{label}: {kind}")


@dataclass(frozen=True, eq=False)
class TensorRows:
    """A tensor as rows: what is read of it is moved to the host, and no more."""

    tensor: Tensor

    def __post_init__(self) -> None:
        check_plain(self.tensor, label="tensor")

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return tuple(self.tensor.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of what is read."""
        return to_numpy(self.tensor[:0], label="tensor").dtype

    @property
    def on_host(self) -> bool:
        """Whether reading it costs no transfer."""
        return self.tensor.device.type == "cpu"

    @property
    def stored_as(self) -> str:
        """The tensor's own type."""
        return str(self.tensor.dtype).removeprefix("torch.")

    def __getitem__(self, key: Any, /) -> NDArray[Any]:
        import torch

        if isinstance(key, np.ndarray):
            key = torch.from_numpy(np.array(key)).to(self.tensor.device)
        return to_numpy(self.tensor[key], label="tensor")
