"""ECON (von Kuegelgen et al., 2020) takes scenes apart; each expert learns a class of objects.

Circles, squares and triangles that overlap, in any colour, drawn on the fly; nothing is downloaded:

    python examples/econ_shapes.py --quick

Colours that tell the class, given masks and one expert, the paper's own procedure, or your own scenes (an
.npz with images, and maybe masks, full shapes front to back, and classes):

    python examples/econ_shapes.py --data unique --out runs/econ_unique
    python examples/econ_shapes.py --masks given --out runs/econ_given
    python examples/econ_shapes.py --recipe paper --objective paper --steps 50000 --out runs/econ_paper
    python examples/econ_shapes.py --evaluate runs/econ_shapes/checkpoint.pt --images scenes.npz --out runs/mine

The output folder gets metrics.json, metrics.csv, checkpoint.pt, figures and inference_data.nc.
"""

import argparse
from typing import Any

import torch

from pyro_scenes import ECON, SpritesGuide, recipes, sprite_scenes, to_arviz, viz
from pyro_scenes.data import Scenes, Split, load_scenes
from pyro_scenes.data.coloured_shapes import CLASSES
from pyro_scenes.evaluation import floors
from pyro_scenes.experiment import (
    Run,
    Scorer,
    ShapesTask,
    explained,
    flags,
    launch,
    own_sets,
    path,
    rate,
    scene_figures,
    up_to,
)
from pyro_scenes.inference import falling, plateaus, scale_lr
from pyro_scenes.random import fork_rng

SEPARATE = 100  # the step at which experts are set apart


def parser() -> argparse.ArgumentParser:
    parser = flags(__doc__, out="runs/econ_shapes", steps=1000, batch_size=32)
    add = parser.add_argument
    add("--data", choices=("unique", "random"), default="random", help="colours (%(default)s)")
    add("--objects", type=up_to(10), default=3, metavar="N", help="in each scene (%(default)s)")
    add("--canvas", type=int, choices=(32, 64), default=32, help="pixels a side (%(default)s)")
    add("--recipe", choices=("sprites", "paper"), default="sprites", help="(%(default)s)")
    add("--masks", choices=("attention", "given"), default="attention", help="or the true regions")
    add("--experts", type=up_to(50), metavar="K", help="sprites (3), or all (paper 4, given 1)")
    add("--layers", type=up_to(50), metavar="T", help="background included (objects and 1 or 2)")
    add("--objective", choices=("elbo", "paper", "monet"), default="elbo", help="Eq. 13, MONet's")
    add("--beta", type=rate, metavar="WEIGHT", help="of the codes' divergence (1, or the paper's)")
    add("--gamma", type=rate, metavar="WEIGHT", help="of the regions' (1, or the paper's)")
    add("--lr", type=rate, metavar="RATE", help="of Adam (0.002; the paper's 0.0005)")
    add("--quick", action="store_true", help="400 steps: some minutes")
    add("--images", type=path, metavar="NPZ", help="your scenes: images, maybe masks and classes")
    add("--evaluate", type=path, metavar="CHECKPOINT", help="do not train: evaluate this one")
    return parser


def main(args: argparse.Namespace) -> None:
    args.steps = min(args.steps, 400) if args.quick else args.steps
    run = Run(args, evaluate=args.evaluate)
    mine = load_scenes(args.images) if args.images else None
    model, guide = run.restore(build, sizes(args, run.settings, mine))
    settings = run.settings
    task = ShapesTask(settings["data"], settings["objects"], settings["image_shape"][-1])
    scorer = Scorer(run.device, settings["masks"] == "given", settings["objective"] == "monet")
    scenes = sets(run, task, mine)
    if not run.evaluate:
        learn(run, model, guide, scorer, scenes)
    elif mine is not None and mine.counts is not None:
        # One's own scenes may have more objects than those of the training.
        spare = model.layers - settings["objects"]
        model.layers = max(model.layers, int(mine.counts.max()) + spare)
    print("taking the test scenes apart, and drawing", flush=True)
    with torch.no_grad(), fork_rng(args.seed):
        judge = task.judge(scorer, smoke=args.smoke) if mine is None else scorer
        report(run, model, guide, judge, scenes.test)
        if mine is None:
            five = task.five(4 if args.smoke else 12)
            answer = scorer.decompose(model, guide, five, layers=max(7, model.layers))
            run.figure("five_objects", explained(answer, five))
        some = scorer.batch(scenes.test[: 4 if args.smoke else 12], model.layers)
        draws = 2 if args.smoke else 10
        run.netcdf("inference_data", to_arviz(model, guide, *some, draws=draws, seed=args.seed))
    print(f"the pictures are in {run.out}: look at reconstructions.png first")


def sizes(args: argparse.Namespace, kept: dict[str, Any], mine: Scenes | None) -> dict[str, Any]:
    """What the model and its scenes are made of; a checkpoint keeps it."""
    given, paper = args.masks == "given", args.recipe == "paper"
    shape = kept.get("image_shape", [3, args.canvas, args.canvas])
    if mine is not None:
        shape, args.data = list(mine.images.shape[1:]), None
        args.objects = args.objects if mine.counts is None else max(1, int(mine.counts.max()))
    args.experts = args.experts or (4 if paper else 1 if given else 3)
    args.layers = args.layers or args.objects + (1 if given or paper else 2)
    names = ("data", "objects", "experts", "layers", "masks", "recipe", "objective")
    return {"image_shape": shape, **{name: getattr(args, name) for name in names}}


def build(settings: dict[str, Any]) -> tuple[ECON, Any]:
    """The model and its guide."""
    shape, given = tuple(settings["image_shape"]), settings["masks"] == "given"
    parts = shape, settings["experts"], settings["layers"]
    if settings["recipe"] == "paper":
        unique = settings["data"] == "unique"
        return recipes.paper_econ(*parts, unique=unique, given_masks=given)
    if given:
        return recipes.given_masks_econ(*parts)
    model = sprite_scenes(*parts)
    return model, SpritesGuide(model)


def sets(run: Run, task: ShapesTask, mine: Scenes | None) -> Split:
    """Scenes for training, for curves and for the table."""
    if mine is not None:
        return own_sets(run, mine, masks=run.settings["masks"] == "given")
    if run.settings["data"] is None:
        raise ValueError(f"{run.evaluate} was trained on scenes of one's own: give --images")
    args = run.args
    train, test = (64, 4) if args.smoke else (20_000, 200) if args.quick else (50_000, 1000)
    few, train = 4 if args.smoke else 100, 1 if run.evaluate else train
    return task.split(args.seed, train=train, validation=few, test=test)


def learn(run: Run, model: ECON, guide: Any, scorer: Scorer, scenes: Split) -> None:
    args, paper, sprites = run.args, run.args.recipe == "paper", isinstance(guide, SpritesGuide)
    beta, gamma = recipes.BETA_GAMMA[args.data or "random"] if paper else (1.0, 1.0)
    elbo = recipes.objective(args.objective, args.beta or beta, args.gamma or gamma)
    weights = [*model.parameters(), *guide.parameters()]
    optim = torch.optim.Adam(weights, lr=args.lr or (5e-4 if paper else 2e-3), fused=True)
    source = scorer.source(scenes.train, model.layers)
    training = run.training(model, guide, source, optim=optim, elbo=elbo, clip=100.0)
    some = scenes.train[:1000].floats(run.device)
    for step in training:
        if not paper:
            scale_lr(optim, falling(step, args.steps))
        if training.due(every=100):
            with training.row() as row:
                row.update(scorer.brief(model, guide, scenes.validation))
                if paper:
                    batch = scorer.batch(scenes.validation, model.layers)
                    row["validation_loss"] = elbo.loss(model, guide, *batch) / len(batch[0])
        # What depends on the history or changes weights follows the row, for a resumed run to repeat it.
        if paper:
            drops = plateaus(row["validation_loss"] for row in training.history)
            scale_lr(optim, 10 ** (-drops / 2))
            if drops == 5:
                break
        if sprites and step == SEPARATE < args.steps:
            try:
                recipes.separate_experts(model, guide, some, optim)
            except ValueError as error:
                print(f"experts are left as they are, as separate_experts says: {error}")
        late = max(SEPARATE + 1, args.steps // 2) <= step < args.steps
        if sprites and late and "coloured" not in training.state:
            recipes.colour_experts(model, guide, some[:300], optim)
            training.state["coloured"] = step


def report(run: Run, model: ECON, guide: Any, judge: Any, test: Scenes) -> None:
    """The table, each figure beside what trivial answers and an untrained model have; the figures."""
    answer, numbers = judge.score(model, guide, test)
    untrained, few = (part.to(run.device).eval() for part in build(run.settings)), test[:100]
    others = {f"untrained, {len(few)} scenes": judge.score(*untrained, few)[1]}
    others |= judge.floors(test, run.settings["experts"])
    last = {name: run.history[-1][name] for name in ("step", "seconds", "cpu_seconds")}
    run.write(floors.beside(numbers, others), last)
    wins = numbers.get("wins")
    classes = () if run.args.images else CLASSES
    for name, figure in scene_figures(model, answer, test, wins, classes).items():
        run.figure(name, figure)
    run.figure("curves", viz.curves(run.history))


if __name__ == "__main__":
    launch(main, parser())
