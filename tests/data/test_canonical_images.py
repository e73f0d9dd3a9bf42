from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import torch

from memgen_eval import InputError
from memgen_eval.data import arrays, images as images_module, intake
from memgen_eval.data.images import Images, block_rows
from memgen_eval.data.sources import load_images
from memgen_eval.data.tensors import TensorRows


def load(source, **keywords):
    return load_images(source, **{"argument": "samples", **keywords})


def refusal(source, **keywords):
    """The one line of an error."""
    with pytest.raises(InputError) as caught:
        load(source, **keywords)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_every_layout_and_type_gives_the_same_canonical_set(nhwc, nchw):
    floats = nchw.astype(np.float32) / np.float32(127.5) - 1
    tensor = torch.from_numpy(floats.copy())
    forms = {
        "channels last": nhwc,
        "channels first": nchw,
        "fortran order": np.asfortranarray(nchw),
        "transposed view": nhwc.transpose(0, 3, 1, 2),
        "every other of twice": np.repeat(nchw, 2, axis=0)[::2],
        "int64": nchw.astype(np.int64),
        "int64 with its range": Images(nchw.astype(">i8"), value_range=(0, 255)),
        "float32": floats,
        "float64": nchw / 127.5 - 1,
        "big-endian": floats.astype(">f4"),
        "float16": floats.astype(np.float16),
        "range 0 to 1": Images(nhwc / 255, value_range=(0, 1)),
        "range 0 to 255": Images(nhwc.astype(np.float32), value_range=(0, 255)),
        "tensor": torch.from_numpy(nchw.copy()),
        "tensor that wants gradients": tensor.clone().requires_grad_(),
        "bfloat16": tensor.bfloat16(),
        "half": tensor.half(),
        "channels-last strides": tensor.to(memory_format=torch.channels_last),
        "int32 tensor": torch.from_numpy(nchw.astype(np.int32)),
        "big-endian uint16": nchw.astype(">u2"),
    }
    expected = load(nchw).checksum
    for name, form in forms.items():
        found = load(form)
        assert np.array_equal(found.array(), nchw), name
        assert (found.shape, found.dtype, len(found), found.checksum) == ((3, 8, 6), np.uint8, 60, expected), name
        assert found.array().flags.c_contiguous and json.dumps(found.arrival), name


def test_the_checksum_is_of_type_shape_and_pixels(nchw):
    by_hand = hashlib.sha256(b"uint8 (60, 3, 8, 6)\n" + nchw.tobytes()).hexdigest()
    assert load(nchw).checksum == by_hand
    assert load(nchw.reshape(60, 3, 6, 8)).checksum != by_hand
    assert load(nchw, quantize=False).checksum != by_hand
    changed = nchw.copy()
    changed[-1, -1, -1, -1] ^= 1
    assert load(changed).checksum != by_hand


def test_grey_images_in_three_layouts(grey):
    for form in (grey, grey[:, None], grey[..., None]):
        found = load(form)
        assert found.shape == (1, 8, 6) and np.array_equal(found.array()[:, 0], grey)
        assert np.shares_memory(found.array(), form)


def test_an_array_that_is_canonical_is_not_copied(nchw):
    assert np.shares_memory(load(nchw).array(), nchw)
    assert np.shares_memory(load(nchw).read(3, 5), nchw)
    tensor = torch.from_numpy(nchw.copy())
    assert np.shares_memory(load(tensor).array(), tensor.numpy())


def test_what_is_read_may_be_written_to_and_never_reaches_the_file(nchw, tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "IN_MEMORY", 0)
    np.save(tmp_path / "a.npy", nchw)
    mapped = load(tmp_path / "a.npy")
    assert not mapped.array().flags.writeable
    for block in (mapped.read(0, 2), mapped.take(np.array([1, 0])), next(mapped.blocks())):
        torch.from_numpy(block)  # warns of arrays that are read-only
        block[:] = 0
    assert np.array_equal(np.load(tmp_path / "a.npy"), nchw)


@pytest.mark.parametrize("in_memory", [2**29, 0])
def test_reading_by_slice_by_index_and_by_block(nhwc, nchw, in_memory, monkeypatch):
    monkeypatch.setattr(intake, "IN_MEMORY", in_memory)
    monkeypatch.setattr(images_module, "IMAGE_BLOCK_VALUES", 17 * 144)
    for source in (nhwc, nchw / 127.5 - 1, torch.from_numpy(nhwc), torch.from_numpy(nchw / 127.5 - 1)):
        found = load(source, num_images=50)
        assert len(found) == 50 and np.array_equal(found.array(), nchw[:50])
        assert np.array_equal(found.read(7, 19), nchw[7:19])
        assert np.array_equal(found.read(45, 60), nchw[45:50])
        assert np.array_equal(found.take(np.array([49, 0, 7, 7])), nchw[[49, 0, 7, 7]])
        assert [len(block) for block in found.blocks()] == [17, 17, 16]
        assert np.array_equal(np.concatenate(list(found.blocks())), nchw[:50])


def test_blocks_depend_on_the_image_size_alone():
    assert block_rows(3072) == 2**23 // 3072
    assert block_rows(3 * 2048 * 2048) == 16


def test_large_sets_stay_where_they_are(nhwc, monkeypatch):
    monkeypatch.setattr(intake, "IN_MEMORY", nhwc.nbytes - 1)
    assert not isinstance(load(nhwc).source, np.ndarray)
    monkeypatch.setattr(intake, "IN_MEMORY", nhwc.nbytes)
    assert isinstance(load(nhwc).source, np.ndarray)


def test_unquantised_floats_are_grey_levels_in_float32(nchw):
    values = np.random.default_rng(0).uniform(-1, 1, nchw.shape)
    found = load(values, quantize=False)
    assert found.dtype == np.float32
    assert np.array_equal(found.array(), ((values + 1) * 127.5).astype(np.float32))
    assert found.arrival["rounding"] == "none: quantize is off"
    assert np.array_equal(load(nchw, quantize=False).array(), nchw.astype(np.float32))


def test_floats_are_rounded_to_the_nearest_level_not_down(nchw):
    x = nchw.astype(np.float32) / np.float32(127.5) - 1
    shifted = load(x + np.float32(0.49 / 127.5), value_range=(-1, 1)).array()
    assert np.array_equal(shifted, nchw)
    truncated = ((x + 1) * 127.5).astype(np.uint8)
    assert 0.2 < np.mean(truncated != nchw) < 0.3  # what saving by truncation does to a quarter of the values
    assert np.array_equal(load((x * 127.5 + 128).clip(0, 255).astype(np.uint8)).array(), nchw)


@pytest.mark.parametrize("shape", [(4, 3, 5, 3), (4, 1, 5, 1), (4, 3, 5, 1), (4, 3, 3, 3)])
def test_an_array_that_fits_two_layouts_is_refused_unless_the_training_set_decides(shape):
    message = refusal(np.zeros(shape, np.uint8), argument="train")
    assert message.startswith("train: ") and str(shape) in message


def test_the_training_set_decides_between_two_layouts():
    array = np.arange(4 * 3 * 5 * 3, dtype=np.uint8).reshape(4, 3, 5, 3)
    assert np.array_equal(load(array, like=(3, 5, 3)).array(), array)
    assert np.array_equal(load(array, like=(3, 3, 5)).array(), array.transpose(0, 3, 1, 2))
    assert "(4, 3, 3, 3)" in refusal(np.zeros((4, 3, 3, 3), np.uint8), like=(3, 3, 3))
    assert load(np.zeros((4, 1, 1, 1), np.uint8)).shape == (1, 1, 1)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((), "()"),
        ((5,), "(5)"),
        ((5, 64), "(5, 64)"),
        ((2, 2, 3, 8, 8), "(2, 2, 3, 8, 8)"),
        ((32, 32, 3, 600), "(32, 32, 3, 600)"),
        ((5, 4, 8, 8), "(5, 4, 8, 8)"),
        ((0, 3, 8, 8), "(0, 3, 8, 8)"),
        ((5, 3, 0, 8), "(5, 3, 0, 8)"),
        ((0, 8, 8), "(0, 8, 8)"),
    ],
)
def test_shapes_that_hold_no_images(shape, expected):
    assert expected in refusal(np.zeros(shape, np.uint8))


def test_a_shape_other_than_the_training_sets_is_named_beside_it(nhwc):
    message = refusal(nhwc, like=(3, 28, 28))
    assert "3 x 8 x 6" in message and "3 x 28 x 28" in message
    assert "1 x 8 x 6" in refusal(nhwc[..., 0], like=(3, 8, 6))


@pytest.mark.parametrize(
    ("array", "word"),
    [
        (np.zeros((2, 8, 8), bool), "multiply by 255"),
        (np.zeros((2, 8, 8), complex), "complex128"),
        (np.full((2, 8, 8), "a"), "<U1"),
        (np.full((2, 8, 8), None), "never unpickled"),
        (np.zeros((2, 8, 8), "M8[s]"), "datetime64"),
        (torch.zeros(2, 8, 8, dtype=torch.bool), "multiply by 255"),
        (torch.zeros(2, 8, 8, dtype=torch.complex64), "complex64"),
        (torch.zeros(2, 8, 8).to_sparse(), "dense"),
        (torch.zeros(2, 8, 8, device="meta"), "dense"),
    ],
)
def test_types_that_are_no_images(array, word):
    assert word in refusal(array)


def test_only_the_first_so_many(nhwc, nchw):
    found = load(Images(nhwc, names=[f"{i}.png" for i in range(60)]), num_images=7)
    assert (
        len(found) == 7
        and np.array_equal(found.array(), nchw[:7])
        and list(found.names) == [f"{i}.png" for i in range(7)]
    )
    assert "61" in refusal(nhwc, num_images=61) and "60" in refusal(nhwc, num_images=61)
    assert "0 images" in refusal(nhwc, num_images=0)
    assert "59 names for 60" in refusal(Images(nhwc, names=["a"] * 59))


def test_a_tensor_on_another_device_is_moved_block_by_block(nchw, monkeypatch):
    moved = []
    plain = torch.Tensor.cpu

    def cpu(tensor):
        moved.append(len(tensor))
        return plain(tensor)

    monkeypatch.setattr(torch.Tensor, "cpu", cpu)
    monkeypatch.setattr(images_module, "IMAGE_BLOCK_VALUES", 16 * 144)
    monkeypatch.setattr(TensorRows, "on_host", False)
    for tensor in (torch.from_numpy(nchw), torch.from_numpy(nchw / 127.5 - 1)):
        assert np.array_equal(load(tensor).array(), nchw)
    assert max(moved) == 16
