"""What a training reports while it runs."""

import csv
import io
import time
from typing import Any

from tqdm import tqdm

from ..inference.processes import is_first

__all__ = ["Clock", "Row", "as_table", "log_row", "progress_bar"]

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


def progress_bar(steps: int, start: int) -> Any:
    """A bar with the time left; none where the output is no terminal, or of another process."""
    off = None if is_first() else True  # None: by the output
    return tqdm(total=steps, initial=start, disable=off, unit="step", dynamic_ncols=True)


def log_row(bar: Any, row: Row) -> None:
    """Puts a row of the history beside the bar, or into the log where there is no bar."""
    names = [name for name in row if name not in ("step", "seconds", "cpu_seconds", "train_elbo")]
    text = ", ".join(f"{name.replace('_', ' ')} {row[name]:.4g}" for name in names)
    bar.set_postfix_str(text)
    if bar.disable:
        train = f"train ELBO {row['train_elbo']:.1f} " if "train_elbo" in row else ""
        print(f"step {row['step']}, {row['seconds']:.0f} s: {train}{text}", flush=True)


def as_table(history: list[Row]) -> str:
    """A history as CSV, with a column for each name that a row has."""
    table = io.StringIO()
    names = dict.fromkeys(name for row in reversed(history) for name in row)
    writer = csv.DictWriter(table, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return table.getvalue()
