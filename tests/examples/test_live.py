"""The live page: its server over real websockets, and the page in a real browser."""

import asyncio
import base64
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
import torch

from pyro_scenes.data import coloured_shapes, digits, layered_digits, multi_digits

from .conftest import ROOT

for name in ("starlette", "uvicorn", "websockets"):
    pytest.importorskip(name, reason=f'the live page needs {name}: pip install -e ".[live]"')

from websockets.exceptions import ConnectionClosedError, InvalidStatus  # noqa: E402
from websockets.sync.client import connect  # noqa: E402

LIMIT = 120  # seconds, where an answer takes a hundredth of one


@pytest.fixture(scope="module")
def server(shell, tmp_path_factory):
    """The address of a page that runs in a process of its own, which must outlive all of these tests."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = shell("live", "--port", port, folder=tmp_path_factory.mktemp("live"))
    address = process.stdout.readline().split("#")[0]
    assert address == f"http://127.0.0.1:{port}/", process.communicate()[1]
    yield address
    assert process.poll() is None
    process.terminate()
    assert "Traceback" not in process.communicate()[1]


@pytest.fixture(scope="module")
def pen():
    return digits().test


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip(f"there is no browser to open the page in: none of {', '.join(names)}")
    browser = Browser(program, tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.stack.close()


def talk(server, model, **options):
    return connect(server.replace("http", "ws") + f"explain/{model}", **options)


def ask(page, drawing):
    page.send(drawing)
    return json.loads(page.recv(LIMIT))


def pixels(image):
    return image.numpy().tobytes()


def test_it_counts_digits(server, pen):
    scenes = multi_digits(pen, 30, seed=11)
    with talk(server, "air") as page:
        answers = [ask(page, pixels(image)) for image in scenes.images]
    said = [int(answer["text"].split()[0]) for answer in answers]
    assert sum(a == b for a, b in zip(said, scenes.counts.tolist(), strict=True)) >= 27
    assert [answer["number"] for answer in answers] == [*range(30)]
    for answer, count in zip(answers, said, strict=True):
        assert len(answer["windows"]) == count
        assert max(answer["count_probabilities"]) == answer["count_probabilities"][count]
        assert answer["text"].endswith(f"{answer['count_probabilities'][count]:.2f}")


def test_each_model_answers_with_pictures_of_its_size(server, pen):
    scenes = {
        "air": multi_digits(pen, 1, seed=1),
        "cst_vae": layered_digits(pen, 1, seed=1),
        "econ": coloured_shapes(1, colours="random", seed=1),
    }
    for model, scene in scenes.items():
        with talk(server, model) as page:
            answer = ask(page, pixels(scene.images[0]))
        reconstruction = base64.b64decode(answer["rows"][0]["pictures"][0])
        levels = torch.frombuffer(bytearray(reconstruction), dtype=torch.uint8)
        assert len(levels) == scene.images[0].numel()
        apart = (levels.float() - scene.images[0].flatten().float()).abs().mean()
        assert apart < scene.images[0].float().sub(scene.images[0].float().mean()).abs().mean()


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        (b"", "2500 bytes, one for each of (1, 50, 50) (channels, height, width), got 0 bytes"),
        (bytes(2499), "got 2499 bytes"),
        (bytes(3 * 32 * 32), "got 3072 bytes"),
        ("nan", "got text"),
        (json.dumps([0.5] * 2500), "got text"),
    ],
)
def test_a_bad_message_is_refused_and_the_next_is_answered(message, complaint, server):
    with talk(server, "air") as page:
        assert complaint in ask(page, message)["error"]
        assert ask(page, bytes(2500))["text"].startswith("0 digits")


def test_a_huge_message_closes_its_page_and_no_other(server):
    with talk(server, "air") as other:
        with talk(server, "air") as page, pytest.raises(ConnectionClosedError, match="1009"):
            ask(page, bytes(10_000_000))
        assert ask(other, bytes(2500))["text"].startswith("0 digits")


@pytest.mark.parametrize(
    ("model", "headers", "complaint"),
    [
        ("dair", {}, "there is no model 'dair': take one of air, cst_vae, econ"),
        (
            "air",
            {"Origin": "http://elsewhere.example"},
            "a page of http://elsewhere.example may not",
        ),
        ("air", {"Origin": "null"}, "a page of null may not talk"),
        ("air", {"Origin": "http://["}, "may not talk"),
    ],
)
def test_strangers_are_not_let_in(model, headers, complaint, server):
    with pytest.raises(InvalidStatus) as refused, talk(server, model, additional_headers=headers):
        pass
    assert refused.value.response.status_code in (400, 403)
    assert complaint in refused.value.response.body.decode()


def test_a_page_whose_name_is_made_to_point_here_is_not_let_in(server):
    host, port = server.rstrip("/").removeprefix("http://").split(":")
    with pytest.raises(InvalidStatus, match="400"), socket.create_connection((host, port)) as line:
        with connect(f"ws://elsewhere.example:{port}/explain/air", sock=line):
            pass


def test_its_own_page_is_let_in(server):
    with talk(server, "air", origin=server.rstrip("/")) as page:
        assert ask(page, bytes(2500))["text"].startswith("0 digits")


def test_a_drawing_that_cannot_be_explained_gets_a_reason_and_the_next_an_answer(load, monkeypatch):
    live = load("examples/live.py")
    faults = {b"0": RuntimeError("no inverse"), b"1": ValueError("not finite")}

    def explain(name, drawing):
        if drawing in faults:
            raise faults[drawing]
        return {"text": name}

    async def ask_all(*drawings):
        latest, said = asyncio.Queue(), asyncio.Queue()
        for numbered in enumerate(drawings):
            latest.put_nowait(numbered)
        page = SimpleNamespace(send_json=said.put)
        answering = asyncio.create_task(live.answer(page, "air", latest))
        answers = [await asyncio.wait_for(said.get(), LIMIT) for _ in drawings]
        answering.cancel()
        return answers

    monkeypatch.setattr(live, "explain", explain)
    assert asyncio.run(ask_all(b"0", b"1", b"2")) == [
        {"error": "this drawing cannot be explained: no inverse", "number": 0},
        {"error": "this drawing cannot be explained: not finite", "number": 1},
        {"text": "air", "number": 2},
    ]


def test_of_drawings_that_come_too_fast_the_last_is_answered(server, pen):
    drawings = [*multi_digits(pen, 199, counts=(0,), seed=1).images]
    drawings += [*multi_digits(pen, 1, counts=(2,), kind="disjoint", seed=2).images]
    with talk(server, "air") as page:
        for drawing in drawings:
            page.send(pixels(drawing))
        answers = [json.loads(page.recv(LIMIT))]
        while answers[-1]["number"] < 199:
            answers.append(json.loads(page.recv(LIMIT)))
    numbers = [answer["number"] for answer in answers]
    assert numbers == sorted({*numbers}) and len(numbers) < 200
    assert answers[-1]["text"].startswith("2 digits") and answers[0]["text"].startswith("0 digits")


def test_pages_that_leave_in_the_middle_disturb_nobody(server):
    for _ in range(8):
        with talk(server, "cst_vae") as page:
            page.send(bytes(2500))
            page.socket.shutdown(socket.SHUT_RDWR)  # without a goodbye
    with talk(server, "air") as page:
        assert ask(page, bytes(2500))["text"].startswith("0 digits")


def test_the_icon_and_the_palette_are_there(server):
    with urllib.request.urlopen(server + "icon.svg") as icon:
        assert icon.headers["content-type"] == "image/svg+xml" and b"<svg" in icon.read()
    with urllib.request.urlopen(server + "digits") as palette:
        levels = torch.frombuffer(bytearray(palette.read()), dtype=torch.uint8).view(10, 28 * 28)
    assert (levels.amax(1) > 200).all() and (levels.float().mean(1) < 100).all()


def test_without_a_web_server_one_line_says_what_to_install(tmp_path):
    (tmp_path / "uvicorn.py").write_text("raise ImportError('No module named uvicorn')")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    command = [sys.executable, str(ROOT / "examples" / "live.py")]
    result = subprocess.run(command, env=env, capture_output=True, text=True)
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1
    assert 'pip install -e ".[live]"' in result.stderr


def test_a_port_in_use_is_said_in_one_line(server, run):
    result = run("live", "--port", server.rstrip("/").rsplit(":")[-1], fails=True)
    assert "in use" in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize("host", ["", "::1"])
def test_other_hosts_are_refused_in_one_line(host, run):
    result = run("live", "--host", host, fails=True)
    assert f"needs a name or an IPv4 address, got {host!r}" in result.stderr


def test_a_page_that_names_no_host_is_let_in_only_without_an_origin(load):
    refusal = load("examples/live.py").refusal
    page = SimpleNamespace(headers={}, path_params={"model": "air"})
    assert refusal(page) == ""
    page.headers["origin"] = "http://elsewhere.example"
    assert "may not talk" in refusal(page)


class Browser:
    """Headless Chromium, by the Chrome DevTools protocol."""

    def __init__(self, program, folder):
        flags = "--headless=new --no-sandbox --disable-gpu --remote-debugging-port=0 about:blank"
        command = [program, f"--user-data-dir={folder}", *flags.split()]
        log = folder / "stderr"
        with ExitStack() as stack, log.open("w") as stderr:
            process = stack.enter_context(subprocess.Popen(command, stderr=stderr))
            stack.callback(process.kill)
            with urllib.request.urlopen(f"http://{self.debugger(process, log)}/json") as tabs:
                tab = next(tab for tab in json.load(tabs) if tab["type"] == "page")
            line = connect(tab["webSocketDebuggerUrl"], max_size=None)
            self.socket = stack.enter_context(line)
            self.stack, self.number, self.events = stack.pop_all(), 0, []

    @staticmethod
    def debugger(process, log):
        """Its host and port, which Chromium writes when it has started."""
        end = time.monotonic() + LIMIT
        while not (found := re.search(r"ws://([^/]+)/", log.read_text())):
            alive = process.poll() is None and time.monotonic() < end
            assert alive, f"{process.args[0]} does not start: {log.read_text()}"
            time.sleep(0.05)
        return found[1]

    def __call__(self, method, **params):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": params}))
        while (answer := json.loads(self.socket.recv(LIMIT))).get("id") != self.number:
            self.events.append(answer)
        return answer["result"]

    def js(self, expression):
        result = self("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, expression):
        end = time.monotonic() + LIMIT
        while not self.js(expression):
            assert time.monotonic() < end, f"{expression}: {self.js('document.body.innerText')}"
            time.sleep(0.05)

    def open(self, address, width=1280):
        for domain in ("Page", "Network", "Runtime", "Log"):
            self(f"{domain}.enable")
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 800}
        self("Emulation.setDeviceMetricsOverride", **size)
        self("Page.navigate", url=address)
        self.wait("document.querySelector('#verdict')?.textContent > ''")

    def draw(self, points, meanwhile=lambda: None):
        """A stroke through points in [0, 1] of the board; something happens before the pen is lifted."""
        self.mouse("mousePressed", points[0], 1)
        for point in points[1:]:
            self.mouse("mouseMoved", point, 1)
        meanwhile()
        self.mouse("mouseReleased", points[-1], 0)

    def mouse(self, kind, point, buttons):
        event = {"type": kind, "button": "left", "buttons": buttons, "clickCount": 1}
        self("Input.dispatchMouseEvent", **event, **self.on_board(point))

    def touch(self, kind, *points):
        fingers = [{**self.on_board(point), "id": i} for i, point in enumerate(points)]
        self("Input.dispatchTouchEvent", type=kind, touchPoints=fingers)

    def on_board(self, point):
        box = "document.querySelector('#board').getBoundingClientRect()"
        left, top, side = self.js(f"(box => [box.left, box.top, box.width])({box})")
        return {"x": left + point[0] * side, "y": top + point[1] * side}

    def record(self):
        """From now on the page keeps what it sends, and its timers wait for ``ring()``."""
        self.js("""
            const send = WebSocket.prototype.send, waiting = [];
            WebSocket.prototype.send = function (d) { window.sent = d; send.call(this, d); };
            window.setTimeout = action => waiting.push(action);
            window.ring = () => waiting.splice(0).forEach(action => action());
            // How many rows have ink between two columns.
            window.rows = (from, to) => [...Array(50).keys()].filter(
                y => sent.slice(50 * y + from, 50 * y + to).some(level => level > 0)).length;
        """)

    def press(self, key):
        for kind in ("keyDown", "keyUp"):
            self("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def reads(self, text):
        self.wait(f"document.querySelector('#verdict').textContent.startsWith({text!r})")


def test_a_digit_drawn_by_mouse_is_counted_and_nothing_leaves_the_host(server, chromium):
    chromium.open(server)
    chromium.js("document.querySelector('#clear').click()")
    chromium.reads("0 digits")
    chromium.draw([(0.5, 0.35 + 0.02 * i) for i in range(15)])
    chromium.reads("1 digit:")
    chromium.wait("document.querySelector('#said').textContent.startsWith('1 digit:')")
    bars = "[...document.querySelectorAll('#counts li')].map(bar => parseFloat(bar.lastChild.textContent))"
    assert max(chromium.js(bars)) == chromium.js(bars)[1]
    # A large one is shrunk to the size of the training's.
    chromium.js("document.querySelector('#clear').click()")
    chromium.reads("0 digits")
    chromium.draw([(0.5, 0.1 + 0.04 * i) for i in range(20)])
    chromium.reads("1 digit:")
    requests = [e["params"] for e in chromium.events if e["method"].startswith("Network.")]
    sent = [e["request"]["url"] for e in requests if "url" in e.get("request", {})]
    sent += [e["url"] for e in requests if "url" in e]
    assert {url.split(":")[0] for url in sent} == {"http", "ws"}
    assert all(url.split(":", 1)[1].startswith(server.split(":", 1)[1]) for url in sent), sent
    faults = ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled")
    assert not [event for event in chromium.events if event["method"] in faults]


def test_of_two_large_digits_each_is_shrunk_though_the_pen_was_down_in_its_time(server, chromium):
    chromium.open(f"{server}?two")
    chromium.record()
    chromium.js("document.querySelector('#clear').click()")
    chromium.draw([(0.15, 0.1), (0.15, 0.5), (0.15, 0.9)])
    chromium.draw([(0.85, 0.1), (0.85, 0.5), (0.85, 0.9)], lambda: chromium.js("ring()"))
    chromium.wait("rows(0, 25) > 35 && rows(25, 50) > 35")
    chromium.js("ring()")
    chromium.wait("rows(0, 25) < 20 && rows(25, 50) < 20")


def test_a_second_finger_draws_nothing(server, chromium):
    chromium.open(f"{server}?touch")
    chromium.record()
    chromium.js("document.querySelector('#clear').click()")
    chromium.touch("touchStart", (0.2, 0.2))
    chromium.touch("touchStart", (0.2, 0.2), (0.8, 0.2))
    chromium.touch("touchMove", (0.2, 0.5), (0.8, 0.5))
    chromium.touch("touchEnd")
    chromium.wait("rows(0, 25) > 15")
    assert chromium.js("rows(25, 50)") == 0


def test_digits_are_added_moved_and_removed_by_keys(server, chromium):
    chromium.open(server)
    chromium.js(
        "document.querySelector('#clear').click(); document.querySelector('#board').focus()"
    )
    chromium.reads("0 digits")
    chromium.press("Enter")
    chromium.reads("1 digit:")
    chromium.press("Enter")
    chromium.reads("2 digits:")
    chromium.press("Delete")
    chromium.reads("1 digit:")
    width = "document.querySelector('#board').toDataURL()"
    before = chromium.js(width)
    chromium.press("ArrowRight")
    chromium.wait(f"{width} !== {before!r}")
    assert "solid" in chromium.js("getComputedStyle(document.activeElement).outlineStyle")


@pytest.mark.parametrize("model", ["air", "cst_vae", "econ"])
def test_on_a_phone_nothing_overflows(model, server, chromium):
    chromium.open(f"{server}?{model}#{model}", width=360)
    assert chromium.js("document.documentElement.scrollWidth") == 360
    outside = "[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > 360)"
    assert chromium.js(f"{outside}.length") == 0
