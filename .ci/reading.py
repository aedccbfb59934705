"""How many lines there are to read of each model and its guide: all classes and functions of the package that
they reach by name, but for the two abstract bases.

    python .ci/reading.py
"""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "pyro_scenes"
PAIRS = [
    ("AIR", "AIRGuide"),
    ("VAE", "VAEGuide"),
    ("STVAE", "STVAEGuide"),
    ("CSTVAE", "CSTVAEGuide"),
    ("ECON", "ECONGuide"),
    ("sprite_scenes", "SpritesGuide"),
]
Definition = ast.ClassDef | ast.FunctionDef


def module_of(file: Path) -> tuple[str, ...]:
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


class Package:
    """Definitions and imports of all files."""

    def __init__(self) -> None:
        self.definitions: dict[tuple[tuple[str, ...], str], Definition] = {}
        self.imports: dict[tuple[tuple[str, ...], str], tuple[tuple[str, ...], str]] = {}
        for file in PACKAGE.rglob("*.py"):
            self.read(module_of(file), file)

    def read(self, module: tuple[str, ...], file: Path) -> None:
        folder = module if file.name == "__init__.py" else module[:-1]
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, Definition):
                self.definitions[module, node.name] = node
            elif isinstance(node, ast.ImportFrom) and node.level:
                source = folder[: len(folder) - node.level + 1]
                source += tuple(node.module.split(".")) if node.module else ()
                for name in node.names:
                    self.imports[module, name.asname or name.name] = source, name.name

    def find(self, key: tuple[tuple[str, ...], str]) -> tuple[tuple[str, ...], str] | None:
        while key in self.imports:
            key = self.imports[key]
        return key if key in self.definitions else None

    def reach(self, *names: str) -> set[tuple[tuple[str, ...], str]]:
        """The definitions that these public names reach, themselves included, but for the abstract bases."""
        todo, reached = [((), name) for name in names], set()
        while todo:
            key = self.find(todo.pop())
            if key and key not in reached:
                reached.add(key)
                used = (n.id for n in ast.walk(self.definitions[key]) if isinstance(n, ast.Name))
                todo += [(key[0], name) for name in used]
        return {key for key in reached if key[0] != ("base",)}


def main() -> None:
    package = Package()
    for pair in PAIRS:
        reached = package.reach(*pair)
        nodes = [package.definitions[key] for key in reached]
        lines = sum((n.end_lineno or n.lineno) - n.lineno + 1 for n in nodes)
        files = len({module for module, _ in reached})
        print(f"{pair[0]:14}{len(nodes):4} definitions {lines:5} lines {files:4} files")


if __name__ == "__main__":
    main()
