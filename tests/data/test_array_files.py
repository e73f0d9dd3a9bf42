from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file as save_numpy
from safetensors.torch import save_file as save_torch

from checking import is_mapped
from memgen_eval import InputError
from memgen_eval.data import arrays, images as images_module
from memgen_eval.data.sources import ARRAY_FILES, load_images


def load(source, **keywords):
    return load_images(source, **{"argument": "samples", **keywords})


def refusal(path, **keywords):
    with pytest.raises(InputError) as caught:
        load(path, **keywords)
    message = str(caught.value)
    assert "\n" not in message and path.name in message
    return message


class Bomb:
    """Unpickling it leaves a trace."""

    def __reduce__(self):
        return os.mkdir, (os.environ["BOMB"],)


@pytest.fixture
def bomb(tmp_path, monkeypatch):
    """An object that makes a folder when it is unpickled; the test fails if the folder is there at its end."""
    trace = tmp_path / "exploded"
    monkeypatch.setenv("BOMB", str(trace))
    yield Bomb()
    assert not trace.exists()


def test_every_format_gives_the_same_images(nhwc, nchw, tmp_path):
    floats = (nchw / 127.5 - 1).astype(np.float32)
    tensor = torch.from_numpy(nchw.copy())
    writers = {
        "a.npy": lambda path: np.save(path, nhwc),
        "float.npy": lambda path: np.save(path, floats),
        "fortran.npy": lambda path: np.save(path, np.asfortranarray(nhwc)),
        "big.npy": lambda path: np.save(path, floats.astype(">f4")),
        "A.NPY": lambda path: path.write_bytes(npy_bytes(nchw)),
        "a.npz": lambda path: np.savez(path, nhwc),
        "float.npz": lambda path: np.savez(path, floats),
        "fortran.npz": lambda path: np.savez(path, np.asfortranarray(nhwc)),
        "big.npz": lambda path: np.savez(path, floats.astype(">f4")),
        "packed.npz": lambda path: np.savez_compressed(path, nhwc),
        "packed-fortran.npz": lambda path: np.savez_compressed(path, np.asfortranarray(floats)),
        "a.pt": lambda path: torch.save(tensor, path),
        "a.pth": lambda path: torch.save({"images": tensor, "labels": torch.zeros(60), "note": "x"}, path),
        "pair.pt": lambda path: torch.save((tensor, torch.zeros(60)), path),
        "old.pt": lambda path: torch.save(tensor, path, _use_new_zipfile_serialization=False),
        "strided.pt": lambda path: torch.save(tensor.to(memory_format=torch.channels_last), path),
        "bf16.pt": lambda path: torch.save(torch.from_numpy(floats).bfloat16(), path),
        "grad.pt": lambda path: torch.save(torch.nn.Parameter(torch.from_numpy(floats)), path),
        "a.safetensors": lambda path: save_numpy({"images": np.ascontiguousarray(nhwc)}, path),
        "bf16.safetensors": lambda path: save_torch({"x": torch.from_numpy(floats).bfloat16()}, path),
        "half.safetensors": lambda path: save_torch({"x": torch.from_numpy(floats).half(), "y": torch.ones(3)}, path),
    }
    assert ARRAY_FILES.keys() == {Path(name).suffix.lower() for name in writers}
    for name, write in writers.items():
        write(tmp_path / name)
        for path in (tmp_path / name, str(tmp_path / name)):
            found = load(path)
            assert np.array_equal(found.array(), nchw), name
            assert found.arrival["path"] == str(tmp_path / name)


def npy_bytes(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def test_small_arrays_are_read_and_large_ones_are_mapped(nchw, tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", labels=np.zeros(60), images=nchw)
    np.save(tmp_path / "a.npy", nchw)
    for name in ("a.npz", "a.npy"):
        assert not is_mapped(load(tmp_path / name).source)
    monkeypatch.setattr(arrays, "IN_MEMORY", nchw.nbytes - 1)
    for name in ("a.npz", "a.npy"):
        assert is_mapped(load(tmp_path / name).source)


def test_the_array_is_found_among_others(nhwc, nchw, grey, tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, mu=np.zeros(4), sigma=np.zeros((4, 4)), mu_s=np.zeros(4), sigma_s=np.zeros((4, 4)), arr_0=nhwc)
    assert np.array_equal(load(path).array(), nchw) and load(path).arrival["notes"] == []
    np.savez(path, images=nhwc, labels=np.zeros(60, int))
    assert np.array_equal(load(path).array(), nchw)
    assert load(path).arrival["notes"] == ["read images, not labels"]
    np.savez(path, nhwc, np.arange(60), np.zeros((60, 10)))
    assert np.array_equal(load(path).array(), nchw)
    np.savez(path, images=nhwc, masks=nhwc[..., :1])
    assert np.array_equal(load(path).array(), nchw)
    np.savez(path, grey)
    assert np.array_equal(load(path, like=(1, 8, 6)).array()[:, 0], grey)


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        ({"arr_0": np.zeros(600, int), "arr_1": np.zeros((600, 32, 32, 3), np.uint8)}, ["(600,)", "(600, 32, 32, 3)"]),
        ({"arr_0": np.zeros((32, 32, 3, 60), np.uint8)}, ["(32, 32, 3, 60)"]),
        ({"x_train": np.zeros((5, 8, 8)), "x_test": np.zeros((2, 8, 8))}, ["x_train", "x_test", "several"]),
        ({"mu": np.zeros(2048), "sigma": np.zeros((4, 4))}, ["statistics alone", "mu", "(2048,)"]),
        ({"arr_0": np.zeros((0, 8, 8), np.uint8)}, ["(0, 8, 8)"]),
        ({"a": np.zeros(3), "b": np.zeros(4)}, ["holds no array of images", "(3,)", "(4,)"]),
        ({}, ["nothing"]),
    ],
    ids=str,
)
def test_an_npz_without_one_set_of_images_lists_what_it_holds(contents, words, tmp_path):
    np.savez(tmp_path / "a.npz", **contents)
    message = refusal(tmp_path / "a.npz")
    assert all(word in message for word in words)


def test_objects_are_never_unpickled(nhwc, nchw, tmp_path, bomb):
    objects = np.array([bomb, None], dtype=object)
    np.savez(tmp_path / "a.npz", nhwc, objects)
    assert np.array_equal(load(tmp_path / "a.npz").array(), nchw)
    np.savez(tmp_path / "b.npz", objects)
    assert "never unpickled" in refusal(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", arr_0=objects, images=nhwc)
    assert np.array_equal(load(tmp_path / "c.npz").array(), nchw)
    np.save(tmp_path / "d.npy", objects)
    assert "never unpickled" in refusal(tmp_path / "d.npy")
    (tmp_path / "e.npy").write_bytes(pickle.dumps(bomb))
    refusal(tmp_path / "e.npy")
    (tmp_path / "f.pt").write_bytes(pickle.dumps({"images": bomb}))
    assert "more than tensors" in refusal(tmp_path / "f.pt")
    torch.save({"images": torch.from_numpy(nhwc), "extra": bomb}, tmp_path / "g.pt")
    assert "more than tensors" in refusal(tmp_path / "g.pt")


@pytest.mark.parametrize(
    "name", ["a.npz", "packed.npz", "a.npy", "a.pt", "a.safetensors", "a.zip", "a.bin", "a.tar.gz"]
)
@pytest.mark.parametrize("left", [0, 10, 0.6, "noise"])
def test_files_that_are_cut_or_no_such_files(name, left, nhwc, tmp_path):
    path = tmp_path / name
    if name.endswith("pt"):
        torch.save(torch.from_numpy(nhwc), path)
    elif name.endswith("safetensors"):
        save_numpy({"x": nhwc}, path)
    elif name.endswith("npy"):
        np.save(path, nhwc)
    elif name.startswith("packed"):
        np.savez_compressed(path, nhwc)
    else:
        np.savez(tmp_path / "b.npz", nhwc)
        (tmp_path / "b.npz").rename(path)
    whole = path.read_bytes()
    noise = np.random.default_rng(0).bytes(1000)
    path.write_bytes(noise if left == "noise" else whole[: left if isinstance(left, int) else int(len(whole) * left)])
    refusal(path)


def test_an_altered_array_is_noticed_by_its_checksum(nhwc, tmp_path):
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", nhwc)
        data = bytearray((tmp_path / "a.npz").read_bytes())
        data[3000] ^= 255
        (tmp_path / "a.npz").write_bytes(data)
        refusal(tmp_path / "a.npz")


def test_a_header_that_promises_more_than_the_file_holds(nhwc, tmp_path):
    data = npy_bytes(nhwc).replace(b"(60, 8, 6, 3)", b"(99, 8, 6, 3)")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("arr_0.npy", data)
    (tmp_path / "a.npy").write_bytes(data)
    for name in ("a.npz", "a.npy"):
        assert "the header says 14256 bytes of values, the file holds 8640" in refusal(tmp_path / name)


def test_an_archive_with_a_password_or_an_unknown_packing(nhwc, tmp_path):
    np.savez(tmp_path / "a.npz", nhwc)
    data = bytearray((tmp_path / "a.npz").read_bytes())
    locked, unknown = bytearray(data), bytearray(data)
    directory = data.rindex(b"PK\x01\x02")
    locked[6] |= 1
    locked[directory + 8] |= 1
    unknown[8] = unknown[directory + 10] = 99
    for changed in (locked, unknown):
        (tmp_path / "b.npz").write_bytes(changed)
        refusal(tmp_path / "b.npz")


def test_newer_array_headers(nhwc, nchw, tmp_path):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, nhwc, version=(2, 0))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("arr_0.npy", stream.getvalue())
    assert np.array_equal(load(tmp_path / "a.npz").array(), nchw)


def test_tensors_that_hold_no_images(tmp_path):
    torch.save(
        OrderedDict(weight=torch.zeros(64, 3, 3, 3), bias=torch.zeros(64), other=torch.zeros(8, 3, 5, 5)),
        tmp_path / "net.pt",
    )
    assert "several" in refusal(tmp_path / "net.pt")
    torch.save({"epoch": 3}, tmp_path / "none.pt")
    assert "nothing" in refusal(tmp_path / "none.pt")
    save_torch({"a": torch.zeros(3)}, tmp_path / "a.safetensors")
    assert "a F32 (3,)" in refusal(tmp_path / "a.safetensors")


def test_many_names_are_listed_in_part(tmp_path):
    np.savez(tmp_path / "a.npz", **{f"a{i}": np.zeros(3) for i in range(30)})
    message = refusal(tmp_path / "a.npz")
    assert "(30 in all)" in message and len(message) < 500


def test_what_is_no_file_that_can_be_read(tmp_path):
    assert "does not exist" in refusal(tmp_path / "none.npz")
    (tmp_path / "a.txt").write_text("x")
    assert "not a known format" in refusal(tmp_path / "a.txt")
    (tmp_path / "one.png").write_bytes(b"x")
    assert "into a folder" in refusal(tmp_path / "one.png")
    (tmp_path / "a\nb.npy").write_bytes(b"x")
    with pytest.raises(InputError, match=r"a\\nb\.npy"):
        load(tmp_path / "a\nb.npy")


def test_a_long_extra_field_shifts_the_mapped_data(nhwc, tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "IN_MEMORY", 0)
    np.savez(tmp_path / "a.npz", nhwc)
    plain = npy_bytes(nhwc)
    info = zipfile.ZipInfo("arr_0.npy")
    info.extra = struct.pack("<HH", 0xFFFF, 100) + bytes(100)
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr(info, plain)
    assert load(tmp_path / "b.npz").checksum == load(tmp_path / "a.npz").checksum


def test_batches_saved_together_are_joined_in_their_order_and_noted(nhwc, nchw, tmp_path):
    """In twelve arrays, of which the tenth comes after the ninth and not after the first."""
    batches = np.split(nhwc, 12)
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", *batches)
        found = load(tmp_path / "a.npz")
        assert np.array_equal(found.array(), nchw)
        assert found.arrival["notes"] == ["joined arr_0 to arr_11: 12 arrays"]
    np.savez(tmp_path / "b.npz", *batches, labels=np.zeros(60), mu=np.zeros(4))
    assert np.array_equal(load(tmp_path / "b.npz").array(), nchw)
    torch.save([torch.from_numpy(batch.copy()) for batch in batches], tmp_path / "c.pt")
    assert np.array_equal(load(tmp_path / "c.pt").array(), nchw)
    assert load(tmp_path / "c.pt").arrival["notes"] == ["joined 0 to 11: 12 arrays"]
    save_numpy({f"arr_{i}": np.ascontiguousarray(batch) for i, batch in enumerate(batches)}, tmp_path / "d.safetensors")
    assert np.array_equal(load(tmp_path / "d.safetensors").array(), nchw)


def test_large_batches_are_joined_in_a_temporary_file(nhwc, nchw, tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", nhwc[:20], nhwc[20:])
    monkeypatch.setattr(images_module, "IN_MEMORY", 1000)
    monkeypatch.setattr(arrays, "IN_MEMORY", 1000)
    assert np.array_equal(load(tmp_path / "a.npz").array(), nchw)


@pytest.mark.parametrize(
    "others",
    [
        [np.zeros((60, 8, 6, 1), np.uint8)],
        [np.zeros((60, 9, 6, 3), np.uint8)],
        [np.zeros((60, 8, 6, 3), np.float32)],
        [np.zeros((60, 8, 6), np.uint8)],
        [np.zeros(60), np.zeros((60, 8, 6, 1), np.uint8)],
    ],
    ids=["channels", "size", "type", "axes", "behind labels"],
)
def test_arrays_of_several_kinds_are_not_joined(others, nhwc, tmp_path):
    np.savez(tmp_path / "a.npz", nhwc, *others)
    assert "several arrays could be the images" in refusal(tmp_path / "a.npz")


@pytest.mark.parametrize("shape", [(3, 8, 6), (8, 6, 3), (1, 8, 6)])
def test_single_images_saved_together_are_not_taken_for_grey_sets(shape, tmp_path):
    rng = np.random.default_rng(0)
    single = [rng.integers(0, 256, shape, dtype=np.uint8) for _ in range(5)]
    np.savez(tmp_path / "a.npz", *single)
    torch.save([torch.from_numpy(image) for image in single], tmp_path / "a.pt")
    for name in ("a.npz", "a.pt"):
        assert "several arrays could be the images" in refusal(tmp_path / name)
