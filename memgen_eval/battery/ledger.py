"""The file of results: a line of JSON for the settings, then one for each case that is done. It survives a kill."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from memgen_eval.errors import InputError
from memgen_eval.shell import locked

CaseKey = tuple[str, int, str]
Record = Mapping[str, Any]
RESULTS_FILE = "results.jsonl"


def key_of(record: Record) -> CaseKey:
    """What a record is of: the source, the repetition, the case."""
    return record["source"], record["repetition"], record["case"]


def code_checksum() -> str:
    """A checksum of the library's own source: results of different code are not to be mixed."""
    package, digest = Path(__file__).parent.parent, hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


class Ledger:
    """The results that are there, and the place for more."""

    def __init__(self, file: BinaryIO, path: Path, records: list[Record]) -> None:
        self.records = records
        self._file, self._path = file, path

    @property
    def done(self) -> set[CaseKey]:
        """What is there."""
        return {key_of(record) for record in self.records}

    def add(self, records: Iterable[Record]) -> None:
        """Write records down to the disk. Raises InputError where there is no room."""
        added = list(records)
        try:
            self._file.write(b"".join(as_line(record) for record in added))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise InputError(f"{self._path}: cannot be written ({error.strerror}); free the disk, then go on") from None
        self.records += added


def as_line(record: Record) -> bytes:
    """A record as it is written."""
    return json.dumps(record, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


@contextmanager
def opened(folder: Path, settings: Record) -> Iterator[Ledger]:
    """Open the results in a folder, or begin them. A last line that a kill has cut short is dropped.

    Raises InputError for a folder that cannot be used, that another process writes to, or whose results are of other
    settings or another version.
    """
    path = folder / RESULTS_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); give another --output") from None
    with file:
        if locked(file.fileno()) is False:
            raise InputError(f"{path}: another process writes there; wait for it, or give another --output")
        lines = _whole_lines(file)
        if not lines:
            ledger = Ledger(file, path, [])
            ledger.add([settings])
            ledger.records.clear()
            yield ledger
            return
        _check_settings(path, lines[0], settings)
        yield Ledger(file, path, list(lines[1:]))


def _whole_lines(file: BinaryIO) -> Sequence[Record]:
    """The records of all lines that are whole; what follows them is cut off."""
    file.seek(0)
    records, end = [], 0
    for line in file:
        try:
            record = json.loads(line)
        except ValueError:
            break
        if not line.endswith(b"\n") or not isinstance(record, dict):
            break
        records.append(record)
        end += len(line)
    file.truncate(end)
    return records


def _check_settings(path: Path, found: Record, settings: Record) -> None:
    """Raise InputError, naming what differs, where results are not those of this very run."""
    differing = [name for name in settings if found.get(name) != settings[name]]
    if differing:
        name = differing[0]
        raise InputError(
            f"{path}: holds results with {name} {found.get(name)!r}, expected {settings[name]!r}; results are not "
            "mixed: give another --output, or delete the file"
        )


def read_ledger(path: Path) -> tuple[Record, list[Record]]:
    """Settings and results of a file. Raises InputError where there are none."""
    try:
        with path.open("rb") as file:
            lines = [json.loads(line) for line in file if line.endswith(b"\n")]
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as results of memgen-eval battery ({error})") from None
    if not lines:
        raise InputError(f"{path}: holds no results; run memgen-eval battery")
    return lines[0], lines[1:]
