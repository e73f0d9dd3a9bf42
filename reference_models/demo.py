"""The demo: two small diffusion models trained on digits, one on few images and one on many, and a page for each."""

from __future__ import annotations

import argparse
import sys
from itertools import islice
from pathlib import Path

import torch

from memgen_eval import Report
from reference_models.bars import bar
from reference_models.checkpoints import Checkpoint
from reference_models.data import training_images
from reference_models.recipes import recipe_for
from reference_models.run import evaluate_model
from reference_models.train import new_state, train

FEW = 100
NUM_STEPS = 1000
NUM_SAMPLES = 500


def trained_model(num_images: int | None, *, seed: int, num_steps: int, num_samples: int) -> Report:
    """Train on so many digits (None: on all), and evaluate the model on exactly these."""
    images = training_images("digits", num_images=num_images)
    recipe = recipe_for(images, data="digits", seed=seed)
    state = new_state(recipe)
    with bar(f"training on {len(images):,} digits", total=num_steps, stream=sys.stderr) as shown:
        for step in islice(train(state, torch.from_numpy(images.array()), recipe), num_steps):
            shown(step.step, f"loss {step.loss:.3f}")
    return evaluate_model(Checkpoint(recipe, state, 0.0), images, num_samples=num_samples)


def main(
    folder: Path = Path("demo"), *, seed: int = 0, num_steps: int = NUM_STEPS, num_samples: int = NUM_SAMPLES
) -> int:
    """Train and evaluate both models; 0 if the one of few images was called a copier and the other was not."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = []
    for name, num_images in (("few", FEW), ("many", None)):
        report = trained_model(num_images, seed=seed, num_steps=num_steps, num_samples=num_samples)
        page = folder / f"{name}.html"
        report.save(page)
        assert report.verdict is not None
        labels.append(report.verdict.label)
        print(f"{page}: a model of {report.settings.num_train:,} digits. {report.displayed_sentence}", flush=True)
    print("Open both pages in a browser: the first model has memorized its images, the second has not.")
    return 0 if labels[0] == "copies" and labels[1] != "copies" else 1


if __name__ == "__main__":
    argparse.ArgumentParser(prog="python -m reference_models.demo", description=__doc__).parse_args()
    sys.exit(main())
