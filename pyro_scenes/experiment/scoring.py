"""What is measured of models whose experts take scenes apart."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from pyro.infer import ELBO
from torch import Tensor, nn

from ..data import Scenes
from ..evaluation import (
    Decomposition,
    agreement,
    amodal_iou,
    decompose,
    estimate,
    extra_share,
    floors,
    log_weights,
    reconstruction,
    softmax_masks,
)
from .sheets import scene_figures

__all__ = ["Scorer"]

#: Fields of ``Agreement`` that curves show.
CURVES = ("ari_fg", "amodal_iou", "depth_order", "purity")
#: Scenes at a time, to bound memory.
CHUNK = 100


class Scorer(NamedTuple):
    """Scores models of ``ECON``'s sites and their guides, in evaluation mode. Use ``torch.no_grad()``."""

    device: torch.device = torch.device("cpu")
    # Whether model and guide are called with true regions: scenes must have masks.
    given: bool = False
    softmax: bool = False  # whether opacities are those of a softmax, see ``evaluation.decompose``
    classes: int | None = None  # of objects; None: as many as the scenes have
    layers: int | None = None  # that scenes are taken apart into; None: as many as the model has

    def layers_of(self, model: Any) -> int:
        """How many layers scenes are taken apart into."""
        return self.layers or model.layers

    def with_layers(self, model: Any, guide: nn.Module) -> tuple[Callable, Callable]:
        """Model and guide as they are called with a batch: with so many layers."""
        if self.layers_of(model) == model.layers:
            return model, guide
        return partial(model, layers=self.layers), partial(guide, layers=self.layers)

    def source(self, scenes: Scenes, layers: int) -> tuple[Tensor, ...]:
        """What batches are taken from: images, and true regions if they are given."""
        return (scenes.images, scenes.regions(layers)) if self.given else (scenes.images,)

    def batch(self, scenes: Scenes, layers: int) -> tuple[Tensor, ...]:
        """What model and guide are called with, on the device."""
        rest = self.source(scenes, layers)[1:]
        return scenes.floats(self.device), *(part.to(self.device) for part in rest)

    def decompose(
        self, model: Any, guide: nn.Module, scenes: Scenes, *, layers: int | None = None
    ) -> Decomposition:
        """The scenes taken apart into as many layers as :meth:`layers_of` says, or so many."""
        number = self.layers_of(model) if layers is None else layers
        images, *given = self.batch(scenes, number)
        regions = given[0] if given else None
        return decompose(model, guide, images, regions=regions, layers=number, softmax=self.softmax)

    def bound(self, model: Any, guide: nn.Module, scenes: Scenes) -> dict[str, float]:
        """``elbo`` in nats per image, as in ``evaluation.Bounds``, and ``elbo_error``, its standard error."""
        pair, number = self.with_layers(model, guide), self.layers_of(model)
        batches = (self.batch(chunk, number) for chunk in scenes.chunks(CHUNK))
        bounds = estimate(torch.cat([log_weights(*pair, *batch) for batch in batches], 1))
        return {"elbo": bounds.elbo, "elbo_error": bounds.elbo_error}

    def loss(self, elbo: ELBO, model: Any, guide: nn.Module, scenes: Scenes) -> float:
        """The loss of an objective, per image."""
        batch = self.batch(scenes, self.layers_of(model))
        return elbo.loss(*self.with_layers(model, guide), *batch) / len(scenes)

    def against_truth(self, model: Any, answer: Decomposition, scenes: Scenes) -> dict[str, Any]:
        """Fields of ``Reconstruction`` and, where the scenes have masks, of ``Agreement``."""
        numbers = reconstruction(answer, scenes.floats())._asdict()
        if scenes.masks is None:
            return numbers
        sizes = {"experts": model.experts, "classes": self.classes}
        numbers |= agreement(answer, scenes.masks, scenes.labels, **sizes)._asdict()
        if self.softmax:  # the masks as MONet means them
            full = amodal_iou(answer.of_objects(softmax_masks(answer.masks)), scenes.masks)
            numbers["amodal_iou_softmax"] = full.iou[full.occluded].mean().item()
        return numbers

    def brief(self, model: Any, guide: nn.Module, scenes: Scenes) -> dict[str, float]:
        """A few of these numbers, for curves. Where there is nothing to compare, they are left out."""
        numbers = self.against_truth(model, self.decompose(model, guide, scenes), scenes)
        known = {
            name: numbers[name] for name in CURVES if not math.isnan(numbers.get(name, math.nan))
        }
        return {"elbo": self.bound(model, guide, scenes)["elbo"], "mse": numbers["mse"], **known}

    def score(
        self, model: Any, guide: nn.Module, scenes: Scenes
    ) -> tuple[Decomposition, dict[str, Any]]:
        """The scenes taken apart, and all of the above with ``extra_share``, that of three spare layers."""
        answer = self.decompose(model, guide, scenes)
        wide = self.decompose(model, guide, scenes, layers=self.layers_of(model) + 3)
        numbers = self.bound(model, guide, scenes) | self.against_truth(model, answer, scenes)
        return answer, numbers | {"extra_share": extra_share(wide.regions, self.layers_of(model))}

    def floors(self, scenes: Scenes) -> dict[str, dict[str, Any]]:
        """What trivial answers have in :meth:`against_truth`, by their names; none without masks."""
        if scenes.masks is None:
            return {}
        answers = floors.agreement_floors(scenes.images, scenes.masks, scenes.labels)
        return {name: numbers._asdict() for name, numbers in answers.items()}

    def figures(
        self,
        model: Any,
        guide: nn.Module,
        answer: Decomposition,
        scenes: Scenes,
        wins: list[list[int]] | None,
    ) -> dict[str, Any]:
        """Figures of ``scene_figures``. The guide is not asked."""
        return scene_figures(model, answer, scenes, wins)
