"""Coloured shapes as a task: its sets of scenes, and what is measured on them."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..data import Scenes, Split, coloured_shapes, shape_masks
from ..data.coloured_shapes import CLASSES
from ..evaluation import (
    CountReader,
    Decomposition,
    Request,
    as_request,
    floors,
    paint_alone,
    paint_request,
    requested,
    single_shapes,
    train_reader,
)
from .scoring import Scorer
from .sheets import SIZE, expert_roles, explained, scene_figures

__all__ = ["ShapesJudge", "ShapesTask"]

#: What is measured on scenes of five objects.
OF_FIVE = ("mse", "mse_full_shapes", "ari_fg", "amodal_iou", "depth_order", "count_accuracy")


@dataclass(frozen=True)
class ShapesTask:
    """The scenes of von Kuegelgen et al. (2020). All sets but that for training are the same for all seeds.

    Attributes:
        colours: As of ``data.coloured_shapes``.
        objects: How many are in each scene.
        canvas: Pixels a side.
    """

    colours: str
    objects: int = 3
    canvas: int = 32

    def scenes(self, size: int, seed: int, **other: Any) -> Scenes:
        """Scenes of the task; ``other`` are arguments of ``data.coloured_shapes`` in which they differ."""
        options = {"count": self.objects, "colours": self.colours, "canvas": self.canvas}
        return coloured_shapes(size, seed=seed, **{**options, **other})

    def split(
        self, seed: int, train: int = 50_000, validation: int = 100, test: int = 1000
    ) -> Split:
        """Scenes for training, of this seed; for curves; and for tables."""
        sizes = (train, seed), (validation, 2_000_000), (test, 1_000_000)
        return Split(*(self.scenes(*size) for size in sizes))

    def five(self, size: int = 1000) -> Scenes:
        """Scenes of five objects, which no model is trained on."""
        return self.scenes(size, 1_000_001, count=5)

    def judge(self, scorer: Scorer, *, smoke: bool = False) -> "ShapesJudge":
        """Trains a reader of counts by class on scenes of 1 to ``objects`` objects of any classes.

        Args:
            smoke: Whether all is small, to check that it runs.
        """
        requests = []
        for size, seed in (
            (200 if smoke else 40_000, 3_000_000),
            (200 if smoke else 1000, 3_000_001),
        ):
            true = self.scenes(size, seed, count=(1, self.objects), classes="any")
            assert true.masks is not None and true.labels is not None
            requests.append(as_request(true.images, true.masks, true.labels, len(CLASSES)))
        images = requests[0].images.to(scorer.device)
        reader = train_reader(images, requests[0].counts, steps=10 if smoke else 2000)
        sizes = (2, 10) if smoke else (60, 200)
        scorer = scorer._replace(classes=len(CLASSES))
        return ShapesJudge(self, scorer, reader, requests[1], *sizes)


@dataclass(frozen=True)
class ShapesJudge:
    """Scores a model as :class:`Scorer` does; and on scenes of five objects, and its samples on request.

    Attributes:
        reader: Of counts by class.
        true: True scenes that the reader was not trained on.
        requests: As of ``evaluation.paint_request``.
        samples: Single objects that each expert paints.
    """

    task: ShapesTask
    scorer: Scorer
    reader: CountReader
    true: Request
    requests: int = 60
    samples: int = 200

    @property
    def stencils(self) -> Tensor:
        return shape_masks(self.task.canvas * 6 / 32)

    def score(
        self, model: Any, guide: nn.Module, scenes: Scenes
    ) -> tuple[Decomposition, dict[str, Any]]:
        """The scenes taken apart, and all numbers.

        Of as many scenes of five objects, names end in ``_5``.
        """
        answer, numbers = self.scorer.score(model, guide, scenes)
        five, apart = self.of_five(model, guide, len(scenes))
        of_five = self.scorer.against_truth(model, apart, five)
        numbers |= {f"{name}_5": of_five[name] for name in OF_FIVE}
        return answer, numbers | self.read(model, numbers["wins"])

    def of_five(self, model: Any, guide: nn.Module, size: int) -> tuple[Scenes, Decomposition]:
        """Scenes of five objects, taken apart into seven layers, or as many as the scorer takes."""
        five = self.task.five(size)
        layers = max(7, self.scorer.layers_of(model))
        return five, self.scorer.decompose(model, guide, five, layers=layers)

    def read(self, model: Any, wins: list[list[int]]) -> dict[str, float]:
        """Fields of ``SingleShapes`` and ``Requested``: what samples of a model show.

        Args:
            wins: What its experts won (``Agreement.wins``).
        """
        parts = expert_roles(model, wins)
        alone = single_shapes(paint_alone(model, parts, self.samples), self.stencils)
        request = paint_request(model, parts, objects=self.task.objects, requests=self.requests)
        return alone._asdict() | requested(self.reader.read(request.images), request)._asdict()

    def floors(self, scenes: Scenes) -> dict[str, dict[str, Any]]:
        """What trivial answers have, by their names; and the truth, the ceiling."""
        five = self.scorer.floors(self.task.five(len(scenes)))
        answers = self.scorer.floors(scenes)
        for name, numbers in five.items():
            answers[name] |= {f"{field}_5": value for field, value in numbers.items()}
        alone = floors.single_shape_floors(self.stencils, len(CLASSES))
        painted = floors.requested_floors(self.true)
        answers |= {name: alone[name]._asdict() | painted[name]._asdict() for name in painted}
        ceiling = requested(self.reader.read(self.true.images), self.true)
        return answers | {"true scenes": ceiling._asdict()}

    def figures(
        self,
        model: Any,
        guide: nn.Module,
        answer: Decomposition,
        scenes: Scenes,
        wins: list[list[int]],
    ) -> dict[str, Any]:
        """Figures of ``scene_figures``, and ``five_objects``."""
        figures = scene_figures(model, answer, scenes, wins, CLASSES)
        five, apart = self.of_five(model, guide, SIZE)
        return figures | {"five_objects": explained(apart, five)}
