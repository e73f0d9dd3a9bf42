"""What every command of this project does alike: exit statuses, and one line for whatever cannot be used.

0 done; 1 a gate failed and nothing else; 2 unusable input or arguments, a full disk, too little memory; 3 a fault of
ours, or a process of the run lost; 130 interrupted; 143 terminated.
"""

from __future__ import annotations

import argparse
import atexit
import errno
import os
import signal
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from memgen_eval.errors import InputError, RankError

DONE, GATE_FAILED, UNUSABLE, FAULT, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 130, 143
MIN_ADDRESS_SPACE = 2**30  # bytes: with less, libraries end the process or wait for ever while they are imported
NO_MEMORY = ("MemoryError", "allocate memory", "out of memory", "bad_alloc", "failed to map", "start new thread")
USE_LESS = "give fewer images, a smaller --memory-budget or --batch-size where there is one, or more memory"


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Raise what `run` prints."""
        raise InputError(f"{message}; see {self.prog} --help")


class Terminated(BaseException):
    """SIGTERM, which is how a CI job is cancelled: raised so that temporary files are removed."""


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
        except KeyboardInterrupt:
            return say(program, "interrupted", INTERRUPTED)
        except Terminated:
            return say(program, "terminated", TERMINATED)
        except Exception as error:
            if _lacks_memory(error):
                return say(program, f"out of memory ({_first_line(error)}); {USE_LESS}", UNUSABLE)
            import traceback

            tell(traceback.format_exc().rstrip())
            fault = f"this is a fault of {program}; please report it with the lines above, the command and the output"
            return say(program, f"{fault} of pip freeze", FAULT)


def _lacks_memory(error: Exception) -> bool:
    """Whether memory or threads were short: NumPy, torch and the dynamic linker each say so in their own way."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return isinstance(error, RuntimeError | ImportError) and any(words in str(error) for words in NO_MEMORY)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


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
