import argparse
import io
import sys

import numpy as np
import pytest
import torch

from pyro_scenes.experiment import flags, launch, share, sides, up_to
from pyro_scenes.inference import Diverged


def parser(**options):
    parser = flags("a test", out="runs/test", steps=12, batch_size=8, **options)
    parser.add_argument("--objects", type=up_to(10), default=3)
    return parser


@pytest.mark.parametrize(
    "words",
    [
        ["--steps", "0"],
        ["--steps", "x"],
        ["--batch-size", "-1"],
        ["--batch-size", "4294967295"],
        ["--seed", "-3"],
        ["--objects", "0"],
        ["--objects", "11"],
        ["--objects", "4294967295"],
    ],
)
def test_bad_numbers_are_refused(words, capsys):
    with pytest.raises(SystemExit):
        parser().parse_args(words)
    error = capsys.readouterr().err
    assert words[0] in error and "needs a whole number from" in error


def test_the_root_of_mnist_is_a_flag_of_those_who_read_it():
    assert parser(data_root=True).parse_args(["--data-root", "x"]).data_root == "x"
    with pytest.raises(SystemExit):
        parser().parse_args(["--data-root", "x"])


@pytest.mark.parametrize(
    ("text", "window"), [("28", (28, 28)), ("28x20", (28, 20)), ("9X8", (9, 8))]
)
def test_windows_have_a_height_and_a_width(text, window):
    assert sides(text) == window


@pytest.mark.parametrize("text", ["", "x", "0", "28x", "1x2x3", "-3", "2.5", "a"])
def test_other_windows_are_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="needs a"):
        sides(text)


def test_shares_are_numbers_up_to_1():
    assert share("0.25") == 0.25 and share("1") == 1
    for text in ("0", "1.01", "-1", "nan", "small"):
        with pytest.raises(argparse.ArgumentTypeError, match="needs a number above 0"):
            share(text)


def run(monkeypatch, main):
    monkeypatch.setattr("sys.argv", ["example.py"])
    launch(main, argparse.ArgumentParser())


def out_of_memory():
    torch.empty(2**55)


def out_of_memory_in_numpy():
    np.empty(2**55)


def diverges():
    raise Diverged("step 3 diverged")


def misses_a_file():
    raise FileNotFoundError("MNIST needs\nthis and that")


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (out_of_memory, "not enough memory: .*--batch-size"),
        (out_of_memory_in_numpy, "not enough memory: .*--batch-size"),
        (diverges, "step 3 diverged"),
        (misses_a_file, "MNIST needs this and that"),
    ],
)
def test_what_a_user_can_mend_is_one_line(monkeypatch, fault, text):
    with pytest.raises(SystemExit, match=f"^error: {text}.*$") as caught:
        run(monkeypatch, lambda args: fault())
    assert "\n" not in str(caught.value)


def test_a_fault_of_the_program_is_no_error_of_the_users(monkeypatch):
    def main(args):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        run(monkeypatch, main)


def test_a_name_that_the_terminal_cannot_show_stops_nothing(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    run(monkeypatch, lambda args: print("the pictures are in ελλάδα"))
    stream.flush()
    assert stream.buffer.getvalue().startswith(b"the pictures are in \\u03b5")
