"""One image explained, as a page shows it: a sentence, windows on the image, and rows of pictures.

The pairs are those of :func:`~pyro_scenes.pretrained.load_pretrained`. Nothing is drawn at random: the same
image gets the same answer.
"""

from base64 import b64encode
from collections.abc import Sequence
from itertools import cycle
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ..data import shape_masks
from ..data.coloured_shapes import CLASSES
from ..evaluation import decompose, see_layers, see_steps, shape_fit
from ..random import fork_rng
from ..render import inverse
from ..viz import in_colours

__all__ = ["Row", "Shown", "show_air", "show_cst_vae", "show_econ"]

#: In words, what viz.LAYER_COLOURS are.
COLOUR_NAMES = ("red", "green", "blue", "yellow", "magenta", "cyan")
#: Radius in pixels of the shapes that the pair "econ" was trained on.
RADIUS = 6


class Row(NamedTuple):
    """Pictures of one kind."""

    title: str
    pictures: Float[Tensor, "n c h w"]
    captions: Sequence[str] = ()  # one for each picture, or none
    faint_from: int | None = None  # from which picture on they show what is likely not there


class Shown(NamedTuple):
    """What a page shows of an image."""

    text: str  # the result in a line
    rows: list[Row]
    windows: Float[Tensor, "n 4 2"]  # corners (x, y) of each window in pixels, in order around it
    count_probabilities: Float[Tensor, " counts"] | None = None

    def plain(self) -> dict[str, Any]:
        """The same for JSON, by name. A picture is its levels 0 to 255 as bytes (C, H, W), in base64."""
        rows = [
            {
                **row._asdict(),
                "pictures": [*map(_levels, row.pictures)],
                "captions": [*row.captions],
            }
            for row in self.rows
        ]
        counts = self.count_probabilities
        return {
            "text": self.text,
            "rows": rows,
            "windows": self.windows.tolist(),
            "count_probabilities": counts if counts is None else counts.tolist(),
        }


def show_air(model: Any, guide: Any, images: Float[Tensor, "1 c h w"]) -> Shown:
    """The likeliest count, a window for each object, and the canvas after each step."""
    probabilities, boxes, canvases = (part[0] for part in see_steps(model, guide, images))
    count = int(probabilities.argmax())
    reached = probabilities.flip(0).cumsum(0).flip(0)[1:]  # P(count > t)
    captions = [f"step {t + 1}: {p:.2f}" for t, p in enumerate(reached.tolist())]
    return Shown(
        f"{count} digit{_plural(count)}: {probabilities[count]:.2f}",
        [
            Row("Reconstruction", canvases[count, None]),
            Row(
                "Canvas after each step, and the step's probability", canvases[1:], captions, count
            ),
        ],
        boxes[:count][:, [[0, 1], [2, 1], [2, 3], [0, 3]]],
        probabilities,
    )


def show_cst_vae(model: Any, guide: Any, images: Float[Tensor, "1 c h w"]) -> Shown:
    """Each layer's window, completed digit and visible part. The image is rounded to 0 and 1."""
    images = (images > 0.5).to(images)
    scene = see_layers(model, guide, images)
    ink, canvas = images[0] > 0.5, scene.canvas[0] > 0.5
    shared, union = (ink & canvas).sum(), (ink | canvas).sum()
    number = len(scene.complete[0])
    names = [f"layer {i + 1}{', front' * (i == 0)}" for i in range(number)]
    return Shown(
        f"{number} layers" + (f": {shared / union:.2f} IoU with the drawing" if union else ""),
        [
            Row("Reconstruction", scene.canvas),
            Row("Completed digits", scene.complete[0], names),
            Row("Visible parts", scene.visible[0], names),
            Row("Canvas after each layer", scene.visible[0].cumsum(0), names),
        ],
        _corners(scene.transforms[0], images.shape),
    )


def show_econ(model: Any, guide: Any, images: Float[Tensor, "1 c h w"]) -> Shown:
    """The regions, the completed shapes from the front to the back, and the canvas after each layer.

    A shape is named after the circle, square or triangle that its mask fits best.
    """
    with fork_rng(0):  # for the guide's seeds
        scene = decompose(model, guide, images)
    objects = scene.experts[0] >= 0
    regions, masks, colours = (
        part[0, objects] for part in (scene.regions, scene.masks, scene.colours)
    )
    names = [CLASSES[k] for k in shape_fit(masks, shape_masks(RADIUS)).label]
    uncovered = (1 - regions.cumsum(0))[:, None] * scene.colours[0, -1]
    coloured = [f"{colour}: {name}" for colour, name in zip(cycle(COLOUR_NAMES), names)]
    found = f"{len(names)} shape{_plural(len(names))}"
    return Shown(
        f"{found}, front to back: {', '.join(names)}" if names else found,
        [
            Row("Reconstruction", scene.canvas),
            Row("Regions", torch.from_numpy(in_colours(regions[None])), [", ".join(coloured)]),
            Row("Completed shapes", masks[:, None] * colours, names),
            Row(
                "Canvas after each layer", (regions[:, None] * colours).cumsum(0) + uncovered, names
            ),
        ],
        images.new_zeros(0, 4, 2),
    )


def _levels(picture: Float[Tensor, "c h w"]) -> str:
    levels = picture.clamp(0, 1).mul(255).round().byte()
    return b64encode(levels.numpy().tobytes()).decode()


def _plural(number: int) -> str:
    return "s" * (number != 1)


def _corners(transforms: Float[Tensor, "n 2 3"], shape: tuple[int, ...]) -> Float[Tensor, "n 4 2"]:
    """Of windows, in pixels of a canvas (..., height, width)."""
    square = transforms.new_tensor([[-1, 1, 1, -1], [-1, -1, 1, 1], [1, 1, 1, 1]])
    size = transforms.new_tensor([shape[-1], shape[-2]])
    return ((inverse(transforms) @ square).mT + 1) / 2 * size
