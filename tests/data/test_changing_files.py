"""Files that change while they are read: figures never mix two sets, and a file that was cut ends no process."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from memgen_eval import InputError, evaluate
from memgen_eval.data import arrays, images as images_module, intake, tensors
from memgen_eval.data.images import ImageSet
from memgen_eval.data.sources import load_images

Pixels = NDArray[np.uint8]


def png(image: Pixels) -> bytes:
    stream = BytesIO()
    Image.fromarray(image).save(stream, format="PNG")
    return stream.getvalue()


def save_npy(folder: Path, images: Pixels) -> Path:
    np.save(folder / "set.npy", images)
    return folder / "set.npy"


def save_npz(folder: Path, images: Pixels) -> Path:
    np.savez(folder / "set.npz", images)
    return folder / "set.npz"


def save_pt(folder: Path, images: Pixels) -> Path:
    import torch

    torch.save(torch.from_numpy(images), folder / "set.pt")
    return folder / "set.pt"


def save_safetensors(folder: Path, images: Pixels) -> Path:
    from safetensors.numpy import save_file

    save_file({"images": images}, folder / "set.safetensors")
    return folder / "set.safetensors"


def save_zip(folder: Path, images: Pixels) -> Path:
    with zipfile.ZipFile(folder / "set.zip", "w") as archive:
        for i, image in enumerate(images):
            archive.writestr(f"{i:03d}.png", png(image))
    return folder / "set.zip"


def save_folder(folder: Path, images: Pixels) -> Path:
    (folder / "set").mkdir()
    for i, image in enumerate(images):
        (folder / "set" / f"{i:03d}.png").write_bytes(png(image))
    return folder / "set"


FORMS = [save_npy, save_npz, save_pt, save_safetensors, save_zip, save_folder]


def rewrite(path: Path) -> None:
    """Write other values in place: the same size, and the time that a coarse clock would give."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(-20, os.SEEK_END)
        file.write(bytes(4))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 4)


def replaced(path: Path) -> None:
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    before = path.stat()
    copy.replace(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def load(path: Path) -> ImageSet:
    return load_images(path, argument="train")


def first_file(path: Path) -> Path:
    return min(path.iterdir()) if path.is_dir() else path


@pytest.fixture
def in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """No set is small enough for memory."""
    for module in (images_module, intake, arrays, tensors):
        monkeypatch.setattr(module, "IN_MEMORY", 0)


@pytest.mark.parametrize("change", [rewrite, cut, replaced, Path.unlink])
@pytest.mark.parametrize("save", FORMS)
def test_a_change_of_what_stays_in_its_file_is_an_error(
    save: Callable[[Path, Pixels], Path], change: Callable[[Path], object], nhwc: Pixels, tmp_path: Path, in_place: None
) -> None:
    path = save(tmp_path, nhwc)
    found = load(path)
    found.check_unchanged()
    assert found.read(0, 3).shape == (3, 3, 8, 6)
    change(first_file(path))
    with pytest.raises(InputError, match=r"train \(.*set.*changed while it was being read; evaluate again") as caught:
        found.check_unchanged()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("save", FORMS[:4])
def test_a_mapped_file_that_was_cut_is_no_bus_error(
    save: Callable[[Path, Pixels], Path], nhwc: Pixels, tmp_path: Path, in_place: None
) -> None:
    large = np.tile(nhwc, (100, 1, 1, 1))  # many pages
    path = save(tmp_path, large)
    found = load(path)
    os.truncate(path, 4096)
    for read in (lambda: found.read(5000, 5016), lambda: found.take(np.array([5999])), lambda: list(found.blocks())):
        with pytest.raises(InputError, match="changed while it was being read"):
            read()


@pytest.mark.parametrize("save", FORMS)
@pytest.mark.parametrize("change", [rewrite, cut])
def test_what_was_read_into_memory_may_change(
    save: Callable[[Path, Pixels], Path], change: Callable[[Path], object], nhwc: Pixels, nchw: Pixels, tmp_path: Path
) -> None:
    path = save(tmp_path, nhwc)
    found = load(path)
    change(first_file(path))
    found.check_unchanged()
    assert np.array_equal(found.array(), nchw)


def test_samples_written_again_after_they_were_read_keep_their_checksum(tmp_path: Path, nhwc: Pixels) -> None:
    """The file of the samples holds canonical images, so nothing but reading it whole keeps them."""
    train, nchw = nhwc[:30], np.ascontiguousarray(nhwc[30:].transpose(0, 3, 1, 2))
    path = save_npz(tmp_path, nchw)
    undisturbed = evaluate(path, train=train, metrics="memorization")

    samples = load_images(path, argument="samples", like=(3, 8, 6))
    before = samples.checksum
    save_npz(tmp_path, nchw[::-1])
    assert samples.checksum == before == undisturbed.settings.checksums["samples"]


def test_an_evaluation_ends_with_one_line_if_its_training_set_changed(
    tmp_path: Path, nhwc: Pixels, in_place: None
) -> None:
    nchw = np.ascontiguousarray(nhwc.transpose(0, 3, 1, 2))
    path = save_npy(tmp_path, nchw)

    def sampler(n: int) -> Pixels:
        rewrite(path)
        return nhwc[:n]

    with pytest.raises(InputError, match=r"train .*set\.npy.*changed while it was being read"):
        evaluate(sampler, train=path, num_samples=40, batch_size=40, metrics="memorization")
