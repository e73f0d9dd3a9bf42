"""Sweep files: grids, command lines that memgen-train takes, and one line for whatever cannot be used."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from memgen_eval.errors import InputError
from reference_models import train_cli
from reference_models.study.runner import Source, command_of
from reference_models.study.sweep import command_line, options, read_sweep

GRID = """\
data = "digits"
num_images = [50, 100]
half = ["first", "second"]
lr = 1e-3
flip = true
grey = false
epochs = 20
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sweep.toml"


def test_lists_are_the_factors_of_a_grid(path: Path) -> None:
    path.write_text(GRID)
    runs = read_sweep(path).runs()
    assert [run.name for run in runs] == [
        "num_images=50,half=first",
        "num_images=50,half=second",
        "num_images=100,half=first",
        "num_images=100,half=second",
    ]
    assert runs[2].factors == {"num_images": 100, "half": "first"}
    assert runs[2].settings["lr"] == 1e-3 and runs[2].settings["epochs"] == 20


def test_command_lines_say_what_the_file_says(path: Path) -> None:
    path.write_text(GRID)
    run = read_sweep(path).runs()[3]
    words = command_of(run, out=Path("a b"), source=Source(data_dir="sets"))
    read = train_cli.parser().parse_args(words)
    assert (read.data, read.num_images, read.half, read.lr, read.epochs) == ("digits", 100, "second", 1e-3, 20)
    assert (read.flip, read.grey, read.trajectory, read.no_evaluate) == (True, False, True, True)
    assert (read.out, read.data_dir) == (Path("a b"), "sets")
    elsewhere = command_of(run, out=Path("a"), source=Source(data="teacher.npz"))
    assert train_cli.parser().parse_args(elsewhere).data == "teacher.npz"


def test_every_option_of_a_training_can_be_set() -> None:
    settings = {name: next(iter(action.choices or ()), 1) for name, action in options().items()}
    lengths = [{name: value} for name, value in settings.items() if name in ("steps", "epochs", "minutes")]
    others = {name: value for name, value in settings.items() if name not in ("steps", "epochs", "minutes")}
    for length in lengths:
        read = train_cli.parser().parse_args(command_line({**others, **length}))
        assert {name: str(getattr(read, name)) for name in length} != {}
        assert all(getattr(read, name) in (value, str(value), Path(str(value)), True) for name, value in others.items())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("num_images = [1]\n", "data is missing"),
        ('data = "digits"\n', "holds no list"),
        ('data = "digits"\nnum_image = [1]\n', "num_image is not a setting of memgen-train"),
        ('data = "digits"\nout = "a"\nseed = [1]\n', "out is not a setting"),
        ('data = "digits"\nnum_images = []\n', "num_images is an empty list"),
        ('data = "digits"\nseed = [1, 2, 1]\n', "seed holds 1 twice"),
        ('data = "digits"\nlr = [1, 1.0]\n', "lr holds 1 twice"),
        ('data = "digits"\nnum_images = ["50"]\n', "num_images is '50', expected a whole number"),
        ('data = "digits"\nnum_images = [true]\n', "num_images is True, expected a whole number"),
        ('data = "digits"\nnum_images = [0]\n', "num_images is 0, expected a whole number above 0"),
        ('data = "digits"\nseed = [-1]\n', "seed is -1, expected a whole number of at least 0"),
        ('data = "digits"\nlr = [nan]\n', "lr is nan, expected a number above 0"),
        ('data = "digits"\nlr = ["fast"]\n', "lr is 'fast', expected a number"),
        ("data = 3\nseed = [1]\n", "data is 3, expected text"),
        ('data = "digits"\nflip = [1]\n', "flip is 1, expected true or false"),
        ('data = "digits"\nhalf = ["third"]\n', "half is 'third', expected one of first, second"),
        ('data = "digits"\nseed = [[1]]\n', "seed is [1], expected a whole number"),
        ('data = "digits"\nsteps = 5\nepochs = 2\nseed = [1]\n', "gives steps and epochs"),
        ('data = "digits"\nteacher = 1\nseed = [1]\n', "teacher is 1, expected the folder of a run"),
        ('data = "digits"\nteacher = "runs/a"\nseed = [1]\n', "gives data and a teacher"),
        ('data = ["a/b", "a-b"]\n', "2 runs would be called data=a-b"),
        (f'data = "digits"\nseed = {list(range(20_000))}\n', "makes 20,000 runs, expected at most 10,000"),
        ('data = "digits"\ndata = "digits"\n', "is not TOML"),
        ("[", "is not TOML"),
        ("[data]\na = 1\n", "data is {'a': 1}, expected text"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(path: Path, text: str, told: str) -> None:
    path.write_text(text)
    with pytest.raises(InputError, match=re.escape(told)) as caught:
        read_sweep(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_files_that_are_no_text(path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_sweep(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is not TOML"):
        read_sweep(path)
    path.write_text("a = " + "[" * 5000 + "]" * 5000)
    with pytest.raises(InputError, match="is not TOML"):
        read_sweep(path)
    path.write_text("#" * (2**20 + 1))
    with pytest.raises(InputError, match="larger than"):
        read_sweep(path)
