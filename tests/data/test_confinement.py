"""Hostile files read where memory is bounded and every act is watched: one line of error, and nothing else done."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).parent.parent.parent
SUFFIXES = ("npy", "npz", "pt", "safetensors", "zip", "bin", "json")
MEMORY = 600  # MiB above what the libraries take
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits the address space as Linux does")

# Reads each file in a process of its own, and tells what became of it. What is watched ends that process at once.
WATCHED = """
import json, os, resource, signal, sys, tempfile, warnings
import numpy, torch, safetensors.numpy, PIL.Image, PIL.PngImagePlugin
from pathlib import Path
from memgen_eval import InputError, Report
from memgen_eval.data.sources import load_images
warnings.simplefilter("ignore")
PIL.Image.init()
load_images(Path(sys.argv[2]), argument="samples").array()
scratch, memory = tempfile.gettempdir(), int(sys.argv[3]) * 2**20
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.", "socket.", "pickle.find_class",
             "pty.", "shutil.", "urllib.", "ftplib.", "os.link", "os.symlink", "os.chmod", "os.chown", "os.kill")
CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.truncate")

def watch(event, arguments):
    bad = event.startswith(FORBIDDEN)
    if event == "open":
        path, _, flags = arguments
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        bad = bool(writes) and isinstance(path, str) and not path.startswith((scratch, "/dev/"))
    elif event in CHANGES:
        bad = not str(arguments[0]).startswith(scratch)
    if bad:
        os.write(answer, json.dumps(["forbidden", f"{event} {arguments!r}"[:300]]).encode())
        os._exit(9)

def attempt(path):
    try:
        (Report.load if path.suffix == ".json" else lambda path: load_images(path, argument="samples").array())(path)
        return ["read", ""]
    except InputError as error:
        return ["refused", str(error)]
    except BaseException as error:
        return ["raised", f"{type(error).__name__}: {error}"]

results = {}
for name in sorted(os.listdir(sys.argv[1])):
    if name.startswith("_"):
        continue
    reader, answer = os.pipe()
    child = os.fork()
    if child == 0:
        used = int(open("/proc/self/statm").read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (used + memory, used + memory))
        signal.alarm(60)
        sys.addaudithook(watch)
        os.write(answer, json.dumps(attempt(Path(sys.argv[1], name))).encode()[:4000])
        os._exit(0)
    os.close(answer)
    _, status = os.waitpid(child, 0)
    text = os.read(reader, 2**16)
    os.close(reader)
    results[name] = json.loads(text) if text else ["ended", str(status)]
print(json.dumps(results))
"""


class Trap:
    """Would write a file if it were unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("touch trapped",))


def png(width: int, height: int, body: bytes = b"") -> bytes:
    """A PNG whose header says it is this large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")


def picture(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(stream, format=kind)
    return stream.getvalue()


def zipped(path: Path, members: dict[str, bytes], packing: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", packing) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, packing)


def npy(shape: str, data: bytes = b"") -> bytes:
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def disguised_pickles(folder: Path) -> None:
    """One pickle under every name that a reader takes."""
    trap = pickle.dumps(Trap())
    for suffix in (*SUFFIXES, "pth", "tar.gz"):
        (folder / f"pickle.{suffix}").write_bytes(trap)
    (folder / "data_batch_1").write_bytes(pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"trap": Trap()}))
    (folder / "pickles").mkdir()
    (folder / "pickles" / "a.png").write_bytes(trap)
    np.save(folder / "objects.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    np.savez(folder / "objects.npz", np.array([Trap()], dtype=object))
    torch.save({"images": torch.zeros(2, 8, 8), "more": Trap()}, folder / "code.pt")
    torch.save([torch.zeros(2, 8, 8), Trap()], folder / "older.pt", _use_new_zipfile_serialization=False)


def lying_headers(folder: Path) -> None:
    """More promised than any machine could hold."""
    shapes = (f"({2**60},)", f"({2**20}, {2**20}, {2**20})", f"(1, {2**31}, {2**31})", f"({2**63}, 8, 8)")
    for number, shape in enumerate(shapes):
        data = npy(shape, bytes(512))
        (folder / f"lie-{number}.npy").write_bytes(data)
        zipped(folder / f"lie-{number}.npz", {"arr_0.npy": data})
    for size in (2**63 - 1, 10**8, 2**31):
        (folder / f"header-{size}.safetensors").write_bytes(struct.pack("<Q", size) + b"{" * 4096)
    entry = {"x": {"dtype": "U8", "shape": [2**30, 2**30], "data_offsets": [0, 2**60]}}
    text = json.dumps(entry).encode()
    (folder / "offsets.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(64))
    (folder / "deep.json").write_bytes(b"[" * 10**6)
    (folder / "long.json").write_bytes(b'{"schema_version": 1' + b"0" * 10**6 + b"}")


def huge_pictures(folder: Path) -> None:
    """Headers that say 10^9 pixels."""
    jpeg, gif, bmp = bytearray(picture("JPEG")), bytearray(picture("GIF")), bytearray(picture("BMP"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 32_000, 32_000)
    gif[6:10] = struct.pack("<HH", 32_000, 32_000)
    bmp[18:26] = struct.pack("<II", 32_000, 32_000)
    files = {"a.png": png(32_000, 32_000), "a.jpg": jpeg, "a.gif": gif, "a.bmp": bmp, "a.pgm": b"P5 32000 32000 255\n"}
    for name, data in files.items():
        (folder / f"huge-{name}").mkdir()
        (folder / f"huge-{name}" / name).write_bytes(data)
        zipped(folder / f"huge-{name}.zip", {name: bytes(data)})


def bombs(folder: Path) -> None:
    """Small files that become large ones."""
    zeros = bytes(2**27)
    zipped(folder / "bomb.zip", {"a.png": png(4096, 4096) + zeros}, zipfile.ZIP_DEFLATED)
    zipped(folder / "bomb.npz", {"arr_0.npy": npy("(8, 8, 8)", zeros)}, zipfile.ZIP_DEFLATED)
    (folder / "bomb.tar.gz").write_bytes(gzip.compress(zeros, 1))
    (folder / "bombs").mkdir()
    (folder / "bombs" / "a.png").write_bytes(png(4096, 4096, zeros))
    overlapping(folder / "overlapping.zip", picture("PNG"), 2000)
    packed = bz2.compress(zeros)
    assert len(packed) < 1000
    zipped(folder / "bzip2.zip", {"a.png": zeros}, zipfile.ZIP_BZIP2)


def overlapping(path: Path, data: bytes, count: int) -> None:
    """An archive whose many members are all one and the same piece of the file."""
    zipped(path, {"0.png": data})
    whole = path.read_bytes()
    start = whole.index(b"PK\x01\x02")
    entry, end = whole[start : whole.index(b"PK\x05\x06")], bytearray(whole[whole.index(b"PK\x05\x06") :])
    directory = b"".join(entry[:28] + struct.pack("<H", 8) + entry[30:46] + b"%04d.png" % i for i in range(count))
    end[8:16] = struct.pack("<HHI", count, count, len(directory))
    path.write_bytes(whole[:start] + directory + end)


def ways_out(folder: Path) -> None:
    """Paths and links that lead elsewhere."""
    good = picture("PNG")
    zipped(folder / "traversal.zip", {"../../up.png": good, "/etc/root.png": good, "C:\\drive.png": good})
    zipped(folder / "traversal.npz", {"../../arr_0.npy": npy("(8, 8, 8)", bytes(512))})
    link = zipfile.ZipInfo("link.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(folder / "link.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    (folder / "linked").mkdir()
    (folder / "linked" / "a.png").symlink_to("/etc/passwd")
    (folder / "_outside").mkdir()
    (folder / "_outside" / "b.png").write_bytes(good)
    (folder / "links").mkdir()
    (folder / "links" / "a.png").write_bytes(good)
    (folder / "links" / "b.png").symlink_to(folder / "_outside" / "b.png")
    for suffix in SUFFIXES:
        (folder / f"kernel.{suffix}").symlink_to("/proc/kmsg")  # a file of 0 bytes that whoever reads waits for
    (folder / "kernel").mkdir()
    (folder / "kernel" / "a.png").symlink_to("/proc/kmsg")
    (folder / "kernel" / "b").symlink_to("/proc/kmsg")


READABLE = {"traversal.zip", "traversal.npz", "links", "bombs"}  # paths are names; links are followed; 16 MiB fit
MAKERS = (disguised_pickles, lying_headers, huge_pictures, bombs, ways_out)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, tuple[str, str]]]:
    """What became of each file, by the name of what made it; nothing was changed anywhere."""
    root = tmp_path_factory.mktemp("confined")
    folder, elsewhere, made = root / "files", root / "elsewhere", {}
    folder.mkdir()
    elsewhere.mkdir()
    for make in MAKERS:
        before = names(folder)
        make(folder)
        made[make.__name__] = names(folder) - before
    np.save(root / "warm.npy", np.zeros((4, 8, 8), np.uint8))
    stamps = {path: path.lstat().st_mtime_ns for path in root.rglob("*")}
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, str(folder), str(root / "warm.npy"), str(MEMORY)],
        cwd=elsewhere,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert {path: path.lstat().st_mtime_ns for path in root.rglob("*")} == stamps
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found) == names(folder)
    return {maker: {name: found[name] for name in files} for maker, files in made.items()}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith("_")}


@pytest.mark.parametrize("maker", [make.__name__ for make in MAKERS])
def test_nothing_is_run_written_or_held(maker: str, results: dict[str, dict[str, tuple[str, str]]]) -> None:
    found = results[maker]
    assert found
    assert not {name: (what, said) for name, (what, said) in found.items() if what != expected(name)}
    for name, (_, message) in found.items():
        assert "\n" not in message and len(message) < 2000 and (message == "" or name in message), message


def expected(name: str) -> str:
    return "read" if name in READABLE else "refused"
