"""Draws from guide, model and prior, by site."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from pyro import poutine
from torch import Tensor

from ..checks import is_whole
from ..handlers import fixed
from ..pairs import check_guide, check_same_model, warn_training_mode
from ..random import fork_rng
from ..sites import where_counted
from .groups import assemble

__all__ = ["check_seed", "to_arviz", "value_of"]


def to_arviz(
    model: Callable,
    guide: Callable,
    images: Float[Tensor, "n c h w"],
    *rest: Any,
    draws: int | Mapping[str, Tensor] = 100,
    seed: int | None = None,
    image_ids: Collection | None = None,
) -> Any:
    """Draws from guide, model and prior, as the ArviZ object that :mod:`pyro_scenes.criticism` describes.

    Canvas and replicate, of posterior and prior, are 16 * draws * n * C * H * W bytes of float32 (256 MB
    for 100 draws of 64 images of 1 x 50 x 50), and so are a layer and its mask. See :func:`statistics`.

    Args:
        model: A Pyro model, called as ``model(None, *rest, size=n)``, with a plate ``"images"`` and a site
            ``"image"``; sites outside the plate get no ``image_id``.
        guide: Its guide, called as ``guide(images, *rest)``: draws every latent of the model.
        images: At least one, on the device of the model; the result is on the CPU. NaN is a pixel that is not
            seen: it stays NaN in ``observed_data``, and is drawn in ``posterior_predictive``.
        rest: What a batch has beside images, such as ECON's regions.
        draws: Number of draws for each image, at least 1. Or draws made elsewhere, (draws, n, ...) by site,
            as of ``refine(model, guide, images).values``; other sites are drawn by the guide.
        seed: Makes the draws reproducible, and leaves torch's random state as it was.
        image_ids: n labels. Default: 0 .. n-1.

    Raises:
        ValueError: Arguments not as above, no site ``image``, or model and guide do not agree in sites,
            shapes, supports, plates and masks (see :func:`pyro_scenes.check_guide`).
        TypeError: Arguments of other types.

    Warns:
        TrainingModeWarning: Model or guide is in training mode.
    """
    number = draws if not isinstance(draws, Mapping) else _check_values(draws, images)
    labels = _check(images, number, seed, image_ids)
    warn_training_mode(model, guide)
    check_same_model(model, guide)
    check_guide(lambda images, *rest: model(None, *rest, size=len(images)), guide, images, *rest)
    with torch.no_grad(), nullcontext() if seed is None else fork_rng(seed):
        # The prior comes first: not even through the seed do its draws then depend on the images.
        prior = _complete(model, (poutine.Trace() for _ in range(number)), len(images), rest)
        values = draws if isinstance(draws, Mapping) else {}
        proposals = _proposals(guide, (images, *rest), number, values)
        posterior = _complete(model, proposals, len(images), rest)
    return assemble(posterior, prior, images.detach().cpu().numpy(), labels)


def _check(
    images: Tensor, draws: int, seed: int | None, image_ids: Collection | None
) -> np.ndarray:
    if not (isinstance(images, Tensor) and images.is_floating_point()):
        kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"images must be a float tensor (n, C, H, W), got {kind}")
    if images.ndim != 4 or len(images) == 0:
        raise ValueError(
            f"images must be (n, C, H, W) with n > 0, got {tuple(images.shape)}: give one image as "
            "image[None], grey images as images[:, None]"
        )
    if images.isinf().any():
        raise ValueError(
            "images must be finite numbers or NaN (unseen), found infinity: see data.as_images"
        )
    if not is_whole(draws, 1):
        raise ValueError(f"draws must be a whole number, at least 1, got {draws!r:.60}")
    check_seed(seed)
    labels = np.arange(len(images)) if image_ids is None else np.asarray(image_ids)
    if labels.shape != (len(images),):
        raise ValueError(f"image_ids must be {len(images)} labels, got shape {labels.shape}")
    return labels


def check_seed(seed: int | None) -> None:
    """Raises a ValueError unless a seed, if there is one, is one of torch."""
    if not (seed is None or (is_whole(seed, 0) and seed < 2**63)):
        raise ValueError(f"seed must be a whole number from 0 to 2**63 - 1, got {seed!r:.60}")


def _check_values(values: Mapping[str, Tensor], images: Tensor) -> int:
    """How many draws there are for each image."""
    shapes = {name: tuple(getattr(value, "shape", ())) for name, value in values.items()}
    starts = {shape[:2] for shape in shapes.values()}
    if len(starts) != 1 or [*starts][0][1:] != tuple(images.shape[:1]):
        raise ValueError(
            f"draws must be a whole number, or tensors (draws, {len(images)}, ...) by site, got {shapes}"
        )
    return [*starts][0][0]


def _proposals(
    guide: Callable, batch: tuple, number: int, values: Mapping[str, Tensor]
) -> Iterator[poutine.Trace]:
    """The guide's draws, or these."""
    for k in range(number):
        with fixed({name: value[k] for name, value in values.items()}):
            yield poutine.trace(guide).get_trace(*batch)


def _complete(
    model: Callable, proposals: Iterable[poutine.Trace], size: int, rest: tuple
) -> dict[str, np.ndarray]:
    """The model's sites (draw, size, ...) on top of proposals; size 1 if outside the plate."""
    values = defaultdict(list)
    for proposal in proposals:  # one by one: a recurrent guide takes no further dimension
        replayed = poutine.replay(model, trace=proposal)
        trace = poutine.trace(replayed).get_trace(None, *rest, size=size)
        trace = poutine.util.prune_subsample_sites(trace)
        if "image" not in {*trace.stochastic_nodes} - {*proposal}:
            raise ValueError(
                f"model(None, size=n) must draw 'image', it drew {sorted(trace.stochastic_nodes)}"
            )
        for name in trace.stochastic_nodes + trace.observation_nodes:
            site = trace.nodes[name]
            if site["is_observed"] and not site["infer"].get("_deterministic"):
                continue  # a factor
            values[name].append(value_of(name, site, size))
    return {name: np.stack(values.pop(name)) for name in list(values)}


def value_of(name: str, site: dict[str, Any], size: int) -> np.ndarray:
    """A site's value (size, ...), or (1, ...) if it is outside the plate of images."""
    value = site["value"]
    drawn = name != "image" and not site["is_observed"]
    if drawn and site["fn"].support.is_discrete:
        value = value.long()  # a Bernoulli draws floats
    if drawn and (counted := where_counted(site)) is not None and not counted.all():
        value = value.where(counted, torch.nan)  # masked out: what is drawn there is noise
    plates = {frame.name: frame.dim for frame in site["cond_indep_stack"]}
    if drawn and {"images"} < plates.keys():
        # A plate of pixels comes before that of images.
        value = value.movedim(plates["images"] + value.dim() - site["fn"].event_dim, 0)
    plated = "images" in plates and value.shape[:1] == (size,)
    return (value if plated else value[None]).cpu().numpy()
