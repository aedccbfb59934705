"""The README's Python runs as it stands, and what it points at is there."""

import re
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.rst").read_text(encoding="utf-8")


def test_its_python_runs_in_turn_and_finds_what_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"(?:code-block:: python|guide follows. ::)\n\n(.*?)\n(?=\S)", TEXT, re.S)
    assert len(blocks) == 2 and len(blocks[0].strip().splitlines()) <= 12
    names = {}
    for block in blocks:
        exec(textwrap.dedent(block), names)
    right = (names["found"].counts == names["scenes"].counts).float().mean()
    assert right > 0.8 and (tmp_path / "found.png").stat().st_size > 10_000
    assert next(names["records"]).step == 1


@pytest.mark.parametrize("name", re.findall(r"image:: (\S+)", TEXT))
def test_its_pictures_are_there(name):
    assert (ROOT / name).is_file()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"make ([a-z_]+)", TEXT)) - {"it"}))
def test_its_targets_are_there(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
