"""Scenes in files: what is read, what is refused and how, and files that are whole or not there."""

import io
import os
import struct
import tracemalloc
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from pyro_scenes.data import (
    Scenes,
    as_images,
    coloured_shapes,
    layered_digits,
    limits,
    load_scenes,
    multi_digits,
    save_scenes,
)

GREY = np.random.default_rng(0).random((5, 4, 5))
BYTES = np.random.default_rng(1).integers(0, 256, (5, 4, 5), dtype=np.uint8)
COUNTS = np.array([2, 0, 1, 2, 1])
CLASSES = np.array([[7, 0], [-1, -1], [3, -1], [0, 0], [1, -1]])
MASKS = (CLASSES >= 0)[..., None, None] & (np.random.default_rng(2).random((5, 2, 4, 5)) < 0.5)
TRUTH = {"counts": COUNTS, "masks": MASKS, "classes": CLASSES}


def npz(folder, save=np.savez, **arrays):
    save(folder / "scenes.npz", **arrays)
    return folder / "scenes.npz"


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_images_and_counts_are_read(save, tmp_path):
    path = npz(tmp_path, save, images=BYTES, counts=np.array([0, 1, 2, 1, 0]), more=np.ones(3))
    for given in (path, str(path)):
        scenes = load_scenes(given, most=2)
        assert torch.equal(scenes.images, as_images(BYTES))
        assert scenes.counts.dtype == torch.int64 and scenes.counts.tolist() == [0, 1, 2, 1, 0]
        assert scenes.labels is None and scenes.boxes is None


def test_counts_may_be_absent_or_whole_floats(tmp_path):
    assert load_scenes(npz(tmp_path, images=GREY), most=1).counts is None
    counts = load_scenes(npz(tmp_path, images=GREY, counts=np.array([0.0, 2, 1, 1, 0]))).counts
    assert counts.dtype == torch.int64 and counts.tolist() == [0, 2, 1, 1, 0]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no scenes at .*none.npz: give a folder of PNG"):
        load_scenes(tmp_path / "none.npz")


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (lambda whole: b"", "is no .npz and no .npy"),
        (lambda whole: b"images, counts\n0.1, 2\n", "is no .npz and no .npy"),
        (lambda whole: whole[:200], "is damaged .*save it again"),
        (lambda whole: whole[:-200], "is damaged .*save it again"),
        (lambda whole: whole.replace(BYTES.tobytes(), BYTES.tobytes()[::-1]), "is damaged .*CRC"),
    ],
    ids=["empty", "text", "the end is missing", "the directory is missing", "the pixels changed"],
)
def test_a_damaged_file_is_named(content, error, tmp_path):
    path = npz(tmp_path, images=BYTES, counts=np.zeros(5))
    path.write_bytes(content(path.read_bytes()))
    with pytest.raises(ValueError, match=f"{path} {error}"):
        load_scenes(path)


def test_damaged_compression_is_named(tmp_path):
    path = npz(tmp_path, np.savez_compressed, images=GREY)
    content = bytearray(path.read_bytes())
    # No kind of zlib block has this number.
    content[30 + sum(struct.unpack("<HH", content[26:30]))] = 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path} is damaged"):
        load_scenes(path)


@pytest.mark.parametrize("images", [GREY, BYTES, BYTES[:, None], np.asfortranarray(BYTES)])
def test_an_npy_is_an_array_of_images(images, tmp_path):
    np.save(tmp_path / "images.npy", images)
    scenes = load_scenes(tmp_path / "images.npy", most=1)
    assert torch.equal(scenes.images, as_images(images))
    assert scenes.counts is scenes.masks is scenes.labels is None


def test_channels_may_come_last(tmp_path):
    colour = np.random.default_rng(0).random((5, 3, 6, 7), np.float32)
    for name, images in (("a", colour), ("b", colour.transpose(0, 2, 3, 1))):
        np.save(tmp_path / f"{name}.npy", images)
    first, last = (load_scenes(tmp_path / f"{name}.npy").images for name in "ab")
    assert torch.equal(first, last) and last.is_contiguous()
    path = npz(tmp_path, images=colour.transpose(0, 2, 3, 1), masks=np.ones((5, 1, 6, 7), bool))
    assert load_scenes(path).masks.shape == (5, 1, 6, 7)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda whole: whole[:-10], "is damaged .*declares 100 bytes and holds 90"),
        (lambda whole: whole[:9], "is damaged"),
        (lambda whole: whole.replace(b"(5, 4, 5)", b"(5, 4, 9)"), "declares 180 .* holds 100"),
    ],
    ids=["the end is missing", "the header is missing", "another shape"],
)
def test_a_damaged_npy_is_named(change, error, tmp_path):
    path = tmp_path / "images.npy"
    np.save(path, BYTES)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=f"{path} .*{error}|{path} {error}"):
        load_scenes(path)


def test_an_npy_of_objects_is_not_unpickled(tmp_path):
    np.save(tmp_path / "images.npy", np.array([GREY, None], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="images.npy holds Python objects"):
        load_scenes(tmp_path / "images.npy")


def test_a_file_that_must_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    """The tests may run as root, whom no permission stops."""

    def refuse(*args, **kwargs):
        raise PermissionError("denied")

    path = npz(tmp_path, images=GREY)
    monkeypatch.setattr(type(path), "open", refuse)
    with pytest.raises(PermissionError, match=f"{path} cannot be read: its permissions"):
        load_scenes(path)


def declaring(folder, shape, kind=np.uint8, content=b"", **options):
    """An npz whose images declare a shape and hold a content."""
    header = io.BytesIO()
    described = {"descr": np.dtype(kind).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, described)
    with zipfile.ZipFile(folder / "scenes.npz", "w", **options) as archive:
        archive.writestr("images.npy", header.getvalue() + content)
    return folder / "scenes.npz"


def test_a_header_that_declares_more_than_there_is_asks_for_no_memory(tmp_path):
    path = declaring(tmp_path, (20, 1000, 1000, 1000), content=bytes(1000))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="declares 20000000000 bytes and holds 1000"):
            load_scenes(path)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", [(-1, -100), (100, -1, -1), (2**70,)])
def test_a_header_of_no_size_is_damaged(shape, tmp_path):
    with pytest.raises(ValueError, match="is damaged"):
        load_scenes(declaring(tmp_path, shape, content=bytes(100)))


def test_what_memory_cannot_hold_is_refused_by_its_size(tmp_path, monkeypatch):
    path = declaring(
        tmp_path, (100, 100, 100), content=bytes(10**6), compression=zipfile.ZIP_DEFLATED
    )
    assert path.stat().st_size < 10_000 and len(load_scenes(path)) == 100
    monkeypatch.setattr(limits, "available_memory", lambda: 2e6)
    with pytest.raises(ValueError, match="about .* GiB .* are available: save fewer scenes"):
        load_scenes(path)


def test_other_arrays_may_be_of_any_size(tmp_path, monkeypatch):
    path = npz(tmp_path, images=BYTES, more=np.zeros(10**6))
    monkeypatch.setattr(limits, "available_memory", lambda: 1e6)
    assert len(load_scenes(path)) == 5


def test_memory_that_is_lacking_all_the_same_is_no_damage(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr("numpy.lib.format.read_array", fail)
    with pytest.raises(ValueError, match="memory is too small"):
        load_scenes(npz(tmp_path, images=BYTES))


def test_an_npz_without_images_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no array 'images'"):
        load_scenes(npz(tmp_path, pictures=GREY))


def test_bad_images_are_refused(tmp_path):
    with pytest.raises(ValueError, match="must lie in"):
        load_scenes(npz(tmp_path, images=255 * GREY))


@pytest.mark.parametrize("name", ["images", "counts", "masks", "classes"])
def test_nothing_is_unpickled(name, tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path / "sprung").touch, ()

    arrays = {"images": GREY, "counts": np.zeros(5)}
    trap = np.array([Trap()] * 5, dtype=object)
    with pytest.raises(ValueError, match=f"{name}.npy holds Python objects"):
        load_scenes(npz(tmp_path, **{**arrays, name: trap}))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("shape", [(), (4,), (6,), (5, 1)])
def test_counts_of_another_shape_are_refused(shape, tmp_path):
    with pytest.raises(ValueError, match=r"shape \(5,\), one for each image"):
        load_scenes(npz(tmp_path, images=GREY, counts=np.zeros(shape, int)))


@pytest.mark.parametrize("stray", [-1, 0.5, np.nan, "1", np.inf])
def test_counts_that_count_nothing_are_refused(stray, tmp_path):
    with pytest.raises(ValueError, match="whole numbers from 0 up"):
        load_scenes(npz(tmp_path, images=GREY, counts=np.array([stray] + [1] * 4)))


def test_more_objects_than_steps_are_refused(tmp_path):
    path = npz(tmp_path, images=GREY, counts=np.array([0, 1, 4, 1, 0]))
    assert load_scenes(path, most=4).counts.max() == 4
    with pytest.raises(ValueError, match="go up to 4 but the model takes at most 3 steps"):
        load_scenes(path, most=3)


# masks and classes


def changed(array, *changes):
    array = array.copy()
    for index, value in changes:
        array[index] = value
    return array


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int64, np.float32, ">f8"])
def test_masks_are_read_and_counted(kind, tmp_path):
    scenes = load_scenes(npz(tmp_path, images=GREY, masks=MASKS.astype(kind)), most=2)
    assert scenes.masks.dtype == torch.bool and np.array_equal(scenes.masks.numpy(), MASKS)
    assert scenes.counts.dtype == torch.int64 and np.array_equal(scenes.counts, COUNTS)
    assert scenes.labels is scenes.boxes is scenes.centres is None


@pytest.mark.parametrize("kind", [np.int8, np.int64, np.float32, ">i4"])
@pytest.mark.parametrize("others", [(), ("counts",), ("masks",), ("counts", "masks")])
def test_classes_are_read_with_and_without_the_rest(others, kind, tmp_path):
    arrays = {name: TRUTH[name] for name in others}
    scenes = load_scenes(npz(tmp_path, images=GREY, classes=CLASSES.astype(kind), **arrays))
    assert scenes.labels.dtype == torch.int64 and np.array_equal(scenes.labels, CLASSES)
    assert (scenes.counts is None) == (not others) and (scenes.masks is None) == (
        "masks" not in others
    )


def test_the_order_in_memory_does_not_matter(tmp_path):
    arrays = {name: np.asfortranarray(part) for name, part in TRUTH.items()}
    scenes = load_scenes(npz(tmp_path, images=GREY, **arrays))
    assert np.array_equal(scenes.masks, MASKS) and np.array_equal(scenes.labels, CLASSES)
    assert scenes.masks.is_contiguous() and scenes.labels.is_contiguous()


def test_more_masks_than_steps_are_refused(tmp_path):
    with pytest.raises(ValueError, match="go up to 2 but the model takes at most 1 steps"):
        load_scenes(npz(tmp_path, images=GREY, masks=MASKS), most=1)


@pytest.mark.parametrize("shape", [(), (5, 4, 5), (4, 2, 4, 5), (5, 2, 5, 4), (5, 2, 1, 4, 5)])
def test_masks_of_another_shape_are_refused(shape, tmp_path):
    with pytest.raises(ValueError, match=r"masks must have shape \(5, objects, 4, 5\).* got \("):
        load_scenes(npz(tmp_path, images=GREY, masks=np.zeros(shape, bool)))


@pytest.mark.parametrize("stray", [2, -1, 0.5, np.nan, np.inf, "1", 1j])
def test_masks_that_are_not_hard_are_refused(stray, tmp_path):
    masks = np.zeros((5, 2, 4, 5), np.array(stray).dtype)
    masks[4, 1, 3, 2] = stray
    with pytest.raises(ValueError, match="masks must be bool, or numbers 0 and 1"):
        load_scenes(npz(tmp_path, images=GREY, masks=masks))


@pytest.mark.parametrize("shape", [(), (5,), (4, 2), (5, 2, 1)])
def test_classes_of_another_shape_are_refused(shape, tmp_path):
    with pytest.raises(ValueError, match=r"classes must have shape \(5, objects\).* got \("):
        load_scenes(npz(tmp_path, images=GREY, classes=np.zeros(shape, int)))


def test_as_many_classes_as_masks(tmp_path):
    with pytest.raises(ValueError, match=r"classes must have shape \(5, 2\).* got \(5, 3\)"):
        load_scenes(npz(tmp_path, images=GREY, masks=MASKS, classes=np.zeros((5, 3))))


@pytest.mark.parametrize("stray", [-2, 0.5, np.nan, np.inf, "1", 2**62])
def test_classes_that_name_nothing_are_refused(stray, tmp_path):
    classes = np.array([[stray, -1]] * 5)
    with pytest.raises(ValueError, match="classes must be whole numbers from 0 to 9999, and -1"):
        load_scenes(npz(tmp_path, images=GREY, classes=classes))


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("masks", changed(MASKS, ((3, 0), False))),
        ("classes", changed(CLASSES, ((3, 0), -1))),
    ],
    ids=["masks", "classes"],
)
def test_padding_comes_last(name, array, tmp_path):
    with pytest.raises(ValueError, match=f"{name} of scene 3 have padding before an object"):
        load_scenes(npz(tmp_path, images=GREY, **{name: array}))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"counts": changed(COUNTS, (2, 2))}, "counts and masks .* scene 2 has 2 .* and 1 by"),
        ({"masks": changed(MASKS, ((0, 1), False))}, "counts and masks .* scene 0 has 2 .* and 1"),
        (
            {"classes": changed(CLASSES, ((4, 0), -1))},
            "masks and classes .* scene 4 has 1 .* and 0",
        ),
        ({"classes": changed(CLASSES, ((4, 1), 0))}, "masks and classes .* scene 4 has 1 .* and 2"),
        ({"counts": changed(COUNTS, (1, 9))}, "counts and masks .* scene 1 has 9 .* and 0 by"),
    ],
    ids=["counts", "an empty mask", "no class", "a class too many", "counts beyond the masks"],
)
def test_a_contradiction_is_named(change, error, tmp_path):
    with pytest.raises(ValueError, match=error):
        load_scenes(npz(tmp_path, images=GREY, **{**TRUTH, **change}))


def test_classes_and_counts_alone_must_agree(tmp_path):
    arrays = {"counts": changed(COUNTS, (0, 1)), "classes": CLASSES}
    with pytest.raises(ValueError, match="counts and classes contradict .* scene 0 has 1"):
        load_scenes(npz(tmp_path, images=GREY, **arrays))


# save_scenes


PICTURES = torch.randint(
    100, 256, (10, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)
DIGITS = (PICTURES, torch.arange(10))


@pytest.mark.parametrize(
    "scenes",
    [
        coloured_shapes(20, count=(0, 4), seed=1),
        layered_digits(DIGITS, 4, colour=True),
        multi_digits(DIGITS, 9),
        Scenes(as_images(BYTES)),
        Scenes(as_images(GREY), torch.as_tensor(COUNTS)),
    ],
    ids=["coloured_shapes", "layered_digits", "multi_digits", "images", "floats and counts"],
)
def test_what_is_saved_is_loaded(scenes, tmp_path):
    save_scenes(tmp_path / "mine", scenes)  # under this very name: numpy would add .npz
    loaded = load_scenes(tmp_path / "mine")
    for name in ("images", "counts", "masks", "labels"):
        one, other = getattr(scenes, name), getattr(loaded, name)
        assert (one is other is None) or (one.dtype == other.dtype and torch.equal(one, other))
    assert os.listdir(tmp_path) == ["mine"]


def test_a_file_replaces_an_older_one(tmp_path):
    for size in (9, 2):
        save_scenes(str(tmp_path / "scenes.npz"), coloured_shapes(size))
        assert len(load_scenes(tmp_path / "scenes.npz")) == size


@pytest.mark.parametrize("step", ["numpy.savez_compressed", "os.fsync", "os.replace"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=repr)
def test_an_interrupted_save_leaves_the_older_file(step, error, tmp_path, monkeypatch):
    path, old = tmp_path / "scenes.npz", coloured_shapes(3)
    save_scenes(path, old)

    def fail(*args, **kwargs):
        raise error

    with monkeypatch.context() as context, pytest.raises(type(error)):
        context.setattr(step, fail)
        save_scenes(path, coloured_shapes(4))
    assert torch.equal(load_scenes(path).images, old.images)
    assert os.listdir(tmp_path) == ["scenes.npz"]


def test_a_folder_that_is_missing_is_an_os_error(tmp_path):
    with pytest.raises(OSError):
        save_scenes(tmp_path / "none" / "scenes.npz", coloured_shapes(1))


def test_what_could_not_be_loaded_is_not_saved(tmp_path):
    scenes = coloured_shapes(3, canvas=16)
    save_scenes(tmp_path / "scenes.npz", scenes)
    before = (tmp_path / "scenes.npz").read_bytes()
    for bad in (
        replace(scenes, counts=scenes.counts + 1),
        replace(scenes, counts=-scenes.counts),
    ):
        with pytest.raises(ValueError):
            save_scenes(tmp_path / "scenes.npz", bad)
        assert (tmp_path / "scenes.npz").read_bytes() == before
