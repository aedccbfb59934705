"""Completing digits as a task: its sets, what is measured beside floors, and the first picture."""

from os import PathLike
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from jaxtyping import Bool, Float
from pyro import poutine
from torch import Tensor, nn

from .. import viz
from ..data import Scenes, binary, digits, quadrants, random_masks
from ..evaluation import estimate, floors, log_weights
from ..models.cvae import CVAE, FirstGuess

__all__ = [
    "CompletionScorer",
    "Parts",
    "completion_figure",
    "completion_split",
    "completion_verdict",
]

#: How often each digit for training is binarised, and masked.
COPIES = 4
#: Images at a time, to bound memory.
CHUNK = 500


class Parts(NamedTuple):
    """Three sets of binarised digits, and masks, True where a pixel is seen."""

    train: Scenes
    masks: Bool[Tensor, "n 1 h w"]  # one for each training image
    validation: Scenes
    test: Scenes
    seen: dict[
        str, Bool[Tensor, "1 h w"]
    ]  # by name, those that validation and test images are given


def completion_split(
    kind: str,
    count: int,
    root: str | PathLike[str] | None = None,
    *,
    seed: int = 0,
    small: bool = False,
) -> Parts:
    """The sets of :func:`~pyro_scenes.data.digits`, binarised, those for training four times.

    Those for validation and test are the same for all seeds.

    Args:
        kind: ``cvae``: all images have the mask of the quadrants. ``vaeac``: those for training have random
            masks, the others those of 1, 2 and 3 quadrants.
        count: Of quadrants that are seen.
        root: The folder with MNIST. None: drawn digits.
        seed: Of the training set.
        small: Whether there are only 128, 64 and 64 images.
    """
    sets = [
        images[: size if small else None] for (images, _), size in zip(digits(root), (32, 64, 64))
    ]
    train = torch.cat([binary(sets[0], COPIES * seed + copy) for copy in range(COPIES)])
    validation, test = (binary(images, 1_000_000 + i) for i, images in enumerate(sets[1:]))
    side = train.shape[-2], train.shape[-1]
    counts = (count,) if kind == "cvae" else (1, 2, 3)
    seen = {f"{n} of 4 seen": quadrants(n, side) for n in counts}
    masks = quadrants(count, side).expand(len(train), 1, *side)
    masks = masks if kind == "cvae" else random_masks(len(train), side, seed)
    return Parts(Scenes(train), masks, Scenes(validation), Scenes(test), seen)


class CompletionScorer(NamedTuple):
    """Scores models of completions and their guides, in evaluation mode. Use ``torch.no_grad()``."""

    data: Parts
    images: int = (
        2_500  # how many test images at most, evenly spaced, as the file of MNIST begins with easy ones
    )
    particles: int = 100  # of the importance-weighted bound

    def nats(
        self, model: Any, guide: nn.Module, scenes: Scenes, seen: Bool[Tensor, "1 h w"]
    ) -> dict[str, float]:
        """``nats``: minus log p(rest | seen) per image by importance sampling; its error; ``elbo``."""
        chunks = (chunk.floats(model.blank.device) for chunk in scenes.chunks(CHUNK))
        batches = (
            (images, seen.to(images.device).expand(len(images), 1, -1, -1)) for images in chunks
        )
        weights = [log_weights(model, guide, *batch, particles=self.particles) for batch in batches]
        bounds = estimate(torch.cat(weights, 1))
        return {"nats": -bounds.iwae, "nats_error": bounds.iwae_error, "elbo": bounds.elbo}

    def floors(
        self, model: Any, scenes: Scenes, seen: Bool[Tensor, "1 h w"]
    ) -> dict[str, dict[str, float]]:
        """``nats`` of answers that are one picture: the mean of the training images, the baseline's."""
        device, images = model.blank.device, scenes.floats(model.blank.device)
        mask = seen.to(device).expand(len(images), 1, -1, -1)
        train = self.data.train.images
        mean = (train.sum(0, dtype=torch.float64) / (255 * len(train))).to(images)
        pixels = dist.Bernoulli(probs=mean.clamp(1e-3, 1 - 1e-3))
        answers = {"mean image": pixels.log_prob(images).masked_fill(mask, 0.0).sum().item()}
        if isinstance(model, CVAE):
            trace = poutine.trace(FirstGuess(model)).get_trace(images, mask)
            answers["baseline network"] = trace.log_prob_sum().item()
        return {name: {"nats": -value / len(images)} for name, value in answers.items()}

    def measure(self, model: Any, guide: nn.Module) -> dict[str, Any]:
        """These for each mask, ``nats, 1 of 4 seen`` ..., each with its floors, on the test images."""
        scenes = self.data.test[:: -(-len(self.data.test) // self.images)]
        numbers: dict[str, Any] = {"images": len(scenes)}
        for name, seen in self.data.seen.items():
            figures = self.nats(model, guide, scenes, seen)
            table = floors.beside(figures, self.floors(model, scenes, seen))
            numbers |= {_named(key, name): value for key, value in table.items()}
        return numbers


def _named(key: str, mask: str) -> str:
    figure, *answer = key.split(": ")
    return ": ".join([f"{figure}, {mask}", *answer])


def completion_verdict(numbers: dict[str, Any]) -> str:
    """What :class:`CompletionScorer` measured, in words."""
    lines = []
    for name, value in numbers.items():
        if name.startswith("nats, ") and ": " not in name:
            others = [
                f"{key.split(': ')[1]} {numbers[key]:.1f}"
                for key in numbers
                if key.startswith(f"{name}: ")
            ]
            mask = name.removeprefix("nats, ")
            lines.append(f"{mask}: {value:.1f} nats for the rest of an image ({', '.join(others)})")
    return "\n".join(lines)


def completion_figure(
    model: Any,
    images: Float[Tensor, "n c h w"],
    masks: Bool[Tensor, "n 1 h w"],
    *,
    headline: str = "",
    draws: int = 50,
) -> Any:
    """Images, what is seen of them, completions drawn by the model, and the best and the worst of them.

    Best and worst are by the pixels that differ from the image: of an image's draws, and of the images.

    Args:
        model: Called as ``model(None, picture)``.
        images: The truth.
        masks: True where a pixel is seen.
        headline: Above all, such as the verdict.
        draws: For each image.
    """
    known = images.masked_fill(~masks, torch.nan)
    rows = {"image": images, "seen": known.nan_to_num(0.5)}
    if isinstance(model, CVAE):
        rows["baseline network"] = model.look(known).guess
    drawn = torch.stack([_canvas(model, known) for _ in range(draws)])
    wrong = (drawn - images).abs().flatten(2).sum(2)
    rows |= {f"draw {i + 1}": drawn[i] for i in range(4)}
    each = torch.arange(len(images))
    rows[f"best of {draws}"] = drawn[wrong.argmin(0), each]
    rows[f"worst of {draws}"] = drawn[wrong.argmax(0), each]
    mean = wrong.mean(0)
    heads = [f"{pixels:.0f} px off" for pixels in mean.tolist()]
    heads[int(mean.argmin())] += "\n(best)"
    heads[int(mean.argmax())] += "\n(worst)"
    told = f"px off: pixels that differ from the image, mean of {draws} draws"
    return viz.pictures(rows, columns=heads, headline=f"{headline}\n{told}".strip())


def _canvas(model: Any, known: Tensor) -> Tensor:
    return poutine.trace(model).get_trace(None, known).nodes["canvas"]["value"]
