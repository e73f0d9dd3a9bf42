from __future__ import annotations

import hashlib
import http.server
import io
import os
import pickle
import pickletools
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from memgen_eval import InputError
from memgen_eval.data import datasets, files
from memgen_eval.data.images import Images
from memgen_eval.data.sources import load_images

BATCHES = [*datasets.SPLITS["train"], *datasets.SPLITS["test"]]
STRING_CODES = {"SHORT_BINBYTES": b"U", "BINBYTES": b"T"}


def load(source, **keywords):
    return load_images(source, **{"argument": "train", **keywords})


def refusal(*arguments, function=load, **keywords):
    with pytest.raises(InputError) as caught:
        function(*arguments, **keywords)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.fixture
def made():
    """Six made batches of ten images: what they hold, and their bytes as the published ones are written."""
    rng = np.random.default_rng(1)
    images = {name: rng.integers(0, 256, (10, 3, 32, 32), dtype=np.uint8) for name in BATCHES}
    return images, {name: python_batch(name, array) for name, array in images.items()}


def python_batch(name, array):
    content = {
        b"data": array.reshape(10, 3072),
        b"labels": list(range(10)),
        b"filenames": [f"{name}_{i}.png".encode() for i in range(10)],
    }
    return as_python_2_wrote_it(pickle.dumps(content, protocol=3))


def as_python_2_wrote_it(data):
    """The pickle with its bytes as strings, whose opcodes differ in the first byte alone."""
    written = bytearray(data)
    for opcode, _, position in pickletools.genops(data):
        if opcode.name in STRING_CODES:
            written[position : position + 1] = STRING_CODES[opcode.name]
    return bytes(written)


def binary_batch(array):
    return np.concatenate([np.arange(10, dtype=np.uint8)[:, None], array.reshape(10, -1)], axis=1).tobytes()


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def packed(path, folder, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture
def published(made, monkeypatch):
    """The made batches take the place of the published ones."""
    images, files = made
    take_the_place(files, monkeypatch)
    return images, files


def take_the_place(files, monkeypatch):
    for name, data in files.items():
        monkeypatch.setitem(datasets.PUBLISHED, name, hashlib.md5(data).hexdigest())


@pytest.fixture(params=["parent of python", "python", "parent of binary", "binary", "python archive", "binary archive"])
def data_folder(request, published, tmp_path):
    """A folder with CIFAR-10 in one of the forms in which people have it."""
    images, files = published
    binary = {f"{name}.bin": binary_batch(array) for name, array in images.items()}
    if request.param.endswith("python"):
        folder = write(tmp_path / "cifar-10-batches-py", {**files, "batches.meta": b"x"})
    elif request.param.endswith("binary"):
        folder = write(tmp_path / "cifar-10-batches-bin", {**binary, "batches.meta.txt": b"x"})
    elif request.param == "python archive":
        packed(tmp_path / "cifar-10-python.tar.gz", "cifar-10-batches-py", {"readme.html": b"x", **files})
    else:
        packed(tmp_path / "cifar-10-binary.tar.gz", "cifar-10-batches-bin", binary)
    return folder if request.param in ("python", "binary") else tmp_path


def test_cifar10_is_found_in_every_form(data_folder, published):
    images, _ = published
    train = np.concatenate([images[name] for name in datasets.SPLITS["train"]])
    assert np.array_equal(load("cifar10", data_dir=data_folder).array(), train)
    assert np.array_equal(load("cifar10:test", data_dir=str(data_folder)).array(), images["test_batch"])


def test_the_environment_names_the_folder(published, tmp_path, monkeypatch):
    images, files = published
    write(tmp_path / "here" / "cifar-10-batches-py", files)
    monkeypatch.setenv("MEMGEN_DATA", str(tmp_path / "here"))
    assert np.array_equal(load("cifar10:test").array(), images["test_batch"])
    assert "there" in refusal("cifar10", data_dir=tmp_path / "there")


def test_batches_by_their_path(published, tmp_path):
    images, files = published
    folder = write(tmp_path / "cifar-10-batches-py", files)
    archive = packed(tmp_path / "a.tar.gz", "x", files)
    for path in (folder, archive):
        assert len(load(path)) == 50 and len(load(str(path), argument="samples")) == 50
        assert np.array_equal(load(path, argument="test").array(), images["test_batch"])
    found = load(folder / "data_batch_3")
    assert np.array_equal(found.array(), images["data_batch_3"]) and found.names[2] == "data_batch_3_2.png"
    (tmp_path / "x.bin").write_bytes(binary_batch(images["test_batch"]))
    found = load(tmp_path / "x.bin")
    assert np.array_equal(found.array(), images["test_batch"]) and found.names is None


def test_a_cut_batch_is_named_with_both_checksums(published, tmp_path):
    _, files = published
    folder = write(tmp_path / "cifar-10-batches-py", files | {"data_batch_3": files["data_batch_3"][:-1024]})
    message = refusal("cifar10", data_dir=tmp_path)
    expected = hashlib.md5(files["data_batch_3"]).hexdigest()
    found = hashlib.md5(files["data_batch_3"][:-1024]).hexdigest()
    assert all(text in message for text in ("data_batch_3", expected, found))
    (folder / "data_batch_3").unlink()
    assert "data_batch_3" in refusal("cifar10", data_dir=tmp_path) and "missing" in refusal(folder)


def test_a_pickle_with_another_checksum_is_never_opened(tmp_path, monkeypatch):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    files = {name: pickle.dumps(Bomb()) for name in BATCHES}
    folder = write(tmp_path / "cifar-10-batches-py", files)
    assert "not opened" in refusal(folder)
    take_the_place(files, monkeypatch)
    assert "0 names, 0 pixels; it is cut or not a CIFAR-10 batch" in refusal(folder)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x03}r\xff\xff\xff\x1f.",  # sixteen bytes for which an unpickler takes gigabytes
        b"\x80\x02cnumpy\nndarray\nK\x02\x85cnumpy\ndtype\nU\x01O\x85R\x86R.",  # an array of objects that are nowhere
        b"\x80\x02U\x05a.png.",
    ],
)
def test_a_pickle_of_a_batch_is_read_and_never_run(data, tmp_path, monkeypatch):
    (tmp_path / "data_batch_1").write_bytes(data)
    take_the_place({"data_batch_1": data}, monkeypatch)
    assert "is cut or not a CIFAR-10 batch" in refusal(tmp_path / "data_batch_1")


def test_binary_batches_that_are_none(made, tmp_path):
    images, _ = made
    whole = binary_batch(images["test_batch"])
    for data, word in ((whole[:-1], "multiple of 3073"), (b"\x0a" + whole[1:], "label of 10")):
        (tmp_path / "a.bin").write_bytes(data)
        assert word in refusal(tmp_path / "a.bin")


def test_a_batch_of_absurd_size(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "LARGEST_BATCH", 100)
    (tmp_path / "a.bin").write_bytes(bytes(101))
    assert "as large" in refusal(tmp_path / "a.bin")


def test_an_archive_that_is_cut_or_holds_something_else(published, tmp_path):
    _, files = published
    whole = packed(tmp_path / "cifar-10-python.tar.gz", "x", files).read_bytes()
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(whole[: len(whole) // 2])
    assert "cut or altered" in refusal("cifar10", data_dir=tmp_path)
    packed(tmp_path / "b.tgz", "x", {name: files[name] for name in BATCHES if name != "data_batch_4"})
    assert "data_batch_4" in refusal(tmp_path / "b.tgz")


def test_a_folder_that_was_named_but_holds_no_cifar10(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        message = refusal("cifar10", data_dir=folder)
        assert repr(str(folder)) in message and "cifar-10-python.tar.gz" in message
    assert list(tmp_path.iterdir()) == []


def test_names_and_their_spellings(tmp_path):
    for name in ("cifar10", "CIFAR10", "cifar-10", "cifar10:train", "cifar10-train", "CIFAR-10:train", "digits"):
        assert datasets.is_known(name) and datasets.test_split(name).endswith(":test"), name
    for name in ("cifar10:test", "cifar10-test", "cifar10-val", "digits:test"):
        assert datasets.is_known(name) and datasets.test_split(name) is None, name
    for name in ("cifar100", "cifar10:all", "mnist", "", "digits:", None, 3, Path("digits")):
        assert not datasets.is_known(name), name
    assert datasets.test_split("cifar-10-train") == "cifar10:test" and datasets.test_split("mnist") is None
    for function in (load, lambda name: datasets.load_named(name, data_dir=None)):
        message = refusal("mnist", function=function)
        assert "'mnist'" in message and "cifar10:test" in message and "digits:train" in message


def test_a_name_is_a_path_only_if_it_looks_like_one(nhwc, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("x.npz", nhwc)
    (tmp_path / "digits").mkdir()
    (tmp_path / "plain").mkdir()
    assert len(load("digits")) == 1297
    assert "no image files" in refusal("./digits") and "no image files" in refusal(Path("digits"))
    assert "no image files" in refusal("plain")
    assert len(load("x.npz")) == 60
    assert str(tmp_path / "mnist") in refusal("mnist")
    assert "'digits.npz' does not exist" in refusal("digits.npz")


def test_digits_are_those_of_scikit_learn_split_once_and_for_all():
    from sklearn.datasets import load_digits

    levels = load_digits().images
    assert levels.shape == (1797, 8, 8)
    exact = [[round(v * 255 / 16) for v in image.ravel()] for image in levels]
    train, test = load("digits:train"), load("digits:test")
    assert (len(train), len(test), train.shape, train.dtype) == (1297, 500, (1, 8, 8), np.uint8)
    both = np.concatenate([train.array(), test.array()]).reshape(1797, 64).tolist()
    assert sorted(both) == sorted(exact)
    # From its definition, and as it stands in every report made so far.
    order = sorted(range(1797), key=lambda i: hashlib.sha256(f"digits {i}".encode()).hexdigest())
    held_out = sorted(order[1297:])
    assert test.array().reshape(500, 64).tolist() == [exact[i] for i in held_out]
    assert held_out[:8] == [0, 2, 7, 9, 17, 22, 23, 26]
    counts = np.bincount(load_digits().target[held_out])
    assert counts.min() >= 35 and counts.max() <= 65


class Server(http.server.ThreadingHTTPServer):
    """Answers with the next of its replies: bytes, a status, or bytes that end before they should."""

    daemon_threads = True
    replies: list[bytes | int | tuple[bytes, int]]
    asked = 0


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        server.asked += 1
        reply = server.replies.pop(0)
        if isinstance(reply, int):
            self.send_error(reply)
            return
        data, promised = reply if isinstance(reply, tuple) else (reply, len(reply))
        self.send_response(200)
        self.send_header("Content-Length", str(promised))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    with Server(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join(timeout=10)


def url(server):
    return f"http://127.0.0.1:{server.server_address[1]}/x.tar.gz"


@pytest.fixture
def patient(monkeypatch):
    """Downloads are tried four times, at once."""
    monkeypatch.setattr(files, "ATTEMPTS", 4)
    monkeypatch.setattr(files, "PAUSE", 0)


def test_a_download_is_tried_again_until_it_is_whole(server, patient, tmp_path, caplog):
    data = bytes(range(256)) * 4000
    server.replies = [503, (data[:1000], len(data)), b"something else", data]
    caplog.set_level("INFO")
    files.fetch(url(server), tmp_path / "x", md5=hashlib.md5(data).hexdigest())
    assert (tmp_path / "x").read_bytes() == data and server.asked == 4
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert "attempt 3 of 4 failed" in caplog.text and "100 % of 1 MiB" in caplog.text


def test_a_download_that_fails_leaves_nothing(server, patient, tmp_path):
    server.replies = [(b"abc", 10), b"abc", 503, b"abc"]
    message = refusal(url(server), tmp_path / "x", md5="0" * 32, function=files.fetch)
    assert url(server) in message and "900150983cd24fb0d6963f7d28e17f72" in message
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_by_the_server_is_final(server, patient, tmp_path):
    server.replies = [404, b"x"]
    message = refusal(url(server), tmp_path / "x", md5="0" * 32, function=files.fetch)
    assert "404" in message and server.asked == 1


def test_pauses_double(patient, tmp_path, monkeypatch):
    pauses = []
    monkeypatch.setattr(files, "PAUSE", 3)
    monkeypatch.setattr(time, "sleep", pauses.append)
    monkeypatch.setenv("no_proxy", "*")
    refusal("http://127.0.0.1:9/x", tmp_path / "x", md5="0", function=files.fetch)
    assert pauses == [3, 6, 12]


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """No data folder is named; the cache is a made one."""
    monkeypatch.delenv("MEMGEN_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "memgen-eval"


def served(monkeypatch, address, data):
    monkeypatch.setattr(datasets, "CIFAR10_URL", address)
    monkeypatch.setattr(datasets, "CIFAR10_MD5", hashlib.md5(data).hexdigest())


def test_without_a_folder_the_archive_is_fetched_once(server, alone, published, tmp_path, monkeypatch):
    images, files = published
    data = packed(tmp_path / "made.tar.gz", "cifar-10-batches-py", files).read_bytes()
    server.replies = [data]
    served(monkeypatch, url(server), data)
    for _ in range(2):
        assert np.array_equal(load("cifar10:test").array(), images["test_batch"])
    assert server.asked == 1 and [path.name for path in alone.iterdir()] == ["cifar-10-python.tar.gz"]


def test_offline_it_says_what_to_provide_and_where(server, alone, monkeypatch):
    server.replies = [404]
    served(monkeypatch, url(server), b"")
    message = refusal("cifar10")
    assert all(text in message for text in ("cifar-10-python.tar.gz", repr(str(alone)), "--data-dir", "MEMGEN_DATA"))


def test_a_cache_that_cannot_be_written_to(server, alone, published, tmp_path, monkeypatch):
    images, files = published
    (tmp_path / "cache").write_text("a file, so that no folder can be made in it")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    data = packed(tmp_path / "made.tar.gz", "cifar-10-batches-py", files).read_bytes()
    server.replies = [data]
    served(monkeypatch, url(server), data)
    for _ in range(2):
        assert np.array_equal(load("cifar10:test").array(), images["test_batch"])
    assert server.asked == 1 and len(list((tmp_path / "tmp").rglob("cifar-10-python.tar.gz"))) == 1


def test_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert datasets.cache_folder() == tmp_path / ".cache" / "memgen-eval"

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert datasets.cache_folder().name.startswith("memgen-eval")


def test_the_real_cifar10(cifar10, data_dir):
    train, test = load("cifar10", data_dir=data_dir), load("cifar10:test", data_dir=data_dir)
    assert np.array_equal(train.array(), cifar10.train) and np.array_equal(test.array(), cifar10.test)
    assert len(train.names) == 50_000 and test.names[0] == "domestic_cat_s_000907.png"
    wrapped = load(Images("cifar10:test"), data_dir=data_dir)
    assert wrapped.checksum == test.checksum
