"""Decomposition: a scene as competing experts explain it."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from pyro import poutine
from torch import Tensor, nn
from torch.nn.functional import pad

from ..handlers import expected
from ..pairs import check_same_model, warn_training_mode
from ..render import opacity_logits, scopes
from ..sites import check_pair
from .arguments import checked, split

__all__ = [
    "Decomposition",
    "Reconstruction",
    "decompose",
    "extra_share",
    "reconstruction",
    "repaint",
    "softmax_masks",
]


class Decomposition(NamedTuple):
    """A scene taken apart, front layer first."""

    regions: Float[Tensor, "n layers h w"]  # what each layer takes of a pixel; they sum to 1
    masks: Float[Tensor, "n layers h w"]  # its opacity, hidden parts included
    colours: Float[Tensor, "n layers c h w"]  # everywhere, whatever the opacity
    experts: Int[Tensor, "n layers"]  # which made it; -1: one that makes no object
    canvas: Float[Tensor, "n c h w"]  # colours by regions: the reconstruction

    def of_objects(self, maps: Float[Tensor, "n layers h w"]) -> Float[Tensor, "n layers h w"]:
        """Regions or masks with 0 for layers that show no object: the background's, and empty ones."""
        return maps * (self.experts >= 0)[..., None, None]


@checked
@torch.no_grad()
def decompose(
    model: nn.Module,
    guide: nn.Module,
    images: Float[Tensor, "n c h w"],
    *,
    layers: int | None = None,
    regions: Bool[Tensor, "n layers h w"] | Float[Tensor, "n layers h w"] | None = None,
    softmax: bool = False,
    chunk: int = 100,
) -> Decomposition:
    """Takes images apart by the guide, each latent at its proposal's median or mode.

    Experts that the model's attribute ``object_experts`` does not name make no objects. If it is None, or
    there is none, any expert may make objects, and any layer may be the background.

    Args:
        model: With the sites ``masks`` (n, layers, 1, H, W), ``colours`` and ``z_expert_0``, ... of ``ECON``.
        guide: Its guide, with a site ``z_region`` of a categorical for each pixel and image, (pixels, n). A
            category beyond the layers is "none of them", and left out.
        images: What is to be explained, on the model's device.
        layers: How many there are, if not as many as the model has; given to model and guide.
        regions: The true regions, for a guide that takes them.
        softmax: Whether opacities are those of a softmax over the layers, as ``MaskLoss`` trains them: a mask
            is then its layer's share beside the last layer alone, whose own mask is 1.
        chunk: Images at a time, which bounds the memory. The result is on the CPU.

    Raises:
        ValueError: Model or guide has no such sites, the guide is of another model, or there are no images.
    """
    check_same_model(model, guide)
    warn_training_mode(model, guide)
    object_experts = getattr(model, "object_experts", None)
    parts = []
    for number, part in enumerate(split(images, chunk)):
        own = slice(number * chunk, number * chunk + len(part))
        traces = _traces(model, guide, part, None if regions is None else regions[own], layers)
        decomposition = _read(*traces, images.shape[2:], softmax, object_experts)
        parts.append([value.cpu() for value in decomposition])
    return Decomposition(*(torch.cat(values) for values in zip(*parts, strict=True)))


def _traces(
    model: nn.Module, guide: nn.Module, images: Tensor, regions: Tensor | None, layers: int | None
) -> tuple[poutine.Trace, poutine.Trace]:
    """Of the guide, and of the model that is given what the guide drew."""
    given = (images,) if regions is None else (images, regions.to(images.device))
    number = {} if layers is None else {"layers": layers}
    with poutine.trace() as proposed, expected():
        guide(*given, **number)
    replayed = poutine.trace(poutine.replay(model, trace=proposed.trace))
    return proposed.trace, replayed.get_trace(size=len(images), **number)


def _read(
    proposed: poutine.Trace,
    drawn: poutine.Trace,
    size: torch.Size,
    softmax: bool,
    object_experts: Sequence[int] | None,
) -> Decomposition:
    check_pair(drawn, proposed)
    _check_sites({"z_region", "z_expert_0"} - proposed.nodes.keys(), "guide")
    _check_sites({"masks", "colours"} - drawn.nodes.keys(), "model")
    masks, colours = (drawn.nodes[name]["value"] for name in ("masks", "colours"))
    layers = masks.shape[1]
    if softmax:
        masks = _against_last(drawn.nodes["z_region"]["fn"].logits, layers, size)
    shares = proposed.nodes["z_region"]["fn"].probs[..., :layers].permute(1, 2, 0)
    regions = shares.unflatten(2, size)
    canvas = (regions[:, :, None] * colours).sum(1)
    return Decomposition(
        regions, masks[:, :, 0], colours, _experts(proposed, layers, object_experts), canvas
    )


def _against_last(
    log_visibility: Float[Tensor, "pixels n parts"], layers: int, size: torch.Size
) -> Float[Tensor, "n layers 1 h w"]:
    logits = opacity_logits(log_visibility, -1)[..., :layers]
    masks = (logits - logits[..., -1:])[..., :-1].sigmoid()
    masks = pad(masks, (0, 1), value=1.0)
    return masks.permute(1, 2, 0).unflatten(2, size)[:, :, None]


def _check_sites(missing: set[str], which: str) -> None:
    if missing:
        raise ValueError(
            f"this {which} draws no {', '.join(sorted(missing))}: it has no regions of experts"
        )


def _experts(
    trace: poutine.Trace, layers: int, object_experts: Sequence[int] | None
) -> Int[Tensor, "n layers"]:
    names = [f"z_expert_{i}" for i in range(layers)]
    _check_sites({*names} - trace.nodes.keys(), "guide")
    experts = torch.stack([trace.nodes[name]["value"] for name in names], 1)
    if object_experts is None:
        return experts
    return experts.where(torch.isin(experts, experts.new_tensor([*object_experts])), -1)


@checked
def repaint(decomposition: Decomposition) -> Float[Tensor, "n c h w"]:
    """The scene painted anew from full shapes alone, rounded, front to back; black where there is none.

    It equals ``canvas`` where what a layer takes of a pixel is what its shape and those in front say.
    """
    masks = (decomposition.masks > 0.5).to(decomposition.colours)
    return ((scopes(masks) * masks)[:, :, None] * decomposition.colours).sum(1)


class Reconstruction(NamedTuple):
    """Mean squared errors of colours in [0, 1]. The image copied into one opaque layer has 0 in both."""

    # Colours by the guide's regions. Segments of one colour each, and no shapes at all, have about 0.
    mse: float
    # The scene painted from full shapes (:func:`repaint`): wrong shapes and orders count.
    mse_full_shapes: float


@checked
def reconstruction(
    decomposition: Decomposition, images: Float[Tensor, "n c h w"]
) -> Reconstruction:
    """Compares images with both ways to put them together again."""
    pictures = decomposition.canvas, repaint(decomposition)
    if pictures[0].shape != images.shape:
        shapes = f"{tuple(pictures[0].shape)} and {tuple(images.shape)}"
        raise ValueError(f"the decomposition and the images must be of one shape, got {shapes}")
    return Reconstruction(*((part - images.cpu()).square().mean().item() for part in pictures))


@checked
def softmax_masks(masks: Float[Tensor, "n layers h w"]) -> Float[Tensor, "n layers h w"]:
    """What MONet calls masks, a softmax over all layers, of those of ``decompose(softmax=True)``."""
    logits = torch.logit(masks.double(), eps=1e-12)
    logits[:, -1] = 0
    return logits.softmax(1).float()


@checked
def extra_share(regions: Float[Tensor, "n layers h w"], layers: int) -> float:
    """The share of pixels, in [0, 1], that spare layers take; 0 if they stay empty.

    Args:
        regions: Of a decomposition into more layers than the scenes need.
        layers: How many they need: of the layers from the last of these on, all but the largest are spare.
    """
    if not 1 <= layers <= regions.shape[1]:
        raise ValueError(f"layers must be from 1 to {regions.shape[1]}, got {layers!r}")
    taken = regions[:, layers - 1 :].mean((2, 3))
    return (taken.sum(1) - taken.amax(1)).mean().item()
