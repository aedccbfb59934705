"""A word has one room, and imports go down only: the order of the house, read from its sources."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "pyro_scenes"

ROOMS = [
    "atomic random render networks",
    "supports",
    "checks handlers sites",
    "conditionals",
    "base",
    "pairs particles",
    "models data inference evaluation criticism viz",
    "recipes",
    "pretrained",
    "experiment",
    "__init__",
]
FLOOR = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms.split()}

# A dotted name in which this is found | may stand in these rooms only.
WORDS = {
    r"\b(grid_sample|affine_grid)$": "render",
    r"\bnn\.(Linear|Conv2d)$": "networks",
    r"\b(LSTMCell|GRUCell)$": "networks models",  # a guide may name its own cell
    r"\bpyro\.(sample|plate|factor|deterministic|markov)$|\bpoutine\.mask$": "models",
    r"\bpyro\.param$": "",  # nowhere: weights are parameters, constants are buffers
    r"(ELBO|SVI)$": "inference recipes experiment",
    r"\boptim\.": "inference recipes evaluation experiment",
    r"^arviz\b": "criticism",
    r"^matplotlib\b": "viz",
    r"^argparse\b": "experiment",
    r"^torchvision\b": "data",
    r"^pyro\b": " ".join(ROOMS[1:]),
}


def names(node: ast.AST, path: str) -> list[str]:
    """The dotted names that a node says: an attribute's, or those an import brings, in full."""
    if isinstance(node, ast.Attribute):
        return [ast.unparse(node)]
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        here = ["pyro_scenes", *Path(path).parent.parts]
        above = here[: len(here) + 1 - node.level] if node.level else []
        module = [node.module] if node.module else []
        return [".".join([*above, *module, alias.name]) for alias in node.names]
    return []


def offences(path: str, source: str) -> Iterator[str]:
    """What a source, at a path relative to the package, says that it must not."""
    room = re.split(r"[/.]", path)[0]
    if room not in FLOOR:
        yield f"{path} is on no floor"
        return
    for node in ast.walk(ast.parse(source)):
        for name in names(node, path):
            where = f"{path}:{getattr(node, 'lineno', 0)} {name}"
            for word, homes in WORDS.items():
                if re.search(word, name) and room not in homes.split():
                    yield f"{where} belongs in {homes}"
            if re.match(r"pyro_scenes\b", name) and not isinstance(node, ast.Attribute):
                there = (name.split(".") + ["__init__"])[1]
                # A name that is no room comes through the shop window, the top.
                if there != room and FLOOR.get(there, FLOOR["__init__"]) >= FLOOR[room]:
                    yield f"{where} is not on a lower floor"


def test_every_word_has_its_room_and_imports_go_down():
    found: list[str] = []
    for file in sorted(PACKAGE.rglob("*.py")):
        found += offences(file.relative_to(PACKAGE).as_posix(), file.read_text())
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("models/made_up.py", "layer = torch.nn.functional.grid_sample(glimpse, grid)"),
        ("viz.py", "from torch.nn.functional import affine_grid"),
        ("models/made_up.py", "self.head = nn.Linear(2, 2)"),
        ("conditionals.py", "from torch.nn import Conv2d"),
        ("inference/made_up.py", "cell = torch.nn.LSTMCell(2, 2)"),
        ("evaluation.py", "z = pyro.sample('z', prior).clone()"),
        ("base.py", "with pyro.plate('images', 2): pass"),
        ("conditionals.py", "from pyro.poutine import mask"),
        ("models/made_up.py", "from pyro.infer import TraceGraph_ELBO"),
        ("evaluation.py", "pyro.infer.SVI"),
        ("viz.py", "def late():\n    import arviz as az"),
        ("criticism.py", "from matplotlib import pyplot"),
        ("inference/made_up.py", "import argparse"),
        ("viz.py", "import torchvision.utils"),
        ("render/made_up.py", "import pyro.distributions as dist"),
        ("networks/made_up.py", "from pyro import nn"),
        ("render/made_up.py", "from ..base import Model"),
        ("base.py", "from .models.air import AIR"),
        ("conditionals.py", "from . import viz"),
        ("models/made_up.py", "import pyro_scenes.inference"),
        ("data/made_up.py", "from .. import evaluation"),
        ("networks/made_up.py", "from ..render import place"),
        ("inference/made_up.py", "from pyro_scenes import AIR"),
        ("experiment.py", "import pyro_scenes"),
        ("utils.py", ""),
    ],
)
def test_an_offence_is_found(path: str, source: str):
    assert list(offences(path, source))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (
            "render/made_up.py",
            "import torch\nlayer = torch.nn.functional.grid_sample(glimpse, grid)",
        ),
        ("models/made_up.py", "from ..render import place\ncell = nn.LSTMCell(2, 2)"),
        ("models/made_up.py", '"""Not an import: pyro_scenes.viz, nn.Linear."""\nimport pyro'),
        ("experiment.py", "import argparse\nfrom .inference import fit"),
        ("inference/__init__.py", "from .fit import fit\nfrom pyro.infer import Trace_ELBO"),
        ("__init__.py", "from .models import AIR"),
    ],
)
def test_what_is_allowed_is_not_an_offence(path: str, source: str):
    assert not list(offences(path, source))
