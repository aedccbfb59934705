"""Arguments of other types are refused in words, by every public function."""

import warnings
from contextlib import suppress
from inspect import isfunction, signature

import numpy as np
import pytest
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from pyro_scenes import evaluation
from pyro_scenes.evaluation import codes, decompose, floors, see_layers
from pyro_scenes.evaluation.arguments import checked
from pyro_scenes.pairs import TrainingModeWarning

#: The functions that are called with data first, and not with a model.
OF_DATA = {
    name: function
    for room in (evaluation, floors)
    for name, function in vars(room).items()
    if isfunction(function)
    and next(iter(signature(function).parameters)) not in ("model", "guide")
    and name not in ("beside", "doubt", "probe")  # of mappings, sequences and pairs
}


@pytest.mark.parametrize("wrong", [None, [[1.0]], "masks", 3, np.zeros((2, 3, 8, 8))], ids=str)
@pytest.mark.parametrize("name", OF_DATA)
def test_data_of_another_class_are_named(name, wrong, unchecked):
    function = OF_DATA[name]
    parameters = signature(function).parameters.values()
    needed = [p.name for p in parameters if p.default is p.empty]
    with pytest.raises(TypeError, match=f"{needed[0]} must be a .*, got {type(wrong).__name__}"):
        function(**dict.fromkeys(needed, wrong))


#: Those that take a model or a guide, and images.
OF_IMAGES = {
    name: function
    for name, function in vars(evaluation).items()
    if isfunction(function) and "images" in signature(function).parameters and name not in OF_DATA
}


@pytest.mark.parametrize("wrong", [None, [[1.0]], np.zeros((1, 3, 8, 8))], ids=str)
@pytest.mark.parametrize("name", OF_IMAGES)
def test_images_of_another_class_are_named_before_a_guide_runs(name, wrong, unchecked):
    function = OF_IMAGES[name]
    needed = [
        name
        for name, p in signature(function).parameters.items()
        if p.default is p.empty and p.kind is not p.VAR_POSITIONAL
    ]
    with pytest.raises(TypeError, match=f"images must be a tensor .*, got {type(wrong).__name__}"):
        function(**{**dict.fromkeys(needed), "images": wrong})


def test_other_tensors_beside_a_guide_are_named_too(blocks, unchecked):
    images, codes = torch.rand(2, 3, 8, 8), torch.rand(2, 4)
    integers = r"must be a tensor \(n\) of signed integers"
    for wrong in ([1, 0], np.zeros(2, int)):
        with pytest.raises(TypeError, match=f"truth {integers}.*, got {type(wrong).__name__}"):
            evaluation.counting(blocks[1], images, truth=wrong)
        with pytest.raises(TypeError, match=f"labels {integers}"):
            evaluation.probe((codes, torch.zeros(2).long()), (codes, wrong))
        with pytest.raises(TypeError, match="labels must be a tensor"):
            evaluation.code_accuracy(blocks[1], (images, wrong), (images, wrong))
        with pytest.raises(TypeError, match="regions must be a tensor"):
            decompose(*blocks, images, regions=wrong)
        with pytest.raises(TypeError, match=r"weights must be a tensor \(draws, n\) of floats"):
            evaluation.doubt([], wrong)
        with pytest.raises(TypeError, match="roles must be a Roles"):
            evaluation.paint_request(blocks[0], wrong)


@pytest.mark.parametrize(
    "call", [codes, decompose, evaluation.explanations, evaluation.likeliest_counts], ids=str
)
def test_the_warning_of_training_mode_points_at_the_users_line(call, blocks):
    """Whatever decorators, or other functions of the library, lie between."""
    programs = [part.train() for part in blocks]
    programs = programs if "model" in signature(call).parameters else programs[1:]
    with warnings.catch_warnings(record=True) as caught, suppress(ValueError):
        warnings.simplefilter("always")
        call(*programs, torch.rand(2, 3, 8, 8))
    assert {(each.category, each.filename) for each in caught} == {(TrainingModeWarning, __file__)}


@checked
def shape(masks: Bool[Tensor, "n h w"], images: Float[Tensor, " m"] | UInt8[Tensor, "*b h"] | None):
    return masks.shape


def test_tensors_are_of_the_annotated_dtype_and_rank(unchecked):
    masks = torch.zeros(2, 3, 4, dtype=torch.bool)
    assert shape(masks, images=None) == shape(masks, torch.zeros(9, dtype=torch.uint8)) == (2, 3, 4)
    wanted = r"images must be a tensor \(m\) of floats or a tensor \(\*b, h\) of uint8 or None"
    for wrong, message in (
        ((masks[0], None), r"masks must be a tensor \(n, h, w\) of bool, got torch.bool \(3, 4\)"),
        ((masks.float(), None), r"masks must be .*, got torch.float32 \(2, 3, 4\)"),
        ((masks, torch.zeros(2, 3)), rf"{wanted}, got torch.float32 \(2, 3\)"),
        ((masks, torch.zeros(2).long()), rf"{wanted}, got torch.int64 \(2,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            shape(*wrong)


@pytest.mark.parametrize("take_apart", [decompose, see_layers, evaluation.log_weights])
def test_images_that_are_infinite_are_named_before_a_guide_runs(take_apart):
    images = torch.zeros(2, 3, 8, 8)
    images[1, 2, 3, 4] = torch.inf
    with pytest.raises(ValueError, match="images must be finite numbers.*as_images"):
        take_apart(torch.nn.Identity(), torch.nn.Identity(), images)


def test_integers_of_another_kind_are_told_the_remedy(unchecked):
    counts = torch.zeros(2, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"signed integers, got torch.uint8 \(2,\): give \w+.long"):
        evaluation.count_accuracy(counts, counts)


def test_a_chunk_may_be_an_integer_of_numpy(blocks, unchecked):
    images = torch.rand(3, 3, 8, 8)
    assert len(decompose(*blocks, images, chunk=np.int64(2)).canvas) == 3


def test_letters_of_a_callers_shapes_are_its_own():
    """With shapes checked, as everywhere in the tests: n is 2 here and 3 there."""
    masks = torch.rand(2, 1, 4, 4) > 0.5
    assert len(evaluation.segments(masks)) == 2 and len(evaluation.segments(masks[:1])) == 1


@pytest.mark.parametrize("take_apart", [decompose, see_layers, codes])
@pytest.mark.parametrize(
    ("images", "chunk", "error", "message"),
    [
        (torch.zeros(0, 3, 8, 8), 5, ValueError, "images is an empty batch"),
        (torch.zeros(3, 8, 8), 5, ValueError, r"images must be a tensor \(n, c, h, w\)"),
        (torch.zeros(1, 3, 8, 8).long(), 5, ValueError, "images must be .* of floats"),
        (np.zeros((1, 3, 8, 8)), 5, TypeError, "images must be .*, got ndarray"),
        (torch.zeros(1, 3, 8, 8), 0, ValueError, "chunk must be a whole number, from 1 up, got 0"),
        (torch.zeros(1, 3, 8, 8), 2.5, ValueError, "chunk must be a whole number"),
    ],
    ids=str,
)
def test_images_that_cannot_be_divided_into_chunks(
    take_apart, images, chunk, error, message, blocks, unchecked
):
    pair = blocks[1:] if take_apart is codes else blocks
    with pytest.raises(error, match=message):
        take_apart(*pair, images, chunk=chunk)
