"""ECON (von Kuegelgen et al., 2020) takes scenes apart; each expert learns a class of objects.

Circles, squares and triangles that overlap, in any colour, drawn on the fly; nothing is downloaded:

    python examples/econ_shapes.py --quick

Colours that tell the class, given masks and one expert, the paper's own procedure, or your own scenes (an
.npz with images, and maybe masks, full shapes front to back, and classes):

    python examples/econ_shapes.py --data unique --out runs/econ_unique
    python examples/econ_shapes.py --masks given --out runs/econ_given
    python examples/econ_shapes.py --recipe paper --objective paper --steps 50000 --out runs/econ_paper
    python examples/econ_shapes.py --evaluate runs/econ/checkpoint.pt --images scenes.npz --out runs/mine

The output folder gets metrics.json, metrics.csv, checkpoint.pt, figures and inference_data.nc.
"""

import argparse
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pyro.distributions as dist
import torch
from pyro.infer import ELBO, TraceEnum_ELBO, config_enumerate
from torch import Tensor

from pyro_scenes import (
    ECON,
    Amortised,
    ECONGuide,
    Pixels,
    Weighted,
    colour_experts,
    evaluation,
    inference,
    load_checkpoint,
    separate_experts,
    to_arviz,
    viz,
)
from pyro_scenes.conditionals import Competition, RegionProposal
from pyro_scenes.data import Scenes, batches, coloured_shapes, load_scenes, shape_masks
from pyro_scenes.data.coloured_shapes import CLASSES
from pyro_scenes.experiment import Run, flags, launch, path, positive, rate
from pyro_scenes.inference import read_checkpoint
from pyro_scenes.networks import (
    BroadcastDecoder,
    ExpertAttention,
    GivenAttention,
    RegionEncoder,
    SpriteDecoder,
    UNet,
)
from pyro_scenes.random import fork_rng

BOUND = TraceEnum_ELBO(max_plate_nesting=2)
COSTS = ("seconds", "cpu_seconds")
#: Of the paper's best models (App. C.4; its text has the two the wrong way round).
BETA_GAMMA = {"unique": (0.52, 9.54), "random": (1.0, 3.26)}
#: The step at which experts are set apart.
APART = 100
#: Metrics that need the truth, or the renderer that the scenes are from: null without.
KNOWING = ("ari_fg", "ari", "mean_iou", "amodal_iou", "invisible_iou", "counts", "background_first")
KNOWING += ("depth_order", "depth_order_pairs", "depth_order_seen", "purity", "nmi", "wins")
KNOWING += ("mse_5", "mse_ratio_5", "ari_fg_5", "ari_fg_drop_5")
KNOWING += ("single_expert_shapes", "requested_counts", "requested_scenes")
#: Of layers in figures, front first.
INKS = torch.tensor([[1, 0.2, 0.2], [0.2, 0.9, 0.2], [0.3, 0.5, 1], [1, 0.8, 0.1], [0.9, 0.3, 0.9]])


def parser() -> argparse.ArgumentParser:
    parser = flags(__doc__, out="runs/econ_shapes", steps=1000, batch_size=32)
    add = parser.add_argument
    add("--data", choices=("unique", "random"), default="random", help="colours (%(default)s)")
    add(
        "--experts",
        type=positive,
        metavar="K",
        help="one the background's (4; 1 if masks are given)",
    )
    add(
        "--layers",
        type=positive,
        metavar="T",
        help="of which one is the background's (objects + 2)",
    )
    add("--objects", type=positive, default=3, metavar="N", help="in each scene (%(default)s)")
    add("--canvas", type=int, choices=(32, 64), default=32, help="pixels a side (%(default)s)")
    add(
        "--masks",
        choices=("attention", "given"),
        default="attention",
        help="inferred, or the true ones",
    )
    add(
        "--objective",
        choices=("elbo", "paper", "monet"),
        default="elbo",
        help="or Eq. 13, or MONet's",
    )
    add(
        "--beta", type=rate, metavar="WEIGHT", help="of the divergence of codes (1, or the paper's)"
    )
    add("--gamma", type=rate, metavar="WEIGHT", help="of that of regions (1, or the paper's)")
    add("--recipe", choices=("ours", "paper"), default="ours", help="see docs/models/econ.rst")
    add("--lr", type=rate, metavar="RATE", help="of Adam (0.002; the paper's 0.0005)")
    add("--quick", action="store_true", help="400 steps: some minutes")
    add(
        "--images",
        type=path,
        metavar="NPZ",
        help="your scenes: images, and maybe masks and classes",
    )
    add("--evaluate", type=path, metavar="CHECKPOINT", help="do not train: evaluate this one")
    return parser


def main(args: argparse.Namespace) -> None:
    if args.quick:
        args.steps = min(args.steps, 400)
    run = Run(args, trains=not args.evaluate)
    kept = read_checkpoint(args.evaluate)["extra"] if args.evaluate else {}
    if args.evaluate and not {"data", "objective", "recipe"} <= kept.get("settings", {}).keys():
        raise ValueError(f"{args.evaluate} was not written by this example")
    train, held_out, settings = scenes(args, kept.get("settings"))
    args.objective = settings["objective"]
    model, guide = (module.to(run.device) for module in build(settings))
    if args.evaluate:
        history = kept["history"]
        print(f"evaluating {args.evaluate}, trained for {history[-1]['step']} steps")
        load_checkpoint(args.evaluate, model.eval(), guide.eval())
    else:
        history = learn(model, guide, train, run, settings)
    print("taking the held-out scenes apart, and drawing", flush=True)
    steps = enough(held_out, settings) if args.images else settings["steps"]
    with torch.no_grad(), fork_rng(args.seed), stretched(model, steps):
        metrics = score(model, guide, held_out, run, settings)
        last = {name: history[-1][name] for name in ("step", *COSTS)}
        run.write(metrics | {"steps": last.pop("step"), **last})
        draw(model, guide, held_out, metrics, history, run, settings)
    print(f"the pictures are in {run.out}: look at reconstructions.png first")


# Scenes, and models for them.


def scenes(args: argparse.Namespace, kept: dict | None) -> tuple[Scenes, Scenes, dict]:
    """Training scenes, held-out ones (the same for all seeds), and what a model for them is made of."""
    settings = kept or sizes(args)
    if args.images:
        mine = load_scenes(args.images)
        if settings["masks"] == "given" and mine.masks is None:
            raise ValueError(f"{args.images} has no masks: for --masks given, it needs them")
        if not kept and mine.counts is not None:
            args.objects = int(mine.counts.max())
        settings = kept or {
            **sizes(args),
            "image_shape": list(mine.images.shape[1:]),
            "data": None,
        }
        if settings["image_shape"] != list(mine.images.shape[1:]):
            raise ValueError(
                f"{args.evaluate} is of images {settings['image_shape']} (channels, height, width), these "
                f"are {list(mine.images.shape[1:])}: give --images of the same shape"
            )
        if kept:
            return mine, mine, settings
        if len(mine) < 3:
            raise ValueError(f"{args.images} has {len(mine)} images: training needs at least 3")
        order = torch.randperm(len(mine), generator=torch.Generator().manual_seed(args.seed))
        held_out = max(1, len(mine) // 10)
        return mine[order[held_out:]], mine[order[:held_out]], settings
    if settings["data"] is None:
        raise ValueError(f"{args.evaluate} was trained on scenes of one's own: give --images")
    size = 64 if args.smoke else 20_000 if args.quick else 50_000
    train = shapes(settings, 2 if kept else size, seed=args.seed)
    return train, shapes(settings, held_out_size(args), seed=1_000_000), settings


def sizes(args: argparse.Namespace) -> dict:
    """What a checkpoint keeps, so that it can be evaluated without a flag."""
    given, paper = args.masks == "given", args.recipe == "paper"
    return {
        "image_shape": [3, args.canvas, args.canvas],
        "data": args.data,
        "objects": args.objects,
        "experts": args.experts or (1 if given else 4),
        "steps": args.layers or args.objects + (1 if given or paper else 2),
        "masks": args.masks,
        "recipe": args.recipe,
        "objective": args.objective,
    }


def shapes(settings: dict, size: int, *, seed: int, **other) -> Scenes:
    canvas = settings["image_shape"][-1]
    wanted = {"count": settings["objects"], "colours": settings["data"], **other}
    return coloured_shapes(size, canvas=canvas, seed=seed, **wanted)


def held_out_size(args: argparse.Namespace) -> int:
    return 4 if args.smoke else 200 if args.quick else 1000


def enough(scenes: Scenes, settings: dict) -> int:
    """Layers for scenes of one's own, which may have more objects than those of the training."""
    spare = settings["steps"] - settings["objects"]
    most = 0 if scenes.counts is None else int(scenes.counts.max())
    return max(settings["steps"], most + spare)


def build(settings: dict) -> tuple[ECON, ECONGuide]:
    """A model and its guide. Without a background's expert, each of them can make anything."""
    shape, experts = tuple(settings["image_shape"]), settings["experts"]
    given = GivenAttention() if settings["masks"] == "given" else None
    if settings["recipe"] == "paper":
        return paper_parts(
            shape, experts, settings["steps"], unique=settings["data"] == "unique", given=given
        )
    image = Pixels(dist.Cauchy, scale=0.05)
    if given is None and experts > 1:
        model = ECON(shape, experts, settings["steps"], image=image)
        return model, ECONGuide(model)
    decoders = [versatile(shape) for _ in range(experts)]
    model = ECON(
        shape, experts, settings["steps"], code=8, decoders=decoders, image=image, background=False
    )
    return model, ECONGuide(model, attention=given)


def versatile(shape: tuple[int, ...]) -> SpriteDecoder:
    """Makes several shapes, and the background: three numbers of its code are of the shape."""
    return SpriteDecoder(8, shape, shape=3, hidden=64)


def paper_parts(
    shape: tuple[int, ...],
    experts: int,
    steps: int,
    *,
    unique: bool,
    given: GivenAttention | None = None,
) -> tuple[ECON, ECONGuide]:
    """The paper's model (App. C.2), of the sizes of its best ones (App. C.4): all experts are alike.

    They compete for all layers, by appearance, code and shape; each has an attention of its own.
    """
    code, blocks = (2, 4) if unique else (5, 3)
    model = ECON(
        shape,
        experts,
        steps,
        code,
        decoders=[BroadcastDecoder(code, shape, blocks=blocks) for _ in range(experts)],
        image=Pixels(dist.Normal, scale=0.1),
        background=False,
    )
    like = model.latents()["z_what_0"]
    proposals = []
    for _ in range(experts):
        encoder = RegionEncoder(shape, 4 * code, blocks=blocks)
        proposals.append(RegionProposal(shape, like, encoder=encoder, features=4 * code))
        proposals[-1].head = Amortised(4 * code, like)  # linear
    unets = [UNet(shape[0] + 1, (32, 64, 64, 64)) for _ in range(experts)]
    competition = Competition(appearance=1.0, enough=math.inf, plenty=math.inf, every=1)
    attention = given or ExpertAttention(unets)
    return model, ECONGuide(
        model, attention=attention, competition=competition, proposals=proposals
    )


@contextmanager
def stretched(model: ECON, steps: int) -> Iterator[None]:
    """Inside, scenes have so many layers."""
    before = model.steps
    model.steps = steps
    try:
        yield
    finally:
        model.steps = before


def true_regions(scenes: Scenes, steps: int) -> Tensor:
    """What is visible of objects, front to back, then the background: bool (n, steps, H, W)."""
    visible = scenes.visible()
    if visible.shape[1] >= steps:
        raise ValueError(
            f"{steps} layers are too few for {visible.shape[1]} objects and a background"
        )
    parts = torch.cat([visible, ~visible.any(1, keepdim=True)], 1)
    return torch.nn.functional.pad(parts, (0, 0, 0, 0, 0, steps - parts.shape[1]))


# Training.


def learn(model: ECON, guide: ECONGuide, train: Scenes, run: Run, settings: dict) -> list:
    """Trains both, and looks at scenes that are neither trained on nor held out for the end."""
    args = run.args
    if args.images:
        count = min(100, max(1, len(train) // 10))
        test, train = train[:count], train[count:]
    else:
        test = shapes(settings, 4 if args.smoke else 100, seed=2_000_000)
    elbo, paper = objective(args), args.recipe == "paper"
    losses: dict[str, float] = {}
    coloured: dict[str, int] = {}
    speed = args.lr or (5e-4 if paper else 2e-3)
    weights = [*model.parameters(), *guide.parameters()]
    optim = torch.optim.Adam(weights, lr=speed, fused=True)
    start = 0
    if args.resume and run.checkpoint.exists():
        content = read_checkpoint(run.checkpoint)
        start = content["step"]
        losses |= content["extra"].get("losses", {})
        coloured |= content["extra"].get("coloured", {})

    @torch.no_grad()
    def evaluate(step: int) -> dict[str, float]:
        if paper:
            losses[str(step)] = -bound(elbo, model, guide, test, run)
        found = {"elbo": bound(BOUND, model, guide, test, run)}
        seen = take_apart(model, guide, test, run)
        found["mse"] = error(seen, test, run)
        truth = {} if test.masks is None else agreement(model, seen, test)
        names = ("ari_fg", "amodal_iou", "depth_order", "purity")
        numbers = {name: truth[name] for name in names if truth.get(name) is not None}
        return found | numbers | ({"validation_loss": losses[str(step)]} if paper else {})

    return run.fit(
        model,
        guide,
        train.images,
        optim=optim,
        elbo=elbo,
        evaluate=evaluate,
        every=100,
        extra={"settings": settings, "losses": losses, "coloured": coloured},
        before=schedule(model, guide, train, optim, losses, coloured, run, start),
        done=lambda: paper and drops(losses.values()) >= 5,
        clip=100.0,
    )


def objective(args: argparse.Namespace) -> ELBO:
    """A bound, unless beta or gamma is not 1 or the objective is another."""
    own = BETA_GAMMA[args.data] if args.recipe == "paper" else (1.0, 1.0)
    beta, gamma = args.beta or own[0], args.gamma or own[1]
    if args.objective == "elbo":
        return BOUND if beta == gamma == 1 else Weighted(BOUND, z_what=beta, z_region=gamma)
    return (inference.Surrogate if args.objective == "paper" else inference.MaskLoss)(beta, gamma)


def schedule(
    model: ECON,
    guide: ECONGuide,
    train: Scenes,
    optim,
    losses: dict,
    coloured: dict,
    run: Run,
    start: int,
) -> Callable[[int], None]:
    """What is done before each step: it depends on the step's number and what a checkpoint keeps alone."""
    args, given = run.args, isinstance(guide.attention, GivenAttention)
    # Batches depend on seed and number alone: these are the regions of those that are trained on.
    regions = true_regions(train, model.steps) if given else torch.zeros(1, 1)
    stream = batches(regions, args.batch_size, seed=args.seed, start=start, device=run.device)
    apart = args.recipe == "ours" and model.background and model.experts > 2
    some = run.floats(train.images[:1000]) if apart else None

    def before(step: int) -> None:
        """Gives each expert a shape, once attention finds objects, and at half time its colours."""
        if given:
            guide.attention.regions = next(stream)
        if args.recipe == "paper":
            known = [loss for when, loss in losses.items() if int(when) < step]
            for group in optim.param_groups:
                group["lr"] = (args.lr or 5e-4) * 10 ** (-drops(known) / 2)
        if apart and step == APART != start:  # a checkpoint of this step has had it
            try:
                separate_experts(model, guide, some, optim)
            except ValueError as error:
                print(f"experts are left as they are, as separate_experts says: {error}")
        if apart and not coloured and step > APART and step >= args.steps // 2:
            colour_experts(model, guide, some[:300], optim)
            coloured["step"] = step

    return before


def drops(losses) -> int:
    """How often the learning rate has fallen (App. C.3): after five evaluations without a gain."""
    best, bad, fallen = math.inf, 0, 0
    for loss in losses:
        best, bad = (loss, 0) if loss < best else (best, bad + 1)
        if bad == 5:
            bad, fallen = 0, fallen + 1
    return fallen


# Numbers.


def take_apart(model: ECON, guide: ECONGuide, scenes: Scenes, run: Run) -> evaluation.Decomposition:
    """The guide in evaluation mode; with its regions as they were afterwards."""
    parts, softmax = [], run.args.objective == "monet"
    for part in chunks(scenes):
        with informed(model, guide, part):
            seen = evaluation.decompose(model, guide, run.floats(part.images), softmax=softmax)
        parts.append([value.cpu() for value in seen])
    return evaluation.Decomposition(*(torch.cat(values) for values in zip(*parts)))


@contextmanager
def informed(model: ECON, guide: ECONGuide, scenes: Scenes) -> Iterator[None]:
    """Inside, an attention that must be given regions has those of these scenes."""
    attention, before = guide.attention, getattr(guide.attention, "regions", None)
    if isinstance(attention, GivenAttention):
        attention.regions = true_regions(scenes, model.steps)
    try:
        yield
    finally:
        if isinstance(attention, GivenAttention):
            attention.regions = before


def bound(elbo: ELBO, model: ECON, guide: ECONGuide, scenes: Scenes, run: Run) -> float:
    """Nats per image; minus the loss, if the objective is no bound."""
    exact = elbo is BOUND or isinstance(elbo, Weighted)
    total = 0.0
    for part in chunks(scenes):
        with informed(model, guide, part):
            proposal = config_enumerate(guide) if exact else guide
            total -= elbo.loss(model, proposal, run.floats(part.images))
    return total / len(scenes)


def chunks(scenes: Scenes) -> list[Scenes]:
    return [scenes[first : first + 100] for first in range(0, len(scenes), 100)]


def error(seen: evaluation.Decomposition, scenes: Scenes, run: Run) -> float:
    return (seen.canvas - run.floats(scenes.images).cpu()).square().mean().item()


def front(parts: Tensor, model: ECON) -> Tensor:
    """All layers but the background's, where there is an expert for it; else any may be of an object."""
    return parts[:, :-1] if model.background else parts


def agreement(model: ECON, seen: evaluation.Decomposition, scenes: Scenes) -> dict:
    """How true regions, shapes, order and experts are."""
    regions, truth = front(seen.regions, model), scenes.masks
    found, true = seen.regions.argmax(1), evaluation.segments(truth)
    full = evaluation.amodal_iou(front(seen.masks, model), truth)
    order = evaluation.depth_order(regions, truth)
    counts = evaluation.objects_found(regions) - int(not model.background)
    numbers = {
        "ari_fg": evaluation.adjusted_rand(found, true, foreground=True).nanmean(),
        "ari": evaluation.adjusted_rand(found, true).mean(),
        "mean_iou": evaluation.mean_iou(found, true).mean(),
        "amodal_iou": full.iou[full.occluded].mean(),
        "invisible_iou": full.invisible_iou[full.occluded].nanmean(),
        "depth_order": order.weighted,
        "depth_order_pairs": order.pairs,
        "depth_order_seen": order.seen,
        "background_first": evaluation.background_first(regions, truth).float().mean(),
        "counts": (counts == truth.flatten(2).any(2).sum(1)).float().mean(),
    }
    if scenes.labels is not None and scenes.labels.numel():
        numbers |= winners(model, seen, scenes)
    return {name: plain(number) for name, number in numbers.items()}


def among_all(masks: Tensor) -> Tensor:
    """What MONet calls masks, a softmax over all layers, of those that are told against the last layer."""
    logits = torch.logit(masks.double(), eps=1e-12)
    logits[:, -1] = 0
    return logits.softmax(1).float()


def winners(model: ECON, seen: evaluation.Decomposition, scenes: Scenes) -> dict:
    special = evaluation.specialisation(
        front(seen.experts, model),
        front(seen.regions, model),
        scenes.masks,
        scenes.labels,
        experts=model.experts - model.background,
        classes=max(len(CLASSES), int(scenes.labels.max()) + 1),
    )
    return {
        "purity": special.purity,
        "nmi": special.mutual_information,
        "wins": special.wins.tolist(),
    }


def plain(number):
    """A float, or None for NaN; lists as they are."""
    if isinstance(number, list):
        return number
    return None if math.isnan(number) else float(number)


def score(model: ECON, guide: ECONGuide, test: Scenes, run: Run, settings: dict) -> dict:
    """All numbers; those that nothing is known for are None."""
    metrics = {"elbo": bound(BOUND, model, guide, test, run), **dict.fromkeys(KNOWING)}
    seen = take_apart(model, guide, test, run)
    metrics["mse"] = error(seen, test, run)
    metrics["extra_steps_pixels"] = spilled(model, guide, test, run)
    if test.masks is not None:
        metrics |= agreement(model, seen, test)
        if run.args.objective == "monet":
            own = evaluation.amodal_iou(front(among_all(seen.masks), model), test.masks)
            metrics["amodal_iou_softmax"] = plain(own.iou[own.occluded].mean())
    if not run.args.images:
        metrics |= five(model, guide, metrics, run, settings)
        wins = torch.tensor(metrics["wins"])
        metrics["single_expert_shapes"] = alone(model, wins, run, settings)
        metrics |= requested(model, wins, run, settings)
    return metrics


def spilled(model: ECON, guide: ECONGuide, test: Scenes, run: Run) -> float:
    """The share of pixels that three layers more take: of the last four, all but the one with most."""
    first = model.steps - 1
    with stretched(model, model.steps + 3):
        taken = take_apart(model, guide, test, run).regions[:, first:].mean((2, 3))
    return (taken.sum(1) - taken.amax(1)).mean().item()


def five(model: ECON, guide: ECONGuide, metrics: dict, run: Run, settings: dict) -> dict:
    """The same of scenes of five objects."""
    test, seen = five_apart(model, guide, held_out_size(run.args), run, settings)
    ari, mse = agreement(model, seen, test)["ari_fg"], error(seen, test, run)
    return {
        "mse_5": mse,
        "mse_ratio_5": mse / metrics["mse"],
        "ari_fg_5": ari,
        "ari_fg_drop_5": metrics["ari_fg"] - ari,
    }


def five_apart(
    model: ECON, guide: ECONGuide, size: int, run: Run, settings: dict
) -> tuple[Scenes, evaluation.Decomposition]:
    test = shapes(settings, size, seed=1_000_001, count=5)
    spare = max(settings["steps"] - settings["objects"], 2)
    with stretched(model, 5 + spare):
        return test, take_apart(model, guide, test, run)


def makers(model: ECON, wins: Tensor) -> list[int]:
    """The experts of objects; where none is the background's by design, not the one that makes fewest."""
    numbers = list(range(len(wins)))
    if not model.background and len(wins) > 1:
        numbers.remove(int(wins.sum(1).argmin()))
    return numbers


def scene_of(model: ECON, wins: Tensor, experts: list[int], size: int):
    """Samples of objects of these experts, before a background."""
    ground = sorted({*range(len(wins))} - {*makers(model, wins)})
    return model.sample([*experts, *ground], size=size)


def alone(model: ECON, wins: Tensor, run: Run, settings: dict) -> float:
    """The share of samples of one expert that are one true shape."""
    canvas, size = settings["image_shape"][-1], 10 if run.args.smoke else 200
    drawn = [model.sample([k], size=size).masks[:, 0, 0].cpu() for k in makers(model, wins)]
    fit = evaluation.shape_fit(torch.cat(drawn), shape_masks(canvas * 6 / 32))
    return (fit.iou > 0.8).float().mean().item()


def requested(model: ECON, wins: Tensor, run: Run, settings: dict) -> dict:
    """Counts by class that a classifier reads from samples of given experts: which are right.

    An expert is asked for the class that it makes most. The classifier is trained on true scenes; both are of
    scenes in which more than a quarter of each object is visible. ``requested_counts`` is the share of pairs
    of a scene and a class, ``requested_scenes`` that of scenes in which all are right; ``reader_...`` are
    those of the classifier on true scenes, which is about the most that a model can reach.
    """
    experts, smoke = makers(model, wins), run.args.smoke
    if len(experts) < 2:
        return {}
    options = {"count": (1, settings["objects"]), "classes": "any"}
    true = [
        shapes(settings, 200 if smoke else size, seed=seed, **options)
        for size, seed in ((40_000, 3_000_000), (1_000, 3_000_001))
    ]
    train, test = (part[clear(part.masks)] for part in true)
    many = len(CLASSES)
    reader = evaluation.train_reader(
        train.images.to(run.device),
        evaluation.count_classes(train.labels, many),
        steps=10 if smoke else 2000,
    )
    found = right(reader, run.floats(test.images), evaluation.count_classes(test.labels, many))
    metrics = dict(zip(("reader_counts", "reader_scenes"), found, strict=True))
    images, labels = [], []
    for _ in range(4 if smoke else 60):
        number = int(torch.randint(1, settings["objects"] + 1, ()))
        chosen = [experts[i] for i in torch.randint(len(experts), (number,)).tolist()]
        drawn = scene_of(model, wins, chosen, 16)
        there = clear(drawn.masks[:, :number, 0] > 0.5)
        wanted = wins.argmax(1)[chosen] if wins.any() else torch.tensor(chosen)
        images.append(drawn.images[there])
        labels.append(evaluation.count_classes(wanted[None], many).expand(int(there.sum()), -1))
    found = right(reader, torch.cat(images), torch.cat(labels))
    return metrics | dict(zip(("requested_counts", "requested_scenes"), found, strict=True))


def clear(masks: Tensor) -> Tensor:
    """Scenes (n,) in which more than a quarter of each object is visible. What is not drawn hides nothing."""
    sizes, visible = masks.sum((2, 3)), evaluation.visible_parts(masks).sum((2, 3))
    return ((visible > sizes / 4) | (sizes == 0)).all(1)


def right(reader: evaluation.CountReader, images: Tensor, counts: Tensor) -> tuple[float, float]:
    """The shares of counts, and of scenes, that are read right."""
    same = reader.read(images).cpu() == counts
    return same.float().mean().item(), same.all(1).float().mean().item()


# Figures.


def draw(
    model: ECON,
    guide: ECONGuide,
    test: Scenes,
    metrics: dict,
    history: list,
    run: Run,
    settings: dict,
) -> None:
    """Figures, and draws for ArviZ."""
    size = 4 if run.args.smoke else 12
    some = test[:size]
    seen = take_apart(model, guide, some, run)
    images = run.floats(some.images).cpu()
    sheets = {"reconstructions": taken_apart(seen, images), "layers": step_by_step(seen, images)}
    if test.masks is not None and test.masks.any():
        sheets["completion"] = completion(model, guide, test, run)
    if not run.args.images:
        sheets["five_objects"] = of_five(model, guide, size, run, settings)
    wins = metrics["wins"] or torch.zeros(model.experts - model.background, len(CLASSES)).tolist()
    sheets |= samples(model, torch.tensor(wins), metrics["wins"] is not None, size)
    for name in {"completion", "five_objects"} - sheets.keys():  # of other scenes, seen before
        (run.out / f"{name}.png").unlink(missing_ok=True)
    for name, rows in sheets.items():
        arrays = {title: pictures.cpu().numpy() for title, pictures in rows.items()}
        run.figure(name, viz.pictures(arrays))
    rows = [{name: row[name] for name in row if name not in COSTS} for row in history]
    run.figure("curves", viz.curves(rows))
    with informed(model, guide, some):
        data = to_arviz(
            model,
            guide,
            run.floats(some.images),
            draws=2 if run.args.smoke else 10,
            seed=run.args.seed,
        )
    run.netcdf("inference_data", data)


def inks(shares: Tensor) -> Tensor:
    """A picture (n, 3, H, W) of regions (n, layers, H, W), each in a colour of its own, the last dark."""
    layers = shares.shape[1]
    colours = INKS[torch.arange(layers) % len(INKS)]
    colours[-1] = 0.15
    return torch.einsum("nlhw,lc->nchw", shares, colours).clamp(0, 1)


def taken_apart(seen: evaluation.Decomposition, images: Tensor) -> dict[str, Tensor]:
    return {
        "image": images,
        "reconstruction": seen.canvas,
        "regions": inks(seen.regions),
        "painted from full shapes": evaluation.repaint(seen),
    }


def of_five(
    model: ECON, guide: ECONGuide, size: int, run: Run, settings: dict
) -> dict[str, Tensor]:
    """Fig. 8: scenes of five objects."""
    test, seen = five_apart(model, guide, size, run, settings)
    return taken_apart(seen, run.floats(test.images).cpu())


def step_by_step(seen: evaluation.Decomposition, images: Tensor) -> dict[str, Tensor]:
    """Fig. 4: what each step sees, takes and makes, of three scenes; the image, then steps from the front."""
    rows = {}
    for i in range(min(3, len(images))):
        regions, colours = seen.regions[i, :, None], seen.colours[i]
        taken = (regions * colours).cumsum(0)
        scope = 1 - regions.cumsum(0) + regions
        rows |= {
            f"{i}: image": images[i : i + 1],
            f"{i}: scope": 0.9 * scope.clamp(0, 1),  # to be seen on white paper
            f"{i}: region": regions,
            f"{i}: colours": colours,
            f"{i}: reconstruction so far": taken,
            f"{i}: full shape, by expert {seen.experts[i].tolist()}": 0.9 * seen.masks[i, :, None],
        }
    return rows


def completion(model: ECON, guide: ECONGuide, test: Scenes, run: Run) -> dict[str, Tensor]:
    """Objects that are mostly hidden: what is seen of them, what the model completes, and the truth."""
    sizes, visible = test.masks.sum((2, 3)), test.visible().sum((2, 3))
    share = (visible / sizes.clamp(min=1)).where((visible > 0.2 * sizes) & (sizes > 0), 1.0)
    hardest = share.amin(1).argsort()[:12]
    scenes, which = test[hardest], share.argmin(1)[hardest]
    seen = take_apart(model, guide, scenes, run)
    every = torch.arange(len(scenes))
    layer = (
        evaluation.match_layers(front(seen.masks, model), scenes.masks)
        .layer[every, which]
        .clamp(min=0)
    )
    colours, masks = seen.colours[every, layer], seen.masks[every, layer, None]
    return {
        "image": run.floats(scenes.images).cpu(),
        "its most hidden object": seen.regions[every, layer, None] * colours,
        "completed": masks * colours,
        "full shape": masks,
        "true shape": scenes.masks[every, which, None].float(),
    }


def samples(model: ECON, wins: Tensor, known: bool, size: int) -> dict[str, dict[str, Tensor]]:
    """Fig. 1B and 6, one expert's objects; 1C, recombined in any number; and 7, layer by layer."""
    experts = makers(model, wins)
    won = wins.tolist() if wins.shape[1] <= 10 else wins.sum(1).tolist()
    names = [f"{k}: {won[k]} won" if known else f"{k}" for k in range(len(wins))]
    single = {f"expert {names[k]}": scene_of(model, wins, [k], size).images for k in experts}
    mixed, growing = {}, {}
    for number in range(1, 7):
        chosen = [experts[i] for i in torch.randint(len(experts), (number,)).tolist()]
        mixed[f"experts {chosen}, front to back"] = scene_of(model, wins, chosen, size).images
    drawn = scene_of(model, wins, experts, size)
    canvas = torch.zeros_like(drawn.images)
    for i in reversed(range(drawn.layers.shape[1])):
        canvas = drawn.layers[:, i] + (1 - drawn.masks[:, i]) * canvas
        growing[f"layer {i} put in front"] = canvas
    return {"experts": single, "recombinations": mixed, "layer_by_layer": growing}


if __name__ == "__main__":
    launch(main, parser())
