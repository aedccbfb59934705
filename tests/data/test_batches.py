"""Minibatches: their order is that of the seed alone, and a training goes on where it stopped."""

from itertools import islice

import pytest
import torch

from pyro_scenes.data import Scenes, batches


def first(number, *args, **kwargs):
    return list(islice(batches(*args, **kwargs), number))


def same(one, other):
    return len(one) == len(other) and all(map(torch.equal, one, other))


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
    all_five = first(20, numbered(5), 64)
    assert all(sorted(who(batch)) == list(range(5)) for batch in all_five)
    assert len({tuple(who(batch)) for batch in all_five}) > 10


def test_batches_go_to_the_device():
    assert first(1, numbered(5), 2, device="meta")[0].device.type == "meta"


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        *[
            ({"size": size}, f"size must be a whole number from 1 up, got {size}")
            for size in (0, 2.5)
        ],
        *[({name: -1}, f"{name} must be a whole number from 0 up") for name in ("seed", "start")],
        *[({name: 0.5}, f"{name} must be a whole number from 0 up") for name in ("seed", "start")],
        ({"seed": 2**40}, "seed must be less than"),
    ],
    ids=str,
)
def test_bad_numbers_are_refused_at_once(bad, error, unchecked):
    with pytest.raises(ValueError, match=error):
        batches(numbered(5), **{"size": 2, **bad})


def test_batches_of_no_images_are_refused():
    with pytest.raises(ValueError, match="at least one image"):
        batches(numbered(5)[:0], 2)


# Tuples.


def test_a_tuple_gives_the_parts_of_the_same_scenes_in_the_order_of_the_images_alone():
    images, numbers = numbered(10), torch.arange(10)
    regions = torch.rand(10, 2, 3, 3) < 0.5
    pairs = first(7, (images, numbers, regions), 3, seed=2, start=2)
    assert same([batch[0] for batch in pairs], first(7, images, 3, seed=2, start=2))
    for batch, chosen, parts in pairs:
        assert who(batch) == chosen.tolist()
        assert torch.equal(parts, regions[chosen]) and parts.dtype == torch.bool


def test_images_alone_become_floats():
    images = torch.randint(256, (4, 1, 2, 2), dtype=torch.uint8)
    ((batch, same_bytes),) = first(1, (images, images), 4)
    assert torch.equal(batch, same_bytes / 255) and same_bytes.dtype == torch.uint8


def test_a_tuple_of_images_alone_gives_tuples():
    ((batch,),) = first(1, (numbered(5),), 2)
    assert torch.equal(batch, first(1, numbered(5), 2)[0])


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (Scenes(numbered(5)), TypeError, "got Scenes: of scenes, give scenes.images"),
        ((), TypeError, "got none"),
        ([1, 2], TypeError, "got list"),
        ((numbered(5), [1] * 5), TypeError, "got list"),
        (numbered(5).long(), ValueError, "images must be uint8 .* got torch.int64: data.as_images"),
        ((numbered(5) > 0, numbered(5)), ValueError, "got torch.bool: data.as_images"),
        ((numbered(5), torch.arange(4)), ValueError, r"as many scenes, got \[5, 4\]"),
        ((numbered(5), torch.tensor(4)), ValueError, r"as many scenes, got \[5, 0\]"),
    ],
    ids=["scenes", "empty", "list", "list of labels", "int64", "bool", "lengths", "a number"],
)
def test_what_is_no_data_is_refused_at_once(data, error, message, unchecked):
    with pytest.raises(error, match=message):
        batches(data, 2)
