"""The check of the built pages, and the pictures that they show."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def check():
    spec = importlib.util.spec_from_file_location("pages", ROOT / ".ci" / "pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def site(check, tmp_path):
    def faults(body, **others):
        for name, text in {"index": body, **others}.items():
            (tmp_path / f"{name}.html").write_text(f"<html><body>{text}</body></html>")
        (tmp_path / "a.png").touch()
        return list(check.faults(tmp_path))

    return faults


def test_links_to_files_and_anchors_are_followed(site):
    good = '<a href="b.html#here">x</a> <a href="#top" id="top">x</a> <img src="a.png">'
    assert not site(good, b='<h1 id="here">B</h1>')


@pytest.mark.parametrize("link", ["c.html", "b.html#gone", "#gone", "b.png"])
def test_a_link_that_leads_nowhere_is_named(site, link):
    (fault,) = site(f'<a href="{link}">x</a>', b='<h1 id="here">B</h1>')
    assert "index.html" in fault and link in fault


def test_links_to_other_sites_are_allowed_and_what_is_loaded_from_them_is_not(site):
    url = "https://example.org/a"
    assert not site(f'<a href="{url}">x</a> <link rel="canonical" href="{url}">')
    for tag in (f'<script src="{url}"></script>', f'<link rel="stylesheet" href="{url}">'):
        (fault,) = site(tag)
        assert url in fault


def test_wide_lines_of_code_are_faults_but_for_docstrings(site, check):
    wide, fits = ("x" * (check.COLUMNS + more) for more in (1, 0))
    assert not site(f"<pre>{fits}\n{fits}</pre> {wide} <dl><dd><pre>{wide}</pre></dd></dl>")
    (fault,) = site(f"<img src='a.png'><div><pre>{fits}\n<span>{wide}</span></pre></div>")
    assert wide in fault


def test_every_picture_is_shown_and_every_one_that_is_shown_is_there():
    pages = [path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.rst")]
    pages.append((ROOT / "README.rst").read_text(encoding="utf-8"))
    shown = {name for page in pages for name in re.findall(r"pictures/(\w+\.\w+)", page)}
    assert shown == {path.name for path in (ROOT / "docs" / "pictures").iterdir()}


def test_the_pictures_are_small():
    sizes = {path.name: path.stat().st_size for path in (ROOT / "docs" / "pictures").iterdir()}
    assert 0 < sum(sizes.values()) < 1_500_000, sizes
