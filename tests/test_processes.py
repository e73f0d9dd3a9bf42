"""The command as a process: streams that are gone or full, limits, signals, and libraries that end it themselves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from checking import run, strict_json
from conftest import noise_images
from memgen_eval.shell import run as run_command

ROOT = Path(__file__).parent.parent
SMALL = "s.npz --train tr.npz --metrics memorization"
LONG = 120.0

pytestmark = pytest.mark.skipif(os.name == "nt", reason="speaks of POSIX processes")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets")
    train = noise_images(0, 60, (8, 8, 3))
    np.savez(folder / "tr.npz", train)
    np.savez(folder / "s.npz", np.concatenate([noise_images(1, 30, (8, 8, 3)), train[:20]]))
    return folder


def bash(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Lines of bash: `$RUN` is the command, `$PYTHON` the interpreter, `status` exits with that of a pipe's first."""
    variables = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "PYTHON": sys.executable}
    variables["RUN"] = f"{sys.executable} -m memgen_eval"
    lines = f"status() {{ exit ${{PIPESTATUS[0]}}; }}\n{script}"
    return subprocess.run(
        ["bash", "-c", lines],
        cwd=folder,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=LONG,
    )


@pytest.mark.parametrize(
    ("redirected", "status", "said"),
    [
        (f"{SMALL} --json - | true; status", 0, ""),
        (f"{SMALL} --full | head -n 1 >/dev/null; status", 0, ""),
        (f"{SMALL} --html - | head -c 9 >/dev/null; status", 0, ""),
        (f"{SMALL} --fail-if 'verdict == copies' | true; status", 1, "failed because 'verdict == copies'"),
        (f"{SMALL} >/dev/full", 2, "standard output cannot be written (No space left on device); free the disk"),
        (f"{SMALL} --json - >/dev/full", 2, "standard output cannot be written (No space left on device)"),
        (f"{SMALL} --json /dev/full", 2, "/dev/full: cannot be written (No space left on device)"),
        (f"{SMALL} >&-", 0, ""),
        (f"{SMALL} --json - >&- <&-", 0, ""),
        (f"{SMALL} --fail-if 'verdict == copies' 2>&- >/dev/null", 1, ""),
        (f"{SMALL} --html r.html 2>/dev/full >/dev/null", 0, ""),
        ("missing.npz --train tr.npz 2>&-", 2, ""),
        ("missing.npz --train tr.npz 2>/dev/full", 2, ""),
        ("missing.npz --train tr.npz 2> >(true)", 2, ""),
        ("--help | true; status", 0, ""),
        ("--help >/dev/full", 0, ""),
    ],
)
def test_a_stream_that_is_gone_or_full(redirected: str, status: int, said: str, folder: Path) -> None:
    if "/dev/full" in redirected and not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    done = bash(f"$RUN {redirected}", folder)
    assert done.returncode == status
    assert said in done.stderr and done.stderr.count("\n") == bool(said)


def test_pipes_of_the_shell_as_outputs(folder: Path) -> None:
    done = bash(f"$RUN {SMALL} --json >(cat >sent.json) --markdown /dev/stdout; sleep 0.5", folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("## memgen-eval: copies")
    assert strict_json((folder / "sent.json").read_text(encoding="utf-8"))["verdict"]["label"] == "copies"


@pytest.mark.parametrize("megabytes", [60, 100, 140, 200, 300, 400])
def test_too_little_memory_for_the_libraries(megabytes: int, folder: Path) -> None:
    done = bash(f"ulimit -v {1000 * megabytes}; $RUN {SMALL}", folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("1,024 MiB are needed; raise ulimit -v\n") and done.stderr.count("\n") == 1


def tool(main: str, folder: Path, *before: str) -> subprocess.CompletedProcess[str]:
    """A process whose command is the body of `main`."""
    lines = [
        "import atexit, ctypes, sys, threading",
        "from memgen_eval.shell import whole_process",
        *before,
        "def main():",
        *(f"    {line}" for line in main.splitlines()),
        "whole_process('tool', main)",
    ]
    code = "\n".join(lines)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=LONG,
    )


@pytest.mark.parametrize(
    ("main", "status", "said"),
    [
        ("return 0", 0, ""),
        ("return 1", 1, ""),
        ("ctypes.CDLL(None).exit(1)", 2, "tool: a library ended the process"),
        ("ctypes.CDLL(None).exit(0)", 2, "tool: a library ended the process"),
        ("ctypes.PyDLL(None).exit(1)", 2, "tool: a library ended the process"),  # holds the GIL
        (
            "thread = threading.Thread(target=ctypes.CDLL(None).exit, args=(1,))\nthread.start()\nthread.join()",
            2,
            "a libr",
        ),
        ("atexit.register(ctypes.CDLL(None).exit, 1)\nreturn 0", 2, "tool: a library ended the process"),
        ("sys.exit(1)", 3, ""),
        ("sys.exit('no')", 3, ""),
        ("raise ValueError('odd')", 3, "ValueError: odd"),
        ("threading.Thread(target=lambda: 1 / 0).start()\nreturn 0", 0, "ZeroDivisionError"),
        ("atexit.register(lambda: 1 / 0)\nreturn 0", 0, "ZeroDivisionError"),
        ("raise BaseException", 3, "BaseException"),
    ],
)
def test_only_the_command_says_how_it_ends(main: str, status: int, said: str, tmp_path: Path) -> None:
    done = tool(main, tmp_path)
    assert done.returncode == status
    assert said in done.stderr and (said != "" or done.stderr == "")


def test_what_was_registered_for_the_end_is_done(tmp_path: Path) -> None:
    """As matplotlib removes its folder of settings."""
    done = tool("atexit.register(print, 'at the end')\nprint('before')\nreturn 0", tmp_path)
    assert (done.returncode, done.stdout) == (0, "before\nat the end\n")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryError("Unable to allocate 8.00 EiB for an array"),
        OSError(12, "Cannot allocate memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried\nmore"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("can't start new thread"),
        RuntimeError("rank 1: MemoryError: too small"),
        ImportError("libscipy_openblas.so: failed to map segment from shared object"),
    ],
    ids=repr,
)
def test_too_little_memory_is_not_a_fault_of_ours(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        raise error

    assert run_command("tool", command) == 2
    err = capsys.readouterr().err
    assert err.startswith("tool: out of memory (") and "--memory-budget" in err and err.count("\n") == 1


def test_an_error_that_speaks_of_memory_in_passing_is_a_fault(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        raise ValueError("could not allocate memory to the ranks evenly")

    assert run_command("tool", command) == 3


WRITING = """
import os, pathlib, time
from memgen_eval import shell
from memgen_eval.shell import whole_process
def main():
    def wait(descriptor):
        print("writing", flush=True)
        time.sleep(60)
    os.fsync = wait
    shell.write_whole(pathlib.Path("r.json"), b"half")
whole_process("tool", main)
"""


@pytest.mark.parametrize(("name", "status", "said"), [("SIGTERM", 143, "terminated"), ("SIGINT", 130, "interrupted")])
def test_a_signal_leaves_no_temporary_file(name: str, status: int, said: str, tmp_path: Path) -> None:
    code = f"import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n{WRITING}"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment, **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        process.send_signal(signal.Signals[name])
        _, err = process.communicate(timeout=LONG)
    assert process.returncode == status
    assert err == f"tool: {said}\n"
    assert list(tmp_path.iterdir()) == []


CHILDREN = """
import multiprocessing, sys
import numpy as np
def work(queue):
    from memgen_eval import evaluate
    train = np.load("tr.npz")["arr_0"]
    queue.put(evaluate("s.npz", train=train, metrics="memorization").to_dict()["memorization"]["ratio"])
if __name__ == "__main__":
    for method in ("spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        queue = context.Queue()
        child = context.Process(target=work, args=(queue,))
        child.start()
        print(queue.get(timeout=100)["value"])
        child.join()
        assert child.exitcode == 0
"""


def test_evaluate_in_children_that_are_started_anew(folder: Path) -> None:
    (folder / "children.py").write_text(CHILDREN)
    done = bash("$PYTHON children.py", folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0.4\n0.4\n", "")


@pytest.mark.parametrize("program", ["train", "sample"])
def test_the_other_commands_run_as_modules(program: str, folder: Path) -> None:
    done = bash(f"$PYTHON -m reference_models.{program}_cli", folder)
    assert done.returncode == 2
    assert done.stderr.startswith(f"memgen-{program}: the following arguments are required")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--train", "tr.npz", "--metrics", "memorization", "novelty.auc", "s.npz"),
        ("--train", "tr.npz", "--metrics", "memorization", "s.npz", "--sigmas", "0.1", "1"),
        ("--metrics", "memorization", "--sigmas", "0.1", "1", "s.npz", "--train", "tr.npz"),
    ],
    ids=" ".join,
)
def test_samples_after_a_list(
    arguments: tuple[str, ...], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    assert run(*arguments, "--json", "-") == 0
    report = strict_json(capsys.readouterr().out)
    assert report["settings"]["num_samples"] == 50
    assert report["settings"]["metrics"][0] == "memorization"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("s.npz", "--train", "tr.npz", "--metrics", "memorization", "beauty"), "metrics names 'beauty'"),
        (("--train", "tr.npz", "--metrics", "memorization", "novelty"), "required: samples"),
        (("--train", "tr.npz", "--metrics", "s.npz"), "required: samples"),
        (("--train", "tr.npz", "--sigmas", "0.1", "1"), "required: samples"),
        (("s.npz", "--train", "tr.npz", "--sigmas", "0.1", "low"), "invalid float value: 'low'"),
    ],
)
def test_a_list_that_holds_no_samples(
    arguments: tuple[str, ...],
    said: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    assert run(*arguments) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1


def test_a_home_in_every_path(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(tmp_path)
    assert run("~/s.npz", "--train", "~/tr.npz", "--metrics", "memorization", "--json", "~/home.json") == 0
    out, err = capsys.readouterr()
    assert err == f"memgen-eval: wrote {folder / 'home.json'}\n" and out
    assert strict_json((folder / "home.json").read_text(encoding="utf-8"))["settings"]["num_samples"] == 50
    assert list(tmp_path.iterdir()) == []
