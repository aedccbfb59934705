"""An output folder: the checkpoint of a training, its numbers and its figures.

It gets ``checkpoint.pt`` and ``checkpoint.previous.pt``, ``metrics.csv`` (over time), ``metrics.json`` (at
the end), figures and ArviZ data; ``.run`` lists them.
"""

import argparse
import json
from collections.abc import Callable
from itertools import islice
from typing import Any

import pyro
from pyro.infer import ELBO
from torch import Tensor, nn
from torch.optim import Optimizer

from ..data import batches, fingerprints
from ..inference import CheckpointError, Parallel, fit, load_checkpoint
from ..inference.processes import count, is_first, of_first, own_share
from ..pretrained import start_from
from .content import as_netcdf, flat_numbers
from .folder import Folder
from .preflight import (
    Kept,
    check_processes,
    check_same_run,
    check_settings,
    other_settings,
    read_kept,
    resume_key,
    usable_device,
)
from .progress import Row, as_table
from .training import Training

__all__ = ["Run"]


class Run:
    """One run of an example: its folder, device and seed.

    Of several processes that train together (``--processes``, see :func:`launch`) each has a run. The first
    one's writes; the others end where they would write after the training.

    Args:
        args: As parsed by :func:`flags`. Sets the seed of all random draws; ``--smoke`` shortens it.
        evaluate: A checkpoint to evaluate: it does not train then. Its folder must hold no training.

    Attributes:
        settings: What model and guide are built of, from the checkpoint of ``evaluate`` or ``--resume``.
        state: What the loop of the training keeps in the checkpoint: plain data, such as fingerprints.
        history: Its rows, see :class:`Training`.
        pretrained: The name of the shipped weights that its training starts from, if it does.

    Raises:
        ValueError: The device is unknown or absent; the folder cannot be written, another process writes
            to it, or it holds files of the user's own, another run, or a run and no ``--resume`` was given.
        CheckpointError: A checkpoint is damaged, or not of a run.
    """

    def __init__(self, args: argparse.Namespace, *, evaluate: str | None = None) -> None:
        self.trains = evaluate is None and "steps" in args
        if evaluate and getattr(args, "pretrained", None):
            raise ValueError(
                "--pretrained starts a training, --evaluate does not train: give one of them"
            )
        if self.trains:
            check_processes(args)
        if args.smoke and "steps" in args:
            args.steps, args.batch_size = min(args.steps, 10), min(args.batch_size, 8 * count())
        self.args, self.key = args, resume_key(args)
        self.device = usable_device(args.device)
        self.folder = Folder(args.out)
        self.out = self.folder.path
        self.checkpoints = self.out / "checkpoint.pt", self.out / "checkpoint.previous.pt"
        self.evaluate = evaluate
        self.pretrained: str | None = getattr(args, "pretrained", None)
        self.kept = of_first(self._open)
        self.settings: dict[str, Any] = self.kept.settings if self.kept else {}
        self.state: dict[str, Any] = self.kept.state if self.kept else {}
        self.history: list[Row] = self.kept.history if self.kept else []
        self.images: list[int] = []
        pyro.set_rng_seed(args.seed)

    def restore(
        self, build: Callable[[dict[str, Any]], tuple[Any, Any]], settings: dict[str, Any]
    ) -> tuple[Any, Any]:
        """Builds a model and its guide of the checkpoint's settings, or of these where there is none.

        Weights are loaded where a checkpoint is evaluated, in evaluation mode, and with ``--pretrained``.

        Args:
            build: From settings to a model and its guide.
            settings: Plain data by name, ``image_shape`` (that of the scenes at hand) among it.

        Raises:
            CheckpointError: The checkpoint is of another example, another model, or images of another shape.
        """
        source = self.evaluate or self.checkpoints[0]
        if self.kept:
            check_settings(str(source), self.settings, settings)
        self.settings = self.settings or settings
        try:
            model, guide = (module.to(self.device) for module in build(self.settings))
        except Exception as error:  # there is no saying what settings from a file raise
            if not self.kept:
                raise
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise CheckpointError(f"the settings in {source} make no model: {reason}") from error
        if self.evaluate:
            print(f"evaluating {self.evaluate}, trained for {self.history[-1]['step']} steps")
            if other := other_settings(self.settings, settings):
                print(f"with the settings of its training, not those of the flags: {other}")
            load_checkpoint(self.evaluate, model.eval(), guide.eval())
        elif self.pretrained and not self.kept:
            start_from(self.pretrained, model, guide)
        return model, guide

    def training(
        self,
        model: nn.Module,
        guide: nn.Module,
        source: Tensor | tuple[Tensor, ...],
        *,
        optim: Optimizer,
        elbo: ELBO,
        clip: float = float("inf"),
    ) -> Training:
        """The training for ``--steps``, to loop over; from the checkpoint on with ``--resume``.

        Args:
            model: The model, called with each batch.
            guide: Its guide, called with each batch.
            source: Images (m, C, H, W), as :func:`batches` takes them, or a tuple of these and others.
            optim: A torch optimiser over the parameters of both. The caller sets its learning rate.
            elbo: The objective, any ELBO of Pyro.
            clip: Largest norm of the gradient of the loss per image.

        Raises:
            ValueError: The checkpoint is of other images, of another model, guide or optimiser.
        """
        args, start = self.args, 0
        parts = source if isinstance(source, tuple) else (source,)
        # Of all prints of a part in their order, by which batches are drawn, one.
        self.images = [int(fingerprints(fingerprints(part)[None])) for part in parts]
        if self.kept:
            start = self._resume(model, guide, optim)
        stream = batches(source, args.batch_size, seed=args.seed, start=start, device=self.device)
        stream = islice(stream, max(0, args.steps - start))
        share = None
        if count() > 1:
            elbo = Parallel(elbo, model, guide)
            share, stream = elbo.share, map(own_share, stream)
        records = fit(model, guide, stream, elbo=elbo, optim=optim, start=start, clip=clip)
        return Training(self, model, guide, optim, records, share)

    def write(self, *metrics: Any) -> None:
        """Writes ``metrics.json``, one flat dictionary, and prints it.

        Args:
            metrics: Dictionaries or NamedTuples of numbers; what is None, infinite or NaN becomes null.

        Raises:
            ValueError: Two of them have a number of the same name.
        """
        flat = flat_numbers(*metrics)
        self.text("metrics.json", json.dumps(flat, indent=2) + "\n")
        width = max(map(len, flat), default=0)
        for name, value in flat.items():
            print(f"  {name:{width}}  {f'{value:.4f}' if isinstance(value, float) else value}")

    def costs(self) -> dict[str, Any]:
        """``steps``, ``seconds`` and ``cpu_seconds`` of the training, by its last row."""
        last = self.history[-1]
        return {"steps": last["step"], **{name: last[name] for name in ("seconds", "cpu_seconds")}}

    def text(self, name: str, content: str) -> None:
        """Writes a text file into the folder."""
        with self.folder.write(name) as part:
            part.write_text(content, encoding="utf-8")

    def figure(self, name: str, figure: Any) -> None:
        """Saves a matplotlib figure as ``name.png``."""
        with self.folder.write(f"{name}.png") as part:
            figure.savefig(part, format="png", dpi=120, bbox_inches="tight")

    def netcdf(self, name: str, data: Any) -> None:
        """Saves ArviZ data, an ``InferenceData`` or a ``DataTree``, as ``name.nc``."""
        content = as_netcdf(data)
        with self.folder.write(f"{name}.nc") as part:
            part.write_bytes(content)

    def write_history(self) -> None:
        """Writes ``metrics.csv``, the history."""
        if is_first():
            self.text("metrics.csv", as_table(self.history))

    def extra(self) -> dict[str, Any]:
        """What the checkpoint keeps of the run beside the weights."""
        kept = Kept(0, self.key, self.images, self.settings, self.state, self.history)._asdict()
        return {name: value for name, value in kept.items() if name != "step"}

    def _open(self) -> Kept | None:
        """What is kept in the checkpoint to continue or to evaluate, if any."""
        last, args = self.checkpoints[0], self.args
        kept = read_kept(last) if last.is_file() else None
        if kept:
            if not self.trains:
                raise ValueError(f"{self.out} holds a trained run: give an --out of its own")
            self.folder.adopt(last.name)
            if kept.args.get("smoke") and not (args.smoke and args.resume):
                kept = None
                self._forget()
            elif not args.resume:
                raise ValueError(
                    f"{self.out} holds a run already: add --resume to go on with it, or give another --out"
                )
            else:
                check_same_run(self.out, kept.args, self.key)
        elif self.trains and args.resume:
            print(f"there is no checkpoint in {self.out} yet: starting")
        self.folder.check()
        return read_kept(self.evaluate) if self.evaluate else kept

    def _forget(self) -> None:
        """Removes the checkpoints of a smoke test: nobody wants to continue it."""
        for path in self.checkpoints:
            self.folder.remove(path.name)

    def _resume(self, model: nn.Module, guide: nn.Module, optim: Optimizer) -> int:
        if self.kept is None or self.kept.images != self.images:
            raise ValueError(
                f"the run in {self.out} began with other images: resume it with the same"
            )
        load_checkpoint(self.checkpoints[0], model, guide, optim=optim)
        self.write_history()  # it may have been killed between checkpoint and table
        step = self.kept.step
        print(f"going on from step {step} of {self.checkpoints[0]}")
        if step >= self.args.steps:
            print(f"it has taken its {step} steps already; for more, raise --steps")
        return step
