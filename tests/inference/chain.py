"""A pair whose guide is recurrent and has a discrete site between two continuous ones, and its exact bounds.

The truth is Gauss-Hermite quadrature over the continuous draws and a sum over the discrete ones.
"""

import pyro
import pyro.distributions as dist
import torch
from numpy.polynomial.hermite_e import hermegauss
from torch import nn
from torch.nn.functional import logsigmoid

IMAGES = torch.tensor([-0.9, 0.3, 1.4], dtype=torch.float64).reshape(3, 1, 1, 1)
NODES = 20


def spread(log_scale, like):
    return log_scale.exp().expand_as(like)


class Chain(nn.Module):
    """z0 ~ N, z1 ~ Bernoulli(z0), z2 ~ N(z0, z1), and one pixel of all three."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([0.4, -0.3, 0.7, 0.5, 0.8, 0.6], dtype=torch.float64))

    def parts(self, z0, z1):
        """logit of z1, mean of z2, and the mean of the pixel as a function of z2."""
        w = self.w
        return w[0] * z0 + w[1], w[2] * z0 + w[3] * z1, lambda z2: w[4] * z2 + w[5] * z1 + z0

    def forward(self, images):
        pyro.module("chain", self)
        zero = torch.zeros(len(images), dtype=torch.float64)
        with pyro.plate("images", len(images), dim=-1):
            z0 = pyro.sample("z0", dist.Normal(zero, 1.0))
            z1 = pyro.sample("z1", dist.Bernoulli(logits=self.parts(z0, zero)[0]))
            _, mean, pixel = self.parts(z0, z1)
            z2 = pyro.sample("z2", dist.Normal(mean, 1.0))
            canvas = pixel(z2)[..., None, None, None]
            pyro.sample("image", dist.Normal(canvas, 0.7).to_event(3), obs=images)

    def log_p(self, x, z0, z1, z2):
        logit, mean, pixel = self.parts(z0, z1)
        chance = logsigmoid(logit * (2 * z1 - 1))
        return (
            dist.Normal(0.0, 1.0).log_prob(z0)
            + chance
            + dist.Normal(mean, 1.0).log_prob(z2)
            + dist.Normal(pixel(z2), 0.7).log_prob(x)
        )


class ChainGuide(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Parameter(torch.tensor([0.3, 0.1, -0.4], dtype=torch.float64))
        self.chance = nn.Parameter(torch.tensor([0.9, -0.2, 0.3], dtype=torch.float64))
        self.last = nn.Parameter(torch.tensor([0.5, -0.4, 0.4, 0.1, -0.2], dtype=torch.float64))

    def parts(self, x, z0, z1):
        """mean of z0, logit of z1, mean of z2."""
        a, b, c = self.first, self.chance, self.last
        mean = c[0] * z0 + c[1] * z1 + c[2] * x + c[3]
        return a[0] * x + a[1], b[0] * z0 + b[1] + b[2] * x, mean

    def forward(self, images):
        pyro.module("chain_guide", self)
        x = images.flatten()
        zero = torch.zeros_like(x)
        with pyro.plate("images", len(images), dim=-1):
            mean, _, _ = self.parts(x, zero, zero)
            z0 = pyro.sample("z0", dist.Normal(mean, spread(self.first[2], mean)))
            z1 = pyro.sample("z1", dist.Bernoulli(logits=self.parts(x, z0, zero)[1]))
            mean = self.parts(x, z0, z1)[2]
            pyro.sample("z2", dist.Normal(mean, spread(self.last[4], mean)))

    def log_q(self, x, z0, z1, z2):
        """log q of z0, of z1 and of z2."""
        first, logit, last = self.parts(x, z0, z1)
        return (
            dist.Normal(first, self.first[2].exp()).log_prob(z0),
            logsigmoid(logit * (2 * z1 - 1)),
            dist.Normal(last, self.last[4].exp()).log_prob(z2),
        )


def grid(guide, x):
    """All draws (z0, z1, z2) of one particle, and the probability of each; both carry gradients."""
    nodes, weights = map(torch.as_tensor, hermegauss(NODES))
    noise_0, z1, noise_2 = torch.meshgrid(
        nodes, torch.tensor([0.0, 1.0]).double(), nodes, indexing="ij"
    )
    first, _, _ = guide.parts(x, noise_0, z1)
    z0 = first + guide.first[2].exp() * noise_0
    _, logit, mean = guide.parts(x, z0, z1)
    z2 = mean + guide.last[4].exp() * noise_2
    weights = weights / weights.sum()
    chance = logsigmoid(logit * (2 * z1 - 1)).exp()
    return (z0, z1, z2), (weights[:, None, None] * chance * weights).flatten()


def weigh(model, guide, x, draws):
    return (model.log_p(x, *draws) - sum(guide.log_q(x, *draws))).flatten()


def exact_bound(model, guide):
    """E of the bound with two particles, summed over the images, with its gradients."""
    total = 0.0
    for x in IMAGES.flatten():
        draws, probs = grid(guide, x)
        log_w = weigh(model, guide, x, draws)
        pairs = torch.logaddexp(log_w[:, None], log_w) - torch.tensor(2.0).log()
        total = total + probs @ pairs @ probs
    return total


def exact_wake(model, guide):
    """A number whose gradient of the guide is E of sum_k v_k d log q(z_k), of two particles."""
    total = 0.0
    for x in IMAGES.flatten():
        draws, probs = grid(guide, x)
        draws = [z.detach() for z in draws]
        log_w = weigh(model, guide, x, draws)
        share = (
            2 * probs * ((log_w[:, None] - torch.logaddexp(log_w[:, None], log_w)).exp() @ probs)
        )
        total = total + share.detach() @ sum(guide.log_q(x, *draws)).flatten()
    return total
