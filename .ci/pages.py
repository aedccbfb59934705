"""Checks the built pages: local links lead somewhere, nothing is loaded from elsewhere, no code is too wide.

python .ci/pages.py docs/_build/html
"""

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: Columns of a line of code that a page of 700 pixels has room for.
COLUMNS = 79
#: Docstrings and the output of tutorials may be wider: pages show them smaller, or wrap them.
WIDE = {"dl", "process", "sphx-glr-script-out"}
#: Attributes by which a page loads a file; of links, ``rel`` values that do not.
LOADED = {("img", "src"), ("script", "src"), ("link", "href"), ("source", "src"), ("iframe", "src")}
NOT_LOADED = {"canonical", "next", "prev", "search", "index", "help", "license", "author"}
#: viewcode's list of sources has modules whose source it has not found.
LISTED = "_modules/index.html"
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"}


class Page(HTMLParser):
    """What a page links to, what it loads, its anchors, and its lines of code."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.code = ""
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        loads = given.get("rel", "") not in NOT_LOADED
        for name in ("href", "src"):
            if name in given:
                self.links.append(given[name])
                if loads and (tag, name) in LOADED:
                    self.loaded.append(given[name])
        if tag not in VOID:
            wide = WIDE & {tag, *given.get("class", "").split()}
            self._open.append("wide" if wide else tag)

    def handle_endtag(self, tag: str) -> None:
        if self._open and tag not in VOID:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if "pre" in self._open and "wide" not in self._open:
            self.code += data


def faults(root: Path) -> Iterator[str]:
    """What is wrong with the pages in a folder, as sentences."""
    pages = {
        path.resolve(): Page(path.read_text(encoding="utf-8")) for path in root.rglob("*.html")
    }
    if not pages:
        yield f"there are no pages in {root}"
    for path, page in sorted(pages.items()):
        name = path.relative_to(root.resolve())
        if name.as_posix() != LISTED:
            yield from (f"{name}: {link} is no file or anchor" for link in broken(path, pages))
        for url in page.loaded:
            if urlsplit(url).netloc:
                yield f"{name}: loads {url}, so it needs a network"
        if name.parts[0] != "_modules":
            for line in page.code.splitlines():
                if len(line) > COLUMNS:
                    yield f"{name}: {len(line)} columns, at most {COLUMNS}: {line}"


def broken(path: Path, pages: dict[Path, Page]) -> Iterator[str]:
    """The local links of a page that lead nowhere."""
    for link in dict.fromkeys(pages[path].links):
        url = urlsplit(link)
        if url.scheme or url.netloc:
            continue
        target = (path.parent / unquote(url.path)).resolve() if url.path else path
        anchor = unquote(url.fragment)
        if (
            not target.is_file()
            or anchor
            and anchor not in getattr(pages.get(target), "anchors", {anchor})
        ):
            yield link


if __name__ == "__main__":
    found = list(faults(Path(sys.argv[1])))
    sys.exit("\n".join(found) if found else 0)
