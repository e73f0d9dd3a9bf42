"""Courtesy towards a training loop that calls us: its modules are put in eval mode, and their modes given back."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


def is_module(thing: object) -> bool:
    """Whether it is a `torch.nn.Module`; torch is not imported to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(thing, torch.nn.Module)


@contextmanager
def guests(*objects: object) -> Iterator[None]:
    """Run what is inside under `inference_mode`, every module among the objects in eval mode; restore each mode."""
    torch = sys.modules.get("torch")  # whoever passes a module has imported it
    if torch is None:
        yield
        return
    modules = [part for thing in objects if isinstance(thing, torch.nn.Module) for part in thing.modules()]
    modes = [module.training for module in modules]
    for module in modules:
        module.training = False
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode
