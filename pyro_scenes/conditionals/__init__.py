"""Conditionals: callables from the scene drawn so far to a distribution.

A prior, a likelihood and a proposal are all conditionals. Any function ``scene -> distribution`` is
one; the modules here are those with constants (buffers) or weights (parameters) of their own, which
move with ``.to(device)`` and enter ``state_dict``.
"""

from .amortised import Amortised, Recognition
from .competition import Bids, Competition
from .discrete import AmortisedDiscrete, proposal
from .families import Conditional, Persist, Pixels, Prior, persist
from .product import Product
from .region import RegionProposal, region_proposal

__all__ = [
    "Amortised",
    "AmortisedDiscrete",
    "Bids",
    "Competition",
    "Conditional",
    "Persist",
    "Pixels",
    "Prior",
    "Product",
    "Recognition",
    "RegionProposal",
    "persist",
    "proposal",
    "region_proposal",
]
