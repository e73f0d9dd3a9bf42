"""Torch's tensors and files as numpy arrays; a pickle is followed to its end before torch is asked to load it."""

from __future__ import annotations

import pickle
import pickletools
import struct
import sys
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.data.arrays import Entry, read_images
from memgen_eval.data.files import Stamp, check_member, members_of
from memgen_eval.data.images import IN_MEMORY, Images, Rows
from memgen_eval.errors import InputError, one_line, quoted

if TYPE_CHECKING:
    from torch import Tensor

ZIP_START = b"PK\x03\x04"  # by these bytes torch tells its newer files from its older ones
OLDER_PICKLES = 5  # at the beginning of an older file: a magic number, a version, the system, the object, its storages
LONGEST_HEADER = 2**24  # bytes of JSON in a safetensors file
LARGEST = 2**21  # bytes; the pickle of ten thousand tensors has a million and a half
MOST_PARTS = 2**24  # of all values together
NAME = 0  # what stands on the stack for a class or a function: every value has one part or more
PLAIN = {  # what a pickle may name outside torch, by module
    "collections": ("OrderedDict", "Counter"),
    "_codecs": ("encode",),
    "builtins": ("set", "complex"),
    "__builtin__": ("set", "complex"),
}


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


def read_pt(path: Path, stamp: Stamp) -> Images:
    """A tensor saved by torch, or the images among several; read with ``weights_only=True``, which runs no code.

    Raises
    ------
    InputError
        If the file holds more than tensors, or if a checksum in it is wrong.
    """
    import torch

    label, num_bytes = stamp.label, path.stat().st_size
    try:
        mapped = _check_pickles(path, label) and num_bytes > IN_MEMORY
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old protocols and storage types: the file is what it is
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{label}: holds more than tensors, and is not unpickled; save the tensor of images alone (torch.save)"
        ) from error
    if not isinstance(found, Mapping | list | tuple):
        found = {"the tensor": found}
    entries = {}
    for name, tensor in found.items() if isinstance(found, Mapping) else enumerate(found):
        if not is_tensor(tensor):
            continue
        if tensor.numel() * tensor.element_size() > num_bytes:
            raise InputError(
                f"{label}: a tensor of shape {tuple(tensor.shape)} in a file of {num_bytes} bytes: it repeats itself; "
                "save its contiguous() form"
            )
        dtype = str(tensor.dtype).removeprefix("torch.")
        entries[str(name)] = Entry(tuple(tensor.shape), dtype, partial(TensorRows, tensor))
    rows, notes = read_images(entries, label)
    return Images(rows, form="pt", notes=notes, stamp=stamp if mapped else None)


def read_safetensors(path: Path, stamp: Stamp) -> Images:
    """The images of a safetensors file: `arr_0`, `images` or `samples`, or the only tensor of an image's shape."""
    from safetensors import safe_open

    check_header(path)
    in_memory = path.stat().st_size <= IN_MEMORY

    def read(name: str) -> Rows:
        tensor = file.get_tensor(name)
        return TensorRows(tensor.clone() if in_memory else tensor)

    with safe_open(path, framework="pt") as file:
        entries = {}
        for name in file.keys():  # noqa: SIM118 - the file is not a mapping
            header = file.get_slice(name)
            entries[name] = Entry(tuple(header.get_shape()), str(header.get_dtype()), partial(read, name))
        rows, notes = read_images(entries, stamp.label)
    return Images(rows, form="safetensors", notes=notes, stamp=None if in_memory else stamp)


def check_header(path: Path) -> None:
    """Raise ValueError if a safetensors file gives its header a length that it does not have, or an absurd one."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
    if length > min(LONGEST_HEADER, path.stat().st_size - 8):
        raise ValueError(f"a header of {length} bytes")


def _check_pickles(path: Path, label: str) -> bool:
    """Whether a file is of torch's newer form, a zip; its checksums and its pickles are looked at first."""
    with path.open("rb") as file:
        start = file.read(OLDER_PICKLES * LARGEST)
    if not start.startswith(ZIP_START):
        stream = BytesIO(start)
        for _ in range(OLDER_PICKLES):
            check_pickle(stream)
        return False
    with zipfile.ZipFile(path) as archive:
        for info in members_of(archive, label):
            if info.compress_type != zipfile.ZIP_STORED:
                raise InputError(f"{label}: {quoted(info.filename)} is compressed; save it again with torch.save")
            check_member(archive, info)
            if info.filename.endswith("/data.pkl"):
                check_pickle(BytesIO(archive.read(info)))
    return True


def check_pickle(file: IO[bytes]) -> None:
    """Follow one pickle to its end, in time that grows with its length, and see that torch may be asked to load it.

    Raises
    ------
    pickle.UnpicklingError
        If it names anything outside torch but plain containers, calls what it has not named, or holds values that are
        small in the file and endless when they are walked through, as tuples of shared tuples are.
    ValueError, and others of pickletools
        If it is not a pickle.
    """
    stack: list[int] = []  # how many parts each value has, those that are shared each time
    marks: list[int] = []
    memo: dict[int, int] = {}
    total = 0
    argument: Any
    for opcode, argument, position in pickletools.genops(file):
        if position is not None and position > LARGEST:
            raise pickle.UnpicklingError(f"a pickle of more than {LARGEST} bytes")
        name = opcode.name
        if name == "MARK":
            marks.append(len(stack))
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "GLOBAL":
            module, _, function = argument.partition(" ")
            if module.split(".")[0] != "torch" and function not in PLAIN.get(module, ()):
                raise pickle.UnpicklingError(f"names {argument!r}")
            stack.append(NAME)
        else:
            parts = _popped(opcode, stack, marks)
            if name in ("REDUCE", "NEWOBJ") and parts[0] != NAME:
                raise pickle.UnpicklingError("calls what is not a function")
            size = 1 + sum(parts)
            total += size
            if total > MOST_PARTS:
                raise pickle.UnpicklingError(f"values of more than {MOST_PARTS} parts")
            stack.extend([size] * len(opcode.stack_after))


def _popped(opcode: pickletools.OpcodeInfo, stack: list[int], marks: list[int]) -> list[int]:
    """The values that an opcode takes from the stack, the deepest first."""
    before = opcode.stack_before
    depth = len(before)
    if pickletools.markobject in before:
        depth = len(stack) - marks.pop() + before.index(pickletools.markobject)
    if depth > len(stack):
        raise pickle.UnpicklingError("takes more than the stack holds")
    parts = stack[len(stack) - depth :]
    del stack[len(stack) - depth :]
    return parts
