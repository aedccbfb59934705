"""Layers that nobody learned: the image cut in two, copied whole, another scene's; and the true ones."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ...render import centroid
from ..arguments import checked
from ..layer_metrics import LayerMetrics, layer_metrics
from ..layers import Layers, visible_layers
from ..reading import ShapeReader
from ..training import as_floats

__all__ = ["copy_whole", "cut_in_two", "layer_floors", "other_scene", "true_layers"]


@checked
def layer_floors(
    images: Tensor,
    truth: Bool[Tensor, "n objects h w"],
    *,
    labels: Int[Tensor, "n objects"] | None = None,
    centres: Float[Tensor, "n objects 2"] | None = None,
    reader: ShapeReader | None = None,
) -> dict[str, LayerMetrics]:
    """Every floor of :func:`layer_metrics`, and its ceiling, by name. Arguments are those of that function.

    Args:
        images: (n, C, H, W), bright objects on black ground.
    """
    answers = {
        "image cut in two": cut_in_two(images),
        "image copied whole": copy_whole(images, truth.shape[1]),
        "another scene's objects": other_scene(truth),
        "true layers": true_layers(truth),
    }
    return {
        name: layer_metrics(answer, truth, labels=labels, centres=centres, reader=reader)
        for name, answer in answers.items()
    }


@checked
def cut_in_two(images: Tensor) -> Layers:
    """The image cut through its centre of mass, across its long axis."""
    pictures = as_floats(images)
    height, width = pictures.shape[2:]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    points = torch.stack([columns, rows], -1).flatten(0, 1).to(pictures)
    weights = pictures.sum(1).flatten(1)
    weights = weights / weights.sum(1, keepdim=True).clamp(min=1e-6)
    offsets = points - (weights @ points)[:, None]
    covariance = (weights[..., None] * offsets).mT @ offsets
    axis = torch.linalg.eigh(covariance).eigenvectors[..., -1:]
    side = ((offsets @ axis)[..., 0] > 0).view(-1, 1, 1, height, width)
    return _opaque(pictures[:, None] * torch.cat([side, ~side], 1))


@checked
def copy_whole(images: Tensor, layers: int = 2) -> Layers:
    """The whole image in every layer."""
    return _opaque(as_floats(images)[:, None].expand(-1, layers, -1, -1, -1))


@checked
def other_scene(truth: Bool[Tensor, "n objects h w"]) -> Layers:
    """The true objects of the scene before."""
    return true_layers(truth.roll(1, 0))


@checked
def true_layers(truth: Bool[Tensor, "n objects h w"]) -> Layers:
    """The objects' full shapes, white: the ceiling of all metrics but of centres.

    The centre of a layer is its centre of mass, which need not be that of the object's frame.
    """
    return _opaque(truth[:, :, None].float())


def _opaque(complete: Float[Tensor, "n layers c h w"]) -> Layers:
    """Layers as opaque as they are bright, in windows around their centres of mass."""
    masks = complete.amax(2, keepdim=True)
    visible = visible_layers(complete, masks)
    shift = -centroid(complete)[..., None]
    turn = torch.eye(2).expand(*shift.shape[:2], 2, 2)
    return Layers(complete, masks, visible, visible.sum(1), torch.cat([turn, shift], -1))
