"""Courtesy towards a training loop that calls us: its modules are put in eval mode, and their modes given back."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def is_module(thing: object) -> bool:
    """Whether it is a `torch.nn.Module`; torch is not imported to find out."""
    torch = sys.modules.get("torch")  # whoever passes a module has imported it
    return torch is not None and isinstance(thing, torch.nn.Module)


def modules_of(thing: Any) -> list[Any]:
    """The modules that a callable is, or holds: as an attribute, in a closure, as the owner of a method."""
    held = [thing, getattr(thing, "__self__", None), *getattr(thing, "__dict__", {}).values()]
    held += [cell.cell_contents for cell in getattr(thing, "__closure__", None) or ()]
    return list({id(module): module for module in held if is_module(module)}.values())


@contextmanager
def guests(*objects: object) -> Iterator[None]:
    """Run what is inside under `inference_mode`, every module of the objects in eval mode; restore each mode."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    modules = [module for thing in objects for module in modules_of(thing)]
    modes = [(part, part.training) for module in modules for part in module.modules()]
    try:
        for module in modules:
            module.eval()
        with torch.inference_mode():
            yield
    finally:
        for part, training in modes:
            part.training = training
