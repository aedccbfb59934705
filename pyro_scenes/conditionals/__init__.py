"""Conditionals: callables from the scene drawn so far to a distribution.

Priors, likelihoods and proposals are conditionals. Any function ``scene -> distribution`` is one; the
modules here hold constants (buffers) or weights (parameters), which ``.to(device)`` and ``state_dict``
include.
"""

from .amortised import Amortised
from .completion import Completion, Conditioned
from .families import Conditional, Persist, Pixels, Prior, persist
from .pose import PoseProposal
from .product import Product
from .region import RegionProposal, SpriteProposal

__all__ = [
    "Amortised",
    "Completion",
    "Conditional",
    "Conditioned",
    "Persist",
    "Pixels",
    "PoseProposal",
    "Prior",
    "Product",
    "RegionProposal",
    "SpriteProposal",
    "persist",
]
