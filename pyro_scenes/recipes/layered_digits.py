"""Pairs for the experiments of Huang and Murphy (2016, Sec. 4): one digit, or several in layers."""

from typing import Any

import pyro.distributions as dist

from ..base import Guide, Model
from ..conditionals import Pixels
from ..models import CSTVAE, STVAE, VAE, CSTVAEGuide, STVAEGuide, VAEGuide
from ..networks import FreePoseDecoder

__all__ = ["layered_digits_pair"]


def layered_digits_pair(
    kind: str,
    image_shape: tuple[int, ...],
    digits: int = 2,
    *,
    paper: bool = False,
    window: tuple[int, int] | None = None,
    binary: bool = True,
) -> tuple[Model, Guide]:
    """A model and its guide, of the paper's sizes: about as many latents in each of the three kinds.

    Of one digit there are 20 latents, and 6 for the pose; of two 50, 50 + 6, or 2 (20 + 6).

    Args:
        kind: ``vae``, ``st_vae`` or ``cst_vae``.
        image_shape: (C, H, W) of an image.
        digits: How many each image shows: the layers of CST-VAE.
        paper: Whether windows, poses and guides are the paper's too; see the departures at the head of
            :mod:`~pyro_scenes.models.st_vae` and :mod:`~pyro_scenes.models.cst_vae`.
        window: (h, w) of a canonical image, if not those. A VAE has none.
        binary: Whether pixels are 0 or 1. Otherwise their likelihood is Normal, of scale 0.1.

    Raises:
        ValueError: Another kind.
    """
    shape = tuple(image_shape)
    code = 20 if digits == 1 or kind == "cst_vae" else 50
    image = None if binary else Pixels(dist.Normal, scale=0.1)
    if kind == "vae":
        vae = VAE(shape, code, image=image)
        return vae, VAEGuide(vae)
    parts, sizes = _paper(shape, digits) if paper else ({"centred": digits == 1}, {})
    parts |= {"image": image} | ({"window": (shape[0], *window)} if window else {})
    if kind == "st_vae":
        st_vae = STVAE(shape, code=code, **parts)
        return st_vae, STVAEGuide(st_vae, **sizes)
    if kind != "cst_vae":
        raise ValueError(f"kind must be vae, st_vae or cst_vae, got {kind!r}")
    cst_vae = CSTVAE(shape, layers=digits, code=code, **parts)
    sweeps = 1 if paper else 2
    return cst_vae, CSTVAEGuide(cst_vae, sweeps=sweeps, explained=not paper, **sizes)


def _paper(shape: tuple[int, ...], digits: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments of a model and of its guide."""
    parts = {"window": shape, "pose": FreePoseDecoder()}
    return parts, {"looks": 0, "pose_hidden": 32, "hidden": 256 if digits == 1 else 128}
