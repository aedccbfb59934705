"""Measures the grain of the code, and fails where the package's files or functions grow too long.

Files: all lines. Functions: the lines of the body, without the docstring.
"""

import ast
import sys
from pathlib import Path
from statistics import median

FILE, MEDIAN, NINETIETH, LONGEST = 250, 6, 20, 50


def bodies(path):
    """Yields (lines of the body, where) for each function of a file, methods and inner ones too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            yield lines, f"{path}:{node.lineno} {node.name}"


def measure(folder):
    """Prints a folder's figures. Returns what breaks the limits, as sentences."""
    paths = sorted(Path(folder).rglob("*.py"))
    files = [(len(path.read_text().splitlines()), str(path)) for path in paths]
    functions = [body for path in paths for body in bodies(path)]
    if not functions:
        return []
    lengths = sorted(lines for lines, _ in functions)
    middle, ninetieth = median(lengths), lengths[int(0.9 * (len(lengths) - 1))]
    print(
        f"{folder + '/':13} {len(files):3} files, lines: median {median(n for n, _ in files):g}, "
        f"longest {max(files)[0]} | {len(functions):3} functions, body lines: median {middle:g}, "
        f"90th percentile {ninetieth}, longest {lengths[-1]}"
    )
    long = [f"{at}: {n} lines, at most {FILE} in a file" for n, at in files if n > FILE]
    long += [f"{at}: {n} lines, at most {LONGEST} in a body" for n, at in functions if n > LONGEST]
    if middle > MEDIAN:
        long += [f"{folder}/: median body {middle:g} lines, at most {MEDIAN}"]
    if ninetieth > NINETIETH:
        tail = [f"\n    {n:3} {at}" for n, at in sorted(functions)[::-1] if n > NINETIETH]
        long += [f"{folder}/: 90th percentile {ninetieth}, at most {NINETIETH}:" + "".join(tail)]
    return long


if __name__ == "__main__":
    offenders = measure("pyro_scenes")
    measure("examples")  # for information: a script may be longer than a room
    sys.exit("\n".join(offenders) if offenders else 0)
