"""An output folder, and a training that survives being killed.

A folder holds ``checkpoint.pt``, ``metrics.csv`` (over time), ``metrics.json`` (at the end) and figures.
"""

import argparse
import csv
import io
import json
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import pyro
import torch
from pyro.infer import ELBO
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ..data import batches
from ..inference import Diverged, Record, fit, load_checkpoint, read_checkpoint, save_checkpoint
from ..random import fork_rng
from .door import fingerprint, flag, locked_folder, plain, usable_device
from .progress import Clock, Row, progress, tell

__all__ = ["Run"]


class Run:
    """One run of an example: its folder, device and seed.

    Args:
        args: As parsed by :func:`flags`. Sets the seed of all random draws.
        trains: Whether it will train. A run that does not needs a folder without a checkpoint.

    Raises:
        ValueError: The device is unknown or absent, the folder cannot be written, another process
            writes to it, or it holds another run and ``--resume`` was not given.
    """

    def __init__(self, args: argparse.Namespace, *, trains: bool = True) -> None:
        if args.smoke:
            args.steps, args.batch_size = min(args.steps, 10), min(args.batch_size, 8)
        self.args = args
        self.device = usable_device(args.device)
        self.out, self.lock = locked_folder(args.out)
        self.checkpoint = self.out / "checkpoint.pt"
        if self.checkpoint.exists() and trains and not (args.smoke and args.resume):
            if read_checkpoint(self.checkpoint)["extra"].get("args", {}).get("smoke"):
                self.checkpoint.unlink()  # nobody wants to go on from a smoke test
        if self.checkpoint.exists() and not trains:
            raise ValueError(f"{self.out} holds a trained run: give an --out of its own")
        if self.checkpoint.exists() and not args.resume:
            raise ValueError(
                f"{self.out} holds a run already: add --resume to go on with it, or give another --out"
            )
        pyro.set_rng_seed(args.seed)

    def fit(
        self,
        model: nn.Module,
        guide: nn.Module,
        images: Tensor,
        *,
        optim: Optimizer,
        elbo: ELBO,
        evaluate: Callable[[int], Row],
        every: int = 250,
        early: Collection[int] = (),
        clip: float = float("inf"),
        extra: dict[str, Any] | None = None,
        before: Callable[[int], None] = lambda step: None,
        done: Callable[[], bool] = lambda: False,
    ) -> list[Row]:
        """Trains for ``--steps``; returns the history: a row each ``every`` steps, and at ``early`` ones.

        The learning rate falls linearly to a hundredth over the second half of the steps. Rows hold
        step, seconds, cpu_seconds, train_elbo (nats per image in training mode, with what weights the
        objective has, mean over the batches since the last row; not at step 0) and what ``evaluate(step)``
        returns, in evaluation mode, in which model and guide are left. After each row a checkpoint is
        written, with ``extra``. ``before(k)`` is called before the step that follows k others: the place
        to warm something up. ``clip`` is the largest norm of a gradient. It ends before ``--steps`` if
        after a row it is ``done()``.
        """
        args, start = self.args, 0
        every = 2 if args.smoke else every
        history: list[Row] = []
        extra = {"images": fingerprint(images), **(extra or {})}
        if args.resume and self.checkpoint.exists():
            start, history = self._resume(model, guide, optim, extra["images"])
            self._table(history)  # it may have been killed between checkpoint and table
            if start >= args.steps:
                print(f"it has taken its {start} steps already; for more, raise --steps")
        elif args.resume:
            print(f"there is no checkpoint in {self.out} yet: starting")
        schedule = _falling(optim, args.steps, start)
        stream = batches(images, args.batch_size, seed=args.seed, start=start, device=self.device)
        stream = islice(stream, 0 if done() else max(0, args.steps - start))
        clock = Clock(history)
        losses: list[float] = []

        def look(step: int) -> None:
            row = {"step": step, **clock()}
            if losses:
                row["train_elbo"] = -sum(losses) / len(losses)
            with fork_rng(args.seed), _evaluating(model, guide):
                found = {name: float(value) for name, value in evaluate(step).items()}
            history.append(row | found)
            losses.clear()
            self._record(model, guide, optim, history, extra)
            tell(bar, history[-1])

        with progress(args.steps, start) as bar, pyro.validation_enabled(False):
            before(start)
            if 0 in early and not history:
                look(0)
            training = fit(model, guide, stream, elbo=elbo, optim=optim, start=start, clip=clip)
            for record in self._steps(training):
                schedule.step()
                before(record.step)
                losses.append(record.loss)
                bar.set_description_str(f"ELBO per image {-record.loss:.0f} nats", refresh=False)
                bar.update()
                if record.step % every == 0 or record.step in {*early, args.steps}:
                    look(record.step)
                    if done():
                        break
        model.eval()
        guide.eval()
        return history

    def write(self, metrics: dict[str, Any]) -> None:
        """Writes ``metrics.json``, one flat dictionary, and prints it."""
        self.text("metrics.json", json.dumps(metrics, indent=2) + "\n")
        width = max(map(len, metrics))
        for name, value in metrics.items():
            shown = f"{value:.4f}" if isinstance(value, float) else value
            print(f"  {name:{width}}  {shown}")

    def text(self, name: str, content: str) -> None:
        """Writes a text file into the folder in one move."""
        part = self.out / f".{name}.part"
        part.write_text(content)
        os.replace(part, self.out / name)

    def figure(self, name: str, figure: Any) -> None:
        """Saves a matplotlib figure as ``name.png``."""
        part = self.out / f".{name}.png.part"
        figure.savefig(part, format="png", dpi=120, bbox_inches="tight")
        os.replace(part, self.out / f"{name}.png")

    def netcdf(self, name: str, data: Any) -> None:
        """Saves ArviZ data as ``name.nc``."""
        part = self.out / f".{name}.nc.part"
        data.to_netcdf(str(part))
        os.replace(part, self.out / f"{name}.nc")

    def floats(self, images: Tensor) -> Tensor:
        """Images, uint8 or float, as floats in [0, 1] on the run's device."""
        images = images.to(self.device)
        return images / 255 if images.dtype == torch.uint8 else images

    def _resume(
        self, model: nn.Module, guide: nn.Module, optim: Optimizer, images: list
    ) -> tuple[int, list[Row]]:
        kept = read_checkpoint(self.checkpoint)["extra"]
        if not kept.get("history"):
            raise ValueError(f"{self.checkpoint} is of no run that can go on: give another --out")
        was, now = kept["args"], plain(self.args)
        other = [
            flag(name, was.get(name)) for name in {**was, **now} if was.get(name) != now.get(name)
        ]
        if other:
            raise ValueError(
                f"the run in {self.out} had {', '.join(other)}: resume it with the same"
            )
        if kept["images"] != images:
            raise ValueError(
                f"the run in {self.out} began with other images: resume it with the same"
            )
        content = load_checkpoint(self.checkpoint, model, guide, optim=optim)
        print(f"going on from step {content['step']} of {self.checkpoint}")
        return content["step"], kept["history"]

    def _steps(self, training: Iterator[Record]) -> Iterator[Record]:
        try:
            yield from training
        except Diverged as error:
            kept = f"the last good checkpoint is {self.checkpoint}"
            step = read_checkpoint(self.checkpoint)["step"] if self.checkpoint.exists() else None
            where = "there is no checkpoint yet" if step is None else f"{kept}, of step {step}"
            raise Diverged(f"{error}; {where}") from error

    def _record(
        self,
        model: nn.Module,
        guide: nn.Module,
        optim: Optimizer,
        history: list,
        extra: dict | None,
    ) -> None:
        step = history[-1]["step"]
        values = [*model.parameters(), *guide.parameters()]
        if not all(value.isfinite().all() for value in values):
            raise Diverged(f"the parameters after step {step} are not finite; it was not saved")
        kept = {"args": plain(self.args), "history": history, **(extra or {})}
        save_checkpoint(self.checkpoint, model, guide, optim=optim, step=step, extra=kept)
        self._table(history)

    def _table(self, history: list[Row]) -> None:
        table = io.StringIO()
        names = dict.fromkeys(name for row in reversed(history) for name in row)
        writer = csv.DictWriter(table, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
        self.text("metrics.csv", table.getvalue())


@contextmanager
def _evaluating(*modules: nn.Module) -> Iterator[None]:
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for module in modules:
            module.train()


def _falling(optim: Optimizer, steps: int, start: int) -> LambdaLR:
    def factor(step: int) -> float:
        return max(0.01, min(1.0, 2 * (steps - step) / steps))

    for group in optim.param_groups:
        group.setdefault("initial_lr", group["lr"])
    return LambdaLR(optim, factor, last_epoch=start - 1)
