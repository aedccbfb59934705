"""Structured generative scene models in Pyro: each paper's process as a model, with a matching guide."""

from importlib import import_module
from typing import Any

from . import data, evaluation, inference, networks, render
from .conditionals import Amortised, Conditional, Persist, Pixels, Prior
from .criticism import to_arviz
from .inference import Weighted, adam, as_printed, fit, load_checkpoint, save_checkpoint, warm_up
from .models import (
    AIR,
    CSTVAE,
    ECON,
    STVAE,
    VAE,
    AIRGuide,
    CSTVAEGuide,
    ECONGuide,
    STVAEGuide,
    VAEGuide,
    colour_experts,
    separate_experts,
)
from .pairs import check_guide

__version__ = "0.1.0"

__all__ = [
    "AIR",
    "AIRGuide",
    "Amortised",
    "CSTVAE",
    "CSTVAEGuide",
    "Conditional",
    "ECON",
    "ECONGuide",
    "Persist",
    "Pixels",
    "Prior",
    "STVAE",
    "STVAEGuide",
    "VAE",
    "VAEGuide",
    "Weighted",
    "adam",
    "colour_experts",
    "data",
    "evaluation",
    "fit",
    "inference",
    "load_checkpoint",
    "networks",
    "as_printed",
    "check_guide",
    "render",
    "save_checkpoint",
    "separate_experts",
    "to_arviz",
    "viz",
    "warm_up",
]


def __getattr__(name: str) -> Any:
    if name == "viz":  # brings matplotlib, which not everybody draws with
        return import_module(".viz", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
