"""Regions: which layer each pixel shows."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

__all__ = ["behind", "mask_divergence", "opacities", "to_pixels", "visibility"]


def visibility(logits: Tensor) -> Tensor:
    """log p that a pixel shows each layer: that it is not transparent there, and all in front of it are.

    Args:
        logits: Of opacities, (..., layers, 1, H, W), front first.

    Returns:
        (..., layers + 1, H, W): last, that the pixel shows no layer. The probabilities sum to one.
    """
    covered = logsigmoid(-logits).cumsum(-4)
    scope = torch.cat([torch.zeros_like(covered[..., :1, :, :, :]), covered], -4)
    nothing = torch.zeros_like(logits[..., :1, :, :, :])
    return (scope + torch.cat([logsigmoid(logits), nothing], -4))[..., 0, :, :]


def mask_divergence(
    alpha: Float[Tensor, "*#batch 1 h w"],
    mask: Float[Tensor, "*#batch 1 h w"],
    scope: Float[Tensor, "*#batch 1 h w"],
) -> Float[Tensor, "*batch 1 h w"]:
    """scope KL(Ber(alpha) || Ber(mask)) of each pixel, in nats; alpha and mask are logits."""
    region = scope * alpha.sigmoid()
    inside = logsigmoid(alpha) - logsigmoid(mask)
    outside = logsigmoid(-alpha) - logsigmoid(-mask)
    return region * inside + (scope - region) * outside


def opacities(shown: Tensor, dim: int = 0) -> Tensor:
    """The logits of :func:`visibility` again, of all parts but the last, in a dimension ``dim``."""
    free = behind(shown, dim)
    return shown.narrow(dim, 0, shown.shape[dim] - 1) - free.narrow(dim, 1, shown.shape[dim] - 1)


def behind(logs: Tensor, dim: int = 0) -> Tensor:
    """Logarithm of the sum of each part and all behind it."""
    return logs.flip(dim).logcumsumexp(dim).flip(dim)


def to_pixels(maps: Tensor, events: int) -> Tensor:
    """From maps ``(..., n, *events, H, W)`` to pixels ``(..., H * W, n, *events)``, a batch dimension.

    A dimension of size one before n is one that Pyro has kept for them, and they take its place.
    """
    flat = maps.flatten(-2)
    if flat.dim() > events + 2:
        flat = flat.squeeze(-events - 3)
    return flat.movedim(-1, -events - 2)
