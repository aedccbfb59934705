"""Samples that nobody learned to paint: blank images, and objects of one class whatever is asked for."""

import torch
from jaxtyping import Bool
from torch import Tensor
from torch.nn.functional import one_hot

from ..arguments import checked
from ..samples import Request, Requested, requested
from ..shapes import SingleShapes, single_shapes

__all__ = ["requested_floors", "single_shape_floors"]


@checked
def requested_floors(request: Request) -> dict[str, Requested]:
    """Read without error, what blank images and objects of one class have for the scenes requested."""
    request = request._replace(made=torch.ones_like(request.made))
    classes = request.counts.shape[1]
    numbers = request.counts.sum(1, keepdim=True)
    of_one = [
        requested(numbers * one_hot(torch.tensor(i), classes), request) for i in range(classes)
    ]
    blank = requested(torch.zeros_like(request.counts), request)
    return {"blank images": blank, "one class for all": max(of_one)}


@checked
def single_shape_floors(
    stencils: Bool[Tensor, "classes h w"], experts: int
) -> dict[str, SingleShapes]:
    """What blank images have, and experts that all paint the first class."""
    shape = stencils[0].float().expand(experts, 1, -1, -1)
    return {
        "blank images": single_shapes(torch.zeros_like(shape), stencils),
        "one class for all": single_shapes(shape, stencils),
    }
