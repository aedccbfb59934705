"""The last lines of a run: what they say of counts, reconstructions and layers, and which advice follows."""

import re

import pytest
import torch

from pyro_scenes import AIR, AIRGuide
from pyro_scenes.data import Scenes, coloured_shapes
from pyro_scenes.evaluation import floors
from pyro_scenes.experiment import count_verdict, layer_verdict, region_verdict, verdict

IMAGES = torch.randint(0, 255, (4, 1, 16, 16), dtype=torch.uint8)


@pytest.fixture
def say(monkeypatch):
    """The verdict on four scenes in which these counts were found."""

    def say(found, truth=None, images=IMAGES, canvas=None):
        model = AIR((1, 16, 16), (1, 8, 8), steps=3, code=2)
        floats = Scenes(images).floats()
        canvas = 0.9 * floats if canvas is None else canvas
        monkeypatch.setattr(verdict, "likeliest_counts", lambda *args: torch.tensor(found))
        monkeypatch.setattr(verdict, "reconstruct", lambda *args: canvas)
        if truth is None:
            scenes, numbers = Scenes(images), {}
        else:
            scenes = Scenes(images, torch.tensor(truth))
            right = sum(a == b for a, b in zip(found, truth, strict=True))
            numbers = {"count_accuracy": right / len(truth)}
        return count_verdict(model, AIRGuide(model).eval(), scenes, numbers).splitlines()

    return say


def test_right_counts_stand_beside_one_answer_for_all(say):
    lines = say([0, 1, 2, 2], [0, 1, 2, 3])
    assert lines[0] == "counts right in 75.0 % of 4 scenes (one answer for all: 25.0 %)"
    assert lines[1].startswith("reconstructions explain 9") and len(lines) == 2


def test_counts_are_described_where_there_is_no_truth(say):
    assert say([0, 1, 2, 1])[0] == "found 0 to 2 objects a scene (mean 1.0) in 4 scenes"
    assert say([1, 1, 1, 1])[0] == "found 1 object a scene in 4 scenes"
    assert say([2, 2, 2, 2])[0] == "found 2 objects a scene in 4 scenes"


@pytest.mark.parametrize(
    ("found", "truth", "advice"),
    [
        ([3, 3, 3, 3], None, "^every scene with objects got all 3 or none: if that is wrong"),
        ([0, 0, 0, 0], None, "got all 3 or none"),
        ([0, 3, 3, 3], None, "got all 3 or none"),
        ([3, 3, 3, 3], [1, 1, 2, 3], "no better than one answer .*: it cannot count yet"),
        ([0, 0, 0, 0], [0, 1, 2, 3], "no better than one answer"),
        ([0, 3, 3, 3], [0, 1, 2, 3], "no better than one answer"),  # if one has no objects
        ([3, 3, 3, 3], [3, 3, 3, 3], None),  # they have as many
        ([0, 0, 0, 0], [0, 0, 0, 0], None),  # there is nothing to count
        ([1, 1, 1, 1], [0, 0, 0, 0], "no better than one answer"),
        ([1, 1, 1, 1], [0, 1, 2, 3], "no better than one answer"),
        ([0, 1, 2, 1], [0, 1, 2, 1], None),
        ([0, 1, 2, 3], None, "25.0 % of the scenes have the most .* may be, 3: .*--objects 5"),
        ([0, 1, 2, 3], [0, 1, 2, 3], None),
        ([0, 1, 2, 2], None, None),
    ],
)
def test_advice_follows_from_counts(found, truth, advice, say):
    lines = say(found, truth)
    assert (len(lines) == 2) == (advice is None)
    assert advice is None or re.search(advice, lines[2])
    assert len(lines) < 4 or lines[3].startswith("take more --steps, another --seed, or --scale")


def test_scenes_of_one_colour_have_no_objects_to_count(say):
    flat = torch.zeros_like(IMAGES)
    lines = say([0, 0, 0, 0], images=flat)
    assert lines[1:] == ["all images are of one colour each: there is nothing to reconstruct"]


def test_reconstructions_that_explain_little_are_told(say):
    flat = torch.zeros(4, 1, 16, 16)
    lines = say([0, 1, 2, 1], canvas=flat)
    assert lines[1] == "reconstructions are no nearer to the images than one flat colour each"
    assert lines[2] == "that is little" and "--scale" in lines[3]


def test_it_is_asked_of_the_guide_itself():
    model = AIR((1, 16, 16), (1, 8, 8), steps=2, code=2)
    guide = AIRGuide(model, presence=50.0).eval()
    lines = count_verdict(model, guide, Scenes(IMAGES), {}).splitlines()
    assert "found 2 objects" in lines[0] and "got all 2 or none" in lines[2]


def test_what_was_measured_is_not_counted_again(monkeypatch):
    model = AIR((1, 16, 16), (1, 8, 8), steps=2, code=2)
    guide = AIRGuide(model, presence=50.0).eval()  # it would find 2 objects in each
    monkeypatch.setattr(verdict, "likeliest_counts", None)
    scenes = Scenes(IMAGES, torch.tensor([0, 1, 2, 1]))
    lines = count_verdict(model, guide, scenes, {"count_accuracy": 0.75}).splitlines()
    assert lines[0].startswith("counts right in 75.0 %")


def test_layers_are_judged_by_the_truth_or_by_use():
    numbers = {"explained_variance": 0.91}
    assert layer_verdict(numbers, 2).splitlines() == [
        "reconstructions explain 91.0 % of the variance of pixels (one flat colour each: 0 %)"
    ]
    used = layer_verdict({**numbers, "layers_in_use": 1.62}, 2).splitlines()
    assert used[1].startswith("1.6 of 2 layers show something in a scene")
    known = {"layer_iou": 0.9, "layer_iou: image cut in two": 0.7}
    lines = layer_verdict({**numbers, "layers_in_use": 2.0, **known}, 2).splitlines()
    assert lines[1] == "layers fit the true shapes by an IoU of 0.90 (image cut in two: 0.70)"
    poor = layer_verdict({"explained_variance": 0.2}, 2).splitlines()
    assert poor[1] == "that is little" and "--window" in poor[2]


def test_regions_are_judged_by_counts_colours_and_spare_layers():
    scenes = coloured_shapes(20, count=(1, 3), seed=1)
    ideal = floors.ideal(scenes.images, scenes.masks, scenes.labels)
    lines = region_verdict(ideal, scenes, 0.013).splitlines()
    assert lines[0].startswith("counts right in ") and "one answer for all" in lines[0]
    assert lines[1].startswith("scenes painted from full shapes explain 100.0 %")
    assert lines[2] == "spare layers take 1.3 % of the pixels" and len(lines) == 3
    bare = region_verdict(ideal, Scenes(scenes.images), 0.0).splitlines()
    assert bare[0].startswith("found 1 to 3 objects a scene")
    assert "give --layers 6" in bare[3]
    # Regions that take the pixels, and no shapes.
    shapeless = ideal._replace(masks=torch.zeros_like(ideal.masks))
    assert "no nearer to the images" in region_verdict(shapeless, scenes, 0.0)
