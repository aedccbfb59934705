"""Readers learn what true scenes show, and repeat it by their seed."""

import pytest
import torch

from pyro_scenes.data import coloured_shapes
from pyro_scenes.evaluation import count_classes, train_reader, train_shape_reader


def test_a_reader_learns_to_count(unchecked):
    options = {"count": (0, 2), "canvas": 16, "classes": "any"}
    train, test = (coloured_shapes(n, seed=n, **options) for n in (2000, 200))
    state = torch.get_rng_state()
    counts = count_classes(train.labels, 3)
    reader = train_reader(train.images, counts, steps=100)
    assert torch.equal(torch.get_rng_state(), state) and not reader.training
    read = reader.read(test.images / 255)
    wanted = count_classes(test.labels, 3)
    assert (read == wanted).float().mean() > 0.85 > 0.8 > (wanted == 0).float().mean()
    # Bytes and floats are the same images.
    short = [train_reader(images, counts, steps=3) for images in (train.images, train.images / 255)]
    assert torch.equal(*(reader(test.images / 255) for reader in short))
    with pytest.raises(ValueError, match="a row of counts for each"):
        train_reader(train.images, counts[:5])


def test_a_reader_learns_single_shapes(unchecked):
    train, test = (coloured_shapes(n, canvas=16, count=(1, 2), seed=n) for n in (500, 100))
    state = torch.get_rng_state()
    reader = train_shape_reader(train.masks, train.labels, epochs=12)
    assert torch.equal(torch.get_rng_state(), state) and not reader.training
    is_object = test.labels >= 0
    read = reader.read(test.masks[is_object])
    assert (read == test.labels[is_object]).float().mean() > 0.9
    again = train_shape_reader(train.masks, train.labels, epochs=12)
    assert torch.equal(again.read(test.masks[is_object]), read)
    for wrong in ((train.masks.float(), train.labels), (train.masks, train.labels[:, :1])):
        with pytest.raises(
            ValueError, match="masks .*n, objects, h, w.* of bool|labels .n, objects"
        ):
            train_shape_reader(*wrong)
    with pytest.raises(ValueError, match="not all empty"):
        train_shape_reader(torch.zeros_like(train.masks), train.labels)
