"""The figures of a model whose experts take scenes apart."""

from collections.abc import Sequence
from typing import Any

import torch

from .. import viz
from ..data import Scenes
from ..evaluation import Decomposition, Roles, describe_wins, paint, repaint, roles

__all__ = ["expert_roles", "explained", "scene_figures"]

#: Scenes of a figure.
SIZE = 12


def expert_roles(model: Any, wins: list[list[int]] | None) -> Roles:
    """The roles of a model's experts, by what they won and what is known of them by construction."""
    table = torch.zeros(model.experts, 1, dtype=torch.long) if wins is None else torch.tensor(wins)
    return roles(table, model.object_experts)


def explained(answer: Decomposition, scenes: Scenes, size: int = SIZE) -> Any:
    """Scenes as a model explains them, and the true regions where they are known."""
    some, first = scenes[:size], Decomposition(*(part[:size] for part in answer))
    truth = None if some.masks is None else some.visible()
    return viz.taken_apart(some.floats(), first, truth=truth, painted=repaint(first))


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
        classes: Names of the classes.
    """
    images, figures = scenes.floats(), {"reconstructions": explained(answer, scenes)}
    for i in range(min(3, len(images))):
        figures[f"layers_{i}"] = viz.layer_by_layer(images, answer, index=i)
    if scenes.masks is not None and scenes.masks.any():
        hidden = scenes.masks, scenes.visible()
        figures["completion"] = viz.hidden_objects(images, answer, *hidden, size=SIZE)
    names = [f"expert {k}" for k in range(model.experts)]
    if wins is not None:
        names = describe_wins(torch.tensor(wins), classes)
    return figures | _samples(model, expert_roles(model, wins), names)


def _samples(model: Any, known: Roles, names: list[str]) -> dict[str, Any]:
    """Fig. 1B, 1C and 7 of von Kuegelgen et al. (2020): objects of one expert, of several, layer by layer."""
    objects, background = known.object_experts, known.background_experts
    single = {names[k]: paint(model, [k, *background], SIZE).images for k in objects}
    mixed = {}
    for number in range(1, 7):
        chosen = [objects[i] for i in torch.randint(len(objects), (number,)).tolist()]
        title = f"expert{'s' * (number > 1)} {', '.join(map(str, chosen))}"
        mixed[title] = paint(model, [*chosen, *background], SIZE).images
    return {
        "experts": viz.pictures(single, headline="Objects of one expert"),
        "recombinations": viz.pictures(mixed, headline="Objects of these experts, front to back"),
        "layer_by_layer": viz.painted_layers(paint(model, [*objects, *background], SIZE)),
    }
