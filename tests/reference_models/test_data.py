"""Which images are trained on, and what each step sees of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from memgen_eval import InputError
from memgen_eval.data.sources import load_images
from reference_models.data import batch_indices, draw_batch, to_model, training_images


def rows(images: np.ndarray) -> list[bytes]:
    return [image.tobytes() for image in images]


def test_a_number_of_images_is_a_part_in_order_and_grows_by_more() -> None:
    whole = load_images("digits", argument="train").array()
    few, many = (training_images("digits", num_images=n).array() for n in (50, 200))
    places = [rows(whole).index(image) for image in rows(many)]
    assert places == sorted(places) and len(set(places)) == 200
    assert set(rows(few)) <= set(rows(many)) and few.shape == (50, 1, 8, 8)
    assert np.array_equal(training_images("digits").array(), whole)


def test_every_class_folder_is_met_and_names_are_kept(tmp_path: Path) -> None:
    for label in range(4):
        (tmp_path / str(label)).mkdir()
        for i in range(10):
            level = np.full((8, 8), 10 * label + i, dtype=np.uint8)
            Image.fromarray(level).save(tmp_path / str(label) / f"{i}.png")
    chosen = training_images(tmp_path, num_images=12)
    assert chosen.names is not None
    assert {name.split("/")[0] for name in chosen.names} == set("0123")
    assert [10 * int(name[0]) + int(name[2]) for name in chosen.names] == chosen.array()[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("num_images", [0, 1298])
def test_more_images_than_there_are(num_images: int) -> None:
    with pytest.raises(InputError, match=r"--num-images is \d+, and digits holds 1297 images: give 1 to 1297"):
        training_images("digits", num_images=num_images)


@pytest.mark.parametrize(("num_images", "batch_size"), [(10, 4), (4, 10), (6, 6), (1, 3)])
def test_every_epoch_shows_every_image_once(num_images: int, batch_size: int) -> None:
    steps = range(2 * num_images)
    seen = np.concatenate([batch_indices(num_images, batch_size=batch_size, seed=3, step=step) for step in steps])
    epochs = seen.reshape(-1, num_images)
    assert (np.sort(epochs, axis=1) == np.arange(num_images)).all()
    if num_images > 4:
        assert len(np.unique(epochs, axis=0)) > 1


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    def drawn(seed: int, step: int) -> list[bytes]:
        batch = draw_batch((100, 1, 8, 8), batch_size=16, seed=seed, step=step)
        return [batch.indices.tobytes(), batch.sigma.numpy().tobytes(), batch.eps.numpy().tobytes()]

    state = np.random.get_state()[1].tobytes(), torch.get_rng_state()  # type: ignore[index, union-attr]  # noqa: NPY002
    assert drawn(0, 5) == drawn(0, 5)
    for other in ((0, 6), (1, 5), (5, 0)):
        assert all(mine != theirs for mine, theirs in zip(drawn(0, 5), drawn(*other), strict=True))
    assert state[0] == np.random.get_state()[1].tobytes()  # type: ignore[index, union-attr]  # noqa: NPY002
    assert torch.equal(state[1], torch.get_rng_state())


def test_noise_levels_are_log_normal_and_noise_is_normal() -> None:
    batches = [draw_batch((100, 1, 8, 8), batch_size=500, seed=0, step=step) for step in range(20)]
    logs = torch.cat([batch.sigma for batch in batches]).double().log()
    assert logs.mean().item() == pytest.approx(-1.2, abs=5 * 1.2 / 100)  # 10,000 draws: five standard errors
    assert logs.std().item() == pytest.approx(1.2, rel=5 / 2**0.5 / 100)
    eps = torch.cat([batch.eps for batch in batches]).double()
    assert eps.mean().item() == pytest.approx(0, abs=5 / 800)
    assert eps.std().item() == pytest.approx(1, rel=5 / 2**0.5 / 800)
    # noise is its own: neither its level nor its image is in it
    assert abs(np.corrcoef(logs.numpy(), eps.mean(dim=(1, 2, 3)).numpy())[0, 1]) < 5 / 100


def test_grey_levels_are_the_denoisers_units() -> None:
    levels = torch.tensor([0, 51, 255], dtype=torch.uint8)
    assert torch.allclose(to_model(levels), torch.tensor([-1, -0.6, 1]), atol=1e-7)
