"""A teacher whose distribution is the truth: a trained run, or the Gaussian of a set of images."""

from __future__ import annotations

from pathlib import Path

from memgen_eval import GaussianDenoiser, sample
from memgen_eval.errors import InputError
from reference_models.data import Selection
from reference_models.sample import to_grey_levels, write_samples
from reference_models.study.comparing import Denoise
from reference_models.study.runner import Source
from reference_models.study.sweep import Sweep
from reference_models.training.checkpoints import load_trained

IMAGES_OF_TEACHER = "teacher.npz"
GAUSSIAN = "gaussian"
SEED = 1  # of the noise behind the training images; comparisons start from other noise


def prepared(sweep: Sweep, folder: Path, *, data_dir: str | None) -> Source:
    """Where the images of the runs come from; a teacher's samples are drawn first, once for the whole study.

    Raises
    ------
    InputError
        If there is no such teacher, or the sweep does not say how many samples its students need.
    """
    if sweep.teacher is None:
        return Source(data_dir=data_dir)
    path = folder / IMAGES_OF_TEACHER
    if not path.is_file():
        denoiser, image_shape = teacher_of(sweep, data_dir=data_dir)
        images = sample(denoiser, _num_needed(sweep), image_shape, seed=SEED)
        write_samples(path, to_grey_levels(images))
    return Source(data=str(path), data_dir=data_dir)


def teacher_of(sweep: Sweep, *, data_dir: str | None) -> tuple[Denoise, tuple[int, int, int]]:
    """The teacher's denoiser, and the shape of its images."""
    if sweep.teacher == GAUSSIAN:
        side, grey = sweep.fixed.get("side"), bool(sweep.fixed.get("grey"))
        selection = Selection(str(sweep.fixed["data"]), side=None if side is None else int(side), grey=grey)
        images = selection.train(data_dir)
        return GaussianDenoiser(images.array()), images.shape
    trained = load_trained(Path(str(sweep.teacher)))
    return trained.denoiser, trained.recipe.unet.image_shape


def _num_needed(sweep: Sweep) -> int:
    """As many images as the largest run takes, for both halves where these are told apart."""
    if "num_images" not in sweep.factors and "num_images" not in sweep.fixed:
        raise InputError("a sweep with a teacher needs num_images: say how many of its samples a run is trained on")
    numbers = sweep.factors.get("num_images", (sweep.fixed.get("num_images", 0),))
    num_halves = 2 if "half" in sweep.factors or "half" in sweep.fixed else 1
    return num_halves * max(int(number) for number in numbers)
