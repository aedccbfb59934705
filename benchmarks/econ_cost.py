"""What a step of ECON costs beside a loop in plain torch of the same networks, and beside MONet.

    python benchmarks/econ_cost.py

All train on the same batch of 32 scenes: sprite scenes and the paper's ECON by ``fit``; the same networks as
the paper's by a bound written out by hand, with one draw, in a loop without Pyro's traces; and a MONet: one
sprite decoder of variable shape, one U-Net, five layers, and MONet's mask loss. They take turns, so that a
busy machine slows all; medians of all turns. Milliseconds are CPU.
"""

import argparse
from collections.abc import Iterator
from functools import partial
from itertools import repeat

import pyro
import torch
from pyro.infer import TraceEnum_ELBO
from sweep import turns
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from pyro_scenes import ECON, ECONGuide, SpritesGuide, adam, fit, sprite_scenes
from pyro_scenes.data import batches, coloured_shapes
from pyro_scenes.experiment import positive
from pyro_scenes.inference import MaskLoss
from pyro_scenes.models.econ import Scene
from pyro_scenes.networks import CERTAIN, SpriteDecoder, UNet, apply_each, select
from pyro_scenes.render import log_visibility

SHAPE = (3, 32, 32)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--turns", type=positive, default=30, metavar="N", help="of one step each (%(default)s)")
    add("--threads", type=positive, default=1, metavar="N", help="(%(default)s)")
    return parser


def main(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    pyro.enable_validation(False)
    images = next(batches(coloured_shapes(200, colours="random").images, 32))
    paper, plain, sprites = ECON(), ECON(), sprite_scenes()
    loops = {
        "sprite scenes by fit": by_fit(sprites, SpritesGuide(sprites), images),
        "the paper's ECON by fit": by_fit(paper, ECONGuide(paper), images),
        "the same without traces": by_hand(plain, ECONGuide(plain), images),
        "MONet by fit": monet(images),
    }
    spent = turns({name: partial(next, loop) for name, loop in loops.items()}, args.turns)
    for name, milliseconds in spent.items():
        ratio = milliseconds / spent["the same without traces"]
        print(f"{name}: {milliseconds:.0f} CPU ms a step, {ratio:.2f} times that without traces")


def by_fit(model: ECON, guide: ECONGuide | SpritesGuide, images: Tensor) -> Iterator:
    elbo = TraceEnum_ELBO(max_plate_nesting=2)
    return fit(model, guide, repeat(images), elbo=elbo, optim=adam(model, guide), clip=100.0)


def monet(images: Tensor) -> Iterator:
    decoder = SpriteDecoder(8, SHAPE, shape=3)
    model = ECON(SHAPE, experts=1, layers=5, code=8, decoders=[decoder])
    guide = ECONGuide(model, attention=[UNet(4, (16, 24, 32), fold=2)])
    return fit(model, guide, repeat(images), elbo=MaskLoss(), optim=adam(model, guide), clip=100.0)


def by_hand(model: ECON, guide: ECONGuide, images: Tensor) -> Iterator:
    optim = adam(model, guide)
    weights = optim.param_groups[0]["params"]
    while True:
        optim.zero_grad()
        loss = negative_bound(model, guide, images)
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 100.0).item()
        optim.step()
        yield loss.item()


def negative_bound(model: ECON, guide: ECONGuide, images: Tensor) -> Tensor:
    """The negative ELBO per image at one draw of experts and codes; regions are summed over."""
    log_scope, divergence = torch.zeros_like(images[:, :1]), torch.zeros(len(images))
    log_regions, layers = [], []
    for i in range(model.layers):
        scene = Scene(i, model.layers, model.blank)
        rest = torch.full_like(log_scope[:, None], CERTAIN)
        alphas = rest if i == model.layers - 1 else guide.attend(images, log_scope)
        log_scopes = log_scope[:, None]
        maps = images[:, None], (log_scopes + logsigmoid(alphas)).exp(), log_scopes.exp()
        parameters = apply_each(guide.proposals, *maps, event_dims=3)
        winner, _ = guide.compete(scene, images, log_scope, alphas, parameters)
        expert = winner.sample()
        alpha = select(alphas, expert % alphas.shape[1], event_dims=3)
        proposal = guide.proposals[0].distribution(select(parameters, expert, event_dims=1))
        code = proposal.rsample()
        for q, p, z in ((winner, model.z_expert, expert), (proposal, model.z_what, code)):
            divergence = divergence + q.log_prob(z) - p(scene).log_prob(z)
        layers.append(model.decode(expert, code))
        log_regions.append(log_scope + logsigmoid(alpha))
        log_scope = log_scope + logsigmoid(-alpha)
    colours, mask_logits = torch.stack(layers, 1).tensor_split([-1], 2)
    log_q, log_p = torch.stack(log_regions, 1), log_visibility(mask_logits)[:, :-1, None]
    evidence = model.pixel_log_prob(scene, images[:, None], colours.sigmoid())
    gain = (log_q.exp() * (evidence + log_p - log_q)).flatten(1).sum(1)
    return (divergence - gain).mean()


if __name__ == "__main__":
    main(parser().parse_args())
