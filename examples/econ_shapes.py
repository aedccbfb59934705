"""ECON (von Kuegelgen et al., 2020) takes scenes apart; each expert learns a class of objects.

Circles, squares and triangles that overlap, in any colour, drawn on the fly; nothing is downloaded:

    python examples/econ_shapes.py --quick

Colours that tell the class, given regions, the paper's procedure, or pictures of your own:

    python examples/econ_shapes.py --data unique --out runs/econ_unique
    python examples/econ_shapes.py --regions given --out runs/econ_given
    python examples/econ_shapes.py --recipe paper --objective paper --steps 50000 --out runs/econ_paper
    python examples/econ_shapes.py --images FOLDER --experts 3 --layers 5 --out runs/mine
"""

import argparse
from typing import Any

import torch

from pyro_scenes import ECON, SpritesGuide, experiment, recipes, sprite_scenes, to_arviz, viz
from pyro_scenes.data import Scenes, Split
from pyro_scenes.evaluation.floors import beside
from pyro_scenes.experiment import Run, Scorer, ShapesTask, flags, launch, path, rate, up_to
from pyro_scenes.inference import adam, falling, plateaus, scale_lr
from pyro_scenes.random import fork_rng


def parser() -> argparse.ArgumentParser:
    parser = flags(__doc__, out="runs/econ_shapes", steps=1000, batch_size=32, pretrained="econ")
    add = parser.add_argument
    add("--data", choices=("unique", "random"), default="random", help="colours (%(default)s)")
    add("--objects", type=up_to(10), metavar="N", help="in each scene (3)")
    add("--canvas", type=int, choices=(32, 64), default=32, help="pixels a side (%(default)s)")
    add("--recipe", choices=("sprites", "paper"), default="sprites", help="(%(default)s)")
    add("--regions", choices=("attention", "given"), default="attention", help="or the true ones")
    add("--experts", type=up_to(50), metavar="K", help="sprites (3), or all (paper 4, given 1)")
    add("--layers", type=up_to(50), metavar="T", help="background included (objects and 1 or 2)")
    add("--objective", choices=("elbo", "paper", "monet"), default="elbo", help="Eq. 13, MONet's")
    add("--beta", type=rate, metavar="WEIGHT", help="of the codes' divergence (1, or the paper's)")
    add("--gamma", type=rate, metavar="WEIGHT", help="of the regions' (1, or the paper's)")
    add("--lr", type=rate, metavar="RATE", help="of Adam (0.002; the paper's 0.0005)")
    add("--quick", action="store_true", help="400 steps: about ten minutes")
    add("--images", type=path, metavar="PATH", help=experiment.IMAGES)
    return parser


def main(args: argparse.Namespace) -> None:
    args.steps = min(args.steps, 400) if args.quick else args.steps
    run = Run(args, evaluate=args.evaluate)
    mine = experiment.own_scenes(run, most=10)
    own = sizes(args, run.settings, mine)
    model, guide = run.restore(build, own)
    given, softmax = run.settings["regions"] == "given", run.settings["objective"] == "monet"
    layers = model.layers + max(0, own["objects"] - run.settings["objects"])
    scorer = Scorer(run.device, given=given, softmax=softmax, layers=layers)
    task, scenes = sets(run, mine)
    if not run.evaluate:
        learn(run, model, guide, scorer, scenes)
    print("taking the test scenes apart, and drawing", flush=True)
    with torch.no_grad(), fork_rng(args.seed):
        report(run, model, guide, scorer, scenes.test, task)
    print(f"the pictures are in {run.out}: look at reconstructions.png first")


def sizes(args: argparse.Namespace, kept: dict[str, Any], mine: Scenes | None) -> dict[str, Any]:
    """What the model and its scenes are made of; a checkpoint keeps it."""
    given, paper = args.regions == "given", kept.get("recipe", args.recipe) == "paper"
    shape = kept.get("image_shape", [3, args.canvas, args.canvas])
    objects = args.objects or kept.get("objects", 3)
    if mine is not None:
        shape = list(mine.images.shape[1:])
        objects = objects if mine.counts is None else max(1, int(mine.counts.max()))
        if min(shape[1:]) < 16 or not paper and any(side % 2 for side in shape[1:]):
            needs = "of 16 pixels or more, and even unless --recipe paper"
            raise ValueError(f"sides of images must be {needs}: pad them, got {shape[1:]}")
    if args.objective == "monet" and not (given or paper):
        raise ValueError("--objective monet needs experts alike: --regions given or --recipe paper")
    numbers = {"objects": objects, "experts": args.experts or (4 if paper else 1 if given else 3)}
    numbers["layers"] = args.layers or objects + (1 if given or paper else 2)
    kinds = {name: getattr(args, name) for name in ("regions", "recipe", "objective")}
    return {"image_shape": shape, "data": None if mine else args.data, **numbers, **kinds}


def build(settings: dict[str, Any]) -> tuple[ECON, Any]:
    """The model and its guide."""
    shape, given = tuple(settings["image_shape"]), settings["regions"] == "given"
    parts = shape, settings["experts"], settings["layers"]
    if settings["recipe"] == "paper":
        return recipes.paper_econ(*parts, unique=settings["data"] == "unique", given_regions=given)
    if given:
        return recipes.given_regions_econ(*parts)
    model = sprite_scenes(*parts)
    return model, SpritesGuide(model)


def sets(run: Run, mine: Scenes | None) -> tuple[ShapesTask | None, Split]:
    """Scenes for training, for curves and for the table; the task, if they are its."""
    args, settings = run.args, run.settings
    if mine is not None:
        return None, experiment.divide(run, mine)
    if settings["data"] is None:
        raise ValueError(f"{run.evaluate} was trained on scenes of one's own: give --images")
    task = ShapesTask(settings["data"], settings["objects"], settings["image_shape"][-1])
    train, few, test = (20_000, 100, 200) if args.quick else (50_000, 100, 1000)
    parts = (64, 4, 4) if args.smoke else (1 if run.evaluate else train, few, test)
    return task, task.split(args.seed, *parts)


def learn(run: Run, model: ECON, guide: Any, scorer: Scorer, scenes: Split) -> None:
    args, paper = run.args, run.args.recipe == "paper"
    beta, gamma = recipes.BETA_GAMMA[run.settings["data"] or "random"] if paper else (1.0, 1.0)
    elbo = recipes.objective(args.objective, args.beta or beta, args.gamma or gamma)
    optim = adam(model, guide, lr=args.lr or (5e-4 if paper else 2e-3))
    source, some = scorer.source(scenes.train, model.layers), scenes.train[:1000].floats(run.device)
    training = run.training(model, guide, source, optim=optim, elbo=elbo, clip=100.0)
    experiment.remember(run, scenes.train, scenes.validation)
    for step in training:
        if training.due(every=100):
            with training.row() as row:
                row.update(scorer.brief(model, guide, scenes.validation))
                if paper:
                    row["validation_loss"] = scorer.loss(elbo, model, guide, scenes.validation)
        # What depends on the history or changes weights follows the row, for a resumed run to repeat it.
        drops = plateaus(row["validation_loss"] for row in training.history) if paper else 0
        if drops == 5:
            break
        scale_lr(optim, 10 ** (-drops / 2) if paper else falling(step, args.steps))
        if isinstance(guide, SpritesGuide) and not run.pretrained:
            recipes.set_experts_apart(step, args.steps, model, guide, some, optim)
    marks = recipes.apart_at(None if run.pretrained else guide, args.steps)
    run.figure("curves", viz.curves(run.history, marks=marks))


def report(run: Run, model: ECON, guide: Any, scorer: Scorer, test: Scenes, task: Any) -> None:
    """The table, each number beside what trivial answers and an untrained model have; figures; a verdict."""
    untrained, few = [part.to(run.device).eval() for part in build(run.settings)], test[:100]
    judge = task.judge(scorer, smoke=run.args.smoke) if task else scorer
    answer, numbers = judge.score(model, guide, test)
    others = {f"untrained, {len(few)} scenes": judge.score(*untrained, few)[1]}
    run.write(beside(numbers, others | judge.floors(test)), run.costs())
    for name, figure in judge.figures(model, guide, answer, test, numbers.get("wins")).items():
        run.figure(name, figure)
    pair, some = scorer.with_layers(model, guide), scorer.batch(test[:10], scorer.layers_of(model))
    run.netcdf("inference_data", to_arviz(*pair, *some, draws=10, seed=run.args.seed))
    print(experiment.region_verdict(answer, test, numbers["extra_share"]))


if __name__ == "__main__":
    launch(main, parser())
