"""Files are written whole or not at all, over nothing that was read, anywhere that can be written."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from memgen_eval.errors import InputError
from memgen_eval.shell import (
    TEMPORARY,
    as_path,
    check_outputs,
    check_writable,
    is_stream,
    remove_leftovers,
    write_whole,
)


def test_a_failure_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "r.html"
    target.write_text("old", encoding="utf-8")

    def full_disk(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(InputError, match=r"r\.html: cannot be written \(No space left on device\); free the disk"):
        write_whole(target, b"new page")
    assert target.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_links_and_permissions_survive(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "r.md"
    target.write_text("old", encoding="utf-8")
    target.chmod(0o640)
    (tmp_path / "link.md").symlink_to(target)
    write_whole(tmp_path / "link.md", b"new")
    assert (tmp_path / "link.md").is_symlink()
    assert target.read_text(encoding="utf-8") == "new"
    assert target.stat().st_mode & 0o777 == 0o640


def test_new_files_follow_the_umask(tmp_path: Path) -> None:
    write_whole(tmp_path / "ours.md", b"x")
    (tmp_path / "theirs.md").touch()
    assert (tmp_path / "ours.md").stat().st_mode == (tmp_path / "theirs.md").stat().st_mode


def test_long_names_are_written(tmp_path: Path) -> None:
    name = "n" * 250 + ".md"
    write_whole(tmp_path / name, b"x")
    assert (tmp_path / name).exists()


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket.md"))
    cases = {
        tmp_path / "missing" / "r.html": "does not exist; create it",
        tmp_path / "file" / "r.html": "is not a folder",
        tmp_path: "is a folder, expected a file",
        tmp_path / "socket.md": "is not a regular file",
    }
    for path, words in cases.items():
        with pytest.raises(InputError, match=words) as raised:
            check_writable(path)
        assert str(raised.value).startswith(f"{path}: ")
        assert "\n" not in str(raised.value)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that even root cannot write: /proc")
def test_a_folder_that_refuses_files() -> None:
    with pytest.raises(InputError, match="cannot be written"):
        check_writable(Path("/proc/r.html"))


def test_checking_touches_nothing(tmp_path: Path) -> None:
    target = tmp_path / "r.html"
    check_writable(target)
    assert list(tmp_path.iterdir()) == []
    target.write_text("old", encoding="utf-8")
    before = target.stat()
    check_writable(target)
    assert (target.stat().st_mtime_ns, target.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert target.read_text(encoding="utf-8") == "old"


def test_a_name_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_whole(Path("r.md"), b"x")
    assert (tmp_path / "r.md").read_text(encoding="utf-8") == "x"


def test_home_is_expanded_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    assert as_path("~/r.json") == Path("/somewhere/r.json")
    assert as_path("a/~/r.json") == Path("a/~/r.json")
    assert as_path("~no-such-user/r.json") == Path("~no-such-user/r.json")


def test_pipes_and_devices_are_written_into(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE) as reader:
        write_whole(pipe, b"all of it")
        assert reader.communicate(timeout=60)[0] == b"all of it"
    with subprocess.Popen(["head", "-c", "3", str(pipe)], stdout=subprocess.PIPE) as reader:
        write_whole(pipe, bytes(2**20))  # more than a pipe holds: the reader leaves in the midst of it
        assert reader.communicate(timeout=60)[0] == bytes(3)
    write_whole(Path(os.devnull), b"gone")
    assert is_stream(pipe) and is_stream(Path(os.devnull)) and not is_stream(tmp_path)
    assert list(tmp_path.iterdir()) == [pipe]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_device() -> None:
    with pytest.raises(InputError, match=r"^/dev/full: cannot be written \(No space left on device\)"):
        write_whole(Path("/dev/full"), b"x")


def test_a_limit_on_the_size_of_files(tmp_path: Path) -> None:
    """The system itself refuses to write on, as it does when a disk is full: a file of half the content is left."""
    code = (
        "import resource; from pathlib import Path; from memgen_eval.shell import write_whole\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); write_whole(Path('r.json'), bytes(2000))"
    )
    (tmp_path / "r.json").write_text("old")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert b"InputError: r.json: cannot be written (File too large); free the disk" in done.stderr
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_what_a_killed_process_left_is_removed_and_what_another_writes_is_not(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from memgen_eval import shell as paths\n"
        "def stop(descriptor):\n"
        "    print('writing', flush=True)\n"
        "    sys.stdin.readline()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "os.fsync = stop; paths.write_whole(Path('r.json'), b'half')"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment, text=True, **pipes) as writer:  # type: ignore[call-overload]
        assert writer.stdout.readline() == "writing\n"
        remove_leftovers(tmp_path)
        assert len(list(tmp_path.glob(TEMPORARY.format("*")))) == 1  # it is locked
        writer.communicate("go on\n", timeout=60)
    assert len(list(tmp_path.glob(TEMPORARY.format("*")))) == 1
    write_whole(tmp_path / "other.json", b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["other.json"]


def output_over(kind: str, folder: Path) -> tuple[Path, Path]:
    """An output, and an input that it would overwrite."""
    images = folder / "images"
    images.mkdir()
    (images / "data_batch_1").touch()
    given = folder / "train.json"
    given.touch()
    (folder / "link.json").symlink_to(given)
    (folder / "hard.json").hardlink_to(given)
    (folder / "again").symlink_to(folder)
    return {
        "itself": (given, given),
        "a link": (folder / "link.json", given),
        "the file of a link": (given, folder / "link.json"),
        "a hard link": (folder / "hard.json", given),
        "another way": (folder / "again" / "images" / ".." / "train.json", given),
        "inside": (images / "data_batch_1", images),
    }[kind]


@pytest.mark.parametrize("kind", ["itself", "a link", "the file of a link", "a hard link", "another way", "inside"])
def test_an_output_over_an_input(kind: str, tmp_path: Path) -> None:
    output, given = output_over(kind, tmp_path)
    with pytest.raises(InputError) as raised:
        check_outputs({"--json": output}, {"--train": given})
    assert str(raised.value) == f"--json {output}: would overwrite --train ({given}); give another path"


def test_outputs_that_are_one_file(tmp_path: Path) -> None:
    page, names = tmp_path / "r.html", {}
    (tmp_path / "r.json").symlink_to(page)  # to a file that does not exist yet
    names = {"--html": page, "--json": tmp_path / "r.json"}
    with pytest.raises(InputError, match=r"--html and --json name one file"):
        check_outputs(names, {})
    (tmp_path / "r.json").unlink()
    check_outputs(names, {"--train": tmp_path / "r.png"})
    null = Path(os.devnull)
    check_outputs({"--html": null, "--json": null}, {})
    (tmp_path / "images").mkdir()
    check_outputs({"--html": tmp_path / "images" / "r.html"}, {"--train": tmp_path / "images"})
