"""Images where they enter: what is accepted, what is refused and with which advice; and fingerprints."""

import numpy as np
import pytest
import torch

from pyro_scenes.data import as_images, fingerprints
from pyro_scenes.data.images import check_digits

GREY = np.random.default_rng(0).random((5, 4, 5))
BYTES = np.random.default_rng(1).integers(0, 256, (5, 4, 5), dtype=np.uint8)


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16, "uint8"])
@pytest.mark.parametrize("channels", [None, 1, 3])
@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])
def test_every_kind_of_images_becomes_nchw_with_its_values(kind, channels, convert):
    given = BYTES if kind == "uint8" else GREY.astype(kind)
    if channels:
        given = np.stack([given] * channels, 1)
    images = as_images(convert(given))
    assert images.dtype == (torch.uint8 if kind == "uint8" else torch.float32)
    assert images.shape == (5, channels or 1, 4, 5)
    assert np.array_equal(images.numpy().reshape(given.shape), given.astype(images.numpy().dtype))


def test_the_ends_of_the_range_belong_to_it():
    for value in (0.0, 1.0):
        assert (as_images(torch.full((1, 2, 2), value)) == value).all()


@pytest.mark.parametrize("shape", [(), (4,), (4, 5), (1, 2, 1, 4, 5)])
def test_another_rank_is_refused(shape):
    with pytest.raises(ValueError, match=r"\(n, H, W, C\), got \("):
        as_images(np.zeros(shape))


@pytest.mark.parametrize("shape", [(0, 4, 5), (2, 0, 3), (2, 0, 4, 5)])
def test_an_empty_batch_is_refused(shape):
    with pytest.raises(ValueError, match="images is empty"):
        as_images(torch.zeros(shape))


@pytest.mark.parametrize("kind", [np.int8, np.int64, np.uint16, np.complex64, object, str])
def test_another_type_is_refused(kind):
    with pytest.raises(ValueError, match="uint8.* bool, or float in .0, 1., got"):
        as_images(np.zeros((2, 4, 5)).astype(kind))


@pytest.mark.parametrize("kind", [torch.int64, torch.complex64])
def test_another_type_of_tensor_is_refused(kind):
    with pytest.raises(ValueError, match="uint8.* bool, or float in .0, 1., got"):
        as_images(torch.zeros(2, 4, 5, dtype=kind))


@pytest.mark.parametrize("channels", [None, 1, 3])
@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])
def test_bool_images_are_black_and_white(convert, channels):
    given = GREY > 0.5 if channels is None else np.stack([GREY > 0.5] * channels, 1)
    images = as_images(convert(given))
    assert images.dtype == torch.uint8 and images.shape == (5, channels or 1, 4, 5)
    assert np.array_equal(images.numpy().reshape(given.shape), 255 * given)


def test_uint8_of_0_and_1_is_refused_with_what_to_do():
    given = (GREY > 0.5).astype("uint8")
    with pytest.raises(ValueError, match=r"0 and 1, nearly black: give 255 \* images"):
        as_images(given)
    assert torch.equal(as_images(255 * given), as_images(given.astype(bool)))
    assert as_images(0 * given).max() == 0  # black images are nobody's mistake


def test_floats_divided_twice_are_refused():
    assert as_images(GREY / GREY.max()).max() == 1
    with pytest.raises(ValueError, match="nearly black: were they divided by 255 twice"):
        as_images(GREY / GREY.max() / 255)


@pytest.mark.parametrize(
    ("images", "advice", "convert"),
    [
        (BYTES.astype(np.int64), "from 0 to 255: convert them to uint8", np.uint8),
        ((BYTES > 127).astype(np.int64), "of 0 and 1: convert them to bool", bool),
        ((BYTES > 127).astype(np.uint16), "of 0 and 1: convert them to bool", bool),
    ],
)
def test_advice_about_integers_leads_to_the_right_images(images, advice, convert):
    images[0, 0, :2] = 0, images.max()
    with pytest.raises(ValueError, match=advice):
        as_images(images)
    followed = as_images(images.astype(convert)).numpy()[:, 0]
    assert np.array_equal(followed, images * (255 // images.max()))


@pytest.mark.parametrize("stray", [256, 70_000, -1])
def test_integers_that_would_wrap_are_not_to_be_made_uint8(stray):
    images = BYTES.astype(np.int64)
    images[1, 2, 3] = stray
    with pytest.raises(ValueError, match=f"{stray}.*: scale them to .0, 1. as floats"):
        as_images(images)


@pytest.mark.parametrize("last", [3, 4])
def test_one_colour_picture_is_not_taken_for_many_grey_ones(last):
    picture = np.random.default_rng(0).random((20, 30, last))
    with pytest.raises(ValueError, match="one colour picture") as caught:
        as_images(picture)
    assert "images.transpose(2, 0, 1)[None]" in str(caught.value)
    assert as_images(picture[..., :3].transpose(2, 0, 1)[None]).shape == (1, 3, 20, 30)
    assert as_images(picture[:, None]).shape == (20, 1, 30, last)


def test_the_end_that_is_out_of_range_can_be_read():
    images = torch.ones(2, 4, 5)
    images[0, 0, 0] = 1.0000001
    with pytest.raises(ValueError, match=r"go from 1 to 1\.00000012"):
        as_images(images)


@pytest.mark.parametrize("stray", [-0.01, 1.01, 255.0, np.inf, -np.inf, np.nan])
def test_one_pixel_out_of_range_is_refused(stray):
    images = GREY.copy()
    images[3, 2, 1] = stray
    with pytest.raises(ValueError, match="must lie in .0, 1."):
        as_images(images)


# fingerprints


def test_images_have_equal_fingerprints_only_if_they_are_equal():
    images = as_images(BYTES)
    prints = fingerprints(images)
    assert prints.dtype == torch.int64 and prints.shape == (5,) and len(prints.unique()) == 5
    changed = images.clone()
    changed[2, 0, 3, 4] ^= 1
    assert (fingerprints(changed) == prints).tolist() == [True, True, False, True, True]
    order = torch.tensor([4, 0, 0, 2])
    assert torch.equal(fingerprints(images[order]), prints[order])


def test_fingerprints_tell_shapes_and_types_apart():
    blank = torch.zeros(1, 1, 4, 6, dtype=torch.uint8)
    others = (
        blank,
        blank.reshape(1, 1, 6, 4),
        blank.reshape(1, 3, 4, 2),
        blank.bool(),
        blank / 255,
    )
    assert len(torch.cat([fingerprints(images) for images in others]).unique()) == 5


def test_the_layout_in_memory_does_not_matter():
    images = torch.rand(4, 3, 5, 6)
    strided = images.transpose(2, 3).contiguous().transpose(2, 3)
    assert not strided.is_contiguous() and torch.equal(fingerprints(strided), fingerprints(images))


def test_fingerprints_are_the_same_in_every_process():
    """Runs keep them: a change of these numbers would make every image a new one."""
    images = torch.arange(48, dtype=torch.uint8).reshape(2, 1, 4, 6)
    assert fingerprints(images).tolist() == [-6711273352055582850, 8906173506807200053]


def test_no_images_have_no_fingerprints():
    assert fingerprints(torch.zeros(0, 1, 4, 5)).shape == (0,)


# check_digits


def test_wrong_digits_are_refused(unchecked):
    images, labels = torch.ones(6, 9, 9, dtype=torch.uint8), torch.zeros(6, dtype=torch.int64)
    check_digits((images, labels))
    for wrong, error in (
        ((images.float(), labels), "uint8 .*got torch.float32"),
        ((images[:, None], labels), r"\(m, h, w\) .*got .*\(6, 1, 9"),
        ((images, labels[1:]), r"labels \(m,\), got .* and torch.int64 \(5,\)"),
        ((images, labels.float()), "integer labels .* and torch.float32"),
        ((images[:0], labels[:0]), "no digits to make scenes of"),
        ((images * 0, labels), "6 of 6 digits have no pixel above 0"),
    ):
        with pytest.raises(ValueError, match=error):
            check_digits(wrong)
    for wrong, error in (
        (images, "a pair of tensors as of data.strokes, got Tensor"),
        ((images, [0] * 6), "got Tensor and list"),
        ((images.numpy(), labels), "got ndarray and Tensor"),
        ((), "got none"),
    ):
        with pytest.raises(TypeError, match=error):
            check_digits(wrong)
