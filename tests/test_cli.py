"""The command as a person or a CI job meets it: figures of a known case, exit codes, streams, encodings, a terminal."""

from __future__ import annotations

import errno
import io
import logging
import os
import pty
import re
import select
import signal
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

import memgen_eval.evaluation
from checking import figures, run, strict_json
from conftest import Kit, noise_images
from memgen_eval import GateError, InputError, Report
from memgen_eval.runtime import Stages, report_progress
from memgen_eval.terminal.progress import shown_on_terminal

ROOT = Path(__file__).parent.parent
B0 = ("mix.npz", "--train", "tr.npz", "--test", "te.npz")
SMALL = ("small.npz", "--train", "small_train.npz", "--metrics", "memorization")


@pytest.fixture(scope="module")
def kit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kit")
    tr, te, fresh = noise_images(0, 2000), noise_images(1, 1000), noise_images(2, 500)
    kit = Kit(tr=tr, te=te, fresh=fresh, mix=np.concatenate([fresh, tr[:100]]))
    for name in ("tr", "te", "fresh", "mix"):
        np.savez(folder / f"{name}.npz", getattr(kit, name))
    small = noise_images(5, 400, (8, 8, 3))
    np.savez(folder / "small_train.npz", small)
    np.savez(folder / "small.npz", np.concatenate([noise_images(6, 320, (8, 8, 3)), small[:40]]))
    for name in ("mix", "tr", "te"):
        with np.load(folder / f"{name}.npz") as arrays:
            np.save(folder / f"{name}_float.npy", (arrays["arr_0"] / 127.5 - 1).astype(np.float32))
    return folder


@pytest.fixture
def folder(kit_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(kit_folder)
    return kit_folder


def command(
    *arguments: object, folder: Path, variables: dict[str, str] | None = None, **keywords: Any
) -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own, its output in bytes."""
    return subprocess.run(
        [sys.executable, "-m", "memgen_eval", *map(str, arguments)],
        cwd=folder,
        env=environment(variables),
        capture_output=True,
        check=False,
        **keywords,
    )


def environment(variables: dict[str, str] | None = None) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"} | (variables or {})


@pytest.fixture(scope="module")
def b0(kit_folder: Path) -> dict[str, Any]:
    """B0 in a process of its own: nothing beside the JSON on standard output, nothing on standard error."""
    done = command(*B0, "--json", "-", folder=kit_folder)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"{") and done.stdout.endswith(b"}\n")
    return strict_json(done.stdout.decode())


def test_b0(b0: dict[str, Any]) -> None:
    family = b0["memorization"]
    ratio, exact = family["ratio"], binomtest(100, 600).proportion_ci(0.95, method="exact")
    assert ratio["value"] == 1 / 6 and ratio["count"] == 600
    assert (ratio["low"], ratio["high"]) == pytest.approx((exact.low, exact.high), rel=1e-14)
    assert (round(ratio["low"], 4), round(ratio["high"], 4)) == (0.1377, 0.1989)
    assert family["plain_ratio"]["value"] == 1 / 6
    assert family["test_ratio"]["value"] == 0
    assert (family["num_near_identical"]["value"], family["test_num_near_identical"]["value"]) == (100, 0)
    copies = [(c["sample_index"], c["train_index"], c["distance"], c["grey_levels"]) for c in family["copies"]]
    assert copies == [(500 + i, i, 0, 0) for i in range(100)]
    assert family["num_distinct_copied"]["value"] == 100
    assert b0["novelty"]["auc"]["value"] == pytest.approx(0.4390175, abs=5e-8)
    assert b0["verdict"]["label"] == "copies"
    assert "Sample 500 is training image 0" in b0["verdict"]["sentence"]
    assert b0["settings"]["duplicate_tolerance"] * 255 == pytest.approx(25, abs=0.5)
    assert b0["settings"]["baseline"] == "test"


def test_b0_of_fresh_images_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fresh.npz", *B0[1:], "--json", "-", "--metrics", "memorization") == 0
    report = strict_json(capsys.readouterr().out)
    family = report["memorization"]
    assert family["ratio"]["value"] == 0 and round(family["ratio"]["high"], 4) == 0.0074
    assert family["largest_compatible_ratio"]["value"] == pytest.approx(1 - 0.05 ** (1 / 500), rel=1e-12)
    assert round(family["largest_compatible_ratio"]["value"], 5) == 0.00597
    assert report["verdict"]["label"] == "no copying found"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--range", "-1,1"),
        ("--range=-1,1",),
        ("--range", "-1", "1"),
        ("--train-range", "-1,1", "--test-range", "-1", "1", "--range=-1.0,1e0"),
        (),
    ],
    ids=" ".join,
)
def test_ranges_that_begin_with_a_minus(
    arguments: Sequence[str], folder: Path, b0: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    sets = ["mix_float.npy", "--train", "tr.npz", "--test", "te.npz"]
    if "--train-range" in arguments:
        sets = [sets[0], "--train", "tr_float.npy", "--test", "te_float.npy"]
    assert run(*arguments, *sets, "--metrics", "memorization", "--json", "-") == 0
    report = strict_json(capsys.readouterr().out)
    assert report["memorization"] == b0["memorization"] and report["verdict"] == b0["verdict"]
    assert report["settings"]["checksums"] == b0["settings"]["checksums"]


def test_the_spelling_in_the_help_works(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run("--help")
    out = capsys.readouterr().out
    assert stopped.value.code == 0
    assert "--range -1,1" in out
    assert re.search(r"exit status: 0 .*1 .*2 .*3 .*130 .*143", out, re.DOTALL)


def test_a_file_whose_name_begins_with_a_minus(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "-s.npz").write_bytes((folder / "small.npz").read_bytes())
    assert run(*SMALL[1:3], "--metrics=memorization", "--json", "-", "--", "-s.npz") == 0
    assert strict_json(capsys.readouterr().out)["verdict"]["label"] == "copies"


@pytest.mark.parametrize(
    ("gates", "status", "said"),
    [
        (["verdict == no copying found", "memorization.ratio > 0.5"], 0, ()),
        (["verdict == copies"], 1, ("verdict == copies", "is copies")),
        (["verdict != 'copies'"], 0, ()),
        (["memorization.ratio.low > 0.01"], 1, ("memorization.ratio.low > 0.01", "0.08")),
        (["memorization.ratio >= 0.5", "memorization.ratio.count < 361"], 1, ("memorization.ratio.count < 361", "360")),
        (["novelty.auc < 0.4"], 1, ("novelty.auc", "not measured", "not asked for")),
        (["memorization.num_near_identical.low > 1"], 1, ("num_near_identical.low", "not defined")),
        (["memorization.ratio_curve.max > 0.99"], 0, ()),
    ],
    ids=lambda value: "; ".join(value) if isinstance(value, list) else "",
)
def test_gates(
    gates: list[str], status: int, said: tuple[str, ...], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = Path("gated.json")
    output.unlink(missing_ok=True)
    options = [word for gate in gates for word in ("--fail-if", gate)]
    assert run(*SMALL, *options, "--json", output) == status
    out, err = capsys.readouterr()
    assert strict_json(output.read_text(encoding="utf-8"))["verdict"]["label"] == "copies"  # written all the same
    assert "copies" in out
    assert err.startswith("memgen-eval: wrote gated.json\n") and err.count("\n") == (2 if status else 1)
    assert [words for words in said if words not in err] == []


def test_an_engine_is_chosen_by_a_flag_or_a_variable_and_alters_no_figure(
    folder: Path, b0: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(*B0, "--engine", "numpy", "--json", "one.json") == 0
    capsys.readouterr()
    one = strict_json(Path("one.json").read_text(encoding="utf-8"))
    assert figures(one) == figures(b0) and one["provenance"]["engine"].startswith("numpy ")
    assert run(*B0, "--engine", "fast") == 2
    words = "is unknown: choose one of auto, numkong, torch, faiss, numpy, cuda"
    assert capsys.readouterr().err == f"memgen-eval: engine='fast' {words}\n"
    monkeypatch.setenv("MEMGEN_ENGINE", "faster")
    assert run(*B0) == 2
    assert capsys.readouterr().err == f"memgen-eval: MEMGEN_ENGINE='faster' {words}\n"


@pytest.mark.parametrize("bound", ["nan", "inf", "1e999", "-nan", "-inf", "NaN", "", "0x1", "1_0", "one"])
def test_a_gate_whose_bound_is_no_finite_number(bound: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gate = f"memorization.ratio.low > {bound}"
    assert run("missing.npz", "--train", "tr.npz", "--fail-if", gate) == 2  # before any work
    err = capsys.readouterr().err
    assert repr(gate) in err and repr(bound) in err and err.count("\n") == 1


def test_require(b0: dict[str, Any]) -> None:
    report = Report.from_dict(b0)
    report.require("memorization.ratio.high < 0.2")
    report.require("verdict == copies")
    with pytest.raises(GateError, match=r"required 'memorization.ratio.high < 0.01'.* is 0\.198"):
        report.require("memorization.ratio.high < 0.01")
    with pytest.raises(AssertionError, match=r"required 'verdict != copies'"):
        report.require("verdict != copies")
    with pytest.raises(GateError, match=r"fidelity\.kid.*was not measured"):
        report.require("fidelity.kid < 1")
    for bound in ("nan", "inf", "1e999"):
        with pytest.raises(InputError, match=f"'{bound}'"):
            report.require(f"memorization.ratio.high < {bound}")


def test_every_file_and_what_goes_to_standard_output(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*SMALL, "--json", "r.json", "--html", "r.html", "--markdown", "r.md") == 0
    table = capsys.readouterr().out
    assert "copies" in table and "\x1b" not in table and "\r" not in table
    report = Report.load("r.json")
    assert report.provenance.command is not None and report.provenance.command.startswith("memgen-eval small.npz")
    assert "<img" in Path("r.html").read_text(encoding="utf-8")
    assert run(*SMALL, "--no-images", "--html", "bare.html", "--markdown", "-") == 0
    assert capsys.readouterr().out == Path("r.md").read_text(encoding="utf-8")
    assert run(*SMALL, "--full") == 0
    full = capsys.readouterr().out
    assert len(full.splitlines()) > len(table.splitlines())


def test_a_page_without_images_holds_none(folder: Path) -> None:
    assert run(*SMALL, "--no-images", "--html", "none.html") == 0
    assert run(*SMALL, "--html", "some.html") == 0
    none, some = (len(re.findall("data:image/(?!svg)", Path(f).read_text("utf-8"))) for f in ("none.html", "some.html"))
    assert none == 0 and some >= 64


def test_a_fault_of_ours_is_three(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object, **keywords: object) -> Report:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(sys.modules["memgen_eval.evaluation"], "evaluate", broken)
    assert run(*SMALL) == 3
    err = capsys.readouterr().err
    assert "ZeroDivisionError: ours" in err and "Traceback" in err and "report it" in err


def test_a_gate_that_fails_is_not_a_fault_of_ours_and_bad_input_is_neither(folder: Path) -> None:
    statuses = [
        run(*SMALL, "--fail-if", "verdict == copies"),
        run("missing.npz", *SMALL[1:], "--fail-if", "verdict == copies"),
    ]
    assert statuses == [1, 2]


def test_interrupted_is_130(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object, **keywords: object) -> Report:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["memgen_eval.evaluation"], "evaluate", interrupted)
    assert run(*SMALL, "--json", "never.json") == 130
    assert capsys.readouterr().err == "memgen-eval: interrupted\n"
    assert not Path("never.json").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_an_interrupt_while_it_reads_ends_it_with_130(folder: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING, str(tmp_path / "ready")],
        cwd=folder,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    os.mkfifo(tmp_path / "ready")
    (tmp_path / "ready").read_text()  # returns once the other side is in the midst of its work
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "memgen-eval: interrupted\n")


WAITING = """
import pathlib, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # tests that run in the background inherit that it is ignored
import memgen_eval.evaluation
from memgen_eval.cli import entry
module, ready = sys.modules["memgen_eval.evaluation"], pathlib.Path(sys.argv[1])
def evaluate(*arguments, **keywords):
    while not ready.exists():
        time.sleep(0.01)
    ready.write_text("now")
    time.sleep(60)
module.evaluate = evaluate
sys.argv[1:] = ["small.npz", "--train", "small_train.npz"]
entry()
"""


def test_nothing_but_json_on_standard_output_and_no_bars_in_a_pipe(folder: Path, b0: dict[str, Any]) -> None:
    done = command(*B0, "--json", "-", "--metrics", "memorization", "--fail-if", "verdict == copies", folder=folder)
    assert done.returncode == 1
    assert strict_json(done.stdout.decode())["memorization"] == b0["memorization"]
    assert b"\r" not in done.stderr and b"\x1b" not in done.stderr and done.stderr.count(b"\n") == 1


ENCODINGS = [
    {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    {"PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"},
    {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
]


@pytest.mark.parametrize(
    ("variables", "output"),
    [
        (ENCODINGS[0], ()),
        (ENCODINGS[1], ()),
        (ENCODINGS[2], ()),
        (ENCODINGS[0], ("--markdown", "-")),
        (ENCODINGS[0], ("--json", "-")),
    ],
    ids=["ascii table", "latin-1 table", "C table", "ascii markdown", "ascii json"],
)
def test_streams_that_cannot_hold_every_character(
    variables: dict[str, str], output: tuple[str, ...], folder: Path, tmp_path: Path
) -> None:
    name = "样本 \N{SNOWMAN}.npz"
    (folder / name).write_bytes((folder / "small.npz").read_bytes())
    page = tmp_path / "r.html"
    done = command(name, *SMALL[1:], *output, "--html", page, folder=folder, variables=variables)
    assert (done.returncode, done.stderr) == (0, f"memgen-eval: wrote {page}\n".encode())
    text = done.stdout.decode("ascii")
    assert "copies" in text
    if output[:1] == ("--json",):
        strict_json(text)
    assert "LC_ALL" in variables or name in page.read_text(encoding="utf-8")  # in C, names are bytes to Python


@pytest.mark.parametrize("variables", ENCODINGS[::2], ids=["ascii", "C"])
def test_errors_on_a_stream_that_cannot_hold_every_character(variables: dict[str, str], folder: Path) -> None:
    done = command("样本.npz", *SMALL[1:], folder=folder, variables=variables)
    assert done.returncode == 2
    assert done.stderr.startswith(b"memgen-eval: ") and done.stderr.count(b"\n") == 1
    name = done.stderr.decode("ascii")
    assert "does not exist" in name and ("LC_ALL" in variables or "\\u6837\\u672c.npz" in name)


def on_a_terminal(arguments: Sequence[str], folder: Path) -> tuple[int, str, str]:
    """Status, standard output and what standard error, a terminal, was sent."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "memgen_eval", *arguments],
        cwd=folder,
        env=environment({"TERM": "xterm", "COLUMNS": "100"}),
        stdout=subprocess.PIPE,
        stderr=theirs,
        stdin=subprocess.DEVNULL,
    )
    os.close(theirs)
    shown, out = bytearray(), bytearray()
    assert process.stdout is not None
    streams = {ours: shown, process.stdout.fileno(): out}
    open_streams = set(streams)
    while open_streams:
        for stream in select.select(list(open_streams), [], [])[0]:
            part = read_some(stream)
            streams[stream] += part
            if not part:
                open_streams.remove(stream)
    os.close(ours)
    process.stdout.close()
    return process.wait(), out.decode(), shown.decode()


def read_some(stream: int) -> bytes:
    try:
        return os.read(stream, 65536)
    except OSError as error:
        if error.errno == errno.EIO:  # how Linux says that the other end of a terminal is closed
            return b""
        raise


def test_bars_on_a_terminal_only(folder: Path, b0: dict[str, Any]) -> None:
    status, out, shown = on_a_terminal([*B0, "--metrics", "memorization", "--json", "-"], folder)
    assert status == 0
    assert strict_json(out)["memorization"] == b0["memorization"]
    assert "\x1b[" in shown and "neighbours of samples" in shown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bars_follow_the_stages_and_leave_the_log_as_it_was() -> None:
    logger, terminal, stages = logging.getLogger("memgen_eval"), Terminal(), Stages()
    before = (logger.level, list(logger.handlers))
    with shown_on_terminal(terminal):
        report_progress(1, 2)  # before any stage: nothing to show it on
        with stages.stage("drawing samples"):
            report_progress(1, 2)
            report_progress(2, 2)
        with pytest.raises(ZeroDivisionError), stages.stage("neighbours of samples"):
            raise ZeroDivisionError
    shown = terminal.getvalue()
    assert "drawing samples" in shown and "neighbours of samples" in shown
    assert (logger.level, list(logger.handlers)) == before
    assert list(stages.seconds) == ["drawing samples", "neighbours of samples"]
    quiet = io.StringIO()
    with shown_on_terminal(quiet), stages.stage("drawing samples"):
        report_progress(1, 2)
    assert quiet.getvalue() == "" and len(stages.seconds) == 2


def test_a_profile_adds_up(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*SMALL, "--profile", "--json", "-") == 0
    streams = capsys.readouterr()
    told = strict_json(streams.out)["provenance"]["seconds"]
    header, *lines = streams.err.splitlines()
    assert re.fullmatch(r"stage +seconds  share", header)
    rows = [re.fullmatch(r"(.+?) +(\d+\.\d\d) +(\d+) %", line) for line in lines]
    seconds = {row[1]: float(row[2]) for row in rows if row is not None}
    assert list(seconds) == [*told, "page, files and table", "else", "all"]
    assert {"imports", "reading the training set", "neighbours of samples", "checksums"} <= set(told)
    parts = [value for name, value in seconds.items() if name != "all"]
    assert sum(parts) == pytest.approx(seconds["all"], abs=0.006 * len(parts))
    assert [row[3] for row in rows if row is not None][-1] == "100"
    assert run(*SMALL) == 0
    assert capsys.readouterr().err == ""


def test_the_debug_log_says_how_long_a_stage_took(caplog: pytest.LogCaptureFixture) -> None:
    stages = Stages()
    with caplog.at_level(logging.DEBUG, "memgen_eval"), stages.stage("drawing samples"):
        pass
    assert [record.levelname for record in caplog.records] == ["INFO", "DEBUG"]
    assert caplog.messages[1] == f"drawing samples: {stages.seconds['drawing samples']:.3f} seconds"


def test_an_error_on_a_terminal_leaves_no_bar_behind(folder: Path) -> None:
    status, out, shown = on_a_terminal(["missing.npz", *SMALL[1:]], folder)
    assert (status, out) == (2, "")
    assert shown.splitlines()[-1].endswith(shown[shown.index("memgen-eval: ") :].strip())


def test_a_read_only_home(kit_folder: Path, b0: dict[str, Any], tmp_path: Path) -> None:
    """As in a container: no home, no cache, no other user's files; matplotlib and numba like to complain of it."""
    variables = {"HOME": "/proc/nobody", "XDG_CACHE_HOME": "/proc/x", "XDG_CONFIG_HOME": "/proc/x"}
    for name in ("MPLCONFIGDIR", "MEMGEN_DATA"):
        variables |= {name: ""} if name in os.environ else {}
    tmp_path.chmod(0o777)
    other: dict[str, Any] = {}
    if os.geteuid() == 0 and readable_by_others([kit_folder, ROOT, Path(sys.executable), tmp_path]):
        other = {"user": 65534, "group": 65534, "extra_groups": []}
    page = tmp_path / "r.html"
    wanted = (*B0, "--metrics", "memorization", "--html", page, "--json", "-")
    done = command(*wanted, folder=kit_folder, variables=variables, **other)
    assert (done.returncode, done.stderr) == (0, f"memgen-eval: wrote {page}\n".encode())
    report = strict_json(done.stdout.decode())
    assert (report["memorization"], report["verdict"]) == (b0["memorization"], b0["verdict"])
    assert "<svg" in page.read_text(encoding="utf-8")
    assert page.stat().st_size < 10 * 2**20


def readable_by_others(paths: Sequence[Path]) -> bool:
    """Whether a user who owns none of it can get to these files."""
    real = [path.resolve() for path in paths]
    return all(part.stat().st_mode & stat.S_IXOTH for path in real for part in (path, *path.parents))


def test_the_module_keeps_the_commands_name(folder: Path) -> None:
    done = command("--version", folder=folder)
    assert done.stdout.decode().strip() == f"memgen-eval {memgen_eval.__version__}"
