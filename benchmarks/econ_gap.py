"""What a choice of experts layer by layer loses to the best of all sequences of experts.

    python benchmarks/econ_gap.py --sprites runs/econ/random_0/checkpoint.pt

Of the paper's ECON and of sprite scenes, on scenes that were not trained on: the nats by which the bound at
the guide's own experts, with codes at their medians, lies below that at the best sequence. All sequences that
the prior allows are tried, 256 of either. A model is measured untrained and trained, or of a checkpoint.
"""

import argparse
from itertools import islice, product

import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO
from torch import Tensor

from pyro_scenes import ECON, ECONGuide, SpritesGuide, fit, load_checkpoint, sprite_scenes
from pyro_scenes.data import batches, coloured_shapes
from pyro_scenes.experiment import natural, path, positive
from pyro_scenes.handlers import expected


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--sprites", type=path, metavar="CHECKPOINT", help="of sprite scenes of the default sizes")
    add("--scenes", type=positive, default=10, metavar="N", help="to measure (%(default)s)")
    add("--layers", type=positive, default=4, metavar="T", help="sprites: 1 more (%(default)s)")
    add("--steps", type=natural, default=200, metavar="N", help="of training (%(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    train = coloured_shapes(5000, colours="random").images
    images = coloured_shapes(args.scenes, colours="random", seed=1_000_000).floats()
    sprites = SpritesGuide(sprite_scenes(layers=args.layers + 1))
    for guide in (ECONGuide(ECON(layers=args.layers)), sprites):
        if kept := args.sprites if guide is sprites else None:
            load_checkpoint(kept, guide.model, guide)
        for steps in [0] if kept else [0, args.steps]:
            stream, elbo = islice(batches(train, 32), steps), TraceEnum_ELBO(max_plate_nesting=2)
            for _ in fit(guide.model, guide.train(), stream, elbo=elbo, clip=100.0):
                pass
            gaps = gap(guide.eval(), images)
            print(
                f"{type(guide).__name__}, {kept or f'{steps} steps'}: median {gaps.median():.2f} nats, "
                f"worst {gaps.max():.1f}; less than .5 in {(gaps < 0.5).sum()} of {len(gaps)} scenes"
            )


@torch.no_grad()
def gap(guide: ECONGuide | SpritesGuide, images: Tensor) -> Tensor:
    """Nats (n,) by which the guide's own sequences of experts fall short."""
    priors = (fn for name, fn in guide.model.latents().items() if name.startswith("z_expert"))
    allowed = [fn.probs.flatten().nonzero().flatten().tolist() for fn in priors]
    own = best = bound(guide, images, {})
    for sequence in product(*allowed):
        experts = {f"z_expert_{i}": torch.full_like(own, k).long() for i, k in enumerate(sequence)}
        best = torch.maximum(best, bound(guide, images, experts))
    return best - own


def bound(guide: ECONGuide | SpritesGuide, images: Tensor, experts: dict[str, Tensor]) -> Tensor:
    """Of log p(image, experts), (n,), at the medians of the guide's codes; its own experts, if not given."""
    with expected():
        proposed = poutine.trace(poutine.condition(guide, data=experts)).get_trace(images)
    values = {k: v["value"] for k, v in proposed.nodes.items() if k.startswith(("z_exp", "z_what"))}
    each = poutine.condition(guide.model, data=values)
    each = poutine.infer_config(each, lambda site: {"enumerate": "parallel"})  # z_region is left
    joint = poutine.trace(poutine.enum(each, first_available_dim=-3)).get_trace(images)
    proposed.compute_log_prob(), joint.compute_log_prob()
    total = sum(joint.nodes[name]["log_prob"] for name in values)
    total -= sum(proposed.nodes[name]["log_prob"] for name in values if "z_what" in name)
    log_q, log_p = (trace.nodes["z_region"]["fn"].logits for trace in (proposed, joint))
    log_likelihood = joint.nodes["image"]["log_prob"].movedim(0, -1)
    return total + (log_q.exp() * (log_likelihood + log_p - log_q)).sum((0, 2))


if __name__ == "__main__":
    main()
