"""What every command of this project does alike: exit statuses, and one line for whatever cannot be used.

0 done; 1 a gate failed and nothing else; 2 unusable input or arguments; 3 a fault of ours, or a process of
the run lost; 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

from memgen_eval.errors import InputError, RankError

DONE, GATE_FAILED, UNUSABLE, FAULT, INTERRUPTED = 0, 1, 2, 3, 130


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Raise what `run` prints."""
        raise InputError(f"{message}; see {self.prog} --help")


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
        except Exception:
            import traceback

            _print(traceback.format_exc().rstrip())
            fault = f"this is a fault of {program}; please report it with the lines above, the command and the output"
            return say(program, f"{fault} of pip freeze", FAULT)


def say(program: str, text: str, status: int) -> int:
    """Print one line on standard error, whatever characters it holds, and give back the exit status."""
    _print(f"{program}: " + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text))
    return status


def _print(text: str) -> None:
    encoding = sys.stderr.encoding or "ascii"
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=sys.stderr)
