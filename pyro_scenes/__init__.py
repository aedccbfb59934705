"""Structured generative scene models in Pyro: each paper's process is a model, with a matching guide."""

from importlib import import_module
from typing import Any

from . import data, evaluation, inference, networks, render
from .conditionals import Amortised, Conditional, Persist, Pixels, Prior, Product
from .criticism import to_arviz
from .inference import (
    Importance,
    Known,
    Summed,
    Weighted,
    adam,
    count_posterior,
    fit,
    load_checkpoint,
    presences,
    refine,
    save_checkpoint,
    semi_amortise,
    semi_supervise,
    warm_up,
)
from .missing import Blind
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
    "Blind",
    "CSTVAE",
    "CSTVAEGuide",
    "CVAE",
    "CVAEGuide",
    "Conditional",
    "ECON",
    "ECONGuide",
    "Importance",
    "Known",
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
    "count_posterior",
    "data",
    "evaluation",
    "fit",
    "inference",
    "load_checkpoint",
    "load_pretrained",
    "networks",
    "presences",
    "refine",
    "render",
    "save_checkpoint",
    "semi_amortise",
    "semi_supervise",
    "sprite_scenes",
    "to_arviz",
    "viz",
    "warm_up",
]


def __getattr__(name: str) -> Any:
    if name == "viz":  # imports matplotlib, which is slow
        return import_module(".viz", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
