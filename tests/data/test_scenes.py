"""Scenes: indices, splits, chunks, what is visible and which layer a pixel belongs to."""

import numpy as np
import pytest
import torch

from pyro_scenes.data import Scenes, as_images, coloured_shapes, fingerprints

BYTES = np.random.default_rng(1).integers(0, 256, (5, 4, 5), dtype=np.uint8)


@pytest.mark.parametrize(
    "index", [slice(1, 4), slice(None, None, 2), torch.tensor([4, 0, 4]), torch.arange(5) > 2]
)
def test_an_index_picks_the_same_scenes_from_every_part(index):
    number = torch.arange(5)
    boxes = number[:, None, None].expand(5, 1, 4) * 0.5
    scenes = Scenes(as_images(BYTES), number, number[:, None] * 10, boxes)
    part, chosen = scenes[index], number[index]
    assert len(part) == len(chosen) and torch.equal(part.counts, chosen)
    assert torch.equal(part.images, scenes.images[chosen])
    assert torch.equal(part.labels[:, 0], 10 * chosen)
    assert torch.equal(part.boxes[:, 0, 0], 0.5 * chosen)


def test_what_is_unknown_stays_unknown():
    part = Scenes(as_images(BYTES))[:2]
    assert len(part) == 2 and part.counts is part.labels is part.boxes is None


def test_a_set_of_scenes_is_shown_in_a_line():
    scenes = Scenes(as_images(BYTES), counts=torch.arange(5))
    assert repr(scenes) == "Scenes(5 images (1, 4, 5) uint8, counts)"


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


# regions


@pytest.mark.parametrize(("objects", "layers"), [(0, 1), (2, 3), (2, 6)])
def test_each_pixel_is_of_one_layer_and_layers_stand_in_order(objects, layers):
    scenes = towers(20, objects)
    regions = scenes.regions(layers)
    assert regions.dtype == torch.bool and regions.shape == (20, layers, 6, 7)
    assert (regions.sum(1) == 1).all()
    assert torch.equal(regions[:, :objects], scenes.visible())
    assert torch.equal(regions[:, objects], ~scenes.masks.any(1))
    assert not regions[:, objects + 1 :].any()


def test_too_few_layers_are_refused():
    with pytest.raises(ValueError, match="2 layers are too few for 2 objects .*: needs 3"):
        towers(3, 2).regions(2)
    with pytest.raises(ValueError, match="no masks"):
        Scenes(as_images(BYTES)).regions(3)


# chunks and floats


@pytest.mark.parametrize("size", [1, 3, 20, 50])
def test_chunks_are_the_scenes_in_order(size):
    scenes = towers(20, 2)
    chunks = list(scenes.chunks(size))
    assert all(len(chunk) == size for chunk in chunks[:-1]) and 1 <= len(chunks[-1]) <= size
    assert torch.equal(torch.cat([chunk.masks for chunk in chunks]), scenes.masks)


@pytest.mark.parametrize("size", [0, -1, 2.5])
def test_chunks_of_no_size_are_refused_at_once(size, unchecked):
    with pytest.raises(ValueError, match="size must be a whole number from 1 up"):
        towers(3, 1).chunks(size)


def test_floats_are_the_images_in_the_unit_interval():
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    floats = Scenes(images).floats()
    assert floats.dtype == torch.float32 and torch.equal(floats, images / 255)
    assert torch.equal(Scenes(floats).floats(), floats)
    assert Scenes(images).floats("meta").device.type == "meta"


# split and unseen


def pictures(size, seed=0):
    """Scenes whose counts number them."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (size, 1, 4, 5), dtype=torch.uint8, generator=generator)
    return Scenes(images, torch.arange(size))


@pytest.mark.parametrize("size", [3, 4, 10, 29, 30, 200])
def test_a_split_divides_all_scenes(size):
    split = pictures(size).split()
    numbers = torch.cat([part.counts for part in split])
    assert torch.equal(numbers.sort().values, torch.arange(size))
    assert len(split.validation) == len(split.test) == max(1, size // 10)
    assert len(split.train) == size - 2 * max(1, size // 10) >= 1


def test_a_split_depends_on_no_seed_and_shuffles():
    scenes = pictures(200)
    torch.manual_seed(1)
    one, state = scenes.split(), torch.get_rng_state()
    torch.manual_seed(2)
    other = scenes.split()
    for part, again in zip(one, other, strict=True):
        assert torch.equal(part.counts, again.counts) and torch.equal(part.images, again.images)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)
    for part in one:
        assert not torch.equal(part.counts, part.counts.sort().values)
        assert abs(part.counts.float().mean() - 99.5) < 5 * 58 / len(part) ** 0.5


@pytest.mark.parametrize("size", [1, 2])
def test_too_few_scenes_are_not_split(size):
    with pytest.raises(ValueError, match=f"^{size} scenes, {size} of .* at least 3"):
        pictures(size).split()


def test_copies_of_one_image_are_not_split():
    with pytest.raises(ValueError, match="20 scenes, 1 of them different, are too few"):
        pictures(1)[torch.zeros(20, dtype=torch.int64)].split()


def test_copies_of_an_image_stay_together():
    scenes = pictures(100)
    split = scenes[torch.arange(100).repeat(3)].split()
    known = [set(fingerprints(part.images).tolist()) for part in split]
    assert not (known[0] & known[1] or known[0] & known[2] or known[1] & known[2])
    assert set().union(*known) == set(fingerprints(scenes.images).tolist())
    assert [len(part) for part in split] == [240, 30, 30]


def test_the_order_of_the_scenes_does_not_decide_a_split():
    scenes = pictures(50)
    for one, other in zip(scenes.split(), scenes[torch.arange(50).flip(0)].split(), strict=True):
        assert torch.equal(one.counts, other.counts)


def test_empty_scenes_are_divided_like_others():
    scenes = Scenes(torch.zeros(100, 1, 4, 5, dtype=torch.uint8), torch.arange(100))
    assert [len(part) for part in scenes.split()] == [80, 10, 10]


def test_unseen_leaves_out_what_is_known_and_nothing_else():
    scenes = pictures(20)
    assert scenes.unseen(fingerprints(scenes.images[5:])).counts.tolist() == list(range(5))
    assert len(scenes.unseen(fingerprints(scenes.images))) == 0
    assert len(scenes.unseen(fingerprints(pictures(20, seed=1).images))) == 20
    assert len(scenes.unseen(torch.zeros(0, dtype=torch.int64))) == 20


def test_empty_scenes_are_kept_though_they_are_all_alike():
    scenes = coloured_shapes(60, count=(0, 1), canvas=12)
    empty = scenes[scenes.counts == 0]
    assert len(empty.unseen(fingerprints(empty.images))) == len(empty) > 0
    assert len(scenes.unseen(fingerprints(scenes.images))) == len(empty)


def test_scenes_are_empty_by_their_counts_or_else_by_their_looks():
    images = torch.zeros(3, 1, 4, 4)
    images[0, 0, 0, 0] = 1
    assert Scenes(images).empty().tolist() == [False, True, True]
    assert Scenes(images, torch.tensor([0, 1, 0])).empty().tolist() == [True, False, True]
