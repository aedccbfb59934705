"""Scenes of one's own: three sets for a training, and those that it never saw for an evaluation."""

import torch

from ..data import Scenes, Split, fingerprints
from .run import Run

__all__ = ["own_sets"]


def own_sets(run: Run, scenes: Scenes, *, masks: bool = False) -> Split:
    """Divides scenes by :meth:`Scenes.split`, and keeps in ``run.state`` which ones the training knows.

    A run that evaluates a checkpoint gets, as all three sets, the scenes that its training did not know.

    Args:
        masks: Whether the scenes must have masks.

    Raises:
        ValueError: Too few scenes, no masks, or the training knows them all.
    """
    if masks and scenes.masks is None:
        raise ValueError("these scenes have no masks, and the true regions are to be given")
    if not run.evaluate:
        split = scenes.split()
        run.state["known"] = fingerprints(torch.cat([split.train.images, split.validation.images]))
        return split
    test = scenes.unseen(run.state.get("known", torch.zeros(0, dtype=torch.long)))
    if not len(test):
        raise ValueError("the training knows all of these scenes: evaluate it on others")
    return Split(test, test, test)
