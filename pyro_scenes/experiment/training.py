"""A training whose loop belongs to the caller, and that survives being killed."""

import math
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pyro
import torch
from torch import nn
from torch.optim import Optimizer

from ..inference import Diverged, Record, describe_pair, save_checkpoint
from ..inference.diverged import NOT_FINITE
from ..inference.processes import count, is_first, of_first, rank
from ..random import fork_rng
from .progress import Clock, log_row, progress_bar

__all__ = ["Training"]


class Training:
    """The steps of a training, to loop over; :meth:`Run.training` makes it.

    Yields the number of steps taken, *before* each step, from the checkpoint on, and once more after the
    last one. What the body assigns holds for the step that follows::

        for step in training:
            scale_lr(optim, falling(step, args.steps))
            model.z_pres = Persist(warm_up(step))
            if training.due(every=250):
                with training.row() as row:
                    row["elbo"] = evaluation.log_weights(model, guide, images).mean()

    A row writes the checkpoint, and a resumed run begins with the body of the step that its last row is
    of. So it equals an uninterrupted one to the last digit if what stands before the row is a pure function
    of the step, and what changes weights or depends on the history or on ``state`` stands after it.
    ``break`` ends the training; do so after a row, if the last state should be kept.

    Pyro's handlers are global: one training at a time in a process. Of several processes that train together
    each runs the same loop, by the same random numbers but for those of the steps, and rows are the first's.

    Attributes:
        step: The number of steps taken.
        state: A plain dictionary that the checkpoint keeps, for what is no function of the step.
        history: The rows: ``step``, ``seconds``, ``cpu_seconds``, ``train_elbo`` (nats per image, in training
            mode, as the objective weighs it, mean over the steps since the last row; not at step 0), and the
            caller's numbers.
    """

    def __init__(
        self,
        run: Any,
        model: nn.Module,
        guide: nn.Module,
        optim: Optimizer,
        records: Iterator[Record],
        share: Callable[[], None] | None = None,
    ) -> None:
        self.run, self.pair, self.optim, self.records = run, (model, guide), optim, records
        self.history, self.state, self.share = run.history, run.state, share
        self.step = int(self.history[-1]["step"]) if self.history else 0
        self.description = describe_pair(model, guide)
        self.losses: list[float] = []

    def __iter__(self) -> Iterator[int]:
        self.clock = Clock(self.history)
        try:
            with progress_bar(self.run.args.steps, self.step) as self.bar:
                self._set_mode(train=True)
                yield self.step
                while self.step < self.run.args.steps:
                    self._take_step()
                    yield self.step
        finally:
            self._set_mode(train=False)

    def due(self, every: int = 250, early: Collection[int] = ()) -> bool:
        """Whether a row is due: each ``every`` steps, at ``early`` ones (0 among them), and after the last.

        A smoke test has a row each 2 steps. A resumed run has its last row already.
        """
        if self.history and self.history[-1]["step"] == self.step:
            return False
        every = min(every, 2) if self.run.args.smoke else every
        regular = self.step > 0 and self.step % every == 0
        return regular or self.step in {*early, self.run.args.steps}

    @contextmanager
    def row(self) -> Iterator[dict[str, Any]]:
        """Adds a row to the history: yields a dictionary to put numbers in, then writes the checkpoint.

        Inside, model and guide are in evaluation mode, without gradients, and random draws are the same in
        each row and change no step of the training. A number that is not defined may be None, and is left
        out.

        Raises:
            Diverged: A number or a weight is not finite. The checkpoint is not written.
        """
        numbers: dict[str, Any] = {}
        self._set_mode(train=False)
        try:
            with torch.no_grad(), fork_rng(self.run.args.seed), pyro.validation_enabled(False):
                yield numbers
        except (RuntimeError, ValueError) as error:
            if not NOT_FINITE.search(str(error)):
                raise
            reason = str(error).splitlines()[0].split(" (Could")[0]
            raise Diverged(
                f"step {self.step} was not saved: {reason}; {self._last_checkpoints()}"
            ) from error
        finally:
            self._set_mode(train=True)
        values = {name: float(value) for name, value in numbers.items() if value is not None}
        self._check_finite(values)
        row = {"step": self.step, **self.clock()}
        if self.losses:
            row["train_elbo"] = -sum(self.losses) / len(self.losses)
        self.losses.clear()
        self.history.append(of_first(lambda: row | values))
        if self.share:
            self.share()  # lest rounding of what the loop did to weights parts the processes
        self._save()
        log_row(self.bar, self.history[-1])

    def _take_step(self) -> None:
        # Validation halves the speed; what diverges is noticed without it.
        with pyro.validation_enabled(False), self._own_random_numbers():
            try:
                record = next(self.records)
            except Diverged as error:
                raise Diverged(f"{error}; {self._last_checkpoints()}") from error
        self.step = record.step
        self.losses.append(record.loss)
        self.bar.set_description_str(f"ELBO per image {-record.loss:.0f} nats", refresh=False)
        self.bar.update()

    def _own_random_numbers(self) -> Any:
        """Of several processes each draws its own in a step, the same after an interruption as without."""
        if count() == 1:
            return nullcontext()
        return fork_rng((1_000_003 * self.run.args.seed + self.step) * count() + rank())

    def _set_mode(self, *, train: bool) -> None:
        for module in self.pair:
            module.train(train)

    def _check_finite(self, numbers: dict[str, float]) -> None:
        wrong = [
            f"{name} is {value}" for name, value in numbers.items() if not math.isfinite(value)
        ]
        weights = [weight for module in self.pair for weight in module.parameters()]
        if not all(weight.isfinite().all() for weight in weights):
            wrong.append("weights are not finite")
        if wrong:
            raise Diverged(
                f"step {self.step} was not saved: {', '.join(wrong)}; {self._last_checkpoints()}"
            )

    def _last_checkpoints(self) -> str:
        steps = [row["step"] for row in self.history[:-3:-1]]
        files = zip(("the last checkpoint", "the one before"), self.run.checkpoints, steps)
        texts = [f"{name} is {path}, of step {step}" for name, path, step in files if path.exists()]
        return ", ".join(texts) or "there is no checkpoint yet"

    def _save(self) -> None:
        last, previous = self.run.checkpoints
        if is_first():
            if last.exists():
                with self.run.folder.write(previous.name) as part:
                    shutil.copyfile(last, part)
            self.run.folder.adopt(last.name)
        save_checkpoint(
            last,
            *self.pair,
            optim=self.optim,
            step=self.step,
            extra=self.run.extra(),
            description=self.description,
        )
        self.run.write_history()
