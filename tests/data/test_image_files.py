from __future__ import annotations

import io
import os
import struct
import warnings
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from memgen_eval import InputError
from memgen_eval.data import archives, intake
from memgen_eval.data.sources import load_images


def load(source, **keywords):
    return load_images(source, **{"argument": "samples", **keywords})


def refusal(path, **keywords):
    with pytest.raises(InputError) as caught:
        load(path, **keywords)
    message = str(caught.value)
    assert "\n" not in message and "samples" in message
    return message


def encoded(image, format="PNG", **options):
    stream = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(stream, format=format, **options)
    return stream.getvalue()


def write(folder, files):
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def zipped(path, files, packing=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", packing) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def numbered(images):
    return {f"{i // 30:05d}/img{i:08d}.png": encoded(image) for i, image in enumerate(images)}


DROPPINGS = {
    ".DS_Store": b"x",
    "00000/Thumbs.db": b"x",
    "00001/desktop.ini": b"x",
    "dataset.json": b'{"labels": null}',
    "00000/._img00000000.png": b"\0\5\x16\7" + bytes(78),
    "__MACOSX/00000/._img00000000.png": b"\0\5\x16\7" + bytes(78),
    "notes.txt": b"",
    "README": b"no image",
}


def test_class_folders_and_zips_with_what_systems_drop_there(nhwc, nchw, tmp_path):
    files = numbered(nhwc) | DROPPINGS | {".ipynb_checkpoints/img00000001-checkpoint.png": encoded(nhwc[1])}
    sources = [write(tmp_path / "folder", files)]
    sources += [
        zipped(tmp_path / f"{packing}.zip", files, packing) for packing in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    ]
    for source in sources:
        found = load(source)
        assert np.array_equal(found.array(), nchw)
        assert found.names[:2] == ["00000/img00000000.png", "00000/img00000001.png"]
        hidden, others = found.arrival["notes"]
        assert hidden == "passed over: 4 hidden files or folders"
        assert "5 files that are not images" in others and "dataset.json" in others
    assert [load(source).arrival["form"] for source in sources] == ["folder", "zip", "zip"]


@pytest.mark.parametrize("folder", ["__MACOSX", ".cache", "00000/.thumbnails"])
def test_hidden_folders_are_not_entered_even_where_they_hold_images(folder, nhwc, nchw, tmp_path):
    files = numbered(nhwc) | {f"{folder}/copy.png": encoded(nhwc[0])}
    for source in (write(tmp_path / "f", files), zipped(tmp_path / "f.zip", files)):
        assert np.array_equal(load(source).array(), nchw)
        assert load(source).arrival["notes"] == ["passed over: 1 hidden files or folders"]


def test_order_is_by_code_points_of_relative_paths(nhwc, tmp_path):
    names = ["b.png", "B.png", "a/2.png", "a/10.png", "a-1.png", "ä.png", "Z/z.png"]
    write(tmp_path, {name: encoded(image) for name, image in zip(names, nhwc, strict=False)})
    found = load(tmp_path)
    assert list(found.names) == ["B.png", "Z/z.png", "a-1.png", "a/10.png", "a/2.png", "b.png", "ä.png"]
    for i, name in enumerate(found.names):
        assert np.array_equal(found.read(i, i + 1)[0], nhwc[names.index(name)].transpose(2, 0, 1))


def test_suffixes_in_any_case_and_files_without_one(nhwc, nchw, tmp_path):
    suffixes = [".png", ".PNG", ".Png", ".webp", ".bmp", ".BMP", ".tif", ".TIFF", ".ppm", ""]
    files = {}
    for i, image in enumerate(nhwc):
        suffix = suffixes[i % len(suffixes)]
        kind = {".webp": "WEBP", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF", ".ppm": "PPM"}.get(
            suffix.lower(), "PNG"
        )
        files[f"{i:03d}{suffix}"] = encoded(image, kind, **({"lossless": True} if kind == "WEBP" else {}))
    folder = write(tmp_path / "f", {**files, "notes.txt": b"", "LICENSE": b"text", "empty": b""})
    found = load(folder)
    assert np.array_equal(found.array(), nchw)
    assert found.arrival["notes"] == ["passed over: 3 files that are not images: 'LICENSE', 'empty', 'notes.txt'"]
    webp = {"a": encoded(nhwc[0], "WEBP", lossless=True), "b": encoded(nhwc[0], "BMP")}
    assert len(load(zipped(tmp_path / "a.zip", webp))) == 2


def test_jpeg_is_read_as_pillow_reads_it(tmp_path):
    smooth = np.linspace(0, 255, 8 * 6).reshape(8, 6, 1).repeat(3, 2).astype(np.uint8)
    data = encoded(smooth, "JPEG")
    found = load(write(tmp_path, {"a.JPEG": data, "b.jpg": data}))
    assert np.array_equal(found.array()[0].transpose(1, 2, 0), np.asarray(Image.open(io.BytesIO(data))))


def test_a_set_of_grey_images(grey, tmp_path):
    write(tmp_path, numbered(grey))
    assert load(tmp_path).shape == (1, 8, 6)
    assert np.array_equal(load(tmp_path, like=(1, 8, 6)).array()[:, 0], grey)
    colour = load(tmp_path, like=(3, 8, 6))
    assert np.array_equal(colour.array(), np.repeat(grey[:, None], 3, axis=1))
    assert colour.arrival["notes"] == ["40 grey images read as RGB"]


def test_a_grey_image_among_colours_becomes_rgb(nhwc, nchw, tmp_path):
    plain = nhwc[7, :, :, :1].repeat(3, axis=2)
    nhwc[7], nchw[7] = plain, plain.transpose(2, 0, 1)
    files = numbered(nhwc) | {"00000/img00000007.png": encoded(plain[..., 0])}
    found = load(write(tmp_path, files))
    assert np.array_equal(found.array(), nchw) and found.arrival["notes"] == ["1 grey images read as RGB"]


def test_a_colour_image_in_a_grey_set_is_named(grey, nhwc, tmp_path):
    write(tmp_path, numbered(grey) | {"00000/img00000007.png": encoded(nhwc[0])})
    message = refusal(tmp_path, like=(1, 8, 6))
    assert "img00000007.png" in message and "grey" in message


@pytest.mark.parametrize("odd", ["00000/img00000017.png", "00000/grid.png"])
@pytest.mark.parametrize("like", [None, (3, 8, 6)])
def test_the_file_of_another_size_is_named_with_both_sizes(odd, like, nhwc, tmp_path):
    sheet = np.zeros((16, 24, 3), np.uint8)
    write(tmp_path, numbered(nhwc) | {odd: encoded(sheet)})
    message = refusal(tmp_path, like=like)
    assert odd in message and "16 x 24" in message and "8 x 6" in message


def test_a_folder_of_another_size_than_the_training_set(nhwc, tmp_path):
    message = refusal(write(tmp_path, numbered(nhwc)), like=(3, 28, 28))
    assert "img00000000.png" in message and "8 x 6" in message and "28 x 28" in message and "training set" in message


@pytest.mark.parametrize("in_memory", [2**29, 0], ids=["held in memory", "decoded when read"])
@pytest.mark.parametrize("caller_allows", [False, True])
@pytest.mark.parametrize("kept", [0.6, 0])
@pytest.mark.parametrize("form", ["folder", "zip"])
def test_a_cut_image_is_named_whatever_the_caller_told_pillow(
    in_memory, caller_allows, kept, form, tmp_path, monkeypatch
):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", caller_allows)
    monkeypatch.setattr(intake, "IN_MEMORY", in_memory)
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    files = numbered(images)
    files["00000/img00000017.png"] = files["00000/img00000017.png"][: int(kept * 3000)]
    source = write(tmp_path / "f", files) if form == "folder" else zipped(tmp_path / "f.zip", files)
    with pytest.raises(InputError, match=r"samples \('.*00000/img00000017\.png'\): cannot be decoded"):
        load(source).array()
    assert ImageFile.LOAD_TRUNCATED_IMAGES is caller_allows


def test_a_cut_file_of_a_large_folder_is_named_before_anything_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(intake, "IN_MEMORY", 0)
    data = encoded(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    write(tmp_path, {"a.png": data, "b.png": data[:-40], "c.png": data + b"trailing"})
    assert "b.png" in refusal(tmp_path)


def test_an_altered_member_of_a_zip_is_named(nhwc, tmp_path):
    path = zipped(tmp_path / "a.zip", numbered(nhwc), zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 20] ^= 255
    path.write_bytes(data)
    assert "img00000000.png" in refusal(path)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def deep_png(colour_type, channels):
    header = struct.pack(">IIBBBBB", 6, 8, 16, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + bytes(6 * channels * 2) for _ in range(8))
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


DEEP = {
    "grey.png": deep_png(0, 1),
    "rgb.png": deep_png(2, 3),
    "la.png": deep_png(4, 2),
    "rgba.png": deep_png(6, 4),
    "dark.png": encoded(np.full((8, 6), 200, np.uint16)),
    "grey.tif": encoded(np.zeros((8, 6), np.uint16), "TIFF"),
    "float.tif": encoded(np.zeros((8, 6), np.float32), "TIFF"),
    "int.tif": encoded(np.zeros((8, 6), np.int32), "TIFF"),
    "rgb.ppm": b"P6\n6 8\n65535\n" + bytes(8 * 6 * 3 * 2),
    "odd.ppm": b"P6\n6 8\n1000\n" + bytes(8 * 6 * 3 * 2),
    "grey.pgm": b"P5\n6 8\n65535\n" + bytes(8 * 6 * 2),
    "odd.pgm": b"P5\n6 8\n1000\n" + bytes(8 * 6 * 2),
}


@pytest.mark.parametrize("name", DEEP)
def test_sixteen_bits_a_channel_are_refused_by_name(name, tmp_path):
    message = refusal(write(tmp_path, {name: DEEP[name]}))
    assert name in message and "16 bits" in message and "8-bit" in message


def test_a_bitmap_of_16_bits_a_pixel_has_no_deep_channels(tmp_path):
    """Five bits of red, six of green, five of blue: fewer than eight each."""
    header = struct.pack("<IiiHHIIiiII", 40, 6, 8, 1, 16, 3, 96, 0, 0, 0, 0) + struct.pack("<III", 0xF800, 0x7E0, 0x1F)
    data = struct.pack("<2sIHHI", b"BM", 14 + 52 + 96, 0, 0, 66) + header + struct.pack("<H", 0xF800) * 48
    found = load(write(tmp_path, {"a.bmp": data})).array()
    assert (found[0, 0] == 255).all() and (found[0, 1:] == 0).all()


def test_palettes_bilevel_images_and_opaque_alpha_are_read_as_they_look(tmp_path):
    rng = np.random.default_rng(5)
    colours = rng.integers(0, 256, (64, 3), dtype=np.uint8)
    indices = rng.integers(0, 64, (8, 6), dtype=np.uint8)
    palette = Image.frombytes("P", (6, 8), indices.tobytes())
    palette.putpalette(colours.ravel().tolist())
    bits = rng.integers(0, 2, (8, 6)).astype(bool)
    rgb = rng.integers(0, 256, (8, 6, 3), dtype=np.uint8)
    opaque = np.dstack([rgb, np.full((8, 6), 255, np.uint8)])
    unused = next(i for i in range(256) if i not in rgb)
    files = {
        "a.png": encoded(palette),
        "b.png": encoded(Image.fromarray(bits)),
        "c.png": encoded(opaque),
        "d.gif": encoded(palette, "GIF"),
        "e.png": encoded(rgb, transparency=(unused, unused, unused)),
        "f.png": encoded(palette, transparency=200),
        "g.png": encoded(Image.fromarray(np.dstack([rgb[..., 0], opaque[..., 3]]), "LA")),
    }
    truth = [colours[indices], 255 * bits[..., None].repeat(3, 2), rgb, colours[indices], rgb, colours[indices]]
    truth.append(rgb[..., :1].repeat(3, 2))
    found = load(write(tmp_path, files))
    assert np.array_equal(found.array().transpose(0, 2, 3, 1), np.stack(truth))
    assert "4 images with an opaque alpha channel, which was dropped" in found.arrival["notes"]


def test_a_palette_of_greys_is_grey(tmp_path):
    ramp = Image.frombytes("P", (6, 8), bytes(range(48)))
    ramp.putpalette([level for i in range(48) for level in (5 * i,) * 3])
    opaque = ramp.copy()
    found = load(write(tmp_path, {"a.png": encoded(ramp), "b.png": encoded(opaque, transparency=200)}))
    assert found.shape == (1, 8, 6)
    assert found.array()[1].ravel().tolist() == [5 * i for i in range(48)]


def transparent_files():
    rng = np.random.default_rng(6)
    rgba = rng.integers(0, 256, (8, 6, 4), dtype=np.uint8)
    rgba[..., 3] = 255
    rgba[:2, :2, 3] = 0
    grey = rng.integers(0, 256, (8, 6), dtype=np.uint8)
    palette = Image.frombytes("P", (6, 8), bytes(range(48)))
    palette.putpalette(rng.integers(0, 256, 144, dtype=np.uint8).tolist())
    return {
        "rgba.png": encoded(rgba),
        "la.png": encoded(Image.fromarray(rgba[..., 2:], "LA")),
        "rgb.png": encoded(rgba[..., :3], transparency=tuple(map(int, rgba[3, 3, :3]))),
        "l.png": encoded(grey, transparency=int(grey[0, 0])),
        "p.png": encoded(palette, transparency=7),
        "bytes.png": encoded(palette, transparency=bytes([255] * 9 + [10])),
        "p.gif": encoded(palette, "GIF", transparency=7),
        "a.webp": encoded(rgba, "WEBP", lossless=True, exact=True),
    }


@pytest.mark.parametrize(("name", "data"), transparent_files().items(), ids=transparent_files().keys())
def test_real_transparency_is_refused_by_name(name, data, tmp_path):
    message = refusal(write(tmp_path, {name: data}))
    assert name in message and "flatten" in message


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
def test_other_colour_spaces_are_refused_by_name(mode, tmp_path):
    data = encoded(Image.new(mode, (6, 8)), "TIFF")
    assert mode in refusal(write(tmp_path, {"a.tif": data}))


def test_orientation_is_left_alone_and_noted(nhwc, nchw, tmp_path):
    turn = Image.Exif()
    turn[0x0112] = 6
    files = {"a.webp": encoded(nhwc[0], "WEBP", lossless=True, exif=turn), "b.png": encoded(nhwc[1], exif=turn)}
    found = load(write(tmp_path, files))
    assert np.array_equal(found.array(), nchw[:2])
    assert found.arrival["notes"] == [
        "2 images read as stored, although their EXIF orientation asks viewers to turn them"
    ]


def test_of_animated_images_the_first_picture_is_read_and_noted(nhwc, nchw, tmp_path):
    frames = [Image.fromarray(image) for image in nhwc[1:3]]
    files = {"a.png": encoded(nhwc[0], save_all=True, append_images=frames), "b.png": encoded(nhwc[1])}
    found = load(write(tmp_path, files))
    assert np.array_equal(found.array(), nchw[:2])
    assert found.arrival["notes"] == ["1 animated images or stacks, of which the first picture was read"]


def test_a_picture_of_too_many_pixels_is_no_surprise(nhwc, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)  # 48 pixels warn, 96 are an error
    write(tmp_path / "a", {"a.png": encoded(nhwc[0])})
    write(tmp_path / "b", {"b.png": encoded(np.zeros((16, 12, 3), np.uint8))})
    assert "a.png" in refusal(tmp_path / "a") and "b.png" in refusal(tmp_path / "b")


def test_a_zip_member_of_absurd_size(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "LARGEST_MEMBER", 2**20)
    message = refusal(zipped(tmp_path / "a.zip", {"a.png": bytes(2**20 + 1)}))
    assert "a.png" in message and "1 MiB" in message


@pytest.mark.parametrize("files", [{}, {"a.txt": b"x", ".hidden.png": b"x"}])
def test_a_folder_or_zip_without_images(files, tmp_path):
    (tmp_path / "f").mkdir()
    assert "no image files" in refusal(write(tmp_path / "f", files))
    assert "no image files" in refusal(zipped(tmp_path / "a.zip", files))


def test_an_image_with_a_password(nhwc, tmp_path):
    path = zipped(tmp_path / "a.zip", {"a.png": encoded(nhwc[0]), "b": b"x"}, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = -1
        while (start := data.find(signature, start + 1)) >= 0:
            data[start + offset] |= 1
    path.write_bytes(data)
    assert "a.png" in refusal(path) and "password" in refusal(path)


def test_links_are_followed_but_not_in_circles(nhwc, nchw, tmp_path):
    write(tmp_path / "real", numbered(nhwc[:30]))
    folder = write(tmp_path / "f", {"b/x.png": encoded(nhwc[30])})
    (folder / "a").symlink_to(tmp_path / "real", target_is_directory=True)
    (tmp_path / "real" / "up").symlink_to(tmp_path / "f", target_is_directory=True)
    found = load(folder)
    assert np.array_equal(found.array(), nchw[:31]) and found.names[0] == "a/00000/img00000000.png"
    assert found.arrival["notes"] == ["30 files lie outside the folder, by links"]
    (folder / "c.png").symlink_to(tmp_path / "gone.png")
    assert "c.png" in refusal(folder)
    (folder / "c.png").unlink()
    (folder / "c").symlink_to(tmp_path / "gone")
    assert len(load(folder)) == 31


def test_names_that_are_no_text_are_made_printable(nhwc, tmp_path):
    (tmp_path / os.fsdecode(b"\xff.png")).write_bytes(encoded(nhwc[0]))
    assert load(tmp_path).names == ["\N{REPLACEMENT CHARACTER}.png"]


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_a_large_set_is_decoded_when_it_is_read(form, nhwc, nchw, tmp_path, monkeypatch):
    monkeypatch.setattr(intake, "IN_MEMORY", 0)
    files = numbered(nhwc)
    source = write(tmp_path / "f", files) if form == "folder" else zipped(tmp_path / "f.zip", files)
    decoded = []
    decode = archives.pictures.decode
    monkeypatch.setattr(
        archives.pictures, "decode", lambda file, label: (decoded.append(label), decode(file, label))[1]
    )
    found = load(source, num_images=50)
    assert not decoded
    assert np.array_equal(found.take(np.array([49, 3])), nchw[[49, 3]]) and len(decoded) == 2
    assert np.array_equal(found.array(), nchw[:50]) and len(found.names) == 50


def test_a_file_that_changes_between_survey_and_reading(nhwc, tmp_path, monkeypatch):
    monkeypatch.setattr(intake, "IN_MEMORY", 0)
    found = load(write(tmp_path, {"a.png": encoded(nhwc[0]), "b.png": encoded(nhwc[1])}))
    (tmp_path / "a.png").write_bytes(encoded(np.zeros((4, 4, 3), np.uint8)))
    (tmp_path / "b.png").unlink()
    with pytest.raises(InputError, match=r"a\.png.*changed"):
        found.read(0, 1)
    with pytest.raises(InputError, match=r"b\.png.*cannot be read"):
        found.read(1, 2)


def test_warning_filters_are_left_as_they_were(nhwc, tmp_path):
    before = list(warnings.filters)
    load(write(tmp_path, numbered(nhwc)))
    assert list(warnings.filters) == before
