"""What went wrong for people with neighbouring tools, as far as it concerns an evaluation as a whole."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import binomtest

from checking import evaluated, run, strict_json
from conftest import Kit, noise_images
from memgen_eval import Report, evaluate
from memgen_eval.render.html import render_html

SHAPE = (8, 8, 3)


def memorization(report: Report) -> Any:
    assert report.memorization is not None
    return report.memorization


def label(report: Report) -> str:
    assert report.verdict is not None
    return report.verdict.label


@pytest.mark.parametrize("kind", ["half", "all", "link"])
def test_a_test_set_that_lies_in_the_training_set_acquits_nobody(kind: str, kit: Kit, tmp_path: Path) -> None:
    np.savez(tmp_path / "tr.npz", kit.tr)
    (tmp_path / "link.npz").symlink_to(tmp_path / "tr.npz")
    test = {"half": kit.tr[1000:], "all": tmp_path / "tr.npz", "link": tmp_path / "link.npz"}[kind]
    report = evaluated(kit.tr[:500], train=tmp_path / "tr.npz", test=test, metrics="memorization")
    family = memorization(report)
    assert family.test_num_near_identical.value == family.test_ratio.count
    assert family.test_ratio.value == 1 and family.ratio.value == 1
    assert report.verdict is not None and report.verdict.label == "copies"
    assert "500 of 500 samples and 0 of 2,000 training images left out of train lie much" in report.verdict.sentence
    assert any("identical to a training image" in note for note in family.test_ratio.notes)


def to_floor(floats: Any) -> Any:
    return ((floats + 1) * 127.5).astype(np.uint8)


def to_nearest(floats: Any) -> Any:
    return (floats * 127.5 + 128).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("writer", "share", "distance"), [(to_floor, 0.248, 0.498), (to_nearest, 0, 0)], ids=["floor", "nearest"]
)
def test_writers_that_truncate_or_round(writer: Callable[[Any], Any], share: float, distance: float, kit: Kit) -> None:
    samples = writer(kit.tr[:100].astype(np.float32) / np.float32(127.5) - 1)
    assert (samples != kit.tr[:100]).mean() == pytest.approx(share, abs=5e-4)
    family = memorization(evaluated(samples, train=kit.tr, test=kit.te, metrics="memorization"))
    assert (family.ratio.value, family.num_near_identical.value) == (1, 100)
    assert sorted(match.train_index for match in family.copies) == list(range(100))
    mean = np.sqrt(np.mean([match.grey_levels**2 for match in family.copies]))
    assert mean == pytest.approx(distance, abs=5e-3)


@pytest.mark.parametrize("budget", ["16MiB", "1GiB"])
def test_no_budget_makes_the_reference_smaller(budget: str) -> None:
    train = noise_images(0, 2000, SHAPE)
    samples = np.concatenate([train[:80], noise_images(2, 320, SHAPE)])
    report = evaluated(samples, train=train, metrics="memorization", memory_budget=budget)
    assert memorization(report).ratio.value == 0.2
    assert report.settings.num_train == 2000


SYNTHETIC = [
    ("a part of train", 0, 100, 2000, 1.0),
    ("all of train", 0, 100, 100, 1.0),
    ("one image", 0, 1, 2000, 1.0),
    ("one image of one", 0, 1, 1, 1.0),
]


@pytest.mark.parametrize(("name", "start", "stop", "num_train", "ratio"), SYNTHETIC, ids=[c[0] for c in SYNTHETIC])
@pytest.mark.parametrize("test", [True, False], ids=["test", "leave one out"])
def test_samples_that_are_the_training_set(
    name: str, start: int, stop: int, num_train: int, ratio: float, test: bool
) -> None:
    train = noise_images(0, 2000, SHAPE)[:num_train]
    report = evaluated(train[start:stop], train=train, test=noise_images(1, 400, SHAPE) if test else None)
    family = memorization(report)
    assert family.ratio.value == ratio
    expected = binomtest(stop - start, stop - start).proportion_ci(0.95, method="exact").low
    assert family.ratio.low == pytest.approx(expected, rel=1e-12)
    assert stop - start != 100 or round(family.ratio.low, 4) == 0.9638
    assert report.displayed_sentence and str(report) and report._repr_html_()


@pytest.mark.parametrize("samples", ["train", "fresh"])
def test_a_training_set_of_identical_images(samples: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = np.repeat(noise_images(0, 1, SHAPE), 100, axis=0)
    np.savez(tmp_path / "train.npz", train)
    np.savez(tmp_path / "samples.npz", train[:40] if samples == "train" else noise_images(2, 40, SHAPE))
    assert run(tmp_path / "samples.npz", "--train", tmp_path / "train.npz", "--json", "-") == 0
    out, err = capsys.readouterr()
    report = strict_json(out)
    assert err == ""
    assert report["memorization"]["ratio"]["value"] == (1 if samples == "train" else 0)
    assert report["settings"]["duplicate_tolerance"] == 0


def test_constant_images() -> None:
    black, white = np.zeros((60, 8, 8), dtype=np.uint8), np.full((50, 8, 8), 255, dtype=np.uint8)
    for samples in (black, white):
        report = evaluated(samples, train=black, test=white)
        assert memorization(report).ratio.value == float(samples is black)


@pytest.mark.parametrize("num_samples", [500, 40, 2])
@pytest.mark.parametrize("shape", [(8, 8), (16, 12, 3)], ids=["64", "576"])
def test_a_shift_of_all_values_has_its_closed_form(num_samples: int, shape: tuple[int, ...]) -> None:
    train = np.random.default_rng(0).integers(0, 246, (500, *shape), dtype=np.uint8)
    report = evaluated((train + 5).astype(np.uint8)[:num_samples], train=train, metrics="gaussian")
    assert report.gaussian is not None
    found = report.gaussian.wasserstein.value
    assert found is not None and np.isfinite(found)
    if num_samples == 500:  # sets are cut to half of train: other images of one distribution, shifted
        again = evaluated(train, train=train, metrics="gaussian").gaussian
        assert again is not None and again.wasserstein.value is not None
        assert found == pytest.approx(np.hypot(5 / 255, again.wasserstein.value), rel=0.02)


class Counting:
    """A sampler that remembers what it was asked for, and may not know how to give less than a batch."""

    def __init__(self, least: int) -> None:
        self.least = least
        self.calls: list[int] = []

    def __call__(self, n: int) -> Any:
        self.calls.append(n)
        return noise_images(len(self.calls), max(n, self.least), SHAPE)


@pytest.mark.parametrize(
    ("num_samples", "calls"), [(1, [1]), (5, [5]), (64, [64]), (128, [64] * 2), (130, [64, 64, 2])]
)
def test_the_number_of_samples_is_exact(num_samples: int, calls: list[int]) -> None:
    sampler = Counting(least=0)
    report = evaluated(sampler, train=noise_images(0, 50, SHAPE), num_samples=num_samples, metrics="memorization")
    assert sampler.calls == calls
    assert report.settings.num_samples == num_samples


def test_a_sampler_that_always_gives_a_whole_batch_is_an_error_with_both_numbers() -> None:
    with pytest.raises(ValueError, match=r"64 images.*2|2.*64 images"):
        evaluate(Counting(least=64), train=noise_images(0, 50, SHAPE), num_samples=130)


class Resources(HTMLParser):
    """Everything that a page would load, run or open, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.active: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.active += [name for name, _ in attributes if name.startswith("on")]
        self.active += [tag] if tag in ("script", "iframe", "object", "embed", "link", "base") else []
        self.loads += [value or "" for name, value in attributes if name in ("src", "href", "srcset", "xlink:href")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


HOSTILE = ['"><img src=x onerror=alert(1)>.png', "red\x1b[31m.png", "two\nlines.png", "a|b`c`*d*_e_.png", "<b>.png"]


def test_hostile_names_are_text_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = noise_images(0, 60, SHAPE)
    folder = tmp_path / "a|b"
    folder.mkdir()
    for image, name in zip(train, HOSTILE, strict=False):
        Image.fromarray(image).save(folder / name.replace("/", ""), format="PNG")
    np.savez(tmp_path / "train.npz", train)
    page, summary, data = tmp_path / "r.html", tmp_path / "r.md", tmp_path / "r.json"
    arguments = (folder, "--train", tmp_path / "train.npz", "--html", page, "--markdown", summary, "--json", data)
    assert run(*arguments, "--metrics", "memorization", "--full") == 0
    table = capsys.readouterr().out
    report = Report.from_dict(strict_json(data.read_text(encoding="utf-8")))
    assert len(report.provenance.names["samples"]) == len(HOSTILE)
    assert_harmless(page.read_text(encoding="utf-8"))
    for text in (table, summary.read_text(encoding="utf-8"), page.read_text(encoding="utf-8")):
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", text)
    markdown = summary.read_text(encoding="utf-8")
    assert "<img" not in markdown and "<b>" not in markdown
    tables = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in tables}) <= 2


def assert_harmless(html: str) -> None:
    """Nothing is fetched, nothing runs but the page's own script, and there are charts and pictures all the same."""
    parser = Resources()
    parser.feed(html)
    script = files("memgen_eval.render").joinpath("figures.js").read_text(encoding="utf-8")
    assert parser.active == ["link", "script"] and html.count(f"<script>{script}</script>") == 1
    others = [load for load in parser.loads if not load.startswith(("data:image/", "#"))]
    assert others == ["data:,"]  # an empty icon: without one a browser asks for it
    assert "@import" not in html and not re.search(r"url\((?!['\"]?(data:|#))", html)
    assert "<svg" in html


def hostile_features(images: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("</script><script>alert(1)</script>\x1b[31m\r\n| a | b |")


def test_hostile_error_texts_are_text_everywhere(tmp_path: Path) -> None:
    train = noise_images(0, 60, SHAPE)
    report = evaluated(noise_images(2, 40, SHAPE), train=train, features=hostile_features)
    assert "alert(1)" in report.skipped["novelty"]
    assert_harmless(render_html(report))
    report.save(tmp_path / "r.md")
    shown = (render_html(report), report._repr_html_(), str(report), (tmp_path / "r.md").read_text(encoding="utf-8"))
    for text in shown:
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", text)
        assert "alert(1)" in text
    assert "<script>" not in (tmp_path / "r.md").read_text(encoding="utf-8")

    def sampler(n: int) -> Any:
        return hostile_features(torch.zeros(n))

    with pytest.raises(ValueError, match="alert") as caught:
        evaluate(sampler, train=train, num_samples=4)
    assert "\n" not in str(caught.value)


def resident() -> int:
    """Bytes of memory that this process holds now."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the memory in use from /proc")
def test_memory_stays_flat_over_ten_thousand_calls_of_a_sampler() -> None:
    weight = torch.ones(1, requires_grad=True)
    held: list[int] = []

    def sampler(n: int) -> torch.Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            wide = torch.rand(n, 1, 8, 4096) * weight  # 128 KiB an image, of which 8 x 8 values are shown
        held.append(resident())
        return wide[..., :8] * 2 - 1

    report = evaluate(sampler, train=noise_images(0, 50, (8, 8)), num_samples=10_000, batch_size=1, metrics="novelty")
    assert report.settings.num_samples == len(held) == 10_000
    assert max(held) - max(held[:1000]) < 16 * 2**20


PEAK = """
import re, resource, sys
from pathlib import Path
from memgen_eval import evaluate
train, samples, test, budget = sys.argv[1:]
report = evaluate(samples, train=train, test=test, metrics="memorization", memory_budget=budget)
from checking import figures
sys.stdout.write(figures(report))
status = Path("/proc/self/status")  # a child inherits ru_maxrss from its parent
seen = re.search(r"VmHWM:\\s+(\\d+)", status.read_text()) if status.is_file() else None
print(seen[1] if seen else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def test_a_large_training_set_fits_into_a_small_budget(tmp_path: Path) -> None:
    train = noise_images(0, 100_000, (8, 8))
    np.save(tmp_path / "train.npy", train)
    np.save(tmp_path / "samples.npy", np.concatenate([train[:50], noise_images(2, 450, (8, 8))]))
    np.save(tmp_path / "test.npy", noise_images(1, 400, (8, 8)))
    root = Path(__file__).parent.parent
    outputs = set()
    for budget in ("256MiB", "16GiB"):
        done = subprocess.run(
            [sys.executable, "-c", PEAK, *(tmp_path / f"{name}.npy" for name in ("train", "samples", "test")), budget],
            env={"PYTHONPATH": f"{root}:{root / 'tests'}", "PATH": "", "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
        outputs.add(done.stdout)
        if budget == "256MiB":
            assert int(done.stderr.split()[-1]) * 1024 < 1.5 * 2**30
    (output,) = outputs
    assert '"value": 0.1,' in output
