"""Layered digits as a task: its sets of scenes, and what is measured on the test set, beside floors."""

from os import PathLike
from typing import Any, NamedTuple

from torch import nn

from ..data import Scenes, Split, digits, layered_digits
from ..evaluation import (
    code_accuracy,
    estimate,
    floors,
    layer_metrics,
    log_weights,
    see_layers,
    train_shape_reader,
)

__all__ = ["LAYERED", "LayeredScorer", "layered_split"]

#: Arguments of ``data.layered_digits`` for the data sets of Huang and Murphy (2016, Sec. 4.1 and 4.2).
LAYERED = {
    "translated": {"count": 1, "canvas": 36},
    "superimposed": {"count": 2, "canvas": 50},
}


def layered_split(
    kind: str, root: str | PathLike[str] | None = None, *, seed: int = 0, small: bool = False
) -> Split:
    """Scenes of the three sets of :func:`~pyro_scenes.data.digits`: 50,000 (of MNIST 100,000), 500 and 5,000.

    Those for validation and test are the same for all seeds.

    Args:
        kind: ``translated`` or ``superimposed``.
        root: The folder with MNIST. None: drawn digits.
        seed: Of the training scenes.
        small: Whether there are only 128, 64 and 64.
    """
    sizes = (100_000 if root else 50_000, 500, 5_000)
    sizes, seeds = (128, 64, 64) if small else sizes, (seed, 2_000_000, 1_000_000)
    parts = zip(digits(root), sizes, seeds, strict=True)
    return Split(*(layered_digits(*part, **LAYERED[kind], seed=seed) for *part, seed in parts))


class LayeredScorer(NamedTuple):
    """Scores models and their guides, in evaluation mode. Use ``torch.no_grad()``."""

    data: Split
    particles: int = 100  # of the importance-weighted bound
    epochs: int = 20  # of the classifier of codes
    scenes: int | None = None  # how many training scenes the classifier learns from; None: all

    def score(self, model: Any, guide: nn.Module) -> dict[str, Any]:
        """Fields of ``Bounds``, of 500 test scenes, and of ``CodeAccuracy``, of all."""
        images = self.data.test[:500].floats(model.blank.device)
        bounds = estimate(log_weights(model, guide, images, particles=self.particles))
        train, test = (_labelled(part) for part in (self.data.train[: self.scenes], self.data.test))
        return bounds._asdict() | code_accuracy(guide, train, test, epochs=self.epochs)._asdict()

    def measure(self, pair: tuple[Any, Any], untrained: tuple[Any, Any]) -> dict[str, Any]:
        """These and, of a model with layers, ``LayerMetrics``: each figure, and after it its floors.

        Args:
            pair: A model and its guide.
            untrained: The same before training: its bounds and codes are a floor.
        """
        figures, answers = self.score(*pair), {"untrained": self._floor(*untrained)}
        if not hasattr(pair[0], "window"):
            return floors.beside(figures, answers)
        test, some = self.data.test, self.data.train[:10_000]
        reader = train_shape_reader(some.masks, some.labels)
        truth = {"labels": test.labels, "centres": test.centres, "reader": reader}
        layers = see_layers(*pair, test.floats(pair[0].blank.device))
        figures |= layer_metrics(layers, test.masks, **truth)._asdict()
        answers |= floors.layer_floors(test.images, test.masks, **truth)
        return floors.beside(figures, answers)

    def _floor(self, model: Any, guide: nn.Module) -> dict[str, Any]:
        figures = self.score(model, guide)
        return {name: figures[name] for name in ("elbo", "iwae", "code_accuracy")}


def _labelled(scenes: Scenes) -> tuple[Any, Any]:
    return scenes.images, scenes.labels
