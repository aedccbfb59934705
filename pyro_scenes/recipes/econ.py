"""ECON and its guide of the sizes that the paper's authors found best, or for given regions; objectives."""

import pyro.distributions as dist
from pyro.infer import ELBO, TraceEnum_ELBO
from torch import nn

from ..conditionals import Pixels, RegionProposal, SpriteProposal
from ..inference import MaskLoss, Surrogate, Weighted
from ..models import ECON, ECONGuide
from ..networks import BroadcastDecoder, RegionEncoder, SpriteDecoder

__all__ = ["BETA_GAMMA", "given_regions_econ", "objective", "paper_econ"]

#: Weights of the paper's best models (App. C.4; its text has the two the wrong way round).
BETA_GAMMA = {"unique": (0.52, 9.54), "random": (1.0, 3.26)}


def paper_econ(
    image_shape: tuple[int, ...],
    experts: int = 4,
    layers: int = 4,
    *,
    unique: bool = False,
    given_regions: bool = False,
) -> tuple[ECON, ECONGuide]:
    """The paper's model (App. C.2), of the sizes of its best ones (App. C.4), and its guide.

    Args:
        image_shape: (C, H, W) of an image.
        experts: The number of experts.
        layers: The number of layers.
        unique: Whether the sizes are those for shapes of unique colours.
        given_regions: Whether the guide is always called with ``regions``, and needs no attention.
    """
    code, blocks = (2, 4) if unique else (5, 3)
    decoders = [BroadcastDecoder(code, image_shape, blocks=blocks) for _ in range(experts)]
    model = ECON(image_shape, experts, layers, code, decoders=decoders)
    prior = model.latents()["z_what_0"]
    encoders = [RegionEncoder(image_shape, 4 * code, blocks=blocks) for _ in range(experts)]
    proposals = [RegionProposal(encoder, 4 * code, prior) for encoder in encoders]
    attention = [nn.Identity() for _ in range(experts)] if given_regions else None
    return model, ECONGuide(model, attention=attention, proposals=proposals)


def given_regions_econ(
    image_shape: tuple[int, ...], experts: int = 1, layers: int = 4
) -> tuple[ECON, ECONGuide]:
    """An ECON whose experts each make any shape and the background, and a guide to call with ``regions``.

    Three numbers of a code are of the shape; pixels have heavy tails (Cauchy).

    Args:
        image_shape: (C, H, W) of an image.
        experts: The number of experts.
        layers: The number of layers.
    """
    decoders = [SpriteDecoder(8, image_shape, shape=3, hidden=64) for _ in range(experts)]
    image = Pixels(dist.Cauchy, scale=0.05)
    model = ECON(image_shape, experts, layers, 8, decoders=decoders, image=image)
    prior = model.latents()["z_what_0"]
    proposals = [SpriteProposal(model, k, prior) for k in range(experts)]
    attention = [nn.Identity() for _ in range(experts)]
    return model, ECONGuide(model, attention=attention, proposals=proposals)


def objective(kind: str = "elbo", beta: float = 1.0, gamma: float = 1.0) -> ELBO:
    """An objective for any ECON.

    Args:
        kind: ``elbo``, a bound if both weights are 1; ``paper``, Eq. 13; ``monet``, MONet's.
        beta: Weight of the divergence of codes.
        gamma: Weight of the divergence of regions.
    """
    if kind not in ("elbo", "paper", "monet"):
        raise ValueError(f"kind must be elbo, paper or monet, got {kind!r}")
    if kind != "elbo":
        return {"paper": Surrogate, "monet": MaskLoss}[kind](beta, gamma)
    bound = TraceEnum_ELBO(max_plate_nesting=2)
    return bound if beta == gamma == 1 else Weighted(bound, z_what=beta, z_region=gamma)
