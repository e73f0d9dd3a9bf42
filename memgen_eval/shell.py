"""What every command of this project does alike: exit statuses, and one line for whatever cannot be used.

0 done; 1 a gate failed and nothing else; 2 unusable input or arguments, a full disk, too little memory; 3 a fault of
ours, or a process of the run lost; 130 interrupted; 143 terminated.
"""

from __future__ import annotations

import argparse
import atexit
import os
import secrets
import shutil
import signal
import stat
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import combinations
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from memgen_eval.errors import InputError, RankError, lacks_memory

DONE, GATE_FAILED, UNUSABLE, FAULT, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 130, 143
MIN_ADDRESS_SPACE = 2**30  # bytes: with less, libraries end the process or wait for ever while they are imported
USE_LESS = "give fewer images, a smaller --memory-budget or --batch-size where there is one, or more memory"
LONGEST_MESSAGE = 800  # characters; argparse repeats whatever was typed
TEMPORARY = ".memgen-eval-{}.tmp"


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Raise what `run` prints, not all of what was typed if that is much."""
        raise InputError(f"{message:.{LONGEST_MESSAGE}}; see {self.prog} --help")


class Terminated(BaseException):
    """SIGTERM, which is how a CI job is cancelled: raised so that temporary files are removed."""


@contextmanager
def going_on(hint: str | None) -> Iterator[None]:
    """Where what is inside is stopped from outside, have the last line say how to go on."""
    try:
        yield
    except (KeyboardInterrupt, Terminated) as stop:
        stop.args = () if hint is None else (hint,)
        raise


def run(program: str, command: Callable[[], int]) -> int:
    """The exit status of a command; nothing is raised but `SystemExit` of --help and --version."""

    def show(message: Warning | str, *rest: Any, **more: Any) -> None:
        del rest, more  # where in our code it was raised helps nobody
        say(program, f"warning: {message}", DONE)

    with warnings.catch_warnings():
        warnings.showwarning = show
        try:
            return command()
        except InputError as error:
            return say(program, str(error), UNUSABLE)
        except RankError as error:
            return say(program, str(error), FAULT)
        except KeyboardInterrupt as stop:
            return say(program, "; ".join(["interrupted", *map(str, stop.args)]), INTERRUPTED)
        except Terminated as stop:
            return say(program, "; ".join(["terminated", *map(str, stop.args)]), TERMINATED)
        except Exception as error:
            if lacks_memory(error):
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                return say(program, f"out of memory ({reason}); {USE_LESS}", UNUSABLE)
            import traceback

            tell(traceback.format_exc().rstrip())
            fault = f"this is a fault of {program}; please report it with the lines above, the command and the output"
            return say(program, f"{fault} of pip freeze", FAULT)


def say(program: str, text: str, status: int) -> int:
    """Print one line on standard error, whatever characters it holds, and give back the exit status."""
    tell(f"{program}: " + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text))
    return status


def tell(text: str) -> None:
    """Print on standard error; where that is closed or full, nobody can be told."""
    encoding = sys.stderr.encoding or "ascii"
    with suppress(OSError):
        print(text.encode(encoding, "backslashreplace").decode(encoding), file=sys.stderr)


def whole_process(program: str, main: Callable[[], int]) -> NoReturn:
    """Run a command as all that this process does, and end it with the status of the command, whatever libraries do."""
    status = FAULT

    def leave(guard: object) -> None:
        del guard
        os._exit(_flushed(program, status))  # Python's own end would make 120 of a reader that is gone

    def terminate(*signal_and_frame: object) -> NoReturn:
        del signal_and_frame
        raise Terminated

    def checked() -> int:
        _check_address_space()
        signal.signal(signal.SIGTERM, terminate)
        return main()

    _open_standard_streams()
    atexit.register(leave, _guarded(program))  # the first to be registered is the last to be called
    try:
        status = run(program, checked)
    except SystemExit as stop:  # of --help and --version
        status = FAULT if stop.code else DONE
    sys.exit(status)


def _open_standard_streams() -> None:
    """Open what a process was started without (``2>&-``) to nowhere, before another file takes its number."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, os.fdopen(os.dup(descriptor), mode, encoding="utf-8"))


def _check_address_space() -> None:
    """Raise InputError where ``ulimit -v`` leaves too little for the libraries."""
    try:
        import resource
    except ImportError:  # Windows
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < MIN_ADDRESS_SPACE:
        least = f"{MIN_ADDRESS_SPACE // 2**20:,} MiB are needed"
        raise InputError(f"this process may use {limit // 2**20:,} MiB of memory, {least}; raise ulimit -v")


def _guarded(program: str) -> object:
    """Let a library that ends the process from C end it with 2, as long as the object returned lives.

    OpenBLAS and OpenMP exit with 1 where memory or threads are short, which would read as a failed gate.
    """
    import ctypes

    line = f"{program}: a library ended the process, most likely for lack of memory or threads; {USE_LESS}\n".encode()

    def leave(argument: object) -> None:
        del argument
        with suppress(OSError):
            os.write(2, line)
        os._exit(UNUSABLE)

    called = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(leave)
    register = getattr(ctypes.CDLL(None), "__cxa_atexit", None)
    if register is not None:
        register(called, None, None)
    return called


def _flushed(program: str, status: int) -> int:
    """The exit status once what was printed is on its way; a reader that is gone changes nothing."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return status
    except OSError as error:
        if status == DONE:
            return say(program, f"standard output cannot be written ({error.strerror}); free the disk", UNUSABLE)
    return status


def as_path(path: str | os.PathLike[str]) -> Path:
    """The path with a leading ~ expanded, where it names a user's home."""
    try:
        return Path(path).expanduser()
    except (RuntimeError, ValueError):  # there is no such user, or a null byte: the name of a file may begin with ~
        return Path(path)


def is_stream(path: Path) -> bool:
    """Whether this is a pipe or a device, such as /dev/null: written into, where a file is replaced."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def check_outputs(outputs: Mapping[str, Path], inputs: Mapping[str, Path]) -> None:
    """Find out, before any work, whether files can be written without destroying others that are named beside them.

    Both are given by the arguments that name them; inputs need not exist. Raises InputError if an output cannot be
    written, is an input, or is another output, links resolved.
    """
    for name, path in outputs.items():
        check_writable(path)
        for other, given in inputs.items():
            if _is_same_file(path, given) or _is_image_in(path, given):
                raise InputError(f"{name} {path}: would overwrite {other} ({given}); give another path")
    for (name, path), (other, same) in combinations(outputs.items(), 2):
        if _is_same_file(path, same):
            raise InputError(f"{name} and {other} name one file ({path}); give each its own")


def _is_same_file(first: Path, second: Path) -> bool:
    if is_stream(first):
        return False
    if os.path.realpath(first) == os.path.realpath(second):
        return True
    return first.exists() and second.exists() and first.samefile(second)


def _is_image_in(path: Path, folder: Path) -> bool:
    """Whether an existing file may be one of a folder's inputs: batches of CIFAR-10 have no suffix either."""
    inside = folder.is_dir() and Path(os.path.realpath(folder)) in Path(os.path.realpath(path)).parents
    return inside and path.is_file() and not path.suffix


def check_writable(path: Path) -> None:
    """Find out whether a file could be written at `path`, without touching what is there.

    Raises
    ------
    InputError
        If the folder is missing, is not a folder or cannot be written, or `path` is not a place for a file.
    """
    folder = Path(os.path.realpath(path)).parent
    if path.is_dir():
        raise InputError(f"{path}: is a folder, expected a file to write; add a file name to it")
    if is_stream(path):
        return
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is not a regular file; give the path of a file to write")
    if not folder.exists():
        raise InputError(f"{path}: the folder {folder} does not exist; create it or give another path")
    if not folder.is_dir():
        raise InputError(f"{path}: {folder} is not a folder; give a path inside a folder")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        why = f"the folder {folder} cannot be written ({error.strerror})"
        raise InputError(f"{path}: {why}; change its permissions or give another path") from None


def write_whole(path: Path, content: bytes) -> None:
    """Write beside `path`, down to the disk, then rename: a kill or a full disk leaves what was there before.

    Into a pipe or a device the content is written directly; a reader that is gone is no error. What killed processes
    have left in the folder is removed.

    Raises
    ------
    InputError
        If the place cannot be written.
    """
    check_writable(path)
    try:
        if is_stream(path):
            with suppress(BrokenPipeError):
                path.write_bytes(content)
            return
        target = Path(os.path.realpath(path))  # a link stays a link to the file that it names
        remove_leftovers(target.parent)
        with _temporary_in(target.parent) as (beside, file):
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            if target.exists():
                shutil.copymode(target, beside)
            beside.replace(target)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); free the disk or give another path") from None


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that killed processes have left in a folder; those being written are locked."""
    for path in folder.glob(TEMPORARY.format("*")):
        with suppress(OSError), path.open("rb") as file:
            if locked(file.fileno()):
                path.unlink()


@contextmanager
def _temporary_in(folder: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """A new file, locked while it is written, and removed at the end unless it was renamed."""
    while True:
        path = folder / TEMPORARY.format(secrets.token_hex(6))
        with path.open("xb") as file:
            try:
                if locked(file.fileno()) is False or os.fstat(file.fileno()).st_nlink == 0:
                    continue  # another process took it for a leftover before it was locked
                yield path, file
                return
            finally:
                path.unlink(missing_ok=True)


def locked(descriptor: int) -> bool | None:
    """Lock an open file or folder until it is closed: False if another process has, None where there are no locks."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return None
    return True
