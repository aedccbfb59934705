"""Layered digits as a task: its sets of scenes, and what is measured on the test set, beside floors."""

from os import PathLike
from typing import Any, NamedTuple

from torch import nn

from ..data import Split, digits, layered_digits
from ..evaluation import (
    canvas_error,
    code_accuracy,
    estimate,
    floors,
    layer_metrics,
    log_weights,
    object_counts,
    reconstruct,
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
    count, canvas = LAYERED[kind]["count"], LAYERED[kind]["canvas"]
    return Split(
        *(
            layered_digits(pictures, size, count=count, canvas=canvas, seed=seed)
            for pictures, size, seed in zip(digits(root), sizes, seeds, strict=True)
        )
    )


class LayeredScorer(NamedTuple):
    """Scores models and their guides, in evaluation mode. Use ``torch.no_grad()``."""

    data: Split
    particles: int = 100  # of the importance-weighted bound
    epochs: int = 20  # of the classifier of codes
    scenes: int | None = None  # how many training scenes the classifier learns from; None: all
    # Whether scenes are those of layered_split. Of others, no classes are read, and no layers are compared
    # where there are no masks.
    digits: bool = True

    def score(self, model: Any, guide: nn.Module) -> dict[str, Any]:
        """Fields of ``Bounds``, of 500 test scenes; of ``Canvases`` and, of digits, ``CodeAccuracy``."""
        images = self.data.test.floats(model.blank.device)
        bounds = estimate(log_weights(model, guide, images[:500], particles=self.particles))
        canvases = canvas_error(reconstruct(model, guide, images), images)
        numbers = bounds._asdict() | canvases._asdict()
        if not self.digits:
            return numbers
        sets: Any = self.data.train[: self.scenes], self.data.test
        train, test = ((part.images.to(model.blank.device), part.labels) for part in sets)
        return numbers | code_accuracy(guide, train, test, epochs=self.epochs)._asdict()

    def measure(self, pair: tuple[Any, Any], untrained: tuple[Any, Any]) -> dict[str, Any]:
        """These, and of a model with layers those of :meth:`of_layers`: each figure, then its floors.

        Args:
            pair: A model and its guide.
            untrained: The same before training: its bounds, canvases and codes are a floor.
        """
        figures = self.score(*pair)
        answers: dict[str, Any] = {"untrained": self._floor(*untrained)}
        answers |= floors.canvas_floors(self.data.test.floats())
        if hasattr(pair[0], "window"):
            more, others = self.of_layers(*pair)
            figures, answers = figures | more, answers | others
        return floors.beside(figures, answers)

    def of_layers(self, model: Any, guide: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
        """Figures of layers, and their floors.

        ``layers_in_use`` is the mean number of layers that take more than 1 % of the pixels. Where the scenes
        have masks, there are fields of ``LayerMetrics`` too.
        """
        test: Any = self.data.test  # Any, as scenes may lack what is asked of them here
        layers = see_layers(model, guide, test.floats(model.blank.device))
        used = object_counts(layers.masks.amax(2)).double().mean().item()
        if test.masks is None:
            return {"layers_in_use": used}, {}
        truth: dict[str, Any] = {}
        if self.digits:
            some: Any = self.data.train[:10_000]
            truth = {"labels": test.labels, "centres": test.centres}
            truth["reader"] = train_shape_reader(some.masks, some.labels)
        figures = layer_metrics(layers, test.masks, **truth)._asdict()
        answers = floors.layer_floors(test.images, test.masks, **truth)
        return {"layers_in_use": used} | figures, answers

    def _floor(self, model: Any, guide: nn.Module) -> dict[str, Any]:
        figures = self.score(model, guide)
        names = ("elbo", "iwae", "mse", "explained_variance", "code_accuracy")
        return {name: figures[name] for name in names if name in figures}
