"""Makes docs/pictures: the figures of the examples, and the plate diagrams of the models.

    python docs/pictures.py              # all: ten minutes or so, four short trainings among them
    python docs/pictures.py air econ     # only the pictures whose names begin so

Each example runs with the weights that ship with the package (VAE, ST-VAE, CVAE and VAEAC have none, and are
trained briefly). Of its figures those named below are shrunk to the width of a page and to few colours. The
diagrams need graphviz: its program ``dot``, and the Python package.
"""

import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import arviz
import numpy as np
import pyro
from matplotlib.figure import Figure
from PIL import Image
from pyro import poutine
from scipy.stats import uniform

from pyro_scenes import AIR, CSTVAE, CVAE, ECON, STVAE, VAE, VAEAC, evaluation, load_pretrained, viz
from pyro_scenes.base import Model
from pyro_scenes.data import coloured_shapes, digits, layered_digits, multi_digits
from pyro_scenes.networks import BroadcastDecoder, FlatDecoder

FOLDER = Path(__file__).parent / "pictures"
EXAMPLES = Path(__file__).parents[1] / "examples"
#: Pixels; colours of a picture; bytes of all pictures together, at most.
WIDTH, COLOURS, BYTES = 1000, 128, 1_500_000


class Example(NamedTuple):
    """A command, and the figures to take from its folder."""

    command: str
    figures: tuple[str, ...]


#: Quick: fewer test scenes; the pictures have the same.
GIVEN = "--evaluate pretrained"
QUICK = f"{GIVEN} --quick"
BRIEF = "cst_vae_superimposed.py --quick --steps 1000 --data translated --model"
COMPLETE = "complete_digits.py --quick"
RUNS = {
    "air": Example(f"air_multi_mnist.py {GIVEN}", ("scenes", "reconstructions", "prior")),
    "cst_vae": Example(
        f"cst_vae_superimposed.py {QUICK}", ("reconstructions", "completion", "interpretations")
    ),
    "econ": Example(
        f"econ_shapes.py {QUICK}",
        ("reconstructions", "layers_0", "completion", "experts", "recombinations", "five_objects"),
    ),
    "check": Example("posterior_predictive_check.py", ("checks", "check_count")),
    **{
        f"inpaint_{name}": Example(f"inpaint.py --model {name}", ("inpainted",))
        for name in ("air", "cst_vae", "econ")
    },
    "swap": Example("swap_a_prior.py", ("prior_counts", "prior_samples")),
    "st_vae": Example(f"{BRIEF} st_vae", ("reconstructions", "samples", "alignment")),
    "vae": Example(f"{BRIEF} vae", ("reconstructions",)),
    "cvae": Example(COMPLETE, ("completions",)),
    "vaeac": Example(f"{COMPLETE} --model vaeac", ("completions",)),
}


def main(names: list[str]) -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, example in RUNS.items():
        if not names or name in names:
            run(name, example)
    others = {**first_sight(), **diagrams(), "toolbox": calibrated}
    for name, make in others.items():
        if not names or name.removesuffix("_plates") in names:
            make()
    sizes = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    print(f"{len(sizes)} pictures in {FOLDER}, {sum(sizes.values()):,} bytes")
    if sum(sizes.values()) > BYTES:
        raise SystemExit(f"at most {BYTES:,}: {sorted(sizes.items(), key=lambda item: -item[1])}")


def run(name: str, example: Example) -> None:
    """Runs an example, and keeps its figures as ``name_figure.png``."""
    script, *flags = example.command.split()
    with TemporaryDirectory() as out:
        print(f"python examples/{example.command}", flush=True)
        subprocess.run([sys.executable, EXAMPLES / script, *flags, "--out", out], check=True)
        made = {path.stem: path for path in Path(out).glob("*.png")}
        for figure in example.figures:
            if figure not in made:
                raise SystemExit(f"{script} drew no {figure}: it drew {', '.join(sorted(made))}")
            shrink(made[figure], FOLDER / f"{name}_{figure}.png")


def shrink(source: Path, target: Path) -> None:
    """Saves a picture at the width of a page, and with few colours."""
    with Image.open(source) as file:
        picture = file.convert("RGB")
    picture.thumbnail((WIDTH, 10 * WIDTH), Image.Resampling.LANCZOS)
    few = picture.quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    few.save(target, optimize=True)


def first_sight() -> dict[str, Callable[[], None]]:
    """A few test scenes by each model that ships trained: what was found, and parts completed."""
    return {name: partial(_first_sight, name) for name in ("air", "cst_vae", "econ")}


def _first_sight(name: str) -> None:
    model, guide = load_pretrained(name)
    pyro.set_rng_seed(0)
    if name == "air":
        scenes = multi_digits(digits().test, 8, counts=(1, 2), seed=2)
        images = scenes.floats()
        found = evaluation.interpret(model, guide, images)
        figure = viz.objects_found(images, found, scenes.counts)
    else:
        make = partial(coloured_shapes, 8, colours="random")
        scenes = make(seed=1) if name == "econ" else layered_digits(digits().test, 8, seed=3)
        images = scenes.floats()
        if name == "econ":
            scene = evaluation.decompose(model, guide, images)
            complete = scene.masks[:, :3, None] * scene.colours[:, :3]
        else:
            complete = evaluation.see_layers(model, guide, images).complete
        rows = {f"layer {i + 1}, completed": each for i, each in enumerate(complete.unbind(1))}
        figure = viz.pictures({"image": images, **rows})
    with TemporaryDirectory() as folder:
        figure.savefig(Path(folder, "a.png"), dpi=120, bbox_inches="tight")
        shrink(Path(folder, "a.png"), FOLDER / f"{name}.png")


def calibrated() -> None:
    """The ranks that the code of the page "toolbox" makes of guides with one fault each."""
    page = (FOLDER.parent / "toolbox.rst").read_text(encoding="utf-8")
    section = page[page.index("Calibration: what it can and cannot see") :]
    found: dict[str, Any] = {}
    for block in re.findall(r"code-block:: python\n\n(.*?)\n(?=\S)", section, re.S)[:2]:
        exec(textwrap.dedent(block), found)
    ranks = found["linear_ranks"]
    figure = Figure(figsize=(13, 7.5), layout="constrained")
    axes = figure.subplots(3, len(ranks), sharex=True, sharey="row")
    for i, (guide, of_guide) in enumerate(ranks.items()):
        axes[0, i].set_title(guide, fontsize=16)
        for axis, quantity in zip(axes[:, i], of_guide["quantity"].values, strict=True):
            if i == 0:
                axis.set_ylabel(quantity, fontsize=16)
            arviz.plot_ecdf(
                of_guide["pit"].sel(quantity=quantity).values,
                eval_points=np.linspace(0, 1, 101),
                cdf=uniform.cdf,
                difference=True,
                confidence_bands="optimized",
                ax=axis,
            )
    with TemporaryDirectory() as folder:
        figure.savefig(Path(folder, "a.png"), dpi=100)
        shrink(Path(folder, "a.png"), FOLDER / "toolbox_calibration.png")


def diagrams() -> dict[str, Callable[[], None]]:
    """Pyro's plate diagrams of small models: without deterministic sites, the image observed."""
    shape = (3, 16, 16)
    experts = [BroadcastDecoder(5, shape), FlatDecoder(5, shape)]
    models = {"air": AIR(steps=2), "vae": VAE(), "st_vae": STVAE(), "cst_vae": CSTVAE()}
    models |= {"cvae": CVAE(), "vaeac": VAEAC()}
    models["econ"] = ECON(shape, 2, 2, decoders=experts)
    return {f"{name}_plates": partial(_diagram, name, model) for name, model in models.items()}


def _diagram(name: str, model: Model) -> None:
    seen = poutine.condition(model, data={"image": model.blank[None]})
    drawn = poutine.block(seen, hide_fn=lambda site: site["infer"].get("_deterministic", False))
    graph = pyro.render_model(drawn)
    graph.attr(nodesep="0.15", ranksep="0.35", ordering="in")
    (FOLDER / f"{name}_plates.svg").write_text(graph.pipe(format="svg", encoding="utf-8"))


if __name__ == "__main__":
    main(sys.argv[1:])
