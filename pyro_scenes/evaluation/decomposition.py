"""Decomposition: a scene as competing experts explain it, and whether its shapes are true ones."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from pyro import poutine
from torch import Tensor, nn
from torch.nn import functional

from ..checks import check_tensors, is_integer
from ..handlers import expected
from ..render import opacities
from .bounds import check_pair

__all__ = ["Decomposition", "ShapeFit", "count_classes", "decompose", "repaint", "shape_fit"]


class Decomposition(NamedTuple):
    """A scene taken apart, front layer first."""

    regions: Float[Tensor, "n layers h w"]  # what each layer takes of a pixel; they sum to 1
    masks: Float[Tensor, "n layers h w"]  # its opacity, hidden parts included
    colours: Float[Tensor, "n layers c h w"]  # everywhere, whatever the opacity
    experts: Int[Tensor, "n layers"]  # which made it; -1: there is no object
    canvas: Float[Tensor, "n c h w"]  # colours by regions: the reconstruction


@torch.no_grad()
def decompose(
    model: nn.Module, guide: nn.Module, images: Float[Tensor, "n c h w"], *, softmax: bool = False
) -> Decomposition:
    """Takes images apart by the guide, each continuous latent at its proposal's median.

    Call ``guide.eval()`` before: in training experts are chosen by chance. Where the guide tries proposals
    at random, as ECON's does, draws still depend on torch's random state a little.

    Args:
        model: With the sites ``masks`` (n, layers, 1, H, W), ``colours`` and ``z_expert_0``, ... of ``ECON``.
            A last layer without ``z_expert`` is of the last expert, the background's, and that number
            means no object elsewhere.
        guide: Its guide, with a site ``z_region`` of a categorical for each pixel and image, (pixels, n). A
            category beyond the layers is "none of them", and left out.
        images: What is to be explained.
        softmax: Whether opacities are those of a softmax over the layers, as ``MaskLoss`` trains them: a mask
            is then what its layer would have of a pixel beside the last layer alone, whose own mask is 1.

    Raises:
        ValueError: Model or guide has no such sites, or the guide is of another model.
    """
    if getattr(guide, "model", model) is not model:
        raise ValueError("this guide is of another model: give the one that it was built from")
    with poutine.trace() as proposed, expected():
        guide(images)
    drawn = poutine.trace(poutine.replay(model, trace=proposed.trace)).get_trace(size=len(images))
    check_pair(drawn, proposed.trace)
    _lacking({"z_region", "z_expert_0"} - proposed.trace.nodes.keys(), "guide")
    _lacking({"masks", "colours"} - drawn.nodes.keys(), "model")
    masks, colours = (drawn.nodes[name]["value"] for name in ("masks", "colours"))
    layers = masks.shape[1]
    if softmax:
        masks = _against_last(drawn.nodes["z_region"]["fn"].logits, layers, images.shape[2:])
    shares = proposed.trace.nodes["z_region"]["fn"].probs[..., :layers].permute(1, 2, 0)
    regions = shares.unflatten(2, images.shape[2:])
    canvas = (regions[:, :, None] * colours).sum(1)
    return Decomposition(regions, masks[:, :, 0], colours, _experts(proposed.trace, layers), canvas)


def _against_last(shown: Tensor, layers: int, size: torch.Size) -> Tensor:
    logits = opacities(shown, -1)[..., :layers]
    if logits.shape[-1] == layers:  # no layer is opaque by construction, of logit 0
        logits = (logits - logits[..., -1:])[..., :-1]
    masks = functional.pad(logits.sigmoid(), (0, 1), value=1.0)
    return masks.permute(1, 2, 0).unflatten(2, size)[:, :, None]


def _lacking(names: set[str], which: str) -> None:
    if names:
        raise ValueError(
            f"this {which} draws no {', '.join(sorted(names))}: it has no regions of experts"
        )


def _experts(trace: poutine.Trace, layers: int) -> Tensor:
    names = [f"z_expert_{i}" for i in range(layers)]
    background = names[-1] not in trace.nodes
    _lacking({*names[: layers - background]} - trace.nodes.keys(), "guide")
    experts = torch.stack([trace.nodes[name]["value"] for name in names[: layers - background]], 1)
    if not background:
        return experts
    last = trace.nodes[names[0]]["fn"].probs.shape[-1] - 1
    return functional.pad(experts.where(experts != last, -1), (0, 1), value=last)


def repaint(seen: Decomposition) -> Float[Tensor, "n c h w"]:
    """The scene painted anew from full shapes alone, rounded, front to back; black where there is none.

    It equals ``canvas`` where what a layer takes of a pixel is what its shape and those in front say.
    """
    masks = (seen.masks > 0.5).to(seen.colours)
    scopes = torch.cat([torch.ones_like(masks[:, :1]), 1 - masks[:, :-1]], 1).cumprod(1)
    return ((scopes * masks)[:, :, None] * seen.colours).sum(1)


class ShapeFit(NamedTuple):
    """How well each mask is one of the known shapes."""

    iou: Float[Tensor, " n"]  # the best, in [0, 1]; 0 for an empty mask
    label: Int[Tensor, " n"]  # of which class; -1 for an empty mask


def shape_fit(
    masks: Float[Tensor, "n height width"], stencils: Bool[Tensor, "classes h w"]
) -> ShapeFit:
    """The best IoU of each mask with any class's shape, at any place by whole pixels.

    Places may be partly outside the canvas, which then crops the shape as it does the mask.

    Args:
        masks: What is above one half counts.
        stencils: The shape of each class (``data.shape_masks``).

    Raises:
        ValueError: Another rank or type.
    """
    check_tensors(masks.dim() == 3 and masks.is_floating_point(), "float masks (n, H, W)", masks)
    right = stencils.dim() == 3 and stencils.dtype == torch.bool
    check_tensors(right, "bool stencils (classes, h, w)", stencils)
    shapes, kernels = (masks > 0.5)[:, None].float(), stencils[:, None].to(masks.device).float()
    edge = kernels.shape[2] - 1, kernels.shape[3] - 1
    both = functional.conv2d(shapes, kernels, padding=edge)
    sizes = functional.conv2d(torch.ones_like(shapes[:1]), kernels, padding=edge)  # on the canvas
    either = shapes.sum((2, 3), keepdim=True) + sizes - both
    best = (both / either.clamp(min=1)).flatten(2).amax(2)
    found = best.max(1)
    return ShapeFit(found.values, found.indices.where(found.values > 0, -1))


def count_classes(labels: Int[Tensor, "n objects"], classes: int) -> Int[Tensor, "n classes"]:
    """How many objects of each class there are.

    Args:
        labels: The class, from 0, of each object; -1 is padding.
        classes: How many there are.

    Raises:
        ValueError: Another rank or type, or a label that is out of range.
    """
    check_tensors(labels.dim() == 2 and is_integer(labels), "integer labels (n, objects)", labels)
    if ((labels < -1) | (labels >= classes)).any():
        raise ValueError(
            f"labels must be from -1 to below {classes}, got {labels.unique().tolist()}"
        )
    return (labels[..., None] == torch.arange(classes, device=labels.device)).sum(1)
