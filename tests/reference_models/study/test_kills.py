"""A study that is killed at any moment ends, in the end, with the same files as one that was not.

A script stands for memgen-train: it leaves reports that were made beforehand, one after the other. Studies are killed
with SIGKILL, in a process of their own, and the trainings that they leave behind go on.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from memgen_eval.report import dumps
from memgen_eval.shell import write_whole
from reference_models.study import report
from reference_models.study.folder import alone_in_study, start_study
from reference_models.study.report import write_results
from reference_models.study.runner import Progress, Source, do_runs, places
from reference_models.study.sweep import PlannedRun, Sweep
from trajectory.courses import ladder, reports_of, rising

SWEEP = Sweep({"data": "digits"}, {"num_images": (20, 40)})
FILES = ("runs.csv", "study.json", "study.html")
SCRIPT = """\
import fcntl, os, pathlib, shutil, sys
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
out = pathlib.Path(given["--out"])
lock = os.open(out, os.O_RDONLY)
fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
(out / "trajectory").mkdir(exist_ok=True)
for path in sorted((pathlib.Path(sys.argv[0]).parent / given["--num-images"]).iterdir()):
    shutil.copy(path, out / "new")
    os.replace(out / "new", out / "trajectory" / path.name)
"""


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    place = tmp_path_factory.mktemp("trainings")
    (place / "train.py").write_text(SCRIPT)
    steps = ladder(256)
    for num_images in SWEEP.factors["num_images"]:
        (place / str(num_images)).mkdir()
        shares = 500 * rising(steps, onset=2.0 * float(num_images))
        made = reports_of(shares.astype(int).tolist(), flagged_unseen=2, gaps=shares.tolist(), swd=np.ones(len(steps)))
        for step, one in zip(steps, made, strict=True):
            (place / str(num_images) / f"step-{int(step):08d}.json").write_text(dumps(one.to_dict()), encoding="utf-8")
    return [sys.executable, "-S", "-E", str(place / "train.py"), "--unused", "0"]


def study(folder: Path, train: list[str], on_change: Callable[[Progress, PlannedRun | None], None]) -> None:
    with alone_in_study(folder):
        runs = start_study(folder, SWEEP)
        assert do_runs(runs, folder, places=places(2), source=Source(), train=train, on_change=on_change) == []
        write_results(SWEEP, runs, folder, source=Source())


def killed(folder: Path, train: list[str], *, at_change: int = 0, at_file: int = 0) -> bool:
    """Whether a study in a process of its own was killed, where it got as far as that."""
    pid = os.fork()
    if pid == 0:
        changes, files = list[Progress](), list[Path]()

        def changed(progress: Progress, run: PlannedRun | None) -> None:
            changes.append(progress)
            if len(changes) == at_change:
                os.kill(os.getpid(), signal.SIGKILL)

        def written(path: Path, content: bytes) -> None:
            files.append(path)
            if len(files) == at_file:
                os.kill(os.getpid(), signal.SIGKILL)
            write_whole(path, content)

        report.write_whole = written  # type: ignore[attr-defined]  # of this process alone
        try:
            study(folder, train, changed)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


def files_of(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, train: list[str]) -> dict[str, bytes]:
    """What a study leaves that was not killed."""
    folder = tmp_path_factory.mktemp("studies") / "plain"
    study(folder, train, lambda progress, run: None)
    return files_of(folder)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_kills_change_nothing(tmp_path: Path, train: list[str], plain: dict[str, bytes]) -> None:
    changes = [killed(tmp_path / "changes", train, at_change=1) for _ in range(2)]
    changes += [killed(tmp_path / "changes", train, at_change=place) for place in (2, 3)]
    files = [killed(tmp_path / "files", train, at_file=place) for place in (1, 3)]
    assert changes[0] and all(files)
    for name in ("changes", "files"):
        study(tmp_path / name, train, lambda progress, run: None)
        assert files_of(tmp_path / name) == plain


def test_another_run_is_another_file(tmp_path: Path, train: list[str], plain: dict[str, bytes]) -> None:
    """The comparison above can fail: checkpoints that are missing are seen."""
    study(tmp_path, train, lambda progress, run: None)
    for path in sorted((tmp_path / "runs" / "num_images=20" / "trajectory").iterdir())[2:]:
        path.unlink()
    study(tmp_path, train, lambda progress, run: None)
    assert all(files_of(tmp_path)[name] != plain[name] for name in FILES)
