"""What do AIR, CST-VAE and ECON paint where an image is not seen?

    python examples/inpaint.py --model econ
    python examples/inpaint.py --model air --hole pixels
    python examples/inpaint.py --model cst_vae --hole bar --images FOLDER

By the weights that ship with the package. Pixels that are not seen are NaN: the model scores the others. A
canvas is one of ten draws of the guide, that of the largest importance weight. Its error of the unseen pixels
stands beside those of answers that know no objects. Images of your own must be 50 x 50, for econ 32 x 32.
"""

import argparse
from functools import partial

import torch
from torch import Tensor

from pyro_scenes import Blind, evaluation, experiment, load_pretrained, viz
from pyro_scenes.data import coloured_shapes, digits, layered_digits, multi_digits
from pyro_scenes.experiment import Run, flags, launch, path
from pyro_scenes.networks import fill_nearest

#: Scenes of each model: of digits, how many, and a seed.
SCENES = {
    "air": partial(multi_digits, counts=(1, 2)),
    "cst_vae": layered_digits,
    "econ": lambda digits, size, seed: coloured_shapes(size, colours="random", seed=seed),
}
#: Shares of the height and of the width that are not seen, anywhere; of "pixels" any half of all.
HOLES = {"square": (1 / 3, 1 / 3), "bar": (1 / 5, 1.0), "pixels": None}


def parser() -> argparse.ArgumentParser:
    parser = flags(__doc__, out="runs/inpaint", data_root=True)
    add = parser.add_argument
    add("--model", choices=SCENES, default="econ", help="which weights (%(default)s)")
    text = "a square of a third of the sides, a bar of a fifth of the rows, or half of all pixels"
    add("--hole", choices=HOLES, default="square", help=f"{text} (%(default)s)")
    add("--images", type=path, metavar="PATH", help=experiment.IMAGES)
    return parser


def main(args: argparse.Namespace) -> None:
    run = Run(args)
    model, guide = (part.to(run.device) for part in load_pretrained(args.model))
    if args.model != "econ":  # whose guide leaves out what is not seen
        guide = Blind(guide, fill_nearest)
    truth, others = scenes(run, model.image_shape)
    images = truth.masked_fill(hole(truth, args.hole), torch.nan)
    found = evaluation.inpaint(model, guide, images, draws=3 if args.smoke else 10)
    answers = {
        "canvas": found.likeliest,
        "mean of canvases": found.mean,
        "nearest seen": fill_nearest(images).cpu(),
        "one colour": images.nanmean((2, 3), keepdim=True).expand_as(truth).cpu(),
        "mean picture": others.mean(0).expand_as(truth).cpu(),
    }
    errors = {k: evaluation.unseen_error(a, truth.cpu(), images.cpu()) for k, a in answers.items()}
    run.write({f"unseen_error_{name.replace(' ', '_')}": error for name, error in errors.items()})
    figure(run, truth.cpu(), images.cpu(), answers, errors)
    print(f"the picture is {run.out}/inpainted.png")


def scenes(run: Run, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Test scenes, and others, whose mean is a floor; of your own images the same."""
    args, sizes = run.args, (8, 16) if run.args.smoke else (40, 500)
    run.settings = {"image_shape": list(shape)}
    mine = experiment.own_scenes(run)
    if mine is None:
        sets, make = digits(args.data_root), SCENES[args.model]
        both = make(sets.test, sizes[0], seed=1_000_000), make(sets.train, sizes[1], seed=args.seed)
    elif mine.images.shape[1:] == shape:
        both = mine, mine
    else:
        got = tuple(mine.images.shape[1:])
        raise ValueError(f"the weights of {args.model} are of images {shape}, those here are {got}")
    truth, others = (part.floats(run.device) for part in both)
    if args.model == "cst_vae":  # trained on pixels of 0 and 1
        truth, others = truth.round(), others.round()
    return truth[: sizes[0]], others[: sizes[1]]


def hole(images: Tensor, kind: str) -> Tensor:
    """Which pixels (n, 1, H, W) are not seen."""
    if (shares := HOLES[kind]) is None:
        return torch.rand_like(images[:, :1]) < 0.5
    inside = []
    for side, share in zip(images.shape[2:], shares, strict=True):
        length = round(share * side)
        first = torch.randint(side - length + 1, (len(images), 1), device=images.device)
        pixels = torch.arange(side, device=images.device)
        inside.append((pixels >= first) & (pixels < first + length))
    return inside[0][:, None, :, None] & inside[1][:, None, None, :]


def figure(
    run: Run, truth: Tensor, images: Tensor, answers: dict[str, Tensor], errors: dict[str, float]
) -> None:
    rows = {"image": truth, "what was seen": images, "canvas": answers["canvas"]}
    for name in ("canvas", "nearest seen"):
        rows[f"hole filled: {name}"] = torch.where(images.isnan(), answers[name], images)
    said = ", ".join(
        f"{name} {errors[name]:.3f}" for name in ("canvas", "nearest seen", "mean picture")
    )
    headline = f"Mean squared error of unseen pixels, {len(truth)} images: {said}"
    first = {name: row[:8] for name, row in rows.items()}
    run.figure("inpainted", viz.pictures(first, headline=headline))


if __name__ == "__main__":
    launch(main, parser())
