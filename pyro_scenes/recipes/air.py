"""An AIR that is sized by its images, and how its training sharpens objects."""

import pyro.distributions as dist

from ..conditionals import Persist, Pixels, Prior
from ..inference.schedule import ramp
from ..models import AIR, AIRGuide

__all__ = ["air_pair", "as_trained", "noise_at"]

#: Sides of the default window, relative to an object's: 28 pixels on a canvas of 50 for objects of a third.
MARGIN = 1.68
#: Noise of pixels while AIR learns to count. With less, two objects for one digit pay from the start.
FIRST_NOISE = 0.3


def air_pair(
    image_shape: tuple[int, ...],
    steps: int = 3,
    *,
    window: tuple[int, int] | None = None,
    scale: float = 1 / 3,
    noise: float = 0.1,
) -> tuple[AIR, AIRGuide]:
    """A model and its guide. On canvases of 50, the sizes are the defaults of the class ``AIR``.

    Args:
        image_shape: (C, H, W) of an image.
        steps: The largest number of objects.
        window: (h, w) of a glimpse, in pixels. Default: 1.68 times as large as an object, 8 at least.
        scale: Expected size of an object relative to the canvas, in (0, 1]. The prior of the pose has a scale
            of 1 / this, with a deviation of 7 %, and places objects as the default does, whatever their size.
        noise: Standard deviation of a pixel about the canvas. The smaller it is, the sharper the objects.
    """
    channels, *sides = image_shape
    size = window or [max(8, round(MARGIN * scale * side)) for side in sides]
    zoom = 1 / scale
    # A shift is in units of the window, so that its deviation grows with the zoom.
    z_where = Prior(dist.Normal, loc=[zoom, 0.0, 0.0], scale=[zoom / 15, zoom / 3, zoom / 3])
    image = Pixels(dist.Normal, scale=noise)
    model = AIR(tuple(image_shape), (channels, *size), steps, z_where=z_where, image=image)
    return model, AIRGuide(model)


def noise_at(step: int, steps: int, noise: float) -> float:
    """The noise of pixels at a step: 0.3 for 40 % of the training, then linearly to ``noise`` at 60 %.

    First what to count is learned, then what digits look like. Noise above 0.3 does not change. A run that
    is resumed for more steps goes back to where the noise of so many steps is.
    """
    first = max(FIRST_NOISE, noise)
    return ramp(max(0, step - round(0.4 * steps)), over=0.2 * steps, start=first, end=noise)


def as_trained(model: AIR, noise: float) -> None:
    """Gives a model from the middle of a training the prior of presence and the noise of its end."""
    model.z_pres, model.image = Persist(0.01), Pixels(dist.Normal, scale=noise)
