"""The readers, each with valid files to begin from and the words of its format."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import lzma
import pickle
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import safetensors.numpy  # what readers import at first use is not part of the time of a case
import torch
from PIL import Image

from fuzz.driver import Target
from fuzz.mutations import PNG_START, mutated, png_with_checksums
from fuzz.texts import TEXTS, shown_target
from memgen_eval import Report
from memgen_eval.data import datasets
from memgen_eval.data.sources import load_images

if TYPE_CHECKING:
    from reference_models.recipes import Recipe
    from reference_models.unet import UNetConfig

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)
Change = Callable[[bytes, Random], bytes]
FLOATS = (IMAGES / 127.5 - 1).astype(np.float32)


def written(write: Callable[[io.BytesIO], object]) -> bytes:
    stream = io.BytesIO()
    write(stream)
    return stream.getvalue()


def read_images(path: Path) -> None:
    load_images(path, argument="samples").array()


def plain(seeds: Sequence[bytes], words: Sequence[bytes], name: str, read: Callable[[Path], object]) -> Target:
    """A target whose files are mutated as they are."""
    known = [*words, *seeds]
    return Target(seeds, lambda data, random: mutated(data, random, known), read, name)


# npy and npz

NPY_WORDS = [
    *(b"\x93NUMPY", b"\x01\x00", b"\x03\x00", b"'descr': ", b"'|O'", b"'<f4'", b"'>u2'", b"'V0'", b"'<U9'", b"'m8'"),
    *(b"[('a', '<f4')]", b"(6, 4, 5, 3)", b"(-1, 4)", b"(2**99,)", b"True", b"((((((", b"'''", b"\\", b"\n", b"L,"),
    *(b"'fortran_order': ", b"'shape': ", b"{" * 300, b"-" * 300, b"0x", b"1_0", b"\x00", b"'(9,9)f4'", b"'float8'"),
]
NPY = [
    written(lambda file: np.save(file, IMAGES)),
    written(lambda file: np.save(file, np.asfortranarray(FLOATS))),
    written(lambda file: np.lib.format.write_array(file, IMAGES, version=(2, 0))),
    written(lambda file: np.save(file, FLOATS.astype(">f8"))),
    written(lambda file: np.save(file, np.array([{}], dtype=object), allow_pickle=True)),
]


def zipped(members: Mapping[str, bytes], packing: int = zipfile.ZIP_STORED) -> bytes:
    def write(file: io.BytesIO) -> None:
        with zipfile.ZipFile(file, "w", packing) as archive:
            for name, data in members.items():
                archive.writestr(zipfile.ZipInfo(name), data, packing)

    return written(write)


UNREADABLE = (OSError, EOFError, ValueError, RuntimeError, KeyError, IndexError, OverflowError, struct.error)
UNREADABLE += (zipfile.BadZipFile, zlib.error, lzma.LZMAError)  # what zipfile raises
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2)
ZIP_WORDS = [
    b"PK\x01\x02",
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"PK\x06\x06",
    b"PK\x06\x07",
    b"\x08\x00",
    b"\x0e\x00",
    b"\xff" * 4,
]
NPZ = [
    *(zipped({"arr_0.npy": NPY[0], "arr_1.npy": NPY[0], "labels.npy": NPY[3]}, packing) for packing in PACKINGS),
    zipped({"mu.npy": NPY[3], "images.npy": NPY[1], "note.txt": b"x"}),
    zipped({"objects.npy": NPY[4]}),
]


def unzipped(data: bytes) -> dict[str, bytes]:
    """The members of a zip; none where it can no longer be read."""
    with suppress(*UNREADABLE), zipfile.ZipFile(io.BytesIO(data)) as archive:
        small = [member for member in archive.infolist() if member.file_size < 2**20]
        return {member.filename: archive.read(member) for member in small}
    return {}


def in_zip(
    data: bytes, random: Random, words: Sequence[bytes], change: Change, packings: Sequence[int] = PACKINGS
) -> bytes:
    """Mutated as a zip, or whole with one of its members mutated."""
    members = unzipped(data) if random.random() < 0.6 else {}
    if not members:
        return mutated(data, random, words)
    name = random.choice(list(members))
    members[name] = change(members[name], random)
    return zipped(members, random.choice(packings))


def npz_target() -> Target:
    words, inner = [*ZIP_WORDS, *NPY_WORDS, *NPZ], [*NPY_WORDS, *NPY]

    def mutate(data: bytes, random: Random) -> bytes:
        return in_zip(data, random, words, lambda member, random: mutated(member, random, inner))

    return Target(NPZ, mutate, read_images, "case.npz")


# pt and safetensors

PT_WORDS = [
    *(b"ctorch._utils\n_rebuild_tensor_v2\n", b"cposix\nsystem\n", b"ctorch\nFloatStorage\n", b"ctorch\nByteStorage\n"),
    *(
        b"ccollections\nOrderedDict\n",
        b"\x80\x02",
        b"\x80\x04",
        b"R",
        b"b",
        b"}",
        b"]",
        b"(",
        b"t",
        b"\x85",
        b"\x86",
        b"Q",
    ),
    *(
        b"h\x00",
        b"q\x01",
        b"K\x7f",
        b"J\xff\xff\xff\x7f",
        b"X\x07\x00\x00\x00storage",
        b"\x8a\xff",
        b"cbuiltins\nset\n",
    ),
    *(
        b"c_codecs\nencode\n",
        b"ctorch\nSize\n",
        b"ctorch\ndevice\n",
        b"ctorch\nTensor\n",
        b"\x81",
        b"ctorch\nbfloat16\n",
    ),
    *(b"ctorch._utils\n_rebuild_sparse_tensor\n", b"ctorch._utils\n_rebuild_parameter\n", b"s", b"u", b"a", b"e", b"."),
]


def torch_seeds() -> tuple[list[bytes], list[bytes]]:
    tensor, floats = torch.from_numpy(IMAGES.copy()), torch.from_numpy(FLOATS.copy())
    saved: list[Any] = [tensor, {"images": tensor, "labels": torch.zeros(6)}, [tensor, tensor], floats.bfloat16()]
    saved += [torch.nn.Parameter(floats), floats.to(memory_format=torch.channels_last), (tensor, torch.arange(6))]
    newer = [written(lambda file, value=value: torch.save(value, file)) for value in saved]  # type: ignore[misc]
    older = [
        written(lambda file, value=value: torch.save(value, file, _use_new_zipfile_serialization=False))  # type: ignore[misc]
        for value in saved[:4]
    ]
    return newer, older


def pt_target() -> Target:
    newer, older = torch_seeds()
    seeds = [*newer, *older]
    words = [*PT_WORDS, *ZIP_WORDS, *seeds]

    def mutate(data: bytes, random: Random) -> bytes:
        return in_zip(data, random, words, lambda member, random: mutated(member, random, PT_WORDS), PACKINGS[:1])

    return Target(seeds, mutate, read_images, "case.pt")


def safetensors_target() -> Target:
    save = safetensors.numpy.save
    seeds = [save({"images": IMAGES}), save({"x": FLOATS, "y": np.zeros(6)}), save({"arr_0": IMAGES, "arr_1": IMAGES})]
    words = [
        b'"dtype":"F8_E5M2"',
        b'"BF16"',
        b'"F4"',
        b'"BOOL"',
        b'"data_offsets":[0,0]',
        b'"shape":[6,0,5,3]',
        b"{",
        b"[",
    ]
    return plain(seeds, [*words, b'"__metadata__":{}', b"\\ud800", b"[" * 300], "case.safetensors", read_images)


# images

PICTURE_WORDS = [
    *(b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"eXIf", b"iCCP", b"zTXt", b"gAMA", b"sBIT"),
    *(b"\xff\xd8", b"\xff\xc0", b"\xff\xc2", b"\xff\xda", b"\xff\xe1", b"Exif\x00\x00", b"\xff\xc4", b"\xff\xdb"),
    *(b"GIF89a", b"\x21\xf9\x04", b"\x21\xff\x0b", b"\x2c", b"\x3b", b"BM", b"II*\x00", b"MM\x00*", b"RIFF", b"WEBP"),
    *(b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"P6\n", b"P5\n", b"P1\n", b"P3\n", b"P7\n", b"Pf\n", b"65535\n"),
    *(b"\x01\x01\x04\x00\x01\x00\x00\x00", b"\x1c\x01\x03\x00", b"\x03\x01\x03\x00", b"\x11\x01\x04\x00", b"\x45\x01"),
]


def picture_seeds() -> list[bytes]:
    colour, grey = Image.fromarray(IMAGES[0]), Image.fromarray(IMAGES[0, ..., 0])
    palette, exif = colour.quantize(16), Image.Exif()
    exif[0x0112] = 6
    saved: list[tuple[Image.Image, str, dict[str, Any]]] = [
        (colour, "PNG", {"exif": exif}),
        (palette, "PNG", {"transparency": 3}),
        (grey.convert("1"), "PNG", {}),
        (colour, "PNG", {"save_all": True, "append_images": [colour.rotate(90)]}),
        (colour, "JPEG", {"exif": exif}),
        (grey, "JPEG", {"progressive": True}),
        (palette, "GIF", {"save_all": True, "append_images": [palette.rotate(180)]}),
        (colour, "BMP", {}),
        (palette, "BMP", {}),
        (colour, "WEBP", {"lossless": True, "exif": exif}),
        (colour, "WEBP", {"save_all": True, "append_images": [colour.rotate(180)]}),
        (colour, "PPM", {}),
        (grey, "PPM", {}),
        *(
            (colour, "TIFF", {"compression": packing})
            for packing in (None, "tiff_lzw", "tiff_deflate", "jpeg", "packbits")
        ),
        (palette, "TIFF", {"save_all": True, "append_images": [palette]}),
        (grey.convert("1"), "TIFF", {"compression": "group4"}),
    ]
    return [
        written(lambda file, image=image, kind=kind, more=more: image.save(file, format=kind, **more))  # type: ignore[misc]
        for image, kind, more in saved
    ]


def picture_target(seeds: Sequence[bytes], read: Callable[[Path], object] = read_images) -> Target:
    words = [*PICTURE_WORDS, *seeds]

    def mutate(data: bytes, random: Random) -> bytes:
        changed = mutated(data, random, words)
        return png_with_checksums(changed) if changed.startswith(PNG_START) and random.random() < 0.8 else changed

    return Target(seeds, mutate, lambda path: read(path.parent), "case")


def zip_target() -> Target:
    seeds = picture_seeds()
    change = picture_target(seeds).mutate
    whole = [zipped({"a/0.png": seeds[0], "a/1.png": seeds[0], "b": seeds[7]}, packing) for packing in PACKINGS]
    whole += [zipped({"0.png": seeds[0], "é.tif": seeds[13], "__MACOSX/._0.png": b"x", "../up.jpg": seeds[4]})]
    words = [*ZIP_WORDS, *whole, *seeds[:5]]
    return Target(whole, lambda data, random: in_zip(data, random, words, change), read_images, "case.zip")


# CIFAR-10

BATCH = IMAGES.reshape(-1)[:360]
RECORDS = bytes([3]) + (BATCH.tobytes() * 9)[:3072]


def cifar_python_target() -> Target:
    content = {b"data": np.frombuffer(RECORDS[1:] * 2, np.uint8).reshape(2, 3072), b"filenames": [b"a.png", b"b.png"]}
    written = pickle.dumps(content, protocol=3)
    seed = written.replace(b"B" + (6144).to_bytes(4, "little"), b"T" + (6144).to_bytes(4, "little"))
    seed = seed.replace(b"C\x05", b"U\x05")  # strings, as Python 2 wrote them
    words = [
        b"cnumpy\ndtype\n",
        b"cnumpy\nndarray\n",
        b"cposix\nsystem\n",
        b"R",
        b"b",
        b"(",
        b"t.",
        b"}",
        b"K\x00",
        b"U\x05c.png",
        b"T\x00\x0c\x00\x00",
    ]

    def read(path: Path) -> None:
        """As if the checksum were the published one: nothing else lets a changed batch so far."""
        with mock.patch.dict(datasets.PUBLISHED, {path.name: hashlib.md5(path.read_bytes()).hexdigest()}):
            read_images(path)

    return plain([seed], words, "data_batch_1", read)


def cifar_binary_target() -> Target:
    return plain([RECORDS, RECORDS * 2], [RECORDS, b"\x0a", b"\x09"], "case.bin", read_images)


def cifar_archive_target() -> Target:
    def tar(form: int) -> bytes:
        def write(file: io.BytesIO) -> None:
            with tarfile.open(fileobj=file, mode="w", format=form) as archive:
                others = ("readme.html", "x" * 120) if form != tarfile.USTAR_FORMAT else ("readme.html",)
                for name in (*others, *datasets.SPLITS["train"]):
                    member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
                    member.size = len(RECORDS)
                    archive.addfile(member, io.BytesIO(RECORDS))

        return written(write)

    tars = [tar(form) for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)]
    words = [
        b"ustar\x00",
        b"data_batch_2.bin",
        b"././@LongLink",
        b"22 path=",
        b"7" * 11,
        b"\x80" + b"\xff" * 11,
        b"x",
        b"L",
        b"g",
        b"S",
    ]

    def mutate(data: bytes, random: Random) -> bytes:
        inside = random.random() < 0.8
        if not inside:
            return mutated(data, random, [b"\x1f\x8b\x08", b"\x00" * 8, data])
        with suppress(zlib.error):
            data = zlib.decompressobj(31).decompress(data, 2**20)
        return gzip.compress(mutated(data, random, [*words, tars[0][:512]]), 1, mtime=0)

    return Target([gzip.compress(data, 1, mtime=0) for data in tars], mutate, read_images, "case.tar.gz")


# checkpoints and reports

JSON_WORDS = [
    *(
        b"null",
        b"true",
        b"[]",
        b"{}",
        b'""',
        b"1e999",
        b"-0",
        b"NaN",
        b"Infinity",
        b'"\\ud800"',
        b"[" * 300,
        b'{"a":' * 300,
    ),
    *(b'"\\u0000"', b"\xff\xfe", b"\xef\xbb\xbf", b'"x":', b",", b":", b"0.1", b"9" * 5000, b"1" + b"0" * 400),
]


def small_recipe(unet: UNetConfig) -> Recipe:
    from reference_models.data import Selection
    from reference_models.recipes import Recipe

    return Recipe(
        selection=Selection("digits", 9),
        num_images=9,
        checksum="abc",
        unet=unet,
        parametrization="edm",
        sigma_data=0.5,
        batch_size=4,
        learning_rate=1e-3,
        warmup_steps=10,
        max_grad_norm=1.0,
        ema_lengths=(0.05,),
        precision="float32",
        flip=False,
        accumulation=1,
        seed=0,
    )


def checkpoint_target() -> Target:
    from reference_models.training.checkpoints import Checkpoint, load_state, save_state
    from reference_models.training.state import new_state
    from reference_models.unet import UNetConfig

    recipe = small_recipe(UNetConfig((1, 4, 4), 8, (1,), 1, ()))
    state = new_state(recipe)
    for parameter in state.model.parameters():
        state.optimizer.state[parameter] = {name: parameter.detach().clone() for name in ("exp_avg", "exp_avg_sq")}
    with tempfile.TemporaryDirectory() as folder:
        seed = save_state(Path(folder), Checkpoint(recipe, state, 1.0)).read_bytes()
    words = [b'\\"channels\\": 8', b'\\"num_blocks\\": 1', b"[1]", b'\\"x\\"', b"0.0", *JSON_WORDS]

    def mutate(data: bytes, random: Random) -> bytes:
        """The header is mutated, its length made right more often than not; the weights behind it stay."""
        length = min(int.from_bytes(data[:8], "little"), len(data) - 8)
        header = bytearray(data[8 : 8 + length])
        start = max(0, header.find(b"__metadata__")) if random.random() < 0.6 else 0
        header[start : start + 400] = mutated(bytes(header[start:][:400]), random, words)
        size = len(header) if random.random() < 0.9 else random.choice((0, 2**63, len(header) + 1))
        return size.to_bytes(8, "little") + bytes(header) + data[8 + length :]

    return Target([seed], mutate, load_state, "step-00000001.safetensors")


def recipe_target() -> Target:
    from reference_models.training.folder import FORMAT, read_recipe
    from reference_models.unet import UNetConfig

    recipe = small_recipe(UNetConfig((1, 4, 4), 8, (1, 2), 1, (4,)))
    seed = json.dumps({"format": FORMAT, "recipe": recipe.to_dict(), "versions": {}}, indent=1).encode()
    return plain([seed], JSON_WORDS, "run.json", lambda path: read_recipe(path.parent))


def report_target() -> Target:
    from memgen_eval import evaluate

    report = evaluate(IMAGES[:4], train=np.tile(IMAGES, (3, 1, 1, 1)), metrics=["memorization.ratio", "novelty.auc"])
    seed = json.dumps(report.to_dict()).encode()
    return plain([seed], JSON_WORDS, "case.json", Report.load)


CORPUS = Path(__file__).parent / "corpus"  # a folder for each reader, which `fuzz.minimise` writes
TARGETS: Mapping[str, Callable[[], Target]] = {
    "npy": lambda: plain(NPY, NPY_WORDS, "case.npy", read_images),
    "npz": npz_target,
    "pt": pt_target,
    "safetensors": safetensors_target,
    "folder": lambda: picture_target(picture_seeds()),
    "png": lambda: picture_target(picture_seeds()[:4]),
    "jpeg": lambda: picture_target(picture_seeds()[4:6]),
    "zip": zip_target,
    "cifar-python": cifar_python_target,
    "cifar-binary": cifar_binary_target,
    "cifar-archive": cifar_archive_target,
    "checkpoint": checkpoint_target,
    "recipe": recipe_target,
    "report": report_target,
    "shown": lambda: shown_target(JSON_WORDS),
    **TEXTS,
}


def target_of(name: str) -> Target:
    """The target for a reader, which begins from the kept corpus too."""
    target = TARGETS[name]()
    return replace(target, seeds=(*target.seeds, *corpus_of(name)))


def corpus_of(name: str) -> list[bytes]:
    """The cases that are kept for a reader: what guided runs found worth keeping, and every past finding."""
    return [path.read_bytes() for path in sorted((CORPUS / name).glob("*"))]
