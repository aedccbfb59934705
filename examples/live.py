"""Draw digits or place shapes on a page, and see how AIR, CST-VAE or ECON explain them while you draw.

    python examples/live.py
    python examples/live.py --model econ --port 8001

It runs on this machine alone, with the weights that come with the library, and prints the page's address.
"""

import argparse
import asyncio
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from itertools import count
from math import prod
from pathlib import Path
from typing import Any

try:
    import uvicorn
    import websockets  # noqa: F401  # uvicorn speaks through it
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
    from starlette.routing import Route, WebSocketRoute
    from starlette.websockets import WebSocket, WebSocketDisconnect
except ImportError as error:
    sys.exit(f'error: the live page needs a web server ({error}): pip install -e ".[live]"')

import pyro
import torch

from pyro_scenes import load_pretrained, viz
from pyro_scenes.data import strokes
from pyro_scenes.experiment import launch, show_air, show_cst_vae, show_econ, up_to

SHOWN = {"air": show_air, "cst_vae": show_cst_vae, "econ": show_econ}
#: One thread runs all models: Pyro's stack of effect handlers is one for all threads.
WORKER = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,))
#: Bytes of a message, at most. A drawing has 3072 or fewer.
LONGEST = 2**16
PAGE = Path(__file__).with_name("live_page")
ASK = {"Cache-Control": "no-cache"}  # browsers ask each time whether a file has changed


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", choices=SHOWN, default="air", help="that the page begins with (%(default)s)")
    add("--port", type=up_to(65535), default=8000, metavar="N", help="of the page (%(default)s)")
    everyone = "0.0.0.0 lets other machines in, at http://THIS-MACHINE:PORT, under any name"
    add("--host", default="127.0.0.1", help=f"{everyone} (%(default)s)")
    return parser


def main(args: argparse.Namespace) -> None:
    if not args.host or ":" in args.host:  # an empty one would let every machine in
        sys.exit(f"error: --host needs a name or an IPv4 address, got {args.host!r}")
    WORKER.submit(pair, args.model).result()
    config = uvicorn.Config(application(args.host), log_level="warning", ws_max_size=LONGEST)
    config.timeout_graceful_shutdown = 1  # seconds; pages may still be open
    config.limit_concurrency = 100  # connections
    with socket.create_server((args.host, args.port)) as listener, suppress(KeyboardInterrupt):
        print(f"http://{args.host}:{args.port}/#{args.model}    (Ctrl-C ends it)", flush=True)
        uvicorn.Server(config).run([listener])


def application(host: str) -> Starlette:
    images, labels = strokes(40, seed=3)
    palette = b"".join(images[labels == k][0].numpy().tobytes() for k in range(10))
    colours = (255 * viz.LAYER_COLOURS).round().tolist()
    files = {f"/{file.name}": file for file in PAGE.iterdir()} | {"/": PAGE / "index.html"}
    routes = [
        *(Route(at, lambda _, at=at: FileResponse(files[at], headers=ASK)) for at in files),
        Route("/digits", lambda request: Response(palette)),
        Route("/colours", lambda request: JSONResponse(colours)),
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
    latest = asyncio.Queue[tuple[int, bytes | None]](1)
    answering = asyncio.create_task(answer(page, page.path_params["model"], latest))
    try:
        for number in count():
            message = await page.receive()
            if message["type"] != "websocket.receive":
                break
            if latest.full():
                latest.get_nowait()
            latest.put_nowait((number, message.get("bytes")))
    finally:
        answering.cancel()


def refusal(page: WebSocket) -> str:
    """Why a page may not talk to this server, if so. Browsers say of which Origin it is."""
    origin, host = page.headers.get("origin"), page.headers.get("host", "")
    if origin not in (None, f"http://{host}"):
        return f"a page of {origin} may not talk to http://{host}: open http://{host} itself"
    name = page.path_params["model"]
    return "" if name in SHOWN else f"there is no model {name!r}: take one of {', '.join(SHOWN)}"


async def answer(page: WebSocket, name: str, latest: asyncio.Queue) -> None:
    """Sends what is shown of the latest drawing, and which message that was, from 0."""
    run = asyncio.get_running_loop().run_in_executor
    while True:
        number, drawing = await latest.get()
        try:
            said = await run(WORKER, explain, name, drawing)
        except Exception as error:
            said = {"error": f"this drawing cannot be explained: {error}"}
        with suppress(WebSocketDisconnect, RuntimeError):  # it was closed meanwhile
            await page.send_json(said | {"number": number})


@cache
def pair(name: str) -> tuple[Any, Any]:
    pyro.enable_validation(False)
    # Without gradients Pyro registers no parameters, which takes long.
    return tuple(part.requires_grad_(False) for part in load_pretrained(name))


def explain(name: str, drawing: bytes | None) -> dict[str, Any]:
    """What is shown of a drawing: grey levels, or all of red, then of green, then of blue."""
    model, guide = pair(name)
    shape = model.image_shape
    if drawing is None or len(drawing) != prod(shape):
        got = "text" if drawing is None else f"{len(drawing)} bytes"
        wanted = f"{prod(shape)} bytes, one for each of {shape} (channels, height, width)"
        raise ValueError(f"a drawing must be {wanted}, got {got}")
    levels = torch.frombuffer(bytearray(drawing), dtype=torch.uint8)
    return SHOWN[name](model, guide, levels.view(1, *shape) / 255).plain()


if __name__ == "__main__":
    launch(main, parser())
