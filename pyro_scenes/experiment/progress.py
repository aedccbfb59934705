"""What a training tells while it runs."""

import time
from typing import Any

from tqdm import tqdm

__all__ = ["Clock", "Row", "progress", "tell"]

#: One line of a training's history: numbers by name.
Row = dict[str, int | float]


class Clock:
    """Seconds of training, those of earlier sittings included."""

    def __init__(self, history: list[Row]) -> None:
        before = history[-1] if history else {"seconds": 0.0, "cpu_seconds": 0.0}
        self.wall = time.perf_counter() - before["seconds"]
        self.cpu = time.process_time() - before["cpu_seconds"]

    def __call__(self) -> Row:
        wall, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
        return {"seconds": round(wall, 2), "cpu_seconds": round(cpu, 2)}


def progress(steps: int, start: int) -> Any:
    """A bar with the time left; none where the output is no terminal."""
    return tqdm(total=steps, initial=start, disable=None, unit="step", dynamic_ncols=True)


def tell(bar: Any, row: Row) -> None:
    """Puts a row of the history beside the bar, or into the log where there is no bar."""
    known = [name for name in row if name not in ("step", "seconds", "cpu_seconds", "train_elbo")]
    shown = ", ".join(f"{name.replace('_', ' ')} {row[name]:.4g}" for name in known)
    bar.set_postfix_str(shown)
    if bar.disable:  # not a terminal: lines for a log
        train = f"train ELBO {row['train_elbo']:.1f} " if "train_elbo" in row else ""
        print(f"step {row['step']}, {row['seconds']:.0f} s: {train}{shown}", flush=True)
