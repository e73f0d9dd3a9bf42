from __future__ import annotations

import random
import tracemalloc
from functools import partial
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse
import torch
from PIL import Image

from memgen_eval import InputError, evaluate
from memgen_eval.data.images import Images
from memgen_eval.data.samplers import SampleSource
from memgen_eval.data.sources import load_images
from memgen_eval.distributed import ALONE


def load(source, **keywords):
    return load_images(source, **{"argument": "samples", **keywords})


def draw(sampler, *, num_samples=60, batch_size=16, value_range=None, like=(3, 8, 6), seed=0):
    source = SampleSource(sampler, num_samples, batch_size, value_range, data_dir=None, device=None)
    return source.load(like, quantize=True, seed=seed, ranks=ALONE)


def refusal(function, *arguments, **keywords):
    with pytest.raises(InputError) as caught:
        function(*arguments, **keywords)
    message = str(caught.value)
    assert "\n" not in message
    return message


def in_turn(images):
    """A sampler that hands out given images in order, and keeps what it was asked for."""
    asked = []

    def sampler(n):
        start = sum(asked)
        asked.append(n)
        return images[start : start + n]

    sampler.asked = asked
    return sampler


def forms(nhwc):
    """The images as samplers and Datasets hand them over, and the range to be given."""
    floats = torch.from_numpy(nhwc.transpose(0, 3, 1, 2) / 127.5 - 1).float()
    pictures = [Image.fromarray(image) for image in nhwc]
    unit = (nhwc / 255).astype(np.float32)
    labels = list(range(len(nhwc)))
    return {
        "uint8 arrays": (lambda s: nhwc[s], None),
        "tensors that want gradients": (lambda s: floats[s].clone().requires_grad_(), None),
        "results of a graph": (lambda s: floats[s].clone().requires_grad_() * 1, None),
        "bfloat16": (lambda s: floats[s].bfloat16(), None),
        "float16": (lambda s: floats[s].half(), None),
        "channels-last strides": (lambda s: floats[s].to(memory_format=torch.channels_last), None),
        "lists of pictures": (lambda s: pictures[s], None),
        "one-tuples": (lambda s: (floats[s],), None),
        "images and labels": (lambda s: (floats[s], torch.tensor(labels[s])), None),
        "a list of both": (lambda s: [floats[s], torch.tensor(labels[s])], None),
        "images and a list of labels": (lambda s: (floats[s], labels[s]), None),
        "pairs of images": (lambda s: (floats[s], floats[s].flip(0)), None),
        "lists of tensors": (lambda s: list(floats[s]), None),
        "dicts": (lambda s: {"label": labels[s], "img": floats[s]}, None),
        "dicts of pixel values": (lambda s: {"pixel_values": floats[s]}, None),
        "outputs of a pipeline": (lambda s: SimpleNamespace(images=unit[s]), (0, 1)),
        "outputs with pictures": (lambda s: SimpleNamespace(images=pictures[s]), None),
    }


FORMS = list(forms(np.zeros((2, 8, 6, 3), np.uint8)))


@pytest.mark.parametrize("form", FORMS)
def test_whatever_a_sampler_or_an_iterable_hands_over(form, nhwc, nchw):
    batch, value_range = forms(nhwc)[form]
    slices = [slice(start, start + 16) for start in range(0, 60, 16)]
    turn = iter(slices)
    expected = load(nchw).checksum
    assert draw(lambda n: batch(next(turn)), value_range=value_range).checksum == expected
    assert load((batch(s) for s in slices), value_range=value_range).checksum == expected
    assert load((batch(s) for s in slices), like=(3, 8, 6), value_range=value_range).checksum == expected


def test_an_output_or_a_dict_by_itself(nhwc, nchw):
    for name in ("dicts", "outputs of a pipeline", "outputs with pictures"):
        batch, value_range = forms(nhwc)[name]
        assert np.array_equal(load(batch(slice(0, 60)), value_range=value_range).array(), nchw)
    assert np.array_equal(load(Image.fromarray(nhwc[0])).array(), nchw[:1])


class Items(torch.utils.data.Dataset):
    """A Dataset of given items, which counts how often each was asked for."""

    def __init__(self, items):
        self.items, self.asked = items, [0] * len(items)

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        self.asked[index] += 1
        return self.items[index]


def items_of(nhwc, nchw):
    pictures = [Image.fromarray(image) for image in nhwc]
    return {
        "arrays": list(nhwc),
        "tensors": list(torch.from_numpy(nchw)),
        "image and label": [(image, 3) for image in torch.from_numpy(nchw)],
        "a list of both": [[image, 3] for image in nhwc],
        "dicts": [{"label": 1, "img": picture} for picture in pictures],
        "dicts of image": [{"image": picture} for picture in pictures],
        "pictures": pictures,
        "picture and label": [(picture, 3) for picture in pictures],
    }


@pytest.mark.parametrize("form", list(items_of(np.zeros((1, 8, 6, 3), np.uint8), np.zeros((1, 3, 8, 6), np.uint8))))
def test_datasets_are_read_by_index_a_few_dozen_items_three_times(form, nhwc, nchw, monkeypatch):
    monkeypatch.setattr("memgen_eval.data.batches.TOGETHER", 7)
    items = items_of(nhwc, nchw)[form]
    for like in (None, (3, 8, 6)):
        dataset = Items(items)
        assert np.array_equal(load(dataset, like=like).array(), nchw)
        assert sorted(dataset.asked) == [1] * 12 + [3] * 48
    assert np.array_equal(load(items).array(), nchw)
    dataset = Items(items)
    assert len(load(dataset, num_images=9)) == 9 and dataset.asked == [3] * 9 + [0] * 51


def test_names_beside_a_dataset(nhwc):
    names = [f"{i}.png" for i in range(60)]
    assert list(load(Images(Items(nhwc), names=names), num_images=9).names) == names[:9]
    assert "59 names for 60" in refusal(load, Images(Items(nhwc), names=names[:-1]))


def test_datasets_of_torch(nchw):
    floats = torch.from_numpy(nchw / 127.5 - 1)
    tensors = torch.utils.data.TensorDataset(floats, torch.arange(60))
    loader = torch.utils.data.DataLoader(tensors, batch_size=16)

    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter([(image, 0) for image in floats])

    for source in (tensors, loader, torch.utils.data.Subset(tensors, range(60)), Stream(), list(loader)):
        assert np.array_equal(load(source).array(), nchw)
    assert np.array_equal(load(list(floats.split(16))).array(), nchw)
    assert "TensorDataset" in load(tensors).arrival["form"] and "DataLoader" in load(loader).arrival["form"]


def test_grey_pictures_in_a_set_with_colours(nhwc, grey, monkeypatch):
    monkeypatch.setattr("memgen_eval.data.batches.TOGETHER", 4)
    pictures = [
        Image.fromarray(image) for image in (nhwc[0], grey[0], nhwc[1], nhwc[2], grey[1], grey[2], grey[3], grey[4])
    ]
    found = load(pictures).array()
    assert np.array_equal(found[1], np.repeat(grey[:1], 3, axis=0)) and np.array_equal(found[7, 2], grey[4])
    assert load(pictures[4:]).shape == (1, 8, 6) and load(pictures[4:], like=(3, 8, 6)).shape == (3, 8, 6)
    assert draw(lambda n: pictures[4:], num_samples=4).shape == (3, 8, 6)


def test_pictures_are_judged_as_files_are(nhwc):
    deep = Image.fromarray(np.zeros((8, 6), np.uint16))
    clear = Image.fromarray(np.zeros((8, 6, 4), np.uint8))
    assert "item 1" in refusal(load, [Image.fromarray(nhwc[0]), deep]) and "16 bits" in refusal(load, [deep])
    assert "transparent" in refusal(draw, lambda n: [clear] * n)


def test_an_iterable_gives_the_first_so_many_and_no_more(nhwc, nchw):
    seen = []

    def stream():
        for start in range(0, 60, 16):
            seen.append(start)
            yield nhwc[start : start + 16]

    assert np.array_equal(load(stream(), num_images=20).array(), nchw[:20]) and seen == [0, 16]
    message = refusal(load, iter([nhwc]), num_images=61)
    assert "61" in message and "60" in message
    assert "holds no images" in refusal(load, iter([])) and "holds no images" in refusal(load, [])
    assert "holds no images" in refusal(load, iter([nhwc, nhwc[:0]]))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ([{"a": 1, "b": 2}], ["item 0", "a, b", "pixel_values"]),
        ([3], ["item 0", "int"]),
        (["a.png"], ["item 0", "'a.png'"]),
        (iter([3]), ["batch 1", "int"]),
        (iter([[]]), ["batch 1", "an empty list"]),
        ({"train": 1, "test": 2}, ["train, test"]),
        (3, ["a int is not an image set"]),
        (None, ["NoneType"]),
        ([np.zeros((8, 6)), np.zeros((6, 8))], ["8 x 6", "6 x 8"]),
        (iter([np.zeros((2, 8, 6), np.uint8), np.zeros((2, 6, 8), np.uint8)]), ["batch 2", "8 x 6", "6 x 8"]),
        (iter([np.zeros((2, 8, 6), np.uint8), np.zeros((2, 8, 6))]), ["batch 2", "uint8", "float64"]),
        (iter([np.full((2, 8, 6), 300)]), ["0 to 255"]),
    ],
)
def test_what_is_not_an_image_set(source, words):
    message = refusal(load, source)
    assert all(word in message for word in words)


def test_only_samples_may_be_a_sampler():
    assert "give the images" in refusal(load, lambda n: None, argument="train")
    assert "not an image set" in refusal(load, lambda n: None)


@pytest.mark.parametrize(
    ("num_samples", "calls"), [(1, [1]), (5, [5]), (64, [64]), (128, [64, 64]), (130, [64, 64, 2])]
)
def test_a_sampler_is_asked_for_exactly_what_is_missing(num_samples, calls, grey, caplog):
    caplog.set_level("INFO", "memgen_eval")
    sampler = in_turn(np.concatenate([grey] * 4))
    found = draw(sampler, num_samples=num_samples, batch_size=64, like=None)
    assert sampler.asked == calls and len(found) == num_samples
    progress = [(record.done, record.total) for record in caplog.records]
    assert progress == [(int(total), num_samples) for total in np.cumsum(calls)]


def test_how_samples_arrived(nhwc):
    found = draw(in_turn(nhwc))
    assert found.arrival["form"] == "sampler in_turn.<locals>.sampler" and found.names is None
    assert found.arrival["layout"] == "N H W C" and found.arrival["path"] is None


def test_a_sampler_that_returns_another_number(nhwc):
    message = refusal(draw, lambda n: nhwc[:16], num_samples=18)
    assert "call 2" in message and "returned 16 images, asked for 2" in message and "<lambda>" in message
    assert "returned 0 images" in refusal(draw, lambda n: np.uint8(3))
    assert "returned 3 images" in refusal(draw, lambda n: torch.zeros(3, 8, 6), num_samples=1)


def test_a_sampler_that_fails_is_named_with_its_error():
    calls = []

    def broken(n):
        calls.append(n)
        if len(calls) == 3:
            raise ZeroDivisionError("first line\nsecond </script> line")
        return np.zeros((n, 8, 6, 3), np.uint8)

    message = refusal(draw, broken)
    assert "broken), call 3, asked for 16 images, failed: ZeroDivisionError: first line second" in message
    with pytest.raises(InputError) as caught:
        draw(lambda n: 1 / 0)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    with pytest.raises(KeyboardInterrupt):
        draw(lambda n: (_ for _ in ()).throw(KeyboardInterrupt()))


def test_a_sampler_that_changes_its_mind(nhwc):
    shapes = iter([(16, 8, 6, 3), (16, 6, 8, 3)])
    message = refusal(draw, lambda n: np.zeros(next(shapes), np.uint8))
    assert "call 2" in message and "6 x 8 x 3" in message and "8 x 6 x 3" in message
    types = iter([nhwc[:16], nhwc[:16] / 127.5 - 1])
    assert "call 2" in refusal(draw, lambda n: next(types))
    assert "training set" in refusal(draw, lambda n: nhwc[:n], like=(3, 28, 28))


def test_a_sampler_of_nan_or_of_another_range(nhwc, nchw, caplog):
    floats = nchw / 127.5 - 1
    floats[37, 0, 0, 0] = np.nan
    message = refusal(draw, in_turn(floats))
    assert "call 3" in message and "image 37 " in message
    sampler = in_turn(nchw.astype(np.float32))
    assert "--range 0,255" in refusal(draw, sampler) and sampler.asked == [16]  # no later call could fix it
    assert caplog.text == ""
    sampler = in_turn(nchw / 255)
    assert "from 0 to 1" in refusal(draw, sampler) and sampler.asked == [16, 16, 16, 12]  # a later call could have
    assert "no value below -0.1 so far" in caplog.text
    assert np.array_equal(draw(in_turn(nchw / 255), value_range=(0, 1)).array(), nchw)
    assert "finite increasing" in refusal(draw, in_turn(floats), value_range=(1, 0))
    with pytest.warns(UserWarning, match="is the range right"):
        draw(in_turn(nchw / 127.5 - 1), value_range=(-0.5, 0.5))


@pytest.mark.parametrize("name", ["num_samples", "batch_size"])
def test_counts_are_at_least_one(name, nhwc):
    sampler = in_turn(nhwc)
    assert name in refusal(evaluate, sampler, train=nhwc, **{name: 0}) and not sampler.asked


def test_seeds_make_samples_independent_of_the_batch_size():
    def sampler(n, seeds):
        assert len(seeds) == n and all(type(seed) is int for seed in seeds)
        return np.stack([np.random.default_rng(seed).integers(0, 256, (8, 6, 3), dtype=np.uint8) for seed in seeds])

    draws = {size: draw(sampler, batch_size=size, seed=5) for size in (1, 7, 60)}
    assert len({found.checksum for found in draws.values()}) == 1
    alone = np.random.default_rng(5 + 44).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    assert np.array_equal(draws[7].array()[44], alone.transpose(2, 0, 1))


def test_a_generator_is_seeded_and_the_callers_states_are_left_alone():
    def sampler(n, *, generator=None):
        return torch.rand((n, 3, 8, 6), generator=generator)

    def states():
        legacy = np.random.get_state()[1].tolist()  # noqa: NPY002 - the state that callers rely on
        return random.getstate(), legacy, torch.get_rng_state().tolist()

    before = states()
    first, again, other = (draw(sampler, seed=seed, value_range=(0, 1)) for seed in (3, 3, 4))
    assert first.checksum == again.checksum != other.checksum
    expected = torch.rand((16, 3, 8, 6), generator=torch.Generator().manual_seed(3))
    assert np.array_equal(first.array()[:16], np.rint(expected.double().numpy() * 255))
    assert states() == before


def test_randomness_is_given_only_where_the_signature_names_it():
    given = []
    image = np.zeros((1, 8, 6, 3), np.uint8)

    def anything(n, **keywords):
        given.append(keywords)
        return image

    def both(n, generator=None, seeds=None):
        given.append((generator, seeds))
        return image

    def by_position(n, seeds=None, /):
        given.append(seeds)
        return image

    class Pipeline:
        def __call__(self, batch_size=1, generator=None):
            given.append(type(generator))
            return SimpleNamespace(images=image / 255)

    for sampler in (anything, both, by_position):
        draw(sampler, num_samples=1, seed=9)
    draw(Pipeline(), num_samples=1, value_range=(0, 1))
    draw(partial(both, generator=1), num_samples=1, seed=9)
    assert given == [{}, (None, [9]), None, torch.Generator, (1, [9])]


def test_a_sampler_without_a_signature(nhwc, monkeypatch):
    class Odd:
        __signature__ = "none"

        def __call__(self, n):
            return nhwc[:n]

    assert len(draw(Odd(), num_samples=3)) == 3


def test_a_sampler_may_reuse_its_buffer(nhwc, nchw):
    buffer, start = torch.zeros(16, 3, 8, 6, dtype=torch.uint8), [0]

    def sampler(n):
        buffer[:n] = torch.from_numpy(nchw[start[0] : start[0] + n])
        start[0] += n
        return buffer[:n]

    assert np.array_equal(draw(sampler).array(), nchw)


@pytest.mark.parametrize("sizes", [(60,), (1, 3, 2, 50, 4), (1,) * 60], ids=["one", "uneven", "single"])
def test_batches_of_any_size_become_one_array(sizes, nhwc):
    bounds = np.cumsum((0, *sizes))
    batches = (nhwc[start:stop] for start, stop in pairwise(bounds))
    whole = load(batches).array()
    assert whole.flags.c_contiguous
    assert (whole == nhwc.transpose(0, 3, 1, 2)).all()


def test_drawing_keeps_a_byte_a_value_whatever_the_sampler_returns():
    batch = torch.rand(10, 3, 32, 32).mul(2).sub(1).requires_grad_()
    batch.detach()[0, 0, 0, 0] = -1

    def peak(num_samples):
        tracemalloc.start()
        draw(lambda n: batch * 1, num_samples=num_samples, batch_size=10, like=(3, 32, 32))
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    few, many = peak(100), peak(1000)
    assert many - few < 1.6 * 900 * 3072


class Cropped(torch.utils.data.Dataset):
    """Images with a random transform, as a training loop has them."""

    def __init__(self, images, transform):
        self.images, self.transform = images, transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.transform(torch.from_numpy(self.images[index])), 0


def flipped_by_torch(image):
    return image.flip(-1) if torch.rand(()) < 0.5 else image


def noise_of_numpy(image):
    return image + torch.from_numpy(np.random.randint(0, 2, image.shape).astype(np.uint8))  # noqa: NPY002


def cropped_by_python(image):
    left = random.randrange(2)
    return image[:, :, left : left + 5]


BUFFER = torch.zeros(3, 8, 6, dtype=torch.uint8)


def in_one_buffer(image):
    BUFFER[:] = flipped_by_torch(image)
    return BUFFER


def mixed(items):
    images = torch.stack([image for image, _ in items])
    return images if torch.rand(()) < 0.5 else images.flip(0)


AUGMENTED = {
    "a flip": lambda images: Cropped(images, flipped_by_torch),
    "noise": lambda images: Cropped(images, noise_of_numpy),
    "a crop": lambda images: Cropped(images, cropped_by_python),
    "one buffer": lambda images: Cropped(images, in_one_buffer),
    "a subset": lambda images: torch.utils.data.Subset(Cropped(images, flipped_by_torch), range(5, 50)),
    "a concatenation": lambda images: torch.utils.data.ConcatDataset(
        [Cropped(images[:30], lambda image: image), Cropped(images[30:], flipped_by_torch)]
    ),
    "a loader": lambda images: torch.utils.data.DataLoader(Cropped(images, flipped_by_torch), batch_size=16),
    "a loader of a subset": lambda images: torch.utils.data.DataLoader(
        torch.utils.data.Subset(Cropped(images, noise_of_numpy), range(60)), batch_size=None
    ),
    "a collate function": lambda images: torch.utils.data.DataLoader(
        Cropped(images, lambda image: image), batch_size=16, collate_fn=mixed
    ),
}


@pytest.mark.parametrize("argument", ["samples", "train", "test"])
@pytest.mark.parametrize("form", AUGMENTED)
def test_random_transforms_are_refused(form, argument, nchw):
    torch.manual_seed(0), random.seed(0), np.random.seed(0)  # noqa: NPY002
    message = refusal(load, AUGMENTED[form](nchw), argument=argument)
    assert message.startswith(f"{argument}, item ") and "differs when it is read again" in message


def test_fixed_transforms_are_not(nchw):
    for source in (Cropped(nchw, lambda image: image.flip(-1)), Cropped(nchw, lambda image: image.float() / 127.5 - 1)):
        assert load(source).shape == (3, 8, 6)
        assert load(torch.utils.data.DataLoader(source, batch_size=7)).shape == (3, 8, 6)


STREAMED = {
    "C H W": lambda nhwc, nchw: iter(nchw),
    "H W C": lambda nhwc, nchw: iter(nhwc),
    "tensors": lambda nhwc, nchw: iter(torch.from_numpy(nchw)),
    "image and label": lambda nhwc, nchw: ((image, 3) for image in nchw),
    "dicts": lambda nhwc, nchw: ({"image": image, "label": 1} for image in nhwc),
    "pictures": lambda nhwc, nchw: (Image.fromarray(image) for image in nhwc),
    "dicts of pictures": lambda nhwc, nchw: ({"img": Image.fromarray(image)} for image in nhwc),
    "a map": lambda nhwc, nchw: map(torch.from_numpy, nchw),
}


@pytest.mark.parametrize("form", STREAMED)
def test_streams_of_single_images(form, nhwc, nchw, monkeypatch):
    monkeypatch.setattr("memgen_eval.data.batches.TOGETHER", 7)
    assert np.array_equal(load(STREAMED[form](nhwc, nchw), like=(3, 8, 6)).array(), nchw)
    assert len(load(STREAMED[form](nhwc, nchw), like=(3, 8, 6), num_images=9)) == 9
    if "pictures" in form:
        assert np.array_equal(load(STREAMED[form](nhwc, nchw)).array(), nchw)
    else:
        message = refusal(load, STREAMED[form](nhwc, nchw), argument="train")
        assert (
            "train, item 1" in message and "one colour image" in message and "wrap batches as (B, 3, H, W)" in message
        )


def test_streams_of_single_grey_images(grey):
    expected = load(grey).checksum
    for stream in (iter(grey), iter(grey[:, None]), ((image, 3) for image in grey), map(Image.fromarray, grey)):
        assert load(stream).checksum == expected
    for stream in (iter(grey), iter(grey[:, None]), iter(grey[..., None]), iter([grey[:16], grey[16:]])):
        assert load(stream, like=(1, 8, 6)).checksum == expected
    assert load(iter([grey[:16], grey[16:19], grey[19:]])).checksum == expected  # the first batch tells


@pytest.mark.parametrize("argument", ["samples", "train"])
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda a: np.ma.masked_array(a, a > 200), "a masked array"),
        (lambda a: torch.from_numpy(a).to_sparse(), "a tensor of layout torch.sparse_coo"),
        (lambda a: torch.zeros(4, 3, 8, 6, device="meta"), "a tensor on the device meta"),
        (lambda a: scipy.sparse.csr_matrix(a.reshape(60, -1)), "a sparse csr_matrix: call its toarray()"),
        (lambda a: OnDevice(), "a OnDevice that does not turn into a numpy array (TypeError: Use .get() first)"),
    ],
    ids=["masked", "sparse tensor", "meta", "sparse matrix", "on a device"],
)
def test_arrays_without_plain_values_are_named_with_their_set(make, said, argument, nchw):
    for given in (make(nchw), iter([make(nchw)]), Images(make(nchw))):
        message = refusal(load, given, argument=argument)
        assert message.startswith(argument) and said in message


class OnDevice:
    """An array that does not leave its device unasked, as cupy's."""

    def __array__(self, *_, **__):
        raise TypeError("Use .get() first")
