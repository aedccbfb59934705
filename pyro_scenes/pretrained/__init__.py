"""Pairs that are trained already: their weights are files of the package, and nothing is downloaded.

``benchmarks/pretrained.py`` trains them, and writes the files and what they reach.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..base import Guide, Model
from ..inference import load_checkpoint, read_checkpoint
from ..models import SpritesGuide, sprite_scenes
from ..random import fork_rng
from ..recipes import air_pair, layered_digits_pair

__all__ = ["PAIRS", "load_pretrained", "pretrained_path", "start_from"]


def _econ() -> tuple[Model, Guide]:
    model = sprite_scenes()
    return model, SpritesGuide(model)


#: How each pair is built, by its name.
PAIRS: dict[str, Callable[[], tuple[Model, Guide]]] = {
    "air": lambda: air_pair((1, 50, 50)),
    "cst_vae": lambda: layered_digits_pair("cst_vae", (1, 50, 50)),
    "econ": _econ,
}


def load_pretrained(name: str) -> tuple[Any, Any]:
    """A trained model and its guide, in evaluation mode, on the CPU.

    Args:
        name: ``air`` (0, 1 or 2 digits on 50 x 50 pixels), ``cst_vae`` (two digits that overlap, 50 x 50) or
            ``econ`` (coloured shapes, 32 x 32; the pair of :func:`~pyro_scenes.models.sprite_scenes`).

    Raises:
        ValueError: Another name.
        CheckpointError: The file is missing or damaged.
    """
    path = pretrained_path(name)
    with fork_rng():
        model, guide = PAIRS[name]()
    load_checkpoint(path, model.eval(), guide.eval())
    return model, guide


def start_from(name: str, model: Model, guide: Guide) -> None:
    """Loads these weights into a pair of one's own.

    Raises:
        ValueError: The pair has other parts or sizes, or the model other constants, of a prior, say.
    """
    theirs = read_checkpoint(pretrained_path(name))["model"]
    for key, own in model.named_buffers():
        if key in theirs and not torch.equal(theirs[key].to(own), own):
            numbers = f"{theirs[key].tolist()}, here it is {own.tolist()}"[:300]
            raise ValueError(f"the weights of {name} are of a model whose {key} is {numbers}")
    load_checkpoint(pretrained_path(name), model, guide)


def pretrained_path(name: str) -> Path:
    """The file of these weights, a checkpoint.

    Raises:
        ValueError: There are none of that name.
    """
    if not isinstance(name, str) or name not in PAIRS:
        raise ValueError(f"there are trained weights of {', '.join(PAIRS)}, got {name!r}")
    return Path(__file__).parent / f"{name}.pt"
