"""The demo: two small diffusion models trained on digits, one on few images and one on many, and a page for each."""

from __future__ import annotations

import argparse
import sys
from itertools import islice
from pathlib import Path

import torch

from memgen_eval import Report
from memgen_eval.compute.resources import keep_freed_memory
from memgen_eval.results import Label
from reference_models.bars import bar
from reference_models.data import Selection
from reference_models.recipes import recipe_for
from reference_models.training.checkpoints import Trained
from reference_models.training.pace import at_pace, choose_pace
from reference_models.training.run import evaluate_model
from reference_models.training.state import new_state
from reference_models.training.train import train

FEW = 100
NUM_STEPS = 1000
NUM_SAMPLES = 500
FOUND: dict[Label, str] = {
    "copies": "copies its training images",
    "no copying found": "was not found to copy",
    "undecided": "could not be judged",
}


def trained_model(num_images: int | None, *, seed: int, num_steps: int, num_samples: int) -> Report:
    """Train on `num_images` digits (None: on all), and evaluate the model on exactly these."""
    selection = Selection("digits", num_images)
    images = selection.train()
    recipe = recipe_for(images, selection, seed=seed)
    shape, batch_size = recipe.unet.image_shape, recipe.batch_size
    pace = choose_pace(new_state(recipe).model, shape, batch_size=batch_size, num_steps=num_steps, shared=True)
    state = new_state(recipe, channels_last=pace.channels_last)
    with at_pace(pace):
        with bar(f"training on {len(images):,} digits", total=num_steps, stream=sys.stderr) as shown:
            steps = train(state, torch.from_numpy(images.array()), recipe, num_workers=pace.num_workers)
            for step in islice(steps, num_steps):
                shown(step.step, f"loss {step.loss:.3f}")
        print(f"drawing {num_samples:,} samples from this model and evaluating them", file=sys.stderr, flush=True)
        trained = Trained(recipe, state.step, recipe.ema_lengths[-1], state.averages[-1])
        return evaluate_model(trained, images, num_samples=num_samples)


def conclusion(few: Report, many: Report) -> str:
    """What the two verdicts say, in a sentence."""
    clauses = []
    for report in (few, many):
        assert report.verdict is not None
        clauses.append(f"the model of {report.settings.num_train:,} digits {FOUND[report.verdict.label]}")
    expected = (
        "" if shows_memorization(few, many) else " The demo expects copies from the first and not from the second."
    )
    return f"Open both pages in a browser: {'; '.join(clauses)}.{expected}"


def shows_memorization(few: Report, many: Report) -> bool:
    """Whether the model of few images was found to copy, and the model of many was not."""
    assert few.verdict is not None and many.verdict is not None
    return few.verdict.label == "copies" and many.verdict.label != "copies"


def main(
    folder: Path = Path("demo"), *, seed: int = 0, num_steps: int = NUM_STEPS, num_samples: int = NUM_SAMPLES
) -> int:
    """Train and evaluate both models; 0 if the one of few images was found to copy and the other was not."""
    folder.mkdir(parents=True, exist_ok=True)
    print(
        "Two models are trained and evaluated, in three to five minutes on two CPU cores.", file=sys.stderr, flush=True
    )
    reports = []
    for name, num_images in (("few", FEW), ("many", None)):
        report = trained_model(num_images, seed=seed, num_steps=num_steps, num_samples=num_samples)
        page = folder / f"{name}.html"
        report.save(page)
        print(f"{page}: a model of {report.settings.num_train:,} digits. {report.displayed_sentence}", flush=True)
        reports.append(report)
    print(conclusion(*reports))
    return 0 if shows_memorization(*reports) else 1


if __name__ == "__main__":
    argparse.ArgumentParser(prog="python -m reference_models.demo", description=__doc__).parse_args()
    keep_freed_memory()
    sys.exit(main())
