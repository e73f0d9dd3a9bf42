"""Sets too large for memory: decoded once to a file that leaves nothing behind, or one line that says why not."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from checking import is_mapped
from memgen_eval import InputError
from memgen_eval.data import archives, arrays, images as images_module, intake
from memgen_eval.data.files import scratch
from memgen_eval.data.images import ImageSet
from memgen_eval.data.sources import load_images

Pixels = NDArray[np.uint8]
FORMS = {"folder": "set", "zip": "set.zip", "npy": "set.npy", "packed npz": "set.npz", "floats": "floats.npy"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary folder, empty, and no set small enough for memory."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    monkeypatch.setattr(images_module, "HELD_BYTES", 4_000)
    for module in (images_module, intake, arrays):
        monkeypatch.setattr(module, "IN_MEMORY", 4_000)
    return place


def written(form: str, images: Pixels, place: Path) -> Path:
    path = place / FORMS[form]
    if form == "npy":
        np.save(path, images)
    elif form == "packed npz":
        np.savez_compressed(path, images)
    elif form == "floats":
        np.save(path, images / np.float32(127.5) - 1)
    elif form == "folder":
        path.mkdir()
        for i, image in enumerate(images):
            (path / f"{i:03d}.png").write_bytes(png(image))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            for i, image in enumerate(images):
                archive.writestr(f"{i:03d}.png", png(image))
    return path


def png(image: Pixels) -> bytes:
    stream = BytesIO()
    Image.fromarray(image).save(stream, format="PNG")
    return stream.getvalue()


def load(path: Path) -> ImageSet:
    return load_images(path, argument="train")


@pytest.mark.parametrize("form", FORMS)
def test_large_sets_are_mapped_from_a_file_without_a_name(
    form: str, nhwc: Pixels, nchw: Pixels, folder: Path, tmp_path: Path
) -> None:
    found = load(written(form, nhwc, tmp_path))
    whole = found.array()
    assert isinstance(whole, np.memmap) and whole is found.array()
    assert np.array_equal(whole, nchw)
    assert list(folder.iterdir()) == []
    assert found.checksum == load_images(nchw, argument="train").checksum
    assert np.array_equal(found.take(np.array([59, 0])), nchw[[59, 0]])
    assert found.read(3, 5).flags.writeable


def test_small_sets_stay_in_memory(nhwc: Pixels, folder: Path, tmp_path: Path) -> None:
    assert type(load(written("folder", nhwc[:27], tmp_path)).array()) is np.ndarray  # 27 x 144 values


@pytest.fixture
def small_sets(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets that are read as a whole, and are too large to be held in memory."""
    for module in (images_module, intake, arrays):
        monkeypatch.setattr(module, "IN_MEMORY", 2**20)


@pytest.mark.parametrize("form", FORMS)
def test_sets_that_are_read_as_a_whole_lie_in_a_file_too(
    form: str, nhwc: Pixels, nchw: Pixels, small_sets: None, folder: Path, tmp_path: Path
) -> None:
    found = load(written(form, nhwc, tmp_path)).array()
    assert is_mapped(found) and np.array_equal(found, nchw)
    assert list(folder.iterdir()) == []


def test_batches_of_cifar10_lie_in_a_file(small_sets: None, tmp_path: Path) -> None:
    records = np.random.default_rng(0).integers(0, 10, (3, 1 + 3072), dtype=np.uint8)
    (tmp_path / "data_batch_1.bin").write_bytes(records.tobytes())
    found = load(tmp_path / "data_batch_1.bin").array()
    assert is_mapped(found) and np.array_equal(found.reshape(3, -1), records[:, 1:])


@pytest.mark.parametrize("form", FORMS)
def test_without_a_file_they_lie_in_memory(
    form: str, nhwc: Pixels, nchw: Pixels, small_sets: None, folder: Path, tmp_path: Path
) -> None:
    path = written(form, nhwc, tmp_path)
    folder.rmdir()
    found = load(path).array()
    assert not is_mapped(found) and np.array_equal(found, nchw)


def test_no_image_is_decoded_twice(
    nhwc: Pixels, nchw: Pixels, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []
    decode = archives.pictures.decode
    monkeypatch.setattr(
        archives.pictures, "decode", lambda file, label: (decoded.append(label), decode(file, label))[1]
    )
    found = load(written("folder", nhwc, tmp_path))
    found.array()
    assert len(decoded) == len(set(decoded)) == 60
    assert np.array_equal(np.concatenate(list(found.blocks())), nchw)
    assert np.array_equal(found.take(np.array([7])), nchw[[7]]) and found.checksum
    assert len(decoded) == 60


@pytest.mark.parametrize("form", ["folder", "packed npz"])
def test_a_full_disk_is_one_line(
    form: str, nhwc: Pixels, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(form, nhwc, tmp_path)

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(InputError, match=r"GiB.*No space left on device.*TMPDIR") as caught:
        load(path).array()
    assert path.name in str(caught.value) and "\n" not in str(caught.value)
    assert list(folder.iterdir()) == []


def test_nowhere_to_write_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "gone"))
    with pytest.raises(InputError, match=r"^train: .*FileNotFoundError.*TMPDIR"):
        scratch((2, 3), np.dtype(np.uint8), label="train")


def test_a_system_that_cannot_reserve(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fallocate")
    made = scratch((5, 7), np.dtype(np.float32), label="train")
    assert made.shape == (5, 7) and made.dtype == np.float32 and not made.any()


RESIDENT = """
import re, sys
from pathlib import Path
import numpy as np
from memgen_eval.data.files import scratch
def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
before = anonymous()
made = scratch((64, 2**20), np.dtype(np.uint8), label="train") if sys.argv[1] == "file" else np.empty((64, 2**20), "u1")
made[...] = 7
print(anonymous() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the memory of a process as Linux tells it")
def test_its_pages_are_no_anonymous_memory() -> None:
    used = {}
    for kind in ("file", "memory"):
        command = [sys.executable, "-c", RESIDENT, kind]
        used[kind] = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert used["file"] < 8 < 60 < used["memory"]


def test_the_file_is_gone_when_the_process_is_killed(tmp_path: Path) -> None:
    script = (
        "import os, signal, numpy as np\nfrom memgen_eval.data.files import scratch\n"
        "made = scratch((9,), np.dtype(np.uint8), label='train')\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], check=False, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (-9, "")
    assert list(tmp_path.iterdir()) == []
