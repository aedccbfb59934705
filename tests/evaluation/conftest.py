"""A tiny model of experts, whose scenes are known by hand, and its guide."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.nn.functional import logsigmoid

from pyro_scenes.base import Guide, Model

SIDE = 8
#: Red, green and a blue background; the last expert paints nothing.
INKS = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]])


def parts(z_expert, z_what):
    """Colours (n, 3, H, W) and logits (n, 1, H, W): blocks of 4 x 4 pixels from a place's corner."""
    rows, columns = torch.arange(SIDE)[:, None], torch.arange(SIDE)
    top, left = z_what.round().clamp(0, 4)[..., None, None].unbind(-3)
    block = (rows >= top) & (rows < top + 4) & (columns >= left) & (columns < left + 4)
    kind = z_expert[:, None, None]
    opaque = (block & (kind < 2)) | (kind == 2)
    colours = INKS[z_expert][..., None, None].expand(-1, -1, SIDE, SIDE)
    return colours, torch.where(opaque, 20.0, -20.0)[:, None]


def log_visibility(logits):
    """log p (pixels, n, layers + 1) that a pixel shows each layer, or none, of opacities' logits."""
    maps = logits[:, :, 0].flatten(2).permute(2, 0, 1)
    log_scope = nn.functional.pad(logsigmoid(-maps).cumsum(-1), (1, 0))
    return log_scope + nn.functional.pad(logsigmoid(maps), (0, 1))


class Blocks(Model):
    """Experts 0 and 1 paint blocks, expert 2 the background, expert 3 nothing."""

    def __init__(self, object_experts=(0, 1)):
        super().__init__((3, SIDE, SIDE))
        self.experts, self.object_experts = 4, object_experts
        self.weight = nn.Parameter(torch.zeros(()))

    def check_parts(self):
        pass

    def forward(self, images=None, *, size=1, layers=4):
        with pyro.plate("images", size, dim=-1):
            drawn = []
            for i in range(layers):
                z_expert = pyro.sample(f"z_expert_{i}", dist.Categorical(torch.ones(4) / 4))
                prior = dist.Normal(2 * torch.ones(2), 2.0).to_event(1)
                drawn.append(parts(z_expert, pyro.sample(f"z_what_{i}", prior)))
            colours, logits = (torch.stack(maps, 1) for maps in zip(*drawn, strict=True))
            pyro.deterministic("colours", colours)
            pyro.deterministic("masks", logits.sigmoid())
            with pyro.plate("pixels", SIDE**2, dim=-2):
                pyro.sample("z_region", dist.Categorical(logits=log_visibility(logits)))


class BlocksGuide(Guide):
    """Explains any image as a red block over a green one, before the background, then nothing."""

    def __init__(self, model):
        super().__init__(model)
        self.sizes = []

    def forward(self, images, regions=None, *, layers=4):
        self.sizes.append(len(images))
        experts = torch.tensor([0, 1, 2] + [3] * (layers - 3))
        with pyro.plate("images", len(images), dim=-1):
            drawn = []
            for i, expert in enumerate(experts):
                odds = 0.1 + nn.functional.one_hot(expert, 4)
                z_expert = pyro.sample(f"z_expert_{i}", dist.Categorical(odds))
                place = dist.Normal(2.0 * torch.tensor([i, i]), 0.3).to_event(1)
                drawn.append(parts(z_expert, pyro.sample(f"z_what_{i}", place)))
            shares = log_visibility(torch.stack([logits for _, logits in drawn], 1))
            if regions is not None:
                flat = regions.float().flatten(2).permute(2, 0, 1)
                shares = nn.functional.pad(flat, (0, 1)).clamp(1e-6).log()
            with pyro.plate("pixels", SIDE**2, dim=-2):
                pyro.sample("z_region", dist.Categorical(logits=shares))


@pytest.fixture
def blocks():
    """A model of blocks and its guide, in evaluation mode."""
    model = Blocks()
    return model.eval(), BlocksGuide(model).eval()


@pytest.fixture
def stacked():
    """Full shapes bool (1, 2, 8, 8), front first, of what that guide sees in every image."""
    masks = torch.zeros(1, 2, SIDE, SIDE, dtype=torch.bool)
    masks[0, 0, :4, :4] = True
    masks[0, 1, 2:6, 2:6] = True
    return masks
