"""`memgen-train` and `memgen-sample` as a user meets them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import Tensor, nn

from checking import strict_json
from memgen_eval import evaluate
from memgen_eval.data.samplers import SampleSource
from memgen_eval.distributed import ALONE
from memgen_eval.shell import TEMPORARY
from reference_models import bars, sample_cli, train_cli
from reference_models.bars import bar
from reference_models.precond import Preconditioned
from reference_models.sample import METHODS, draw, sampler_of
from reference_models.training.checkpoints import checkpoints, load_state, load_trained, states
from reference_models.training.folder import alone_in
from reference_models.trajectory import measure

TRAIN = ("--data", "digits", "--num-images", "20", "--batch-size", "8")


def train(*arguments: object) -> int:
    return train_cli.main([str(argument) for argument in arguments])


def sample(*arguments: object) -> int:
    return sample_cli.main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six steps in two parts."""
    folder = tmp_path_factory.mktemp("runs") / "a"
    for steps in (4, 6):
        assert train(*TRAIN, "--out", folder, "--steps", steps, "--no-evaluate") == 0
    return folder


def test_a_training_ends_with_a_report_on_the_images_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train(*TRAIN, "--steps", 2, "--num-samples", 20) == 0
    folder = Path("runs/digits-20")
    report = strict_json((folder / "report.json").read_text(encoding="utf-8"))
    settings = report["settings"]
    assert (settings["num_train"], settings["num_test"], settings["num_samples"]) == (20, 500, 20)
    assert settings["checksums"]["train"] == load_trained(folder).recipe.checksum
    assert report["provenance"]["command"].startswith("memgen-train --data digits")
    assert np.load(folder / "train.npz")["arr_0"].shape == (20, 8, 8, 1)
    out, err = capsys.readouterr()
    assert f"{folder}: 2 steps, " in out and str(folder / "report.html") in out
    assert (folder / "report.html").stat().st_size > 10_000
    steps = [line.split(",")[0] for line in err.splitlines()]
    assert steps == ["training: 50% done", "training: 100% done"]  # in a pipe lines, no bar


def test_the_same_command_goes_on(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(*TRAIN, "--out", run, "--steps", 6, "--no-evaluate") == 0
    out, err = capsys.readouterr()
    assert err == f"{run}: going on from step 6\n" and "6 steps, trained before" in out
    assert load_trained(run).step == 6


def test_minutes(tmp_path: Path) -> None:
    assert train(*TRAIN, "--out", tmp_path / "a", "--minutes", 0.001, "--no-evaluate") == 0
    (path,) = states(tmp_path / "a").values()
    assert load_state(path).seconds >= 0.06


def test_epochs(tmp_path: Path) -> None:
    assert train(*TRAIN, "--out", tmp_path / "a", "--epochs", 1.5, "--no-evaluate") == 0
    assert load_trained(tmp_path / "a").step == 4  # 30 images in batches of 8


def test_samples_are_the_same_for_every_form_number_and_batch(run: Path, tmp_path: Path) -> None:
    assert sample(run, "--num", 70, "--out", tmp_path / "s.npz") == 0
    assert sample(run, "--num", 70, "--out", tmp_path / "s.safetensors") == 0
    assert sample(run, "--num", 3, "--out", tmp_path / "few.npz") == 0
    assert sample(run, "--num", 3, "--seed", 1, "--out", tmp_path / "other.npz") == 0
    images = np.load(tmp_path / "s.npz")["arr_0"]
    assert images.shape == (70, 8, 8, 1) and images.dtype == np.uint8
    assert np.array_equal(images, load_file(tmp_path / "s.safetensors")["samples"])
    assert np.array_equal(images[:3], np.load(tmp_path / "few.npz")["arr_0"])
    assert not np.array_equal(images[:3], np.load(tmp_path / "other.npz")["arr_0"])


@pytest.mark.filterwarnings("ignore:samples .*clipped")
def test_samples_are_those_of_the_evaluation(run: Path) -> None:
    denoiser = load_trained(run).denoiser
    source = SampleSource(sampler_of(denoiser, (1, 8, 8), seed=3), 5, 64, (-1, 1), data_dir=None, device=None)
    evaluated = source.load((1, 8, 8), quantize=True, seed=3, ranks=ALONE).array()
    (drawn,) = draw(sampler_of(denoiser, (1, 8, 8), seed=3), 5)
    levels = drawn.transpose(0, 3, 1, 2).astype(int)
    assert np.abs(levels - evaluated).max() <= 1  # another batch rounds its last bits in another way
    assert np.abs(levels[1:] - evaluated[:-1]).max() > 1


def test_the_model_sees_blocks_of_one_size() -> None:
    seen = []

    class Spy(nn.Module):
        def forward(self, x: Tensor, noise: Tensor) -> Tensor:
            seen.append(len(x))
            return torch.zeros_like(x)

    sampler = sampler_of(Preconditioned(Spy(), sigma_data=0.5), (1, 8, 8), seed=0)
    assert [len(block) for block in draw(sampler, 70)] == [64, 6] and seen == [64] * 70


def test_a_step_is_chosen(run: Path, tmp_path: Path) -> None:
    for step in (4, 6):
        assert sample(run, "--num", 1, "--step", step, "--out", tmp_path / f"{step}.npz") == 0
    assert sample(run, "--num", 1, "--out", tmp_path / "newest.npz") == 0
    four, six, newest = (np.load(tmp_path / f"{name}.npz")["arr_0"] for name in ("4", "6", "newest"))
    assert np.array_equal(six, newest) and not np.array_equal(four, six)


def test_a_solver_and_an_average_are_chosen(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert set(sample_cli.SOLVERS) == {*METHODS}
    chosen = {"plain": (), "solver": ("--solver", "ancestral"), "short": ("--ema", "0.05"), "default": ("--ema", "0.1")}
    for name, arguments in chosen.items():
        assert sample(run, "--num", 1, *arguments, "--out", tmp_path / f"{name}.npz") == 0
    drawn = {name: np.load(tmp_path / f"{name}.npz")["arr_0"] for name in chosen}
    assert np.array_equal(drawn["plain"], drawn["default"]) and not np.array_equal(drawn["plain"], drawn["solver"])
    trained = load_trained(run, ema=0.05)
    (expected,) = draw(sampler_of(trained.denoiser, (1, 8, 8), seed=0), 1)
    assert np.array_equal(drawn["short"], expected)
    assert f"short.npz: 1 samples of {run}, step 6, average of length 0.05" in capsys.readouterr().out


def test_samples_go_into_evaluate(run: Path, tmp_path: Path) -> None:
    assert sample(run, "--num", 5, "--out", tmp_path / "s.npz") == 0
    report = evaluate(tmp_path / "s.npz", train=run / "train.npz", metrics="memorization")
    assert report.settings.num_train == 20 and report.settings.num_samples == 5


NEW = ("--out", "{new}")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--data", "digits", *NEW, "--steps", "0"), "--steps is 0, expected a whole number of at least 1"),
        (("--data", "digits", *NEW, "--minutes", "nan"), "--minutes is nan, expected a positive number"),
        (("--data", "digits", *NEW, "--lr", "-1"), "--lr is -1.0, expected a positive number"),
        (("--data", "digits", *NEW, "--seed", "-1"), "--seed is -1, expected an integer from 0 to 2**62 - 1"),
        (
            ("--data", "digits", *NEW, "--seed", str(2**64)),
            "--seed is 18446744073709551616, expected an integer from 0",
        ),
        (("--data", "digits", *NEW, "--num-images", "9999"), "digits holds 1297 images: give 1 to 1297"),
        (("--data", "digits", *NEW, "--steps", "1", "--minutes", "1"), "not allowed with argument"),
        (("--data", "nothing", *NEW), "is neither a known set"),
        ((*NEW,), "the following arguments are required: --data"),
        ((*TRAIN, "--seed", "1", "--out", "{run}"), "holds a run of another recipe (seed 1 instead of 0)"),
        ((*TRAIN, "--out", "{tmp}"), "holds files but no run"),
        ((*TRAIN, "--out", "{tmp}/file"), "no run can be kept there"),
    ],
)
def test_trainings_that_cannot_be(
    arguments: tuple[str, ...], said: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert train(*(text.format(run=run, tmp=tmp_path, new=tmp_path / "new") for text in arguments)) == 2
    out, err = capsys.readouterr()
    assert said in err and err.count("\n") == 1 and err.startswith("memgen-train: ") and out == ""
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("{tmp}/typo", "--num", "1", "--out", "{tmp}/s.npz"), "typo does not exist (no run.json)"),
        (("{tmp}", "--num", "1", "--out", "{tmp}/s.npz"), "is not the folder of a run (no run.json)"),
        (("{run}", "--num", "0", "--out", "{tmp}/s.npz"), "--num is 0, expected a whole number of at least 1"),
        (("{run}", "--num", "1", "--seed", "-1", "--out", "{tmp}/s.npz"), "--seed is -1"),
        (("{run}", "--num", "1", "--step", "5", "--out", "{tmp}/s.npz"), "give one of its steps (4, 6)"),
        (("{run}", "--num", "1", "--out", "{tmp}/s.png"), "samples are written as .npz or .safetensors"),
        (("{run}", "--num", "1", "--out", "{tmp}/no/s.npz"), "does not exist; create it"),
        (("{run}", "--num", "1", "--out", "{tmp}/folder.npz"), "is a folder"),
    ],
)
def test_samples_that_cannot_be(
    arguments: tuple[str, ...], said: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder.npz").mkdir()
    assert sample(*(text.format(run=run, tmp=tmp_path) for text in arguments)) == 2
    out, err = capsys.readouterr()
    assert said in err and err.count("\n") == 1 and err.startswith("memgen-sample: ") and out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["folder.npz"]


def test_help_is_quick_and_whole(capsys: pytest.CaptureFixture[str]) -> None:
    for program in (train, sample):
        with pytest.raises(SystemExit) as stop:
            program("--help")
        assert stop.value.code == 0 and "--seed" in capsys.readouterr().out


def test_a_fault_of_ours_and_an_interruption(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for error, status, said in (
        (ZeroDivisionError, 3, "this is a fault of memgen-train"),
        (KeyboardInterrupt, 130, "interrupted"),
    ):

        def fail(typed: list[str], error: type[BaseException] = error) -> None:
            raise error

        monkeypatch.setattr(train_cli, "_run", fail)
        assert train() == status
        assert said in capsys.readouterr().err


def test_a_training_goes_on_after_a_kill_before_its_recipe_was_written(tmp_path: Path) -> None:
    """What `kill -9` leaves between the folder and the first file: the temporary one, and its lock gone."""
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / TEMPORARY.format("0a1b2c")).write_text('{"format": "memgen ref')
    assert train(*TRAIN, "--out", folder, "--steps", 1, "--no-evaluate") == 0
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert [name for name in names if "tensorboard" not in name] == [
        "checkpoints/step-00000001.safetensors",
        "run.json",
        "state/step-00000001.safetensors",
        "train.npz",
    ]


def test_one_training_at_a_time(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with alone_in(run):
        assert train(*TRAIN, "--out", run, "--steps", 7, "--no-evaluate") == 2
    err = capsys.readouterr().err
    assert err == f"memgen-train: {run}: another memgen-train is at work there; let it end, or give another --out\n"
    assert load_trained(run).step == 6
    with alone_in(run):  # a lock is let go
        pass


def test_samples_are_not_written_over_their_run(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = run / "checkpoints" / "step-00000006.safetensors"
    (tmp_path / "link.npz").symlink_to(run / "train.npz")
    before = {path: path.read_bytes() for path in (checkpoint, run / "train.npz")}
    for out in (run / "train.npz", checkpoint, tmp_path / "link.npz"):
        assert sample(run, "--num", 1, "--out", out) == 2
        assert f"--out {out}: would overwrite the run's" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in before}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_is_for_terminals() -> None:
    stream = Terminal()
    with bar("training", total=2, stream=stream) as shown:
        shown(1, "step 7")
        shown(2, "step 9")
    assert "training" in stream.getvalue() and "step 9" in stream.getvalue()


def test_a_log_gets_a_line_for_each_fifth_of_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(bars.time, "monotonic", lambda: 30.0 * next(clock))  # a line comes every half minute
    stream = io.StringIO()
    with bar("training", total=100, stream=stream) as shown:
        for step in range(1, 101):
            shown(step, f"step {step}" if step < 100 else "")
    lines = [
        "training: 20% done, step 20, 2 min left",
        "training: 40% done, step 40, 92 s left",
        "training: 60% done, step 60, 61 s left",
        "training: 80% done, step 80, 30 s left",
    ]
    assert stream.getvalue().splitlines() == [*lines, "training: 100% done"]


def test_every_kept_checkpoint_is_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the training goes on, with the training set prepared once; then those without a report; then all together."""
    told: list[tuple[str, object, int]] = []
    folder = tmp_path / "a"

    def evaluated(run: Path, *, num_samples: int, data_dir: object = None, reference: object = None) -> list[int]:
        assert run == folder and num_samples == 32
        told.append(("evaluated", reference, max(checkpoints(run))))
        return []

    monkeypatch.setattr(measure, "reference_of", lambda run, *, data_dir: "prepared")
    monkeypatch.setattr(measure, "evaluate_missing", evaluated)
    monkeypatch.setattr(measure, "finish", lambda run: told.append(("finished", run, 0)))
    small = ("--preset", "tiny", "--width", 8, "--num-samples", 32, "--steps", 65, "--no-evaluate", "--trajectory")
    assert train(*TRAIN, *small, "--out", folder) == 0
    expected = [("evaluated", "prepared", 64), ("evaluated", "prepared", 65), ("evaluated", None, 65)]
    assert told == [*expected, ("finished", folder, 0)]
    told.clear()
    assert train(*TRAIN, *small, "--out", folder) == 0  # nothing is left to be trained
    assert told == [expected[-1], ("finished", folder, 0)]
