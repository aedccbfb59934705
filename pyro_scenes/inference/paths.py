"""Gradients through reparameterised draws, apart from those of the distributions' parameters.

A guide whose later sites depend on earlier draws, as those of AIR, CST-VAE and ECON do, has both in one
graph. To take them apart, the habit is to detach the parameters or the values: with such a guide either is
wrong, as the parameters of a later site depend on the values of an earlier one.
"""

from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

__all__ = ["Paths"]


class Paths(Messenger):
    """Inside, each reparameterised draw is a gate: gradients that run back through it are multiplied.

    Outside a trace, the trace records the values behind the gates: of a log q, the derivative by a site's
    own value, too, runs through its gate. Inside a trace only what depends on a draw later is behind its gate.

    Attributes:
        factor: What gradients through draws are multiplied by when they are computed: a number, or one for
            each image, (n,), particles included. With 0 paths are cut.
    """

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor: float | Tensor = factor
        self._gates: list[tuple[Tensor, Tensor]] = []  # a draw before its gate, and behind it

    def _pyro_post_sample(self, msg: Any) -> None:
        value = msg["value"]
        if not msg["is_observed"] and isinstance(value, Tensor) and value.requires_grad:
            msg["value"] = _Gate.apply(value, self, msg["fn"].event_dim)
            self._gates.append((value, msg["value"]))

    def through(self, number: Tensor) -> Tensor:
        """A number whose gradient is that part of another's which runs through draws.

        So ``number - paths.through(number)`` has the gradient at fixed values of all draws.
        """
        if not (self._gates and number.requires_grad):
            return number.new_zeros(())
        draws, behind = zip(*self._gates, strict=True)
        factor, self.factor = self.factor, 0.0
        slopes = torch.autograd.grad(number, behind, retain_graph=True, allow_unused=True)
        self.factor = factor
        pairs = zip(draws, slopes, strict=True)
        return sum((z * s).sum() for z, s in pairs if s is not None) + number.new_zeros(())


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, paths: Paths, event_dim: int) -> Tensor:
        ctx.paths, ctx.event_dim = paths, event_dim
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple:
        factor = ctx.paths.factor
        if isinstance(factor, Tensor):
            grad = grad * factor.reshape(-1, *[1] * ctx.event_dim)
        return grad if isinstance(factor, Tensor) or factor else None, None, None
