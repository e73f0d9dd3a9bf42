"""Zip archives, which several formats are: their table of contents is checked before a member is read."""

from __future__ import annotations

import zipfile

from memgen_eval.data.messages import quoted
from memgen_eval.errors import InputError

CHUNK = 2**22


def members_of(archive: zipfile.ZipFile, label: str) -> list[zipfile.ZipInfo]:
    """The members that are files, in their order.

    Raises
    ------
    InputError
        For members without a name, or with a name that another one has.
    """
    seen: set[str] = set()
    for info in archive.infolist():
        if not info.filename:
            raise InputError(f"{label}: holds a member without a name; write the archive again")
        if info.filename in seen:
            raise InputError(f"{label}: holds {quoted(info.filename)} more than once; write the archive again")
        seen.add(info.filename)
    return [info for info in archive.infolist() if not info.is_dir()]


def check_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    """Read a member to its end, where zipfile compares its checksum."""
    with archive.open(info) as member:
        while member.read(CHUNK):
            pass
