"""Whether files that are read more than once are still the files they were."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from memgen_eval.errors import InputError


@dataclass(frozen=True)
class Stamp:
    """Size, time of change and inode of files below a folder, as they were when it was made."""

    label: str
    root: Path
    files: Sequence[str]
    digest: str

    def check(self) -> None:
        """Raise InputError if a file is another one now, longer, shorter, written to, or gone."""
        if _digest(self.root, self.files) != self.digest:
            raise InputError(f"{self.label}: changed while it was being read; evaluate again once nothing writes to it")


def stamp_of(label: str, root: Path, files: Sequence[str]) -> Stamp:
    """The stamp of these files, to be compared later; `label` is what messages begin with."""
    return Stamp(label, root, files, _digest(root, files))


def stamp_of_file(label: str, path: Path) -> Stamp:
    """The stamp of one file."""
    return stamp_of(label, path.parent, (path.name,))


def _digest(root: Path, files: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for name in files:
        try:
            found = (root / name).stat()
        except OSError:
            return f"{name} is gone"
        digest.update(f"{found.st_size} {found.st_mtime_ns} {found.st_dev} {found.st_ino}\n".encode())
    return digest.hexdigest()
