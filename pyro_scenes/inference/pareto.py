"""How far the weights of an importance sample can be trusted, from the weights alone."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["effective_size", "pareto_k"]

#: A tail of fewer weights than this has no shape that could be told.
FEWEST = 5


def effective_size(log_weights: Float[Tensor, "particles *n"]) -> Float[Tensor, "*n"]:
    """The effective sample size: the squared sum of the weights by the sum of their squares, from 1 to K."""
    shares = log_weights.double().softmax(0)
    return (1 / shares.square().sum(0)).to(log_weights)


def pareto_k(log_weights: Float[Tensor, "particles n"]) -> Float[Tensor, " n"]:
    """k-hat: the shape of a generalised Pareto distribution fitted to each image's largest weights.

    Below 0.5 the weights have a finite variance; above 0.7 an estimate by them is not to be trusted, however
    large the sample (Vehtari, Simpson, Gelman, Yao and Gabry, 2024, https://arxiv.org/abs/1507.02646). It is
    -inf where the largest weights are all alike, as all are of an exact proposal; and inf where fewer than 5
    are above those, so that there is no tail to look at.
    """
    found = [_of_one(each) for each in log_weights.double().unbind(1)]
    return torch.tensor(found, dtype=log_weights.dtype, device=log_weights.device)


def _of_one(log_weights: Float[Tensor, " particles"]) -> float:
    weights = (log_weights - log_weights.max()).exp().sort().values
    size = len(weights)
    number = math.ceil(min(size / 5, 3 * math.sqrt(size)))
    threshold = weights[max(size - number - 1, 0)]
    tail = weights[weights > threshold * (1 + 1e-6)] - threshold
    if len(tail) == 0:
        return -math.inf
    return math.inf if len(tail) < FEWEST else _shape(tail)


def _shape(tail: Float[Tensor, " size"]) -> float:
    """The estimator of Zhang and Stephens (2009), drawn towards 0.5 as if by ten more weights.

    Args:
        tail: Weights above their threshold, in ascending order.
    """
    size = len(tail)
    number = 30 + math.isqrt(size)
    grid = torch.arange(1, number + 1, dtype=tail.dtype, device=tail.device)
    quartile = tail[int(size / 4 + 0.5) - 1]
    theta = 1 / tail[-1] + (1 - (number / (grid - 0.5)).sqrt()) / (3 * quartile)
    shapes = torch.log1p(-theta[:, None] * tail).mean(1)
    log_likelihood = size * ((-theta / shapes).log() - shapes - 1)
    mean = (log_likelihood.softmax(0) * theta).sum()
    return ((size * torch.log1p(-mean * tail).mean() + 5) / (size + 10)).item()
