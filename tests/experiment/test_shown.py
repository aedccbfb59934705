"""What a page shows of one image, by the pairs that ship with the library."""

import json
from base64 import b64decode

import pytest
import torch

from pyro_scenes import load_pretrained
from pyro_scenes.data import digits, layered_digits, multi_digits, shape_masks
from pyro_scenes.experiment import show_air, show_cst_vae, show_econ


@pytest.fixture(scope="module")
def pairs():
    return {name: load_pretrained(name) for name in ("air", "cst_vae", "econ")}


@pytest.fixture(scope="module")
def pen():
    return digits().test


def titles(shown):
    return {row.title: row for row in shown.rows}


@pytest.mark.parametrize("count", [0, 1, 2])
def test_air_counts_and_puts_a_window_on_each_digit(count, pairs, pen):
    scenes = multi_digits(pen, 20, counts=(count,), kind="disjoint", seed=4)
    seen = [show_air(*pairs["air"], scenes[i : i + 1].floats()) for i in range(20)]
    right = [shown for shown in seen if shown.text.startswith(f"{count} digit")]
    assert len(right) >= 18
    for shown in right:
        assert shown.count_probabilities.argmax() == count
        assert shown.windows.shape == (count, 4, 2)
        steps = shown.rows[1]
        assert steps.faint_from == count and len(steps.captions) == len(steps.pictures) == 3
        # The reconstruction is the canvas after the last step that is there.
        expected = steps.pictures[count - 1] if count else torch.zeros(1, 50, 50)
        torch.testing.assert_close(shown.rows[0].pictures[0], expected)


def test_windows_of_air_have_the_digits_in_them(pairs, pen):
    scenes = multi_digits(pen, 20, counts=(1,), seed=5)
    hits = 0
    for i in range(20):
        shown = show_air(*pairs["air"], scenes[i : i + 1].floats())
        if len(shown.windows) == 1:
            (left, top), (right, bottom) = shown.windows[0, 0], shown.windows[0, 2]
            x, y = scenes.boxes[i, 0].view(2, 2).mean(0)
            hits += bool(left < x < right and top < y < bottom)
            # In order around the window, from the upper left.
            assert left < shown.windows[0, 1, 0] and top < shown.windows[0, 3, 1]
    assert hits >= 18


def test_cst_vae_completes_two_layers_and_windows_hold_their_ink(pairs, pen):
    images = layered_digits(pen, 3, seed=4).floats()
    for image in images.split(1):
        shown = show_cst_vae(*pairs["cst_vae"], image)
        rows = titles(shown)
        complete, visible = rows["Completed digits"].pictures, rows["Visible parts"].pictures
        assert len(complete) == len(visible) == 2 and (visible <= complete + 1e-6).all()
        canvas = rows["Reconstruction"].pictures[0]
        torch.testing.assert_close(rows["Canvas after each layer"].pictures[-1], canvas)
        assert ((canvas > 0.5) == (image[0] > 0.5)).float().mean() > 0.9
        for corners, picture in zip(shown.windows, complete, strict=True):
            middle = (torch.nonzero(picture[0] > 0.5).float() + 0.5).mean(0).flip(0)
            edges = corners.roll(-1, 0) - corners
            to_middle = middle - corners
            sides = edges[:, 0] * to_middle[:, 1] - edges[:, 1] * to_middle[:, 0]
            assert (sides > 0).all() or (sides < 0).all()  # on one side of all edges: within


def test_cst_vae_gives_no_iou_where_neither_drawing_nor_canvas_has_ink(pairs):
    shown = show_cst_vae(*pairs["cst_vae"], torch.zeros(1, *pairs["cst_vae"][0].image_shape))
    assert ("IoU" in shown.text) == bool((shown.rows[0].pictures > 0.5).any())


def scene_of(*objects):
    """An image of shapes (class, left, top, colour), the last in front."""
    image = torch.tensor([0.15, 0.17, 0.24])[:, None, None].repeat(1, 32, 32)
    for kind, left, top, colour in objects:
        window = image[:, top : top + 12, left : left + 12]
        window[:] = torch.tensor(colour)[:, None, None].where(shape_masks(6)[kind], window)
    return image[None]


def test_econ_names_shapes_from_front_to_back_and_completes_them(pairs):
    image = scene_of((1, 6, 7, (0.6, 0.65, 1.0)), (0, 12, 12, (1.0, 0.55, 0.5)))
    shown = show_econ(*pairs["econ"], image)
    assert shown.text == "2 shapes, front to back: circle, square"
    rows = titles(shown)
    assert rows["Completed shapes"].captions == ["circle", "square"]
    assert rows["Regions"].captions == ["red: circle, green: square"]
    square = rows["Completed shapes"].pictures[1].amax(0) > 0.5
    assert square.sum() == shape_masks(6)[1].sum()  # with the part that the circle hides
    canvas = rows["Canvas after each layer"].pictures[-1]
    torch.testing.assert_close(canvas, rows["Reconstruction"].pictures[0])
    assert (canvas - image[0]).abs().mean() < 0.02


def test_an_empty_scene_of_econ_has_no_shapes(pairs):
    shown = show_econ(*pairs["econ"], scene_of())
    assert shown.text == "0 shapes" and all(len(row.pictures) <= 1 for row in shown.rows)


@pytest.mark.parametrize("name", ["air", "cst_vae", "econ"])
def test_the_same_image_gets_the_same_answer_and_it_is_plain_data(name, pairs):
    show = {"air": show_air, "cst_vae": show_cst_vae, "econ": show_econ}[name]
    model = pairs[name][0]
    image = torch.rand(1, *model.image_shape)
    first, second = (show(*pairs[name], image).plain() for _ in range(2))
    assert json.loads(json.dumps(first)) == second
    pictures = [picture for row in first["rows"] for picture in row["pictures"]]
    assert pictures and {len(b64decode(picture)) for picture in pictures} <= {
        image.numel(),
        image.numel() // len(image[0]),
    }
    assert all(len(row["captions"]) in (0, len(row["pictures"])) for row in first["rows"])
