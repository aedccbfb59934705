"""AIR counts digits though pixels are missing: by the weights that ship, and by a guide that reads the mask.

    python benchmarks/missing.py --data-root DIR

Each pixel of each image is unseen (NaN) with the same probability. Measured are, by that probability, the
count accuracy of the mode and of a sample on 1000 ``touching`` test scenes, and bounds on log p of the seen
pixels (20 particles, 200 scenes),

* of the shipped pair, whose guide gets black for unseen pixels (``Blind``), or what is nearest to them;
* of a pair that is trained on images half of which is unseen, its guide built with ``missing=True``. Half of
  the pixels say as much at noise .2 as all of them at AIR's .3, at which two digits become one object.

Without --data-root, the built-in digits, which the shipped weights have never seen.
"""

import argparse
import time
import warnings
from itertools import islice
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import TraceEnum_ELBO
from torch import Tensor

from pyro_scenes import (
    AIR,
    AIRGuide,
    Blind,
    Persist,
    Pixels,
    adam,
    evaluation,
    fit,
    load_checkpoint,
    load_pretrained,
    save_checkpoint,
    warm_up,
)
from pyro_scenes.data import Scenes, batches, digits, multi_digits
from pyro_scenes.experiment import natural, path, positive
from pyro_scenes.inference import falling, scale_lr
from pyro_scenes.networks import fill_nearest

SHARES = (0.0, 0.5, 0.75)
NOISE = 0.2


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data-root", type=path, metavar="DIR", help="folder with MNIST in DIR/MNIST/raw")
    add("--seed", type=natural, default=0, metavar="N", help="(%(default)s)")
    add("--steps", type=positive, default=2000, metavar="N", help="of training (%(default)s)")
    add("--scenes", type=positive, default=1000, metavar="N", help="for the tests (%(default)s)")
    out = "checkpoint, written after the training and read where it is there already (%(default)s)"
    add("--out", type=Path, default=Path("runs/missing.pt"), metavar="FILE", help=out)
    return parser


def main(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    pyro.enable_validation(False)
    pyro.set_rng_seed(args.seed)
    sets = digits(args.data_root)
    test = multi_digits(sets.test, args.scenes, seed=1_000_000)
    model, guide = load_pretrained("air")
    rows = {"shipped, black": (model, Blind(guide))}
    rows["shipped, nearest"] = model, Blind(guide, fill_nearest)
    rows["missing=True"] = trained(multi_digits(sets.train, 20_000, seed=args.seed), args)
    for share in SHARES:
        for name, pair in rows.items():
            print(f"{share:4.0%} unseen, {name:16}  {score(*pair, test, share)}", flush=True)


def hide(images: Tensor, share: float) -> Tensor:
    """The images without this share of their pixels."""
    return images.masked_fill(torch.rand_like(images[:, :1]) < share, torch.nan)


def trained(scenes: Scenes, args: argparse.Namespace) -> tuple[Any, Any]:
    model = AIR(image=Pixels(dist.Normal, scale=NOISE))
    guide = AIRGuide(model, missing=True)
    if not args.out.is_file():
        learn(model, guide, scenes, args)
    load_checkpoint(args.out, model, guide)
    model.z_pres = Persist(0.01)
    return model.eval(), guide.eval()


def learn(model: AIR, guide: AIRGuide, scenes: Scenes, args: argparse.Namespace) -> None:
    """As :doc:`train` has it: first that there are objects, then how many."""
    start, optim = time.process_time(), adam(model, guide)
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    held = multi_digits(digits(args.data_root).validation, 200, seed=2_000_000)
    some = hide(held.floats(), 0.5)
    stream = islice(batches(scenes.images, 64, seed=args.seed), args.steps)
    warnings.filterwarnings("ignore", message=".*NaN, which means unseen")
    model.z_pres = Persist(warm_up(0))
    for record in fit(model, guide, (hide(x, 0.5) for x in stream), elbo=elbo, optim=optim):
        model.z_pres = Persist(warm_up(record.step))
        scale_lr(optim, falling(record.step, args.steps))
        if record.step % 250 == 0:
            with torch.no_grad():
                counts = evaluation.likeliest_counts(guide.eval(), some, draws=1)
            guide.train()
            right, spent = (
                evaluation.count_accuracy(counts, held.counts),
                time.process_time() - start,
            )
            print(f"step {record.step}: counts right {right:.3f}, {spent:.0f} CPU s", flush=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(args.out, model, guide, step=args.steps)


@torch.no_grad()
def score(model: Any, guide: Any, test: Scenes, share: float) -> str:
    """In words."""
    pyro.set_rng_seed(1)
    images = hide(test.floats(), share)
    counts = evaluation.counting(guide, images, test.counts)
    weights = evaluation.log_weights(model, guide, images[:200], particles=20)
    bounds = evaluation.estimate(weights)
    return (
        f"counts: mode {counts.count_accuracy:.4f}, sample {counts.count_accuracy_sample:.4f}, one count "
        f"{counts.count_accuracy_floor:.4f}; ELBO {bounds.elbo:.1f} +- {bounds.elbo_error:.1f}, IWAE "
        f"{bounds.iwae:.1f} +- {bounds.iwae_error:.1f} nats"
    )


if __name__ == "__main__":
    main(parser().parse_args())
