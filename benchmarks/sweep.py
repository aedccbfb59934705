"""What benchmarks share: an example run several times, its figures as a table, and steps timed in turns."""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

from pyro_scenes.experiment import natural, path, positive

EXAMPLES = Path(__file__).parent.parent / "examples"


def flags(description: str, *, out: str) -> argparse.ArgumentParser:
    """The flags of a sweep over seeds: ``--out``, ``--seeds``, ``--jobs``, ``--smoke``."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=path, default=out, metavar="DIR", help="folder for the runs (%(default)s)")
    add("--seeds", type=natural, nargs="+", default=[0, 1, 2], metavar="N", help="(%(default)s)")
    add("--jobs", type=positive, default=2, metavar="N", help="runs at a time (%(default)s)")
    add("--smoke", action="store_true", help="ten small steps a run, to check that everything runs")
    return parser


def sweep(
    example: str, runs: Mapping[str, Sequence[str]], out: str | Path, jobs: int = 1
) -> dict[str, dict[str, Any]]:
    """Runs an example once for each name, with that name's flags, one thread each.

    A run's folder is ``out/name``, its log ``out/name.log``. What is there already goes on where it stopped.

    Args:
        example: Its file in ``examples``, ``air_multi_mnist.py``.
        runs: Flags by name, without ``--out`` and ``--resume``.
        out: The folder of all runs.
        jobs: Runs at a time.

    Returns:
        Each run's ``metrics.json``, by name.

    Raises:
        SystemExit: A run failed, once those that were begun have ended.
    """
    Path(out).mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(jobs) as pool:
        metrics = pool.map(lambda name: _run(example, runs[name], Path(out) / name), runs)
        return dict(zip(runs, metrics, strict=True))


def _run(example: str, flags: Sequence[str], out: Path) -> dict[str, Any]:
    command = [sys.executable, str(EXAMPLES / example), *flags, "--out", str(out), "--resume"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    log = out.with_name(f"{out.name}.log")
    with log.open("a") as stream:
        done = subprocess.run(command, stdout=stream, stderr=stream, env=environment, check=False)
    if done.returncode:
        sys.exit(f"error: {example} failed, exit status {done.returncode}: see {log}")
    return json.loads((out / "metrics.json").read_text(encoding="utf-8"))


def table(
    rows: Mapping[str, Mapping[str, Any]],
    names: Sequence[str],
    *,
    least: Collection[str] = (),
    floors: Mapping[str, Mapping[str, Any]] | None = None,
    alike: bool = True,
) -> str:
    """A table in Markdown: a line for each figure, a column for each run, then median, worst and floors.

    Args:
        rows: Figures of each run, by the run's name.
        names: The figures to show; those that no run has are left out.
        least: The figures of which the least is best.
        floors: What trivial answers reach, by the answer's name. Default: those in the metrics of the first
            run.
        alike: Whether the runs differ in their seeds alone; if not, there are no median and worst.
    """
    floors = floors_of(next(iter(rows.values()))) if floors is None else floors
    lines = [["", *rows, *["median", "worst"] * alike, *floors]]
    for name in names:
        values = [row.get(name) for row in rows.values()]
        known = [value for value in values if value is not None]
        if known:
            over_all = [median(known), (max if name in least else min)(known)] if alike else []
            trivial = [floor.get(name) for floor in floors.values()]
            lines.append([name, *map(as_text, [*values, *over_all, *trivial])])
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def floors_of(metrics: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What trivial answers reach, by the answer's name, of metrics such as ``{"ari: flood fill": 1.0}``."""
    floors: dict[str, dict[str, Any]] = {}
    for name, value in metrics.items():
        figure, _, answer = name.partition(": ")
        if answer:
            floors.setdefault(answer, {})[figure] = value
    return floors


def as_text(value: float | None) -> str:
    """A figure with about four digits; ``-`` where there is none."""
    if value is None or isinstance(value, int):
        return "-" if value is None else str(value)
    return (
        f"{value:.1f}"
        if abs(value) > 10
        else f"{value:.4f}" if abs(value) >= 0.01 else f"{value:.3g}"
    )


def turns(steps: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """The median CPU milliseconds of each step, by name.

    They take turns, so that a busy machine slows all; a first turn is not counted. Threads count together.
    """
    spent: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds + 1):
        for name, step in steps.items():
            start = time.process_time()
            step()
            spent[name].append(1000 * (time.process_time() - start))
    return {name: median(times[1:]) for name, times in spent.items()}
