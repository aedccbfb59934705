"""Round trips of the live page: how long until a drawing is answered, over a local websocket.

    python benchmarks/live.py

The server is examples/live.py in a process of its own, which computes in one thread. Its drawings are scenes
of the data that each model was trained on, as they come into being: digits appear from left to right, as a
pen writes them, and shapes move in from the left. Each is sent when the one before has been answered, so
there is no waiting in line. Printed are the median, the 95th percentile and the worst, in milliseconds, and
the time until the page is served. Needs the extra: pip install -e ".[live]".
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import torch
from torch import Tensor
from websockets.sync.client import ClientConnection, connect

from pyro_scenes.data import coloured_shapes, digits, layered_digits, multi_digits
from pyro_scenes.experiment import natural, positive

PAGE = Path(__file__).parents[1] / "examples" / "live.py"
MODELS = ("air", "cst_vae", "econ")
#: Drawings of a scene: so many states of its coming into being.
STATES = 10


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--models", nargs="+", choices=MODELS, default=MODELS, help="(all)")
    add("--drawings", type=positive, default=500, metavar="N", help="of each model (%(default)s)")
    add("--warm-up", type=natural, default=20, metavar="N", help="not timed (%(default)s)")
    add("--core", type=natural, metavar="N", help="run the server on this core alone (Linux)")
    return parser


def main(args: argparse.Namespace) -> None:
    print(f"{'model':8} {'drawings':>8} {'median':>8} {'95 %':>8} {'worst':>8}  ms")
    with server(args.core) as (address, seconds):
        for model in args.models:
            drawings = [d.numpy().tobytes() for d in strokes(model, args.warm_up + args.drawings)]
            with connect(f"{address}explain/{model}") as page:
                times = sorted([round_trip(page, drawing) for drawing in drawings][args.warm_up :])
            late, figures = times[int(0.95 * (len(times) - 1))], statistics.median(times)
            print(f"{model:8} {len(times):8} {figures:8.1f} {late:8.1f} {times[-1]:8.1f}")
    print(f"started in {seconds:.1f} s")


@contextmanager
def server(core: int | None) -> Iterator[tuple[str, float]]:
    """The address for websockets, and the seconds from the command until the page is served."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command, start = [sys.executable, str(PAGE), "--port", str(port)], time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            if core is not None:
                os.sched_setaffinity(process.pid, {core})
            assert process.stdout is not None
            process.stdout.readline()
            with urlopen(f"http://127.0.0.1:{port}/") as page:
                page.read()
            yield f"ws://127.0.0.1:{port}/", time.perf_counter() - start
        finally:
            process.terminate()


def round_trip(page: ClientConnection, drawing: bytes) -> float:
    """Milliseconds from sending a drawing to having read its answer."""
    start = time.perf_counter()
    page.send(drawing)
    answer = json.loads(page.recv())
    spent = 1000 * (time.perf_counter() - start)
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return spent


def strokes(model: str, size: int) -> Tensor:
    """Scenes (size, C, H, W), uint8, each a state of a drawing."""
    number = -(-size // STATES)
    if model == "econ":
        images = coloured_shapes(number, colours="random", seed=3_000_000).images
    else:
        scenes = multi_digits if model == "air" else layered_digits
        images = scenes(digits().test, number, seed=3_000_000).images
    side = images.shape[-1]
    drawn = torch.arange(side) < torch.linspace(side / STATES, side, STATES)[:, None]
    paper = images[:, None, :, :1, :1]  # the background
    return images[:, None].where(drawn[:, None, None], paper).flatten(0, 1)[:size]


if __name__ == "__main__":
    main(parser().parse_args())
