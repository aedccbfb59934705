"""Scenes that a run has not used, so that evaluating it on its own file flatters nobody."""

import torch
from torch import Tensor

from ..data import Scenes, fingerprints
from ..inference import CheckpointError
from .run import Run

__all__ = ["remember", "unseen"]


def remember(run: Run, *sets: Scenes) -> None:
    """Keeps fingerprints of the scenes that a training uses in its checkpoint, for :func:`unseen`.

    Args:
        run: Its run; they are ``run.state["known"]``.
        sets: The training scenes, and those that choices are made by.
    """
    run.state["known"] = torch.cat([fingerprints(scenes.images) for scenes in sets])


def unseen(run: Run, scenes: Scenes) -> Scenes:
    """The scenes that the run under evaluation has not used; prints how many it has.

    Raises:
        CheckpointError: Its fingerprints are damaged.
        ValueError: It has used them all.
    """
    known = run.state.get("known")
    if known is None:
        print(f"{run.evaluate} does not say which scenes it was trained on: all are evaluated")
        return scenes
    if not isinstance(known, Tensor) or known.dtype != torch.int64:
        raise CheckpointError(f"what {run.evaluate} says of its scenes is damaged")
    others = scenes.unseen(known)
    if len(others) == 0:
        raise ValueError(
            f"all {len(scenes)} scenes were used in training {run.evaluate}: give others to evaluate it"
        )
    if len(others) < len(scenes):
        used = f"{len(scenes) - len(others)} of {len(scenes)} scenes were used in training"
        print(f"{used}, and are left out: {len(others)} are evaluated")
    return others
