"""A folder of PNG and JPEG files: what is read and how, what is left out, what is refused in which words."""

import re
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from pyro_scenes.data import limits, load_scenes, pictures

COLOUR = np.random.default_rng(0).integers(0, 256, (3, 6, 8, 3), dtype=np.uint8)
GREY = COLOUR[..., :1].repeat(3, -1)
#: Opaque on the right.
ALPHA = np.repeat(np.array([0, 255], np.uint8), 4)[None, :, None].repeat(6, 0)


@pytest.fixture
def folder(tmp_path):
    """Saves pictures by name into a folder, and returns its path."""

    def save(pictures, **options):
        for name, picture in pictures.items():
            picture = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
            picture.save(tmp_path / name, **options)
        return tmp_path

    return save


def loaded(path):
    """Images as (n, H, W, C)."""
    return load_scenes(path).images.movedim(1, -1).numpy()


def test_pictures_are_read_in_the_order_of_their_names(folder):
    path = folder({"c.png": COLOUR[2], "a.PNG": COLOUR[0], "b.png": COLOUR[1]})
    scenes = load_scenes(path)
    assert scenes.images.dtype == torch.uint8 and scenes.images.shape == (3, 3, 6, 8)
    assert scenes.images.is_contiguous() and scenes.counts is scenes.masks is scenes.labels is None
    assert np.array_equal(loaded(str(path)), COLOUR)


def test_jpegs_are_read_nearly_as_they_were(folder):
    ramp = np.linspace(0, 255, 16 * 16, dtype=np.uint8).reshape(16, 16)
    smooth = np.stack([ramp, ramp.T, ramp[::-1]], -1)
    path = folder({"a.jpg": smooth, "b.jpeg": smooth, "c.JPG": smooth, "d.png": smooth})
    images = loaded(path).astype(int)
    assert images.shape == (4, 16, 16, 3)
    assert np.abs(images - smooth).mean() < 8 and (images[3] == smooth).all()


def test_whether_there_is_colour_is_decided_by_all_pixels(folder):
    path = folder({"a.png": GREY[0], "b.png": GREY[1][..., 0], "c.jpg": GREY[2]})
    assert load_scenes(path).images.shape == (3, 1, 6, 8)
    assert np.array_equal(loaded(path)[:2], GREY[:2, ..., :1])
    assert np.array_equal(loaded(folder({"d.png": COLOUR[0]}))[:2], GREY[:2])


def test_transparent_parts_become_black(folder):
    seen = ALPHA > 0
    bands = [Image.fromarray(band) for band in (GREY[0][..., 0], ALPHA[..., 0])]
    indexed = Image.fromarray(seen[..., 0].astype(np.uint8))
    indexed.putpalette([10, 20, 30, 200, 100, 50])
    indexed.info["transparency"] = 0
    path = folder(
        {
            "a.png": np.concatenate([COLOUR[0], ALPHA], -1),
            "b.png": Image.merge("LA", bands),
            "c.png": indexed,
        }
    )
    for image, full in zip(loaded(path), (COLOUR[0], GREY[0], [200, 100, 50]), strict=True):
        assert np.array_equal(image, full * seen)


def test_palettes_cmyk_and_single_bits_are_read(folder):
    indexed = Image.fromarray(COLOUR[0]).quantize(8)
    bits = Image.fromarray(COLOUR[0][..., 0]).convert("1")
    # Not as a PNG, which has no CMYK.
    flat = Image.new("CMYK", (8, 6), (0, 255, 255, 0))
    images = loaded(folder({"a.png": indexed, "b.png": bits, "c.jpg": flat}))
    assert np.array_equal(images[0], np.asarray(indexed.convert("RGB")))
    assert set(np.unique(images[1])) == {0, 255}
    assert (np.abs(images[2].astype(int) - [255, 0, 0]) < 8).all()


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_pictures_are_turned_as_a_camera_says(kind, folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = np.zeros((32, 16, 3), np.uint8)
    lying[16:] = 255
    path = folder({f"a.{kind}": lying}, exif=exif)
    # The picture was taken with the camera turned: what is shown has its bright half on the left.
    standing = loaded(path)[0]
    assert standing.shape == (16, 32, 1)
    assert (standing[:, :14] > 200).all() and (standing[:, 18:] < 50).all()
    # And such pictures agree in size with those that were never turned.
    assert len(load_scenes(folder({f"b.{kind}": np.full((16, 32, 3), 9, np.uint8)}))) == 2


def test_what_is_left_out(folder):
    path = folder({"a.png": COLOUR[0], ".hidden.png": COLOUR[1][:4]})
    (path / "README.txt").write_text("not a picture")
    (path / "Thumbs.db").write_bytes(b"\xd0\xcf")
    (path / "._a.png").write_bytes(b"what a Mac leaves")
    (path / "more.png").mkdir()
    Image.fromarray(COLOUR[1]).save(path / "more.png" / "b.png")
    Image.fromarray(COLOUR[1]).save(path / "b.bmp")
    assert np.array_equal(loaded(path), COLOUR[:1])


def test_links_are_followed(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    path = folder({"b.png": COLOUR[1]})
    Image.fromarray(COLOUR[0]).save(other / "one.png")
    (path / "a.png").symlink_to(other / "one.png")
    (other / "link").symlink_to(path)
    assert np.array_equal(loaded(other / "link"), COLOUR[:2])
    (path / "c.png").symlink_to(other / "none.png")
    with pytest.raises(ValueError, match="c.png is no file, or a link to none: remove it"):
        load_scenes(path)


def test_a_folder_without_pictures_is_named(folder, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=f"{tmp_path}: there are no PNG or JPEG files in it"
    ):
        load_scenes(tmp_path)
    (tmp_path / "cats").mkdir()
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(FileNotFoundError, match="sub-folders are not read: cats"):
        load_scenes(tmp_path)
    path = folder({"a.png": COLOUR[0]})
    with pytest.raises(ValueError, match="a.png is one picture: give the folder"):
        load_scenes(path / "a.png")


def test_the_first_of_another_size_is_named(folder):
    path = folder({"a.png": COLOUR[0][:5], "b.png": COLOUR[1], "c.png": COLOUR[2]})
    error = (
        f"{path / 'a.png'} is 5 x 8 pixels (height x width), most are 6 x 8, such as b.png; 1 of 3"
    )
    with pytest.raises(ValueError, match=re.escape(error)):
        load_scenes(path)


@pytest.mark.parametrize("name", ["b.png", "b.jpg"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9])
def test_a_truncated_picture_is_named(name, share, folder):
    whole = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = folder({"a.png": whole, name: whole})
    content = (path / name).read_bytes()
    (path / name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=f"{path / name} is (damaged|no PNG or JPEG)"):
        load_scenes(path)


@pytest.mark.parametrize("error", [MemoryError, FileNotFoundError])
def test_a_picture_is_not_damaged_because_memory_is_short_or_it_is_gone(error, folder, monkeypatch):
    path = folder({"a.png": COLOUR[0]})

    def convert(*args):
        raise error

    monkeypatch.setattr(Image.Image, "convert", convert)
    with pytest.raises(error):
        load_scenes(path)


def test_a_picture_of_another_kind_is_named(folder):
    path = folder({"a.png": COLOUR[0]})
    Image.fromarray(COLOUR[0]).save(path / "b.png", format="BMP")
    with pytest.raises(ValueError, match="b.png is no PNG or JPEG, whatever its name says"):
        load_scenes(path)
    # The name of the other of the two kinds does no harm.
    Image.fromarray(COLOUR[1]).save(path / "b.png", format="JPEG")
    assert len(load_scenes(path)) == 2


def png(width, height, bits=8, kind=0, pixels=b""):
    """A PNG file: a header, and these pixels."""

    def chunk(name, content):
        check = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    chunks = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(pixels)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("kind", [0, 2, 4, 6], ids=["grey", "colour", "grey+alpha", "colour+alpha"])
def test_sixteen_bits_are_refused(kind, tmp_path):
    """Most of these are measurements, of which eight bits may show nothing."""
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[kind]
    content = png(2, 2, 16, kind, 2 * (b"\0" + 4 * channels * b"\x10"))
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ValueError, match="a.png has 16 bits a channel: save it with 8, or give an"):
        load_scenes(tmp_path)


@pytest.mark.parametrize("side", [10_000, 100_000])
def test_a_huge_picture_is_refused_by_its_header(side, tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(png(side, side))
    monkeypatch.setattr(pictures, "_pixels", lambda path: pytest.fail("it was decoded"))
    with pytest.raises(ValueError, match="a.png has more than 89,478,485 pixels: scale it down"):
        load_scenes(tmp_path)


def test_what_memory_cannot_hold_is_refused_before_it_is_read(folder, monkeypatch):
    path = folder({f"{i}.png": COLOUR[0] for i in range(4)})
    monkeypatch.setattr(limits, "available_memory", lambda: 1000)
    monkeypatch.setattr(pictures, "_pixels", lambda path: pytest.fail("it was decoded"))
    with pytest.raises(ValueError, match="4 pictures in .* memory would be .*: give fewer, or"):
        load_scenes(path)


def test_a_picture_that_must_not_be_read_is_not_called_damaged(folder, monkeypatch):
    """The tests may run as root, whom no permission stops."""

    def refuse(*args, **kwargs):
        raise PermissionError("denied")

    path = folder({"a.png": COLOUR[0]})
    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(PermissionError, match="a.png cannot be read: its permissions"):
        load_scenes(path)


def test_masks_of_0_and_1_are_no_images(folder):
    path = folder({"a.png": (COLOUR[0][..., 0] > 127).astype(np.uint8)})
    with pytest.raises(ValueError, match="0 and 1, nearly black"):
        load_scenes(path)
