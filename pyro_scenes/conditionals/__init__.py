"""Conditionals: callables from the scene drawn so far to a distribution.

A prior, a likelihood and a proposal are all conditionals. Any function ``scene -> distribution`` is
one; the modules here are those with constants (buffers) or weights (parameters) of their own, which
move with ``.to(device)`` and enter ``state_dict``.
"""

from .amortised import Amortised
from .families import Conditional, Persist, Pixels, Prior, persist
from .pose import PoseProposal
from .product import Product
from .region import RegionProposal, SpriteProposal

__all__ = [
    "Amortised",
    "Conditional",
    "Persist",
    "Pixels",
    "PoseProposal",
    "Prior",
    "Product",
    "RegionProposal",
    "SpriteProposal",
    "persist",
]
