"""Conditionals: callables from the scene drawn so far to a distribution.

Priors, likelihoods and proposals are conditionals. Any function ``scene -> distribution`` is one; the
modules here hold constants (buffers) or weights (parameters), which ``.to(device)`` and ``state_dict``
include.
"""

from .amortised import Amortised
from .completion import Completion, Conditioned
from .families import Conditional, Persist, Pixels, Prior, persist
from .pose import PoseProposal
from .posteriors import Posterior, flow, full_covariance, normal
from .priors import Autoregressive, Mixture, Vamp
from .product import Product
from .region import RegionProposal, SpriteProposal
from .seen import Seen

__all__ = [
    "Amortised",
    "Autoregressive",
    "Completion",
    "Conditional",
    "Conditioned",
    "Mixture",
    "Persist",
    "Pixels",
    "PoseProposal",
    "Posterior",
    "Prior",
    "Product",
    "RegionProposal",
    "Seen",
    "SpriteProposal",
    "Vamp",
    "flow",
    "full_covariance",
    "normal",
    "persist",
]
