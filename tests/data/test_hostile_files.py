"""Files made to harm: one line soon, whatever their headers say, and nothing allocated on their word."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import signal
import socket
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from memgen_eval import InputError, nearest_neighbours
from memgen_eval.copying import memorization
from memgen_eval.copying.copy_rules import CopyRules
from memgen_eval.data import archives, images, tensors
from memgen_eval.data.images import ImageSet
from memgen_eval.data.sources import load_images
from memgen_eval.neighbours.index import Index
from memgen_eval.neighbours.pruning import References

Pixels = NDArray[np.uint8]
LIMIT = 10  # seconds, far above what any case takes, far below what a hanging one does


def load(path: Path) -> ImageSet:
    return load_images(path, argument="samples")


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load(path)
    message = str(caught.value)
    assert "\n" not in message and path.name in message and len(message) < 1000
    return message


@pytest.fixture
def alarm() -> Iterator[None]:
    """Ends a test that waits."""

    def ring(number: int, frame: object) -> NoReturn:
        raise AssertionError(f"still waiting after {LIMIT} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(LIMIT)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def peak(action: Callable[[], object]) -> int:
    """Bytes that were allocated at once, at most."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def npy(array: object, **options: object) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(array), **options)  # type: ignore[arg-type]
    return stream.getvalue()


def png(image: Pixels) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="PNG")
    return stream.getvalue()


def archive(path: Path, members: list[tuple[str, bytes]], packing: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", packing) as file:
        for name, data in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = packing
            file.writestr(info, data)
    return path


# Headers of arrays


@pytest.mark.parametrize("form", ["npy", "npz"])
def test_a_header_that_says_it_is_long_is_not_read(form: str, tmp_path: Path) -> None:
    data = b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**26) + bytes(2**26)
    path = tmp_path / f"a.{form}"
    if form == "npy":
        path.write_bytes(data)
    else:
        archive(path, [("arr_0.npy", data)], zipfile.ZIP_DEFLATED)
    del data
    assert peak(lambda: refusal(path)) < 2**23


HEADERS = [
    "{'descr': '|u1', 'fortran_order': False, 'shape': (6, 8, 6, 3",
    "{'descr': '|u1', 'fortran_order': False, 'shape': 6}",
    "{'descr': '|u1', 'fortran_order': 1, 'shape': (6, 8, 6)}",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (-6, -8, 6)}",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (6, 8, 6L)}\\",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (9" + "9" * 5000 + ", 8, 6)}",
    "{'descr': [('a', 7)], 'fortran_order': False, 'shape': (6, 8, 6)}",
    "{'descr': '|z9', 'fortran_order': False, 'shape': (6, 8, 6)}",
    "{'descr': '<V2147483647', 'fortran_order': False, 'shape': (6, 8, 6)}",
    "{'descr': (1, 2, 3), 'fortran_order': False, 'shape': (6, 8, 6)}",
    "(" * 9000,
    "-" * 9000 + "1",
    "'''",
    "[]",
    "\x00",
]


@pytest.mark.parametrize("header", HEADERS, ids=range(len(HEADERS)))
@pytest.mark.parametrize("form", ["npy", "npz"])
def test_headers_that_cannot_be_parsed(header: str, form: str, tmp_path: Path) -> None:
    text = header.encode("latin-1") + b"\n"
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(288)
    path = tmp_path / f"a.{form}"
    if form == "npy":
        path.write_bytes(data)
    else:
        archive(path, [("arr_0.npy", data)])
    refusal(path)


def test_bytes_after_an_array_are_no_images_that_nobody_saw(nhwc: Pixels, tmp_path: Path) -> None:
    """What two calls of numpy.save on one open file leave."""
    (tmp_path / "a.npy").write_bytes(npy(nhwc) + npy(nhwc))
    assert "the file holds" in refusal(tmp_path / "a.npy")


# Zip archives


@pytest.mark.parametrize("suffix", ["npz", "zip", "pt"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_stands_twice_in_an_archive(suffix: str, nhwc: Pixels, tmp_path: Path) -> None:
    name, data = {"npz": ("arr_0.npy", npy(nhwc)), "zip": ("a.png", png(nhwc[0])), "pt": ("a/data.pkl", b"")}[suffix]
    message = refusal(archive(tmp_path / f"a.{suffix}", [(name, data), (name, data)]))
    assert f"{name!r} more than once" in message


@pytest.mark.parametrize("suffix", ["npz", "zip"])
def test_names_that_are_empty_or_not_text(suffix: str, nhwc: Pixels, tmp_path: Path) -> None:
    data = npy(nhwc) if suffix == "npz" else png(nhwc[0])
    path = archive(tmp_path / f"a.{suffix}", [("xé", data)])
    whole = path.read_bytes()
    path.write_bytes(whole.replace("xé".encode(), b"x\xff\xfe"))
    assert "UnicodeDecodeError" in refusal(path)
    directory = whole.rindex(b"PK\x01\x02")
    empty = bytearray(whole)
    empty[directory + 28 : directory + 30] = b"\0\0"  # the length of the name; the extra field takes its place
    empty[directory + 30 : directory + 32] = b"\x03\0"
    path.write_bytes(empty)
    assert "member without a name" in refusal(path)


@pytest.mark.parametrize("packing", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("suffix", ["npz", "zip"])
def test_members_that_cannot_be_unpacked(packing: int, suffix: str, nhwc: Pixels, nchw: Pixels, tmp_path: Path) -> None:
    name, data = ("arr_0.npy", npy(nhwc)) if suffix == "npz" else ("a.png", png(nhwc[0]))
    path = archive(tmp_path / f"a.{suffix}", [(name, data)], packing)
    assert np.array_equal(load(path).array()[0], nchw[0])
    whole = bytearray(path.read_bytes())
    whole[45:80] = bytes(range(35))
    path.write_bytes(whole)
    refusal(path)


def test_a_picture_of_an_absurd_size_in_a_zip(tmp_path: Path) -> None:
    assert archives.LARGEST_MEMBER == 2**27
    path = archive(tmp_path / "a.zip", [("a.png", b"")])
    data = bytearray(path.read_bytes())
    directory = data.rindex(b"PK\x01\x02")
    data[directory + 24 : directory + 28] = struct.pack("<I", 2**27 + 1)  # its size, unpacked
    path.write_bytes(data)
    assert "a.png" in refusal(path) and "128 MiB unpacked" in refusal(path)


# Pickles


@pytest.mark.parametrize("where", [0.2, 0.4, 0.6])
def test_one_flipped_bit_of_a_tensor_is_noticed(where: float, nhwc: Pixels, tmp_path: Path) -> None:
    torch.save(torch.from_numpy(nhwc), tmp_path / "a.pt")
    data = bytearray((tmp_path / "a.pt").read_bytes())
    start = data.index(nhwc.tobytes())
    data[start + int(where * nhwc.nbytes)] ^= 1
    (tmp_path / "a.pt").write_bytes(data)
    assert "CRC-32" in refusal(tmp_path / "a.pt")


def saved_pickle(path: Path, pickled: bytes) -> Path:
    return archive(path, [("a/data.pkl", pickled), ("a/version", b"3\n"), ("a/byteorder", b"little")])


def shared_tuples(depth: int) -> bytes:
    """A tuple of two tuples that are one, and so on: 2 ** depth parts in 4 * depth bytes, then used as a key."""
    doubled = b")q\x00" + b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(depth))
    return b"\x80\x02}" + doubled + b"K\x01s."


PICKLES = {
    "a forbidden function, many times": b"\x80\x02" + b"cposix\nsystem\n" * 1000 + b".",
    "a function of Python's own": b"\x80\x02cbuiltins\nbytearray\nJ\x00\x00\x00\x7f\x85R.",
    "a name of no module": b"\x80\x02c\n\n.",
    "what is called is a value": b"\x80\x02]q\x00(h\x00h\x00eh\x00\x85R.",
    "a key that takes for ever": shared_tuples(60),
    "an empty stack": b"\x80\x02R.",
    "no mark": b"\x80\x02t.",
    "an unknown place of the memo": b"\x80\x02h\x07.",
    "a number that is cut": b"\x80\x02J\x00",
    "no end": b"\x80\x02K\x01",
    "another protocol": pickle.dumps({"a": [1, "x"]}, protocol=5),
}


@pytest.mark.parametrize("form", ["newer", "older"])
@pytest.mark.parametrize("pickled", PICKLES.values(), ids=PICKLES.keys())
def test_pickles_that_build_what_no_tensor_needs(pickled: bytes, form: str, tmp_path: Path, alarm: None) -> None:
    if form == "newer":
        refusal(saved_pickle(tmp_path / "a.pt", pickled))
    magic = [pickle.dumps(value, protocol=2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    (tmp_path / "b.pt").write_bytes(b"".join(magic) + pickled)
    refusal(tmp_path / "b.pt")


def test_a_long_pickle_is_looked_at_in_linear_time(tmp_path: Path, alarm: None) -> None:
    """Two hundred thousand entries, of which half a million opcodes are followed."""
    listed = b"\x80\x02](" + b"K\x01\x85" * 200_000 + b"e."
    tensors.check_pickle(io.BytesIO(listed))
    with pytest.raises(pickle.UnpicklingError, match="more than"):
        tensors.check_pickle(io.BytesIO(b"\x80\x02" + (b"U\xff" + bytes(255)) * 10_000))


def test_a_tensor_that_is_larger_than_its_file(tmp_path: Path) -> None:
    torch.save(torch.zeros(1, 8, 6, 3, dtype=torch.uint8).expand(10**9, 8, 6, 3), tmp_path / "a.pt")
    assert "it repeats itself" in refusal(tmp_path / "a.pt")


def test_a_tensor_in_a_zip_that_was_packed_again(nhwc: Pixels, tmp_path: Path) -> None:
    torch.save(torch.from_numpy(nhwc), tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as file:
        members = [(name, file.read(name)) for name in file.namelist()]
    assert "is compressed" in refusal(archive(tmp_path / "b.pt", members, zipfile.ZIP_DEFLATED))


def test_a_zip_of_several_disks(nhwc: Pixels, tmp_path: Path) -> None:
    torch.save(torch.from_numpy(nhwc), tmp_path / "a.pt")
    data = bytearray((tmp_path / "a.pt").read_bytes())
    for signature, place in ((b"PK\x05\x06", 4), (b"PK\x06\x07", 4)):
        if signature in data:
            data[data.rindex(signature) + place] = 2
    (tmp_path / "a.pt").write_bytes(data)
    refusal(tmp_path / "a.pt")


@pytest.mark.parametrize("length", [2**63, 2**24 + 1, 5000])
def test_safetensors_whose_header_is_not_there(length: int, tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", length) + b"{" * 1000)
    assert f"a header of {length} bytes" in refusal(tmp_path / "a.safetensors")


# Archives of CIFAR-10


def tar_header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    "content",
    [
        tar_header("readme.html", 2**40),
        tar_header("long", 2**20, tarfile.GNUTYPE_LONGNAME) + bytes(2**20),
        tar_header("pax", 2**20, tarfile.XHDTYPE) + b"1" * 2**20,
        b"".join(tar_header(f"{i}", 0) for i in range(2000)),
    ],
    ids=["a member beyond any archive", "a long name", "a long header", "many members"],
)
def test_archives_that_no_one_published(content: bytes, tmp_path: Path, alarm: None) -> None:
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(content + bytes(1024), 1))
    refusal(tmp_path / "a.tar.gz")


# What is not a file


def fifo(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@pytest.mark.parametrize("make", [fifo, listening])
@pytest.mark.parametrize("name", ["b.png", "b", "b.npy"])
def test_what_cannot_be_read_to_an_end_is_never_opened(
    make: Callable[[Path], None], name: str, nhwc: Pixels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alarm: None
) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    monkeypatch.chdir(folder)  # a socket's path is short
    make(Path(name))
    message = refusal(Path(name))
    assert "never opened" in message and ("a FIFO" in message or "a socket" in message)
    Path("a.png").write_bytes(png(nhwc[0]))
    found = load(folder)
    assert list(found.names or ()) == ["a.png"]
    assert found.arrival["notes"] == [f"passed over: 1 files that are not images: '{name}'"]


def test_a_device_is_never_opened() -> None:
    for path in (Path("/dev/zero"), Path("/dev/stdin")):
        if path.exists() and not path.is_file():
            with pytest.raises(InputError, match="which is never opened"):
                load(path)


# Sizes of images


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_pictures_too_large_for_any_block_are_refused_before_they_are_decoded(form: str, tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.new("L", (6000, 6000), 7).save(stream, format="PNG")
    files = [(f"{i}.png", stream.getvalue()) for i in range(3)]
    path = tmp_path / "f"
    if form == "zip":
        path = archive(tmp_path / "f.zip", files)
    else:
        path.mkdir()
        for name, data in files:
            (path / name).write_bytes(data)
    assert "0.png" in refusal(path) and f"images of 36000000 values; expected at most {2**24}" in refusal(path)
    assert peak(lambda: refusal(path)) < 2**22


def test_arrays_of_images_too_large_for_any_block() -> None:
    for shape in ((4, 6000, 6000), (4, 3, 3000, 3000), (4, 3000, 3000, 3)):
        with pytest.raises(InputError, match="values; expected at most"):
            load_images(np.broadcast_to(np.uint8(0), shape), argument="train")
    load_images(np.broadcast_to(np.uint8(0), (1, 4096, 4096)), argument="train")


def test_large_floats_are_converted_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.zeros((32, 1, 512, 512), dtype=np.float32) - 0.5
    whole = peak(lambda: load_images(values, argument="train"))
    monkeypatch.setattr(images, "IMAGE_BLOCK_VALUES", 512 * 512)
    assert peak(lambda: load_images(values, argument="train")) < whole / 3


def test_near_identical_pairs_are_compared_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A set of flat images: every pair is near, 256 of them."""
    flat = np.arange(16, dtype=np.uint8)[:, None, None, None] // 4 + np.zeros((16, 64, 64, 3), np.uint8)
    compared: list[Pixels] = []
    plain = memorization.largest_patch_distances
    monkeypatch.setattr(
        memorization, "largest_patch_distances", lambda first, second: (compared.append(first), plain(first, second))[1]
    )
    train = load_images(flat, argument="train")
    found = nearest_neighbours(train.array(), train.array(), 2)
    index, mirrored_too = Index(References(train.array())), CopyRules(1 / 3, 10_000.0, flip=True)
    known = memorization.copying(found, index, replace(mirrored_too, flip=False))
    assert memorization.patch_share(known, index, mirrored_too).value == 1
    assert sum(map(len, compared)) == 2 * 256  # in both orientations
    assert max(first.size for first in compared) <= 2**20
