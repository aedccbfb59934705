"""Regions: which layer each pixel of an image shows, drawn in a model and in a guide."""

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.ops.indexing import Vindex
from torch import Tensor

from ..base import Model
from ..checks import check_conditional
from ..networks import CERTAIN
from ..render import log_visibility, to_pixels

__all__ = ["Painted", "draw_regions"]


class Painted(Model):
    """The abstract base of models in which each pixel shows one of several layers, front first.

    Sites: ``colours`` (n, layers, C, H, W) and ``masks`` (n, layers, 1, H, W), the opacities of the complete
    layers; ``z_region`` in a plate ``pixels`` (dim -2), whose last category is "no layer", a black pixel; and
    ``canvas``, if no images are given.

    Attributes:
        image: The likelihood of independent pixels. ``scene.canvas`` holds images, or pixels with H = W = 1.
        object_experts: Numbers of the experts that paint objects. None: all may.
    """

    image: Any
    object_experts: tuple[int, ...] | None = None

    def paint(
        self, scene: Any, layers: list[Tensor], images: Float[Tensor, "n c h w"] | None
    ) -> Float[Tensor, "*batch c h w"]:
        """Draws the region of each layer and, if ``images`` is None, the images; else scores the images.

        Args:
            scene: The argument of ``image``, before its canvas is set.
            layers: Logits (*batch, C + 1, H, W) of each layer's colours and opacity.
        """
        logits = torch.stack(torch.broadcast_tensors(*layers), -4)
        colours, mask_logits = logits.tensor_split([-1], -3)
        colours = pyro.deterministic("colours", colours.sigmoid())
        pyro.deterministic("masks", mask_logits.sigmoid())
        black = torch.zeros_like(colours[..., :1, :, :, :])
        palette = to_pixels(torch.cat([colours, black], -4), 2)
        log_visible = to_pixels(log_visibility(mask_logits), 1)
        with pyro.plate("pixels", log_visible.shape[-3], dim=-2):
            z_region = pyro.sample("z_region", dist.Categorical(logits=log_visible))
            canvas = Vindex(palette)[..., z_region, :]
            if images is not None:
                likelihood = self.image(scene._replace(canvas=canvas[..., None, None]))
                pyro.sample("image", likelihood, obs=to_pixels(images, 1)[..., None, None])
                return images
        canvas = canvas.movedim(-3, -1).unflatten(-1, self.image_shape[1:])
        canvas = pyro.deterministic("canvas", canvas.unsqueeze(-5) if canvas.dim() > 4 else canvas)
        return pyro.sample("image", self.image(scene._replace(canvas=canvas)))

    def check_image(self, scene: Any) -> None:
        """Calls the likelihood on a blank canvas and on its pixels."""
        check_conditional("image", self.image, scene, self.image_shape)
        pixels = scene._replace(canvas=to_pixels(scene.canvas, 1)[..., None, None])
        check_conditional("image", self.image, pixels, 3)

    def pixel_log_prob(
        self,
        scene: Any,
        images: Float[Tensor, "*#batch c h w"],
        colours: Float[Tensor, "*#batch c h w"],
    ) -> Float[Tensor, "*batch 1 h w"]:
        """log p of each pixel of the images, given a canvas of these colours."""
        pixels, canvas = (maps.movedim(-3, -1)[..., None, None] for maps in (images, colours))
        return self.image(scene._replace(canvas=canvas)).log_prob(pixels).unsqueeze(-3)


def draw_regions(log_regions: list[Float[Tensor, "*#batch 1 h w"]]) -> None:
    """Draws ``z_region`` in a guide from log regions, front first; no pixel shows "no layer"."""
    no_layer = torch.full_like(log_regions[-1], -CERTAIN)
    logits = torch.stack(torch.broadcast_tensors(*log_regions, no_layer), -4)[..., 0, :, :]
    logits = to_pixels(logits, 1)
    with pyro.plate("pixels", logits.shape[-3], dim=-2):
        pyro.sample("z_region", dist.Categorical(logits=logits))
