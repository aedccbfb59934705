"""Scenes at the door: what is let in, what is refused and how, and minibatches that can be resumed."""

from itertools import islice

import numpy as np
import pytest
import torch

from pyro_scenes.data import Scenes, as_images, batches

GREY = np.random.default_rng(0).random((5, 4, 3))
BYTES = np.random.default_rng(1).integers(0, 256, (5, 4, 3), dtype=np.uint8)


def first(number, *args, **kwargs):
    return list(islice(batches(*args, **kwargs), number))


def same(some, others):
    return len(some) == len(others) and all(map(torch.equal, some, others))


# as_images


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16, "uint8"])
@pytest.mark.parametrize("channels", [None, 1, 3])
@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])
def test_every_kind_of_images_becomes_nchw_with_its_values(kind, channels, convert):
    given = BYTES if kind == "uint8" else GREY.astype(kind)
    if channels:
        given = np.stack([given] * channels, 1)
    images = as_images(convert(given))
    assert images.dtype == (torch.uint8 if kind == "uint8" else torch.float32)
    assert images.shape == (5, channels or 1, 4, 3)
    assert np.array_equal(images.numpy().reshape(given.shape), given.astype(images.numpy().dtype))


def test_the_ends_of_the_range_belong_to_it():
    for value in (0.0, 1.0):
        assert (as_images(torch.full((1, 2, 2), value)) == value).all()


@pytest.mark.parametrize("shape", [(), (4,), (4, 3), (1, 2, 1, 4, 3)])
def test_another_rank_is_refused(shape):
    with pytest.raises(ValueError, match=r"\(n, H, W\) or \(n, C, H, W\), got \("):
        as_images(np.zeros(shape))


@pytest.mark.parametrize("shape", [(0, 4, 3), (2, 0, 3), (2, 0, 4, 3)])
def test_an_empty_batch_is_refused(shape):
    with pytest.raises(ValueError, match="images is empty"):
        as_images(torch.zeros(shape))


@pytest.mark.parametrize("kind", [bool, np.int8, np.int64, np.uint16, np.complex64, object, str])
def test_another_type_is_refused(kind):
    with pytest.raises(ValueError, match="uint8.* or float in .0, 1., got"):
        as_images(np.zeros((2, 4, 3)).astype(kind))


@pytest.mark.parametrize("kind", [torch.bool, torch.int64, torch.complex64])
def test_another_type_of_tensor_is_refused(kind):
    with pytest.raises(ValueError, match="uint8.* or float in .0, 1., got"):
        as_images(torch.zeros(2, 4, 3, dtype=kind))


@pytest.mark.parametrize("stray", [-0.01, 1.01, 255.0, np.inf, -np.inf, np.nan])
def test_one_pixel_out_of_range_is_refused(stray):
    images = GREY.copy()
    images[3, 2, 1] = stray
    with pytest.raises(ValueError, match="must lie in .0, 1."):
        as_images(images)


# Scenes


@pytest.mark.parametrize(
    "index", [slice(1, 4), slice(None, None, 2), torch.tensor([4, 0, 4]), torch.arange(5) > 2]
)
def test_an_index_picks_the_same_scenes_from_every_part(index):
    number = torch.arange(5)
    scenes = Scenes(as_images(BYTES), number, number[:, None] * 10, number[:, None, None] * 0.5)
    some, chosen = scenes[index], number[index]
    assert len(some) == len(chosen) and torch.equal(some.counts, chosen)
    assert torch.equal(some.images, scenes.images[chosen])
    assert torch.equal(some.labels[:, 0], 10 * chosen)
    assert torch.equal(some.boxes[:, 0, 0], 0.5 * chosen)


def test_what_is_unknown_stays_unknown():
    some = Scenes(as_images(BYTES))[:2]
    assert len(some) == 2 and some.counts is some.labels is some.boxes is None


def towers(size, objects, seed=0):
    """Scenes of random masks, which overlap as they like."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(size, objects, 6, 7, generator=generator) < 0.4
    return Scenes(torch.zeros(size, 1, 6, 7, dtype=torch.uint8), masks=masks)


@pytest.mark.parametrize("objects", [0, 1, 2, 5])
def test_what_is_visible_divides_what_is_covered(objects):
    scenes = towers(20, objects)
    masks, before = scenes.masks, scenes.masks.clone()
    seen = scenes.visible()
    assert seen.dtype == torch.bool and seen.shape == masks.shape
    assert torch.equal(seen.sum(1), masks.any(1).long())  # each pixel is of one object, or of none
    assert not (seen & ~masks).any()
    assert torch.equal(masks, before)


def test_who_is_in_front_hides_who_is_behind():
    scenes = towers(20, 4)
    seen = scenes.visible()
    assert torch.equal(seen[:, 0], scenes.masks[:, 0])
    for behind in range(1, 4):
        in_front = scenes.masks[:, :behind].any(1)
        assert torch.equal(seen[:, behind], scenes.masks[:, behind] & ~in_front)


def test_without_masks_nobody_knows_what_is_visible():
    with pytest.raises(ValueError, match="no masks"):
        Scenes(as_images(BYTES)).visible()


# batches: images[i] is full of the number i, so that a batch tells which images it holds


def numbered(n):
    return (torch.arange(n, dtype=torch.float32) / 100).expand(1, 2, 2, n).movedim(-1, 0)


def who(batch):
    return batch[:, 0, 0, 0].mul(100).round().long().tolist()


@pytest.mark.parametrize("start", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("seed", [0, 3])
def test_a_training_goes_on_where_it_stopped(start, seed):
    whole = first(10, numbered(10), 3, seed=seed)
    assert same(first(10 - start, numbered(10), 3, seed=seed, start=start), whole[start:])


def test_an_epoch_visits_each_image_at_most_once_and_leaves_out_the_short_batch():
    epochs = first(3 * 20, numbered(11), 3)
    assert all(batch.shape == (3, 1, 2, 2) for batch in epochs)
    visited = [sum(map(who, epochs[i : i + 3]), []) for i in range(0, 60, 3)]
    assert all(len(set(epoch)) == 9 for epoch in visited)
    assert set(sum(visited, [])) == set(range(11))  # left out once, not for ever
    assert len(set(map(tuple, visited))) == 20


def test_the_order_is_that_of_the_seed_alone():
    torch.manual_seed(1)
    one, state = first(6, numbered(50), 20, seed=5), torch.get_rng_state()
    torch.manual_seed(2)
    assert same(one, first(6, numbered(50), 20, seed=5))
    assert not same(one, first(6, numbered(50), 20, seed=6))
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)


def test_bytes_become_floats_and_floats_stay():
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    (batch,) = first(1, images, 1)
    assert batch.dtype == torch.float32 and torch.equal(batch, images / 255)
    assert batch.min() == 0 and batch.max() == 1
    assert torch.equal(first(1, batch, 1)[0], batch)


def test_few_images_make_batches_of_them_all():
    some = first(20, numbered(5), 64)
    assert all(sorted(who(batch)) == list(range(5)) for batch in some)
    assert len({tuple(who(batch)) for batch in some}) > 10


def test_batches_go_to_the_device():
    assert first(1, numbered(5), 2, device="meta")[0].device.type == "meta"


def test_a_batch_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one image, got size=0"):
        next(batches(numbered(5), 0))


def test_batches_of_no_images_are_refused():
    with pytest.raises(ValueError, match="at least one image"):
        next(batches(numbered(5)[:0], 2))
