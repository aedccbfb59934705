"""Files are whole or not there, whatever ends the writing."""

import os

import pytest
import torch

from pyro_scenes.atomic import write_whole


@pytest.mark.parametrize("convert", [str, lambda path: path], ids=["str", "Path"])
def test_a_file_replaces_an_older_one_when_the_block_ends(convert, tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with write_whole(convert(path)) as part:
        assert part.parent == tmp_path and part != path
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["file.txt"]


@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt(), ValueError("x")], ids=repr)
@pytest.mark.parametrize("step", ["block", "os.fsync", "os.replace"])
def test_an_error_leaves_the_older_file_and_no_part(step, error, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise error

    path = tmp_path / "file.txt"
    path.write_text("old")
    with monkeypatch.context() as context, pytest.raises(type(error)) as caught:
        if step != "block":
            context.setattr(step, fail)
        with write_whole(path) as part:
            part.write_text("half")
            if step == "block":
                fail()
    assert caught.value is error
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file.txt"]


def test_an_error_before_anything_is_written_is_the_error_raised(tmp_path):
    with pytest.raises(ZeroDivisionError), write_whole(tmp_path / "file.txt"):
        1 / 0
    assert not list(tmp_path.iterdir())


def test_a_runtime_error_of_a_writer_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match="file.txt .is the disk full"):
        with write_whole(tmp_path / "file.txt") as part:
            part.write_text("half")
            raise RuntimeError("inline_container.cc: unexpected pos")
    assert not list(tmp_path.iterdir())


def test_a_part_left_by_a_killed_program_is_no_hindrance(tmp_path):
    path = tmp_path / "file.txt"
    for _ in range(2):
        with write_whole(path) as part:
            part.write_text("new")
        part.write_text("much longer than what is written next")
    with write_whole(path) as part:
        part.write_text("newest")
    assert path.read_text() == "newest" and os.listdir(tmp_path) == ["file.txt"]


def test_a_folder_that_is_missing_is_an_os_error(tmp_path):
    """Whatever the writer says of it: torch.save does not raise one."""
    with pytest.raises(FileNotFoundError, match="file.txt: there is no folder .*none"):
        with write_whole(tmp_path / "none" / "file.txt") as part:
            torch.save([], part)
