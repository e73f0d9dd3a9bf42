"""What cannot be used ends in one line with what arrived, what was expected and what to do; and nothing is written."""

from __future__ import annotations

import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from checking import evaluated, run
from conftest import noise_images
from memgen_eval import Images, InputError, Reference, evaluate, nearest_neighbours
from unprivileged import public_folder, run_unprivileged

SHAPE = (8, 8, 3)
TRAIN, SAMPLES = noise_images(0, 60, SHAPE), noise_images(1, 50, SHAPE)
OLD = "an older report"

Make = Callable[[Path], Path]


class Trap:
    """Leaves a file behind if it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("trapped"),))


def missing(folder: Path) -> Path:
    return folder / "missing.npz"


def empty(folder: Path) -> Path:
    (folder / "empty.npz").touch()
    return folder / "empty.npz"


def empty_picture(folder: Path) -> Path:
    root = pictures(folder)
    (root / "00007.png").write_bytes(b"")
    return root


def cut_picture(folder: Path) -> Path:
    root = pictures(folder)
    path = root / "00007.png"
    path.write_bytes(path.read_bytes()[:-60])
    return root


def other_size(folder: Path) -> Path:
    root = pictures(folder)
    Image.fromarray(SAMPLES[7, :7]).save(root / "00007.png")
    return root


def pictures(folder: Path) -> Path:
    root = folder / "pictures"
    root.mkdir()
    for i, image in enumerate(SAMPLES):
        Image.fromarray(image).save(root / f"{i:05d}.png")
    return root


def no_pictures(folder: Path) -> Path:
    (folder / "nothing").mkdir()
    (folder / "nothing" / "notes.txt").write_text("none")
    return folder / "nothing"


def truncated(folder: Path) -> Path:
    path = save(folder / "cut.npz", SAMPLES)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    return path


def truncated_npy(folder: Path) -> Path:
    np.save(folder / "cut.npy", SAMPLES)
    path = folder / "cut.npy"
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    return path


def text(folder: Path) -> Path:
    (folder / "text.npz").write_text("no array at all")
    return folder / "text.npz"


def unknown_kind(folder: Path) -> Path:
    (folder / "samples.xyz").write_text("no array at all")
    return folder / "samples.xyz"


def objects(folder: Path) -> Path:
    np.savez(folder / "objects.npz", np.array([Trap(), None], dtype=object))
    return folder / "objects.npz"


def objects_npy(folder: Path) -> Path:
    np.save(folder / "objects.npy", np.array([Trap(), None], dtype=object), allow_pickle=True)
    return folder / "objects.npy"


def pickled(folder: Path) -> Path:
    torch.save(Trap(), folder / "trap.pt")
    return folder / "trap.pt"


def bare_pickle(folder: Path) -> Path:
    (folder / "data_batch_1").write_bytes(pickle.dumps({b"data": SAMPLES, b"trap": Trap()}))
    return folder / "data_batch_1"


def not_a_number(folder: Path) -> Path:
    floats = (SAMPLES / 127.5 - 1).astype(np.float32)
    floats[17, 2, 3, 1] = np.nan
    return save(folder / "nan.npz", floats)


def infinite(folder: Path) -> Path:
    floats = (SAMPLES / 127.5 - 1).astype(np.float32)
    floats[17, 2, 3, 1] = -np.inf
    return save(folder / "inf.npz", floats)


def other_shape(folder: Path) -> Path:
    return save(folder / "larger.npz", noise_images(1, 5, (8, 9, 3)))


def grey(folder: Path) -> Path:
    return save(folder / "grey.npz", noise_images(1, 5, (8, 8)))


def no_images(folder: Path) -> Path:
    return save(folder / "none.npz", SAMPLES[:0])


def unit_range(folder: Path) -> Path:
    return save(folder / "unit.npz", (SAMPLES / 255).astype(np.float32))


def statistics(folder: Path) -> Path:
    np.savez(folder / "stats.npz", mu=np.zeros(8), sigma=np.eye(8))
    return folder / "stats.npz"


def save(path: Path, array: Any) -> Path:
    np.savez(path, array)
    return path


UNUSABLE: list[tuple[Make, str]] = [
    (missing, r"missing\.npz.*(no such|does not exist|not found)"),
    (empty, r"empty\.npz"),
    (empty_picture, r"00007\.png"),
    (cut_picture, r"00007\.png"),
    (other_size, r"00007\.png.*(8 x 7|7 x 8).*8 x 8"),
    (no_pictures, r"nothing"),
    (truncated, r"cut\.npz"),
    (truncated_npy, r"cut\.npy"),
    (text, r"text\.npz"),
    (unknown_kind, r"samples\.xyz"),
    (objects, r"objects\.npz.*object"),
    (objects_npy, r"objects\.npy.*object"),
    (pickled, r"trap\.pt"),
    (bare_pickle, r"data_batch_1"),
    (not_a_number, r"nan\.npz.*image 17"),
    (infinite, r"inf\.npz.*image 17"),
    (other_shape, r"larger\.npz.*3 x 8 x 9.*3 x 8 x 8"),
    (grey, r"grey\.npz.*1 x 8 x 8.*3 x 8 x 8"),
    (no_images, r"none\.npz.*(no images|\(0, 8, 8, 3\))"),
    (unit_range, r"unit\.npz.*range 0,1"),
    (statistics, r"stats\.npz.*mu"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a training set and an older report, and nothing else; the working directory."""
    save(tmp_path / "train.npz", TRAIN)
    save(tmp_path / "samples.npz", SAMPLES)
    for name in ("old.json", "old.html", "old.md"):
        (tmp_path / name).write_text(OLD)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def assert_refused(captured: tuple[str, str], pattern: str) -> None:
    out, err = captured
    assert out == ""
    assert err.startswith("memgen-eval: ") and err.endswith("\n") and err.count("\n") == 1 and "Traceback" not in err
    assert re.search(pattern, err), err


OUTPUTS = ("--json", "old.json", "--html", "old.html", "--markdown", "old.md")


@pytest.mark.parametrize("role", ["samples", "train", "test"])
@pytest.mark.parametrize(("make", "pattern"), UNUSABLE, ids=lambda value: getattr(value, "__name__", None))
def test_a_file_that_cannot_be_used(
    make: Make, pattern: str, role: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make(folder)
    before = files(folder)
    sets = {"samples": "samples.npz", "train": "train.npz"} | {role: str(path)}
    if role == "train" and make in (other_shape, grey):
        pattern = r"samples\.npz.*3 x 8 x 8"  # of two sets that do not match, the training set is right
    options = [word for name in ("train", "test") if name in sets for word in (f"--{name}", sets[name])]
    assert run(sets["samples"], *options, *OUTPUTS) == 2
    assert_refused(capsys.readouterr(), pattern.replace("--range", f"--{role}-range"))
    assert files(folder) == before


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        ([], r"samples|required"),
        (["samples.npz"], r"--train"),
        (["samples.npz", "--train", "train.npz", "--nonsense"], r"--nonsense"),
        (["samples.npz", "--train", "train.npz", "extra.npz"], r"extra\.npz"),
        (["samples.npz", "--train", "cifar-100"], r"cifar-100"),
        (["samples.npz", "--train", "digits"], r"samples\.npz.*3 x 8 x 8.*1 x 8 x 8"),
        (["samples.npz", "--train", "train.npz", "--threshold", "nan"], r"threshold.*nan"),
        (["samples.npz", "--train", "train.npz", "--threshold", "1"], r"threshold.*1"),
        (["samples.npz", "--train", "train.npz", "--threshold", "-0.5"], r"threshold.*-0\.5"),
        (["samples.npz", "--train", "train.npz", "--threshold", "third"], r"threshold.*third"),
        (["samples.npz", "--train", "train.npz", "--duplicate-tolerance", "nan"], r"duplicate_tolerance.*nan"),
        (["samples.npz", "--train", "train.npz", "--duplicate-tolerance", "-1"], r"duplicate_tolerance.*-1"),
        (["samples.npz", "--train", "train.npz", "--duplicate-tolerance", "inf"], r"duplicate_tolerance.*inf"),
        (["samples.npz", "--train", "train.npz", "--metrics", "beauty"], r"metrics.*beauty"),
        (["samples.npz", "--train", "train.npz", "--metrics", "memorisation"], r"did you mean memorization\?"),
        (
            ["samples.npz", "--train", "train.npz", "--metrics", "fid"],
            r"--metrics fidelity\.fid needs the features",
        ),
        (
            ["samples.npz", "--train", "train.npz", "--metrics", "gap_train"],
            r"--metrics denoiser\.gap_train needs the m",
        ),
        (["samples.npz", "--train", "train.npz", "--metrics", "gaussian.nmse"], r"nmse needs the model's denoiser"),
        (["samples.npz", "--train", "train.npz", "--features", "pixel"], r"features is 'pixel', expected pixels, inc"),
        (["samples.npz", "--train", "train.npz", "--seed", "-1"], r"seed.*-1"),
        (["samples.npz", "--train", "train.npz", "--num-samples", "0"], r"num_samples.*0"),
        (["samples.npz", "--train", "train.npz", "--batch-size", "64"], r"unrecognized.*--batch-size"),
        (["samples.npz", "--train", "train.npz", "--num-draws", "0"], r"num_draws.*0"),
        (["samples.npz", "--train", "train.npz", "--seed", str(2**62)], r"seed is \d+, expected .* to 2\*\*62 - 1"),
        (["samples.npz", "--train", "train.npz", "--memory-budget", "9" * 400 + "GiB"], r"memory_budget.*not a size"),
        (["samples.npz", "--train", "train.npz", "--memory-budget", "9999999TiB"], r"memory_budget.*2\*\*60"),
        (["samples.npz", "--train", "train.npz", "--memory-budget", "lots"], r"memory_budget.*lots"),
        (["samples.npz", "--train", "train.npz", "--range", "1,-1"], r"range.*1"),
        (["samples.npz", "--train", "train.npz", "--range", "nan,1"], r"range.*nan"),
        (["samples.npz", "--train", "train.npz", "--range", "1"], r"--range.*two numbers"),
        (["samples.npz", "--train", "train.npz", "--train-range", "a,b"], r"--train-range.*two numbers"),
        (["samples.npz", "--train", "train.npz", "--test-range", "0,1"], r"--test-range"),
        (["samples.npz", "--train", "train.npz", "--range", "-1,1"], r"samples\.npz.*grey levels"),
        (["samples.npz", "--train", "train.npz", "--json", "-", "--markdown", "-"], r"--json.*--markdown"),
        (
            ["samples.npz", "--train", "train.npz", "--json", "/dev/stdout", "--markdown", "-"],
            r"--json - and --markdown -",
        ),
        (
            ["samples.npz", "--train", "train.npz", "--json", "r.html"],
            r"--json r\.html: ends in \.html, expected \.json",
        ),
        (["samples.npz", "--train", "train.npz", "--markdown", "r.txt"], r"\.txt, expected \.md or \.markdown"),
        (["samples.npz", "--train", "train.npz", "--markdown", "samples.npz"], r"ends in \.npz"),
        (["old.html", "--train", "train.npz"], r"--html old\.html: would overwrite the samples"),
        (["samples.npz", "--train", "old.html"], r"--html old\.html: would overwrite --train"),
        (["samples.npz", "--train", "digits", "--test", "./old.html"], r"would overwrite --test \(old\.html\)"),
        (["samples.npz", "--train", "train.npz", "--fail-if", "ratio"], r"gate 'ratio'"),
        (["samples.npz", "--train", "train.npz", "--fail-if", "novelty.acu > 0.1"], r"did you mean novelty\.auc\?"),
        (["samples.npz", "--train", "train.npz", "--fail-if", "fidelity.fid > 1"], r"fid > 1' needs the features"),
        (["samples.npz", "--train", "train.npz", "--fail-if", "denoiser.gap_train.max < 1"], r"needs the model's deno"),
        (["samples.npz", "--train", "train.npz", "--fail-if", "memorization.rato > 0.1"], r"rato"),
        (["samples.npz", "--train", "train.npz", "--fail-if", "verdict == guilty"], r"no copying found"),
        (["samples.npz", "--train", "train.npz", "--fail-if", "memorization.ratio > nan"], r"'nan'"),
        (["samples.npz", "--train", "cifar10", "--data-dir", "nowhere"], r"nowhere"),
    ],
    ids=lambda value: " ".join(value[3:]) if isinstance(value, list) else "",
)
def test_an_argument_that_cannot_be_used(
    arguments: list[str], pattern: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(folder)
    assert run(*arguments, "--html", "old.html") == 2
    assert_refused(capsys.readouterr(), pattern)
    assert files(folder) == before


def unwritable(folder: Path) -> list[str]:
    (folder / "folder.json").mkdir()
    (folder / "file").touch()
    return ["nowhere/r.json", "folder.json", "file/r.json", "/proc/r.json"]


@pytest.mark.parametrize("which", range(4))
def test_an_output_that_cannot_be_written(which: int, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = unwritable(folder)[which]
    if path.startswith("/proc") and not Path("/proc").is_dir():
        pytest.skip("needs a folder that nobody can write to")
    before = files(folder)
    assert run("missing.npz", "--train", "train.npz", "--json", path, "--html", "old.html") == 2
    assert_refused(capsys.readouterr(), re.escape(path))  # before any work: the samples are not looked for
    assert files(folder) == before


@pytest.mark.skipif(os.name == "nt", reason="drops privileges as POSIX has them")
def test_a_folder_without_permission() -> None:
    with public_folder() as folder:
        save(folder / "train.npz", TRAIN)
        (folder / "locked").mkdir(mode=0o555)
        sets = [str(folder / "train.npz"), "--train", str(folder / "train.npz"), "--metrics", "memorization"]
        status, err = run_unprivileged(sets, [*sets, "--json", str(folder / "locked" / "r.json")])
    assert status == 2
    assert re.search(r"^memgen-eval: .*locked.*[Pp]ermission.*\n\Z", err.splitlines(keepends=True)[-1]), err


@pytest.mark.skipif(os.name == "nt", reason="drops privileges as POSIX has them")
@pytest.mark.parametrize("mode", [0o000, 0o300, 0o400], ids=oct)
def test_a_class_folder_that_cannot_be_listed_or_entered(mode: int) -> None:
    with public_folder() as folder:
        save(folder / "samples.npz", SAMPLES)
        for label in ("a", "b"):
            (folder / "train" / label).mkdir(parents=True)
            for i, image in enumerate(TRAIN):
                Image.fromarray(image).save(folder / "train" / label / f"{i}.png")
        (folder / "train" / "b").chmod(mode)
        sets = [str(folder / "samples.npz"), "--train", str(folder / "train"), "--metrics", "memorization"]
        status, err = run_unprivileged(sets, sets)
    assert status == 2
    assert re.search(r"^memgen-eval: train .*train/b.*[Pp]ermission|^memgen-eval: train .*Permission.*train/b", err), (
        err
    )


def test_a_data_directory_with_a_wrong_checksum(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    batches = folder / "cifar-10-batches-py"
    batches.mkdir()
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        (batches / name).write_bytes(pickle.dumps(Trap()))
    before = files(folder)
    assert run("samples.npz", "--train", "cifar10", "--data-dir", folder, "--json", "old.json") == 2
    assert_refused(capsys.readouterr(), r"data_batch_1.*(checksum|md5|MD5|sha|SHA)")
    assert files(folder) == before


def test_a_cut_batch_is_named_with_both_checksums(
    data_dir: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(data_dir / "cifar-10-batches-py", folder / "cifar-10-batches-py")
    batch = folder / "cifar-10-batches-py" / "data_batch_3"
    batch.chmod(0o600)
    batch.write_bytes(batch.read_bytes()[:-1024])
    assert run("samples.npz", "--train", "cifar10", "--data-dir", folder) == 2
    out, err = capsys.readouterr()
    assert_refused((out, err), r"data_batch_3")
    assert len(set(re.findall(r"\b[0-9a-f]{32,64}\b", err))) == 2


def test_a_control_character_in_a_name_stays_on_the_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("a\nb\x1b[31m.npz", "--train", "train.npz") == 2
    assert_refused(capsys.readouterr(), r"b\\")


Sampler = Callable[[int], Any]


def raises(n: int) -> Any:
    raise RuntimeError("out of\nideas </script>")


def too_few(n: int) -> Any:
    return SAMPLES[: n - 1]


def too_many(n: int) -> Any:
    return np.concatenate([SAMPLES, SAMPLES])[: n + 3]


def nothing(n: int) -> Any:
    return None


def words(n: int) -> Any:
    return ["image"] * n


def with_nan(n: int) -> Any:
    floats = (SAMPLES[:n] / 127.5 - 1).astype(np.float32)
    floats[-1, 0, 0, 0] = np.nan
    return floats


def in_unit_range(n: int) -> Any:
    return (SAMPLES[:n] / 255).astype(np.float32)


def of_another_size(n: int) -> Any:
    return noise_images(0, n, (8, 9, 3))


SAMPLERS: list[tuple[Sampler, str]] = [
    (raises, r"sampl.*RuntimeError.*out of.*ideas"),
    (too_few, r"sampl.*(19|20).*(19|20)"),
    (too_many, r"sampl.*(20|23).*(20|23)"),
    (nothing, r"sampl.*None"),
    (words, r"sampl"),
    (with_nan, r"sampl.*NaN"),
    (in_unit_range, r"sampl.*range"),
    (of_another_size, r"sampl.*8 x 9.*8 x 8"),
]


@pytest.mark.parametrize(("sampler", "pattern"), SAMPLERS, ids=lambda value: getattr(value, "__name__", None))
def test_a_sampler_that_cannot_be_used(sampler: Sampler, pattern: str) -> None:
    with pytest.raises(InputError) as caught:
        evaluate(sampler, train=TRAIN, num_samples=40, batch_size=20)
    message = str(caught.value)
    assert re.search(pattern, message), message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("second", "pattern"),
    [
        (noise_images(0, 20, (9, 8, 3)), r"9 x 8"),
        ((SAMPLES[:20] / 127.5 - 1).astype(np.float32), r"float|type"),
        (np.moveaxis(SAMPLES[:20], -1, 1), r"3, 8, 8|3 x 8 x 8|NCHW|layout"),
    ],
    ids=["size", "type", "layout"],
)
def test_a_sampler_that_changes_between_calls(second: Any, pattern: str) -> None:
    answers = iter([SAMPLES[:20], second])
    with pytest.raises(InputError, match=pattern) as caught:
        evaluate(lambda n: next(answers), train=TRAIN, num_samples=40, batch_size=20)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("keywords", "pattern"),
    [
        ({"samples": 3}, r"samples"),
        ({"samples": None}, r"samples"),
        ({"samples": []}, r"samples"),
        ({"train": None}, r"train"),
        ({"train": TRAIN[:0]}, r"train.*no images"),
        ({"train": lambda n: TRAIN[:n]}, r"train"),
        ({"test": TRAIN[:0]}, r"test.*no images"),
        ({"test": 7}, r"test"),
        ({"train": Reference(TRAIN), "test": SAMPLES}, r"Reference"),
        ({"train": Images(TRAIN, value_range=(0, 1))}, r"train.*grey levels"),
        ({"value_range": (float("nan"), 1)}, r"range"),
        ({"value_range": (1, -1)}, r"range"),
        ({"value_range": (1, float("inf"))}, r"range"),
        ({"value_range": 3}, r"range"),
        ({"threshold": float("nan")}, r"threshold.*nan"),
        ({"threshold": -1 / 3}, r"threshold"),
        ({"duplicate_tolerance": float("nan")}, r"duplicate_tolerance.*nan"),
        ({"duplicate_tolerance": -0.1}, r"duplicate_tolerance"),
        ({"num_samples": 51}, r"samples.*50.*51|samples.*51.*50"),
        ({"num_samples": 2.5}, r"num_samples.*2\.5"),
        ({"metrics": []}, r"metrics"),
        ({"seed": 0.5}, r"seed"),
        ({"features": "scd"}, r"features is 'scd', expected pixels, inception, sscd, dinov2, clip, a TorchScript"),
        ({"sigmas": [0.1, float("nan")]}, r"sigmas holds nan"),
        ({"sigmas": [0.1, float("inf")]}, r"sigmas holds inf"),
        ({"sigmas": [0.0, 1.0]}, r"sigmas holds 0: noise levels are positive"),
        ({"sigmas": [-0.1, 1.0]}, r"sigmas holds -0\.1: noise levels are positive"),
        ({"sigmas": [1.0, 0.1]}, r"sigmas has 0\.1 after 1: .*increasing"),
        ({"sigmas": [0.1, 0.1]}, r"sigmas has 0\.1 after 0\.1: .*each once"),
        ({"sigmas": []}, r"sigmas has shape.*at least one"),
        ({"sigmas": 0.1}, r"sigmas has shape.*at least one"),
        ({"sigmas": ["low"]}, r"sigmas is \['low'\]"),
        ({"denoiser": 3}, r"denoiser is a int: give a callable"),
        ({"denoiser": "unet.pt"}, r"denoiser is the text or path 'unet.pt': load the model"),
        ({"memory_budget": -5}, r"memory_budget"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_a_keyword_that_cannot_be_used(keywords: dict[str, Any], pattern: str) -> None:
    keywords = {"samples": SAMPLES, "train": TRAIN} | keywords
    with pytest.raises(InputError, match=pattern) as caught:
        evaluate(keywords.pop("samples"), **keywords)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("k", [0, -1, 61, 2.5])
def test_more_neighbours_than_training_images(k: Any) -> None:
    with pytest.raises(InputError, match=f"k={k}"):
        nearest_neighbours(SAMPLES, TRAIN, k)


@pytest.mark.parametrize(
    "expression", ["memorization.ratio.high < nan", "memorization.ratio < ", "quality > 1", "verdict < 3"]
)
def test_a_requirement_that_does_not_parse(expression: str) -> None:
    report = evaluated(SAMPLES, train=TRAIN, metrics="memorization")
    with pytest.raises(InputError, match=re.escape(expression.strip())):
        report.require(expression)


def test_the_trap_works(folder: Path) -> None:
    pickle.loads(pickle.dumps(Trap()))
    assert (folder / "trapped").exists()
