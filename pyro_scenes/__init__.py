"""Structured generative scene models in Pyro: each paper's process is a model, with a matching guide."""

from importlib import import_module
from typing import Any

from . import data, evaluation, inference, networks, render
from .conditionals import Amortised, Conditional, Persist, Pixels, Prior, Product
from .criticism import to_arviz
from .inference import (
    Importance,
    Summed,
    Weighted,
    adam,
    fit,
    load_checkpoint,
    save_checkpoint,
    warm_up,
)
from .models import (
    AIR,
    CSTVAE,
    CVAE,
    ECON,
    STVAE,
    VAE,
    VAEAC,
    AIRGuide,
    CSTVAEGuide,
    CVAEGuide,
    ECONGuide,
    SpritesGuide,
    STVAEGuide,
    VAEACGuide,
    VAEGuide,
    sprite_scenes,
)
from .pairs import check_guide
from .pretrained import load_pretrained

__version__ = "0.1.0"

__all__ = [
    "AIR",
    "AIRGuide",
    "Amortised",
    "CSTVAE",
    "CSTVAEGuide",
    "CVAE",
    "CVAEGuide",
    "Conditional",
    "ECON",
    "ECONGuide",
    "Importance",
    "Persist",
    "Pixels",
    "Prior",
    "Product",
    "STVAE",
    "STVAEGuide",
    "SpritesGuide",
    "Summed",
    "VAE",
    "VAEAC",
    "VAEACGuide",
    "VAEGuide",
    "Weighted",
    "adam",
    "check_guide",
    "data",
    "evaluation",
    "fit",
    "inference",
    "load_checkpoint",
    "load_pretrained",
    "networks",
    "render",
    "save_checkpoint",
    "sprite_scenes",
    "to_arviz",
    "viz",
    "warm_up",
]


def __getattr__(name: str) -> Any:
    if name == "viz":  # imports matplotlib, which is slow
        return import_module(".viz", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
