"""Stages for whoever listens, and the place where code that is not ours runs.

Samplers, denoisers, features and Datasets run inside `foreign`. Whoever calls us from a training loop finds everything
there as it was: modes of modules, random states, gradients.
"""

from __future__ import annotations

import gc
import hashlib
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from memgen_eval.errors import InputError

if TYPE_CHECKING:
    from memgen_eval.compute.random_states import RandomStates

log = logging.getLogger("memgen_eval")
MOST_OBJECTS = 50_000  # that are looked at for modules and generators
MOST_ITEMS = 1_000  # of a container
LEAVES = (str, bytes, int, float, complex, type(None), type, ModuleType, CodeType, np.ndarray, np.generic)
LIBRARIES = ("torch", "numpy", "memgen_eval")  # their functions hold no modules of the caller's


@dataclass(frozen=True)
class Stages:
    """Seconds that each stage took, in the order in which they began."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what is inside; tell the log that it begins (the record carries `stage`), and how long it took."""
        from memgen_eval.compute.resources import give_memory_back

        log.info("%s", name, extra={"stage": name})
        start = time.perf_counter()
        try:
            yield
        finally:
            taken = time.perf_counter() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + taken
            log.debug("%s: %.3f seconds", name, taken)
            give_memory_back()


def report_progress(done: int, total: int) -> None:
    """Tell the log how far the present stage is (the record carries `done` and `total`)."""
    log.info("%d of %d", done, total, extra={"done": done, "total": total})


def is_module(thing: object) -> bool:
    """Whether it is a `torch.nn.Module`; torch is not imported to find out."""
    torch = sys.modules.get("torch")  # whoever passes a module has imported it
    return torch is not None and issubclass(type(thing), torch.nn.Module)


def modules_of(*things: object) -> Iterator[Any]:
    """Yield the modules that things are or hold, the nearest first: in closures, globals used, attributes, lists."""
    return (thing for thing in _reachable(*things) if is_module(thing))


def parameter_of(*things: object) -> Any:
    """The first floating-point parameter of the modules that things hold; None without one."""
    parameters = (parameter for module in modules_of(*things) for parameter in module.parameters())
    return next((parameter for parameter in parameters if parameter.is_floating_point()), None)


def member(thing: object, name: str) -> Any:
    """An attribute of somebody else's object, or an entry of a mapping; None where it has none, however it says so."""
    try:
        return thing[name] if isinstance(thing, Mapping) else getattr(thing, name)
    except Exception:  # noqa: BLE001 - such as a KeyError out of __getattr__
        return None


def misplaced(thing: object) -> str | None:
    """What a thing is that people give for a model, and what to give instead; None for all else."""
    if isinstance(thing, type):
        return f"the class {thing.__name__}: give an instance of it"
    if isinstance(thing, str | os.PathLike):
        return f"the text or path {os.fspath(thing)!r}: load the model and give the model"
    if isinstance(thing, Mapping):
        values = list(islice(thing.values(), MOST_ITEMS))
        tensors = [value for value in values if all(hasattr(type(value), name) for name in ("shape", "dtype"))]
        if values and len(tensors) == len(values):
            return "a state dict: build the network, call its load_state_dict, and give the network"
        keys = ", ".join(str(key) for key in islice(thing, 4))
        return f"a dict ({keys}, ...), such as a checkpoint: build the network, load its weights, and give the network"
    if member(thing, "scheduler") is not None and callable(thing) and not is_module(thing):
        return "a pipeline: give its network in a conversion, such as from_epsilon(pipeline.unet, alphas_cumprod=...)"
    if callable(member(thing, "step")) and not callable(thing):
        return f"a {type(thing).__name__}, a scheduler or an optimizer: give the network, in one of the conversions"
    return None


def check_denoiser(denoiser: object) -> None:
    """Refuse what cannot be called as D(x, sigma); None is no denoiser. Raises InputError naming it."""
    if denoiser is None:
        return
    instead = misplaced(denoiser)
    if instead is None and not callable(denoiser):
        instead = f"a {type(denoiser).__name__}: give a callable D(x, sigma)"
    if instead is not None:
        raise InputError(f"denoiser is {instead}")


@contextmanager
def foreign(*objects: object) -> Iterator[None]:
    """Run what is inside without gradients, modules in eval mode; give back modes and random states afterwards.

    Gradients can be switched on inside, as classifier guidance does. A module that is in none of the objects is put
    into eval mode when it is first called.
    """
    held = list(_reachable(*objects))
    with ExitStack() as stack:
        _keep_states(stack, held)
        torch = sys.modules.get("torch")
        if torch is not None:
            stack.enter_context(torch.no_grad())
            stack.enter_context(_eval_mode(torch, [thing for thing in held if is_module(thing)]))
        yield


@contextmanager
def _eval_mode(torch: Any, found: list[Any]) -> Iterator[None]:
    """Modules in eval mode by their flags alone: `eval()` may do more, such as merging weights."""
    modes: dict[int, tuple[Any, bool]] = {}

    def switch(module: Any) -> None:
        for part in module.modules():
            modes.setdefault(id(part), (part, part.training))
            part.training = False

    here = threading.get_ident()

    def before_call(module: Any, _: Any) -> None:
        if module.training and threading.get_ident() == here:  # other threads may train
            switch(module)

    for module in found:
        switch(module)
    with ExitStack() as stack:
        if not any(type(module).__name__ == "OptimizedModule" for module in found):  # torch.compile warns of hooks
            hook = torch.nn.modules.module.register_module_forward_pre_hook(before_call)
            stack.callback(hook.remove)
        try:
            yield
        finally:
            for part, training in modes.values():
                part.training = training


def _keep_states(stack: ExitStack, held: list[Any]) -> None:
    """Have the stack give back the state of every generator: the global ones, and those among the objects."""
    from memgen_eval.compute.random_states import state_holders

    for holder in state_holders(held):
        stack.callback(holder.write, holder.read())


def random_states(*things: object) -> RandomStates:
    """The generators that code may draw from: the global ones, and those that the things hold."""
    from memgen_eval.compute.random_states import RandomStates, state_holders

    return RandomStates(tuple(state_holders(_reachable(*things))))


def fingerprint(thing: object) -> str:
    """A checksum of what can be seen of somebody else's callable, the same in every process.

    Its name, its own code, the numbers and texts that it holds itself, and the weights of the modules that it holds.
    """
    code = {function.__qualname__: list(_code(function.__code__)) for function in _own_functions(thing)}
    seen = f"{type(thing).__qualname__} {sorted(code.items())} {sorted(_own_settings(thing))} {weights_checksum(thing)}"
    return hashlib.sha256(seen.encode()).hexdigest()


def weights_checksum(*things: object) -> str:
    """A checksum of the parameters and buffers of all modules that things hold."""
    seen: set[int] = set()
    found = []
    for module in modules_of(*things):
        if id(module) in seen:
            continue
        seen |= {id(part) for part in module.modules()}
        digest = hashlib.sha256(type(module).__qualname__.encode())
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(_raw_bytes(tensor))
        found.append(digest.hexdigest())
    return " ".join(sorted(set(found)))


def _raw_bytes(tensor: Any) -> Any:
    import torch

    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _own_functions(thing: Any) -> list[FunctionType]:
    """A function itself, that of a method or of a partial, or what an object runs when it is called."""
    thing = member(thing, "func") if isinstance(thing, partial) else thing
    thing = member(thing, "__func__") if isinstance(thing, MethodType) else thing
    if type(thing) is FunctionType:
        return [thing]
    called = (getattr(type(thing), name, None) for name in ("__call__", "forward"))
    return [function for function in called if type(function) is FunctionType]


def _own_settings(thing: Any) -> Iterator[str]:
    """Numbers and texts in closure, defaults and attributes, and among the globals that the code names."""
    held: dict[str, Any] = dict(member(thing, "__dict__") or {})
    if isinstance(thing, partial):
        held |= {f"argument {i}": value for i, value in enumerate(thing.args)} | thing.keywords
    for function in _own_functions(thing):
        names = set(_names(function.__code__))
        held |= {name: value for name, value in function.__globals__.items() if name in names}
        held |= {f"default {i}": value for i, value in enumerate(function.__defaults__ or ())}
        held |= function.__kwdefaults__ or {}
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            with suppress(ValueError):  # not filled yet
                held[name] = cell.cell_contents
    return (f"{name} = {value!r}" for name, value in held.items() if type(value) in (bool, int, float, str, bytes))


def _code(code: CodeType) -> Iterator[str]:
    """What code does, whatever line it stands on."""
    yield f"{code.co_code.hex()} {code.co_names}"
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code(constant)
        else:
            yield str(sorted(map(repr, constant))) if isinstance(constant, frozenset) else repr(constant)


def _reachable(*things: object) -> Iterator[Any]:
    """What the things hold, the nearest first, themselves included."""
    seen: dict[int, object] = {}  # holds the objects too, so that no id is used twice
    waiting = deque(things)
    while waiting and len(seen) < MOST_OBJECTS:
        thing = waiting.popleft()
        if id(thing) in seen or issubclass(type(thing), LEAVES):
            continue
        seen[id(thing)] = thing
        yield thing
        if type(thing) is FunctionType:
            waiting.extend(_used_by(thing))
        else:
            waiting.extend(islice(gc.get_referents(thing), MOST_ITEMS))
            called = (getattr(type(thing), name, None) for name in ("__call__", "forward"))
            waiting.extend(function for function in called if type(function) is FunctionType)


def _used_by(function: FunctionType) -> list[Any]:
    """What a function holds: closure, defaults and attributes, and those of its globals that its code names."""
    if (function.__module__ or "").partition(".")[0] in LIBRARIES:
        return []
    names = sorted(set(_names(function.__code__)))  # in one order, whatever Python makes of sets
    named = [function.__globals__[name] for name in names if name in function.__globals__]
    inside = [vars(module) for module in named if type(module) is ModuleType]
    named += [scope[name] for scope in inside for name in names if name in scope]
    defaults = [function.__defaults__, function.__kwdefaults__]
    return [*(function.__closure__ or ()), *defaults, *vars(function).values(), *named]


def _names(code: CodeType) -> Iterator[str]:
    """The names that code and the functions inside it look up."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
