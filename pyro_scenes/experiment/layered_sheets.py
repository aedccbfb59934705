"""The figures of VAE, ST-VAE and CST-VAE: scenes of digits in layers."""

from collections.abc import Mapping
from typing import Any

from pyro import poutine
from torch import Tensor, nn

from .. import viz
from ..data import Scenes
from ..evaluation import (
    Layers,
    Match,
    doubt,
    explanations,
    match_layers,
    overlap,
    see_layers,
    solved,
)
from .sheets import SIZE

__all__ = ["layered_figures"]


def layered_figures(
    model: Any,
    guide: nn.Module,
    scenes: Scenes,
    means: Mapping[str, Tensor],
    *,
    draws: int = 64,
) -> dict[str, Any]:
    """Figures by name: samples and reconstructions; of a model with layers also alignment.

    Of one with two layers or more also interpretations and, where objects overlap, completion.

    Args:
        model: Of VAE, ST-VAE or CST-VAE.
        guide: In evaluation mode.
        scenes: The first are drawn.
        means: ``Alignment.means`` by the name of their row in the figure of alignment. None: no such figure.
        draws: Of the guide, for the interpretations.
    """
    figures = {"samples": _samples(model)}
    some, images = scenes[:SIZE], scenes[:50].floats(model.blank.device)
    if not hasattr(model, "window"):
        drawn = poutine.trace(guide).get_trace(images[:SIZE])
        scene = poutine.trace(poutine.replay(model, drawn)).get_trace(size=len(images[:SIZE]))
        rows = {"image": images[:SIZE], "reconstruction": scene.nodes["canvas"]["value"]}
        return figures | {"reconstructions": viz.pictures(rows)}
    layers = see_layers(model, guide, images[:SIZE])
    truth: dict[str, Any] = {}
    if some.masks is not None:
        right = solved(layers.masks.amax(2), some.masks)
        truth = {"truth": some.visible(), "correct": right}
    figures["reconstructions"] = viz.taken_apart(images[:SIZE], layers, **truth)
    if means:
        heads = [f"digit {n}" for n in range(max(map(len, means.values())))]
        headline = "Mean of each class of true digits in the guide's windows: sharp once they align"
        figures["alignment"] = viz.pictures(means, columns=heads, headline=headline)
    if layers.masks.shape[1] > 1:
        figures |= _completion(model, guide, scenes)
        figures["interpretations"] = _interpretations(model, guide, images, draws)
    return figures


def _completion(model: Any, guide: nn.Module, scenes: Scenes) -> dict[str, Any]:
    """Scenes where objects overlap by more than a quarter of the smaller one, if there are any."""
    if scenes.masks is None:
        return {}
    hard: Any = scenes[(overlap(scenes.masks) > 0.25).nonzero()[:SIZE, 0]]
    if len(hard) == 0:
        return {}
    layers = see_layers(model, guide, hard.floats(model.blank.device))
    match = match_layers(layers.masks.amax(2), hard.masks)
    # Of scenes with fewer objects than others, the rest is padding, which has no layer.
    whole = (match.layer >= 0).all(1)
    if not whole.any():
        return {}
    hard, layers = hard[whole], Layers(*(part[whole] for part in layers))
    match = Match(*(part[whole] for part in match))
    headline = f"Objects that overlap: IoU of completed and true shape {match.iou.nanmean():.2f}"
    parts = {"layer": match.layer, "truth": hard.masks, "headline": f"{headline} (1 is perfect)"}
    return {"completion": viz.completion(hard.floats(), layers, **parts)}


def _interpretations(model: Any, guide: nn.Module, images: Tensor, draws: int) -> Any:
    """The image of which draws differ most."""
    answers = explanations(model, guide, images, draws=draws)
    image = int(doubt(*answers).argmax())
    headline = "An image in doubt: draws of the guide that weigh most in its posterior"
    return viz.explanations(images, *answers, index=image, headline=headline)


def _samples(model: Any) -> Any:
    """Scenes from the prior; then layers, and what the decoder made of each."""
    nodes = poutine.trace(model).get_trace(size=SIZE).nodes
    rows = {"scene": nodes["canvas"]["value"]}
    codes = [nodes[name]["value"] for name in nodes if name.startswith("z_what")]
    for i, layer in enumerate(nodes["layers"]["value"].unbind(1) if "layers" in nodes else ()):
        rows[f"layer {i + 1}"] = layer
        colour, opacity = model.decoder(codes[i]).tensor_split([layer.shape[1]], 1)
        content = colour * opacity if opacity.numel() else colour
        rows[f"layer {i + 1}, before it is placed"] = content
    headline = "Samples: scenes of the prior, and the layers that they are made of"
    return viz.pictures(rows, headline=headline if len(rows) > 1 else "Samples of the prior")
