"""The figures of a model whose experts take scenes apart."""

from collections.abc import Sequence
from typing import Any

import torch

from .. import viz
from ..data import Scenes
from ..evaluation import (
    Decomposition,
    Roles,
    amodal_iou,
    describe_wins,
    paint,
    repaint,
    roles,
    solved,
)

__all__ = ["expert_roles", "explained", "scene_figures"]

#: Scenes of a figure.
SIZE = 8


def expert_roles(model: Any, wins: list[list[int]] | None) -> Roles:
    """The roles of a model's experts, by what they won and what is known of them by construction."""
    table = torch.zeros(model.experts, 1, dtype=torch.long) if wins is None else torch.tensor(wins)
    return roles(table, model.object_experts)


def explained(answer: Decomposition, scenes: Scenes, size: int = SIZE) -> Any:
    """Scenes as a model explains them and, where masks are known, the true regions and the score."""
    some, first = scenes[:size], Decomposition(*(part[:size] for part in answer))
    painted = repaint(first)
    if some.masks is None:
        return viz.taken_apart(some.floats(), first, painted=painted)
    right = solved(first.of_objects(first.masks), some.masks)
    truth = some.visible()
    return viz.taken_apart(some.floats(), first, painted=painted, truth=truth, correct=right)


def scene_figures(
    model: Any,
    answer: Decomposition,
    scenes: Scenes,
    wins: list[list[int]] | None = None,
    classes: Sequence[str] = (),
) -> dict[str, Any]:
    """Figures by name: reconstructions, layers of three scenes, completion, and samples of each expert.

    Args:
        model: With the sites of ``ECON``.
        answer: The scenes taken apart.
        wins: What each expert won (``Agreement.wins``).
        classes: Names of the classes, in the singular.
    """
    images, figures = scenes.floats(), {"reconstructions": explained(answer, scenes)}
    known = expert_roles(model, wins)
    nouns = {k: noun for k, noun in zip(known.by_class, classes, strict=False) if k >= 0}
    titles = [
        f"expert {k}" + (f": {nouns[k]}s" if k in nouns else "") for k in range(model.experts)
    ]
    for i in range(min(3, len(images))):
        figures[f"layers_{i}"] = viz.layer_by_layer(images, answer, index=i, experts=titles)
    if scenes.masks is not None and scenes.masks.any():
        figures["completion"] = _completion(answer, scenes)
    won = titles if wins is None else describe_wins(torch.tensor(wins), classes)
    return figures | _samples(model, known, nouns, won)


def _completion(answer: Decomposition, scenes: Scenes) -> Any:
    """The most hidden objects, and how well their full shapes are met."""
    parts: Any = scenes.masks, scenes.visible()
    iou = amodal_iou(answer.of_objects(answer.masks), parts[0]).iou
    mean = iou[viz.most_hidden(*parts, size=SIZE)].mean()
    headline = f"The most hidden objects: IoU of completed and true shape {mean:.2f} (1 is perfect)"
    return viz.hidden_objects(scenes.floats(), answer, *parts, size=SIZE, headline=headline)


def _samples(model: Any, known: Roles, nouns: dict[int, str], won: list[str]) -> dict[str, Any]:
    """Fig. 1B, 1C and 7 of von Kuegelgen et al. (2020): objects of one expert, of several, layer by layer."""
    objects, background = known.object_experts, known.background_experts
    names = {k: nouns.get(k, f"expert {k}") for k in range(model.experts)}
    single = {won[k]: paint(model, [k, *background], SIZE).images for k in objects}
    mixed = {}
    for number in range(1, 7):
        chosen = [objects[i] for i in torch.randint(len(objects), (number,)).tolist()]
        title = ", ".join(names[k] for k in chosen)
        mixed[title] = paint(model, [*chosen, *background], SIZE).images
    grown = paint(model, [*objects, *background], SIZE)
    layers = [names[k] for k in objects] + ["background"] * (len(grown.masks[0]) - len(objects))
    return {
        "experts": viz.pictures(
            single, headline="Samples of one object, and what its expert won in the test scenes"
        ),
        "recombinations": viz.pictures(mixed, headline="Samples of several objects, front to back"),
        "layer_by_layer": viz.painted_layers(
            grown, names=layers, headline="Samples, painted from the back to the front"
        ),
    }
