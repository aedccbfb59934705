"""Draw digits or place shapes on a page, and see how AIR, CST-VAE or ECON explain them while you draw.

    python examples/live.py
    python examples/live.py --model econ --port 8001

It runs on this machine alone, with the weights that come with the library, and prints the page's address.
"""

import argparse
import asyncio
import socket
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from itertools import count
from math import prod
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

try:
    import uvicorn
    import websockets  # noqa: F401  # uvicorn speaks through it
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.responses import FileResponse, PlainTextResponse, Response
    from starlette.routing import Route, WebSocketRoute
    from starlette.websockets import WebSocket, WebSocketDisconnect
except ImportError as error:
    sys.exit(f'error: the live page needs a web server ({error}): pip install -e ".[live]"')

import pyro
import torch

from pyro_scenes import load_pretrained
from pyro_scenes.data import strokes
from pyro_scenes.experiment import launch, show_air, show_cst_vae, show_econ, up_to

SHOWN = {"air": show_air, "cst_vae": show_cst_vae, "econ": show_econ}
#: One thread runs all models: Pyro's stack of effect handlers is one for all threads.
WORKER = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,))
#: Bytes of a message, at most. A drawing has 3072 or fewer.
LONGEST = 2**16
PAGE = Path(__file__).with_suffix(".html")
ICON = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16" fill="none" stroke-width="2">
<path d="M2 2h8v8h-8z" stroke="#e33"/><path d="M6 6h8v8h-8z" stroke="#2b6"/></svg>"""


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", choices=SHOWN, default="air", help="that the page begins with (%(default)s)")
    add("--port", type=up_to(65535), default=8000, metavar="N", help="of the page (%(default)s)")
    add("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in too (%(default)s)")
    return parser


def main(args: argparse.Namespace) -> None:
    WORKER.submit(pair, args.model).result()
    config = uvicorn.Config(application(args.host), log_level="warning", ws_max_size=LONGEST)
    config.timeout_graceful_shutdown = 1  # seconds; pages may still be open
    with socket.create_server((args.host, args.port)) as listener, suppress(KeyboardInterrupt):
        print(f"http://{args.host}:{args.port}/#{args.model}    (Ctrl-C ends it)", flush=True)
        uvicorn.Server(config).run([listener])


def application(host: str) -> Starlette:
    images, labels = strokes(40, seed=3)
    palette = b"".join(images[labels == k][0].numpy().tobytes() for k in range(10))
    binary = "application/octet-stream"
    routes = [
        Route("/", lambda request: FileResponse(PAGE)),
        Route("/digits", lambda request: Response(palette, media_type=binary)),
        Route("/favicon.ico", lambda request: Response(ICON, media_type="image/svg+xml")),
        WebSocketRoute("/explain/{model}", talk),
    ]
    # A page elsewhere whose name is made to point to this machine is refused by its name.
    names = ["*"] if host == "0.0.0.0" else ["localhost", "127.0.0.1", host]
    return Starlette(routes=routes, middleware=[Middleware(TrustedHostMiddleware, names)])


async def talk(page: WebSocket) -> None:
    """Answers drawings until the page closes. Of those that come during an answer only the last is kept."""
    if reason := refusal(page):
        return await page.send_denial_response(PlainTextResponse(reason, 403))
    await page.accept()
    name, latest = page.path_params["model"], asyncio.Queue[tuple[int, bytes]](1)
    shape = (await in_turn(pair, name))[0].image_shape
    answering = asyncio.create_task(answer(page, name, latest))
    for number in count():
        message = await page.receive()
        if message["type"] != "websocket.receive":
            break
        drawing = message.get("bytes")
        if drawing is None or len(drawing) != prod(shape):
            got = "text" if drawing is None else f"{len(drawing)} bytes"
            wanted = f"{prod(shape)} bytes, one for each of {shape} (channels, height, width)"
            await page.send_json({"error": f"a drawing must be {wanted}, got {got}"})
            continue
        if latest.full():
            latest.get_nowait()
        latest.put_nowait((number, drawing))
    answering.cancel()


def refusal(page: WebSocket) -> str:
    """Why a page may not talk to this server, if so. Browsers say of which Origin it is."""
    origin, host = page.headers.get("origin"), page.headers["host"]
    if origin is not None and urlsplit(origin).netloc != host:
        return f"a page of {origin} may not talk to http://{host}: open http://{host} itself"
    name = page.path_params["model"]
    return "" if name in SHOWN else f"there is no model {name!r}: take one of {', '.join(SHOWN)}"


async def answer(page: WebSocket, name: str, latest: asyncio.Queue[tuple[int, bytes]]) -> None:
    """Sends what is shown of the latest drawing, and which message that was, from 0."""
    with suppress(WebSocketDisconnect, RuntimeError):  # it was closed meanwhile
        while True:
            number, drawing = await latest.get()
            await page.send_json(await in_turn(explain, name, drawing) | {"number": number})


def in_turn(function: Callable, *args: Any) -> asyncio.Future:
    return asyncio.get_running_loop().run_in_executor(WORKER, function, *args)


@cache
def pair(name: str) -> tuple[Any, Any]:
    pyro.enable_validation(False)
    # Without gradients Pyro registers no parameters, which takes long.
    return tuple(part.requires_grad_(False) for part in load_pretrained(name))


def explain(name: str, drawing: bytes) -> dict[str, Any]:
    """What is shown of a drawing: grey levels, or all of red, then of green, then of blue."""
    model, guide = pair(name)
    levels = torch.frombuffer(bytearray(drawing), dtype=torch.uint8)
    return SHOWN[name](model, guide, levels.view(1, *model.image_shape) / 255).plain()


if __name__ == "__main__":
    launch(main, parser())
