"""Regions: which layer each pixel shows."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import logsigmoid

__all__ = ["behind", "log_visibility", "mask_divergence", "opacity_logits", "to_pixels"]


def log_visibility(
    mask_logits: Float[Tensor, "*batch layers 1 h w"],
) -> Float[Tensor, "*batch parts h w"]:
    """log p that a pixel shows each layer (it is opaque there, all layers in front are transparent), or none.

    Layers are ordered front first; "no layer" is the last part. The probabilities of a pixel sum to 1.
    """
    log_scope = logsigmoid(-mask_logits).cumsum(-4)
    zeros = torch.zeros_like(log_scope[..., :1, :, :, :])
    log_masks = torch.cat([logsigmoid(mask_logits), zeros], -4)
    return (torch.cat([zeros, log_scope], -4) + log_masks)[..., 0, :, :]


def mask_divergence(
    alpha_logits: Float[Tensor, "*#batch 1 h w"],
    mask_logits: Float[Tensor, "*#batch 1 h w"],
    scope: Float[Tensor, "*#batch 1 h w"],
) -> Float[Tensor, "*batch 1 h w"]:
    """scope KL(Ber(alpha) || Ber(mask)) of each pixel, in nats."""
    region = scope * alpha_logits.sigmoid()
    inside = logsigmoid(alpha_logits) - logsigmoid(mask_logits)
    outside = logsigmoid(-alpha_logits) - logsigmoid(-mask_logits)
    return region * inside + (scope - region) * outside


def opacity_logits(log_visible: Float[Tensor, "..."], dim: int = 0) -> Float[Tensor, "..."]:
    """The inverse of :func:`log_visibility`: the layers' logits, from log p of all parts along ``dim``."""
    log_scope, layers = behind(log_visible, dim), log_visible.shape[dim] - 1
    return log_visible.narrow(dim, 0, layers) - log_scope.narrow(dim, 1, layers)


def behind(log_parts: Float[Tensor, "..."], dim: int = 0) -> Float[Tensor, "..."]:
    """The logarithm of the sum of each part and all parts behind it."""
    return log_parts.flip(dim).logcumsumexp(dim).flip(dim)


def to_pixels(maps: Shaped[Tensor, "..."], events: int) -> Shaped[Tensor, "..."]:
    """From maps ``(..., n, *event, H, W)`` to pixels ``(..., H * W, n, *event)``, a batch dimension.

    ``events`` is the number of event dimensions. A dimension of size 1 before n, kept by Pyro for a plate, is
    replaced by the pixels.
    """
    flat = maps.flatten(-2)
    if flat.dim() > events + 2:
        flat = flat.squeeze(-events - 3)
    return flat.movedim(-1, -events - 2)
