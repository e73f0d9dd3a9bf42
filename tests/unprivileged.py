"""The command as a user without privileges runs it: to root, whom CI often is, every folder is open."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
NOBODY = 65534

# The first run imports what the second needs: Python's own files may lie where nobody else may read.
SCRIPT = """
import os, sys
from memgen_eval.cli import main
arguments, split = sys.argv[1:], sys.argv.index("--then") - 1
main(arguments[:split])
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid({nobody})
    os.setuid({nobody})
print("unprivileged", flush=True)
sys.exit(main(arguments[split + 1 :]))
"""


@contextmanager
def public_folder() -> Iterator[Path]:
    """A folder that everyone may enter, which pytest's own are not; removed at the end."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        for path in folder.rglob("*"):
            if path.is_dir():
                path.chmod(0o755)
        shutil.rmtree(folder)


def run_unprivileged(first: list[str], then: list[str]) -> tuple[int, str]:
    """The exit status and the error lines of the second command, run without privileges after the first one with."""
    command = [sys.executable, "-c", SCRIPT.format(nobody=NOBODY), *first, "--then", *then]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment)
    assert "unprivileged" in done.stdout, done.stderr
    return done.returncode, done.stderr
