"""Measures files and functions, and fails where one is too long or takes too many parameters.

Files: all lines. Bodies: the lines of a function without its signature and docstring, in the package.
Parameters: all but ``self``; the constructors of models and guides may have more, one for each site.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

#: Lines of a file, by folder, at most.
FILE = {"pyro_scenes": 250, "examples": 150, "benchmarks": 150, "tests": 500}
#: Lines of the bodies of the package.
MEDIAN, NINETIETH, LONGEST = 6, 20, 50
PARAMETERS = 7
#: Where constructors may have more.
PAPERS = Path("pyro_scenes", "models")


class Function(NamedTuple):
    """A function or a method, inner ones too."""

    lines: int  # of the body
    where: str
    parameters: int  # 0 for the constructor of a model or a guide


def functions(path: Path) -> Iterator[Function]:
    """The functions of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    methods = {id(node) for owner in classes for node in owner.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            free = node.name == "__init__" and path.is_relative_to(PAPERS)
            number = 0 if free else parameters(node, id(node) in methods)
            yield Function(lines, f"{path}:{node.lineno} {node.name}", number)


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef, is_method: bool) -> int:
    """How many parameters a function has."""
    given = node.args
    names = [arg.arg for arg in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    number = len(names) + (given.vararg is not None) + (given.kwarg is not None)
    return number - (is_method and names[:1] in (["self"], ["cls"]))


def measure(folder: str) -> list[str]:
    """Prints a folder's figures. Returns what breaks the limits, as sentences."""
    paths = sorted(Path(folder).rglob("*.py"))
    files = [(len(path.read_text(encoding="utf-8").splitlines()), str(path)) for path in paths]
    found = [function for path in paths for function in functions(path)]
    if not found:
        return []
    print(
        f"{folder + '/':13} {len(files):3} files, lines: median {median(n for n, _ in files):g}, "
        f"longest {max(files)[0]} | {len(found):4} functions, body lines: median "
        f"{median(f.lines for f in found):g}, 90th percentile {ninetieth(found)}, longest "
        f"{max(found).lines} | parameters: most {max(f.parameters for f in found)}"
    )
    limit = FILE[folder]
    wrong = [f"{where}: {n} lines, at most {limit} in a file" for n, where in files if n > limit]
    wrong += [
        f"{f.where}: {f.parameters} parameters, at most {PARAMETERS}"
        for f in found
        if f.parameters > PARAMETERS
    ]
    return wrong + (bodies(folder, found) if folder == "pyro_scenes" else [])


def ninetieth(found: list[Function]) -> int:
    return sorted(f.lines for f in found)[int(0.9 * (len(found) - 1))]


def bodies(folder: str, found: list[Function]) -> list[str]:
    """What breaks the limits of the bodies."""
    longest = sorted(found, reverse=True)
    wrong = [
        f"{f.where}: {f.lines} lines, at most {LONGEST} in a body"
        for f in longest
        if f.lines > LONGEST
    ]
    middle = median(f.lines for f in found)
    if middle > MEDIAN:
        wrong += [f"{folder}/: median body {middle:g} lines, at most {MEDIAN}"]
    if ninetieth(found) > NINETIETH:
        tail = "".join(f"\n    {f.lines:3} {f.where}" for f in longest if f.lines > NINETIETH)
        wrong += [f"{folder}/: 90th percentile {ninetieth(found)}, at most {NINETIETH}:{tail}"]
    return wrong


if __name__ == "__main__":
    offenders = [sentence for folder in FILE for sentence in measure(folder)]
    sys.exit("\n".join(offenders) if offenders else 0)
