"""What the library's own objectives share, and what wraps others."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from pyro import poutine
from pyro.infer import ELBO
from torch import Tensor

__all__ = ["Objective", "enumerated", "innermost"]


class Objective(ELBO):
    """An ELBO object of Pyro that is made from one method. Losses are sums over images, in nats."""

    @abstractmethod
    def differentiable_loss(
        self, model: Callable, guide: Callable, *args: Any, **kwargs: Any
    ) -> Tensor:
        """The loss, with the gradient of this objective. Without gradients, in a ``no_grad``, the loss alone."""

    @torch.no_grad()
    def loss(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> float:
        return self.differentiable_loss(model, guide, *args, **kwargs).item()

    def loss_and_grads(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> float:
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        if loss.requires_grad:
            loss.backward()
        return loss.item()

    def _get_trace(self, *args: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no pair of traces")


def innermost(elbo: ELBO) -> ELBO:
    """The ELBO inside those that wrap one as ``.elbo``, such as ``Weighted``."""
    while isinstance(inner := getattr(elbo, "elbo", None), ELBO):
        elbo = inner
    return elbo


def enumerated(guide: Callable) -> Callable:
    """A guide whose finite latents of one number each are summed over.

    A site's own ``infer={"enumerate": ...}`` comes first, as with Pyro's ``config_enumerate``. Vectors, such
    as one-hot codes, are drawn.
    """
    return poutine.infer_config(guide, _enumerated)


def _enumerated(site: Any) -> dict[str, Any]:
    fn = site["fn"]
    free = site["type"] == "sample" and not site["is_observed"] and "enumerate" not in site["infer"]
    if free and getattr(fn, "has_enumerate_support", False) and fn.event_dim == 0:
        return {"enumerate": "parallel", "expand": site["infer"].get("expand", False)}
    return {}
