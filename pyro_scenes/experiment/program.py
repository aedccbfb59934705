"""Running an example's main: in one process, or in several that train together."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import distributed, multiprocessing

from ..inference import Diverged

__all__ = ["launch"]

#: How Python starts a process; a forked one cannot use a GPU.
METHOD = "spawn"
#: Seconds for which a process keeps an error to itself that another one may say better.
PATIENCE = 3.0

Main = Callable[[argparse.Namespace], Any]


def launch(main: Main, parser: argparse.ArgumentParser) -> None:
    """Runs an example's main; an error that a user can mend is one line on stderr, without a traceback.

    With ``--processes N`` it runs in N processes of this machine, a group of ``torch.distributed``, in which
    :class:`Run` trains by :class:`pyro_scenes.inference.Parallel`. Only the first of them prints. If one
    fails or is killed, the others are ended.

    Args:
        main: A function of a module, as other processes must be able to import it.
        parser: Of :func:`flags`.
    """
    args = parser.parse_args()
    try:
        _told(_start, main, args)
    except KeyboardInterrupt:
        trains = "resume" in args and not getattr(args, "evaluate", None)
        words = "; --resume continues from the last checkpoint, if there is one" if trains else ""
        sys.exit(f"\nstopped{words}")


def _told(function: Callable, *args: Any) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # schedulers stop jobs with it
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a name that a terminal cannot show stops nothing
            stream.reconfigure(errors="backslashreplace")
    try:
        function(*args)
    except (Diverged, OSError, ValueError) as error:
        text = str(error).split("Trace Shapes:")[0].strip()  # Pyro appends pages
        sys.exit(f"error: {' '.join(text.split())}")
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        sys.exit(
            "error: not enough memory: give fewer or smaller images, or a smaller --batch-size "
            f"({' '.join(str(error).split())[:200] or 'MemoryError'})"
        )


def _is_out_of_memory(error: Exception) -> bool:
    """Whether it is Python's, numpy's or torch's word for too little memory."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError) or any(word in str(error) for word in words)


def _start(main: Main, args: argparse.Namespace) -> None:
    if getattr(args, "processes", 1) == 1:
        main(args)
        return
    _check_processes(args)
    # Each would take all cores.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, torch.get_num_threads() // args.processes)))
    with TemporaryDirectory() as folder:
        given = main, args, os.path.join(folder, "meeting")
        context = multiprocessing.start_processes(
            _take_part, given, args.processes, join=False, daemon=True, start_method=METHOD
        )
        try:
            while not context.join():
                pass
        except multiprocessing.ProcessExitedException as error:
            if error.exit_code > 0:
                sys.exit(error.exit_code)  # it has said why
            sys.exit(
                f"error: process {error.error_index} of {args.processes} was killed ({error.signal_name}), "
                "so the others were ended; --resume continues from the last checkpoint, if there is one"
            )


def _check_processes(args: argparse.Namespace) -> None:
    if getattr(args, "evaluate", None):
        raise ValueError(
            "--processes share a training, and --evaluate does not train: give one of them"
        )
    if args.batch_size % args.processes:
        raise ValueError(
            f"{args.processes} processes cannot share a batch of {args.batch_size} images alike: give a "
            "--batch-size that is a multiple of --processes"
        )
    gpus = torch.cuda.device_count()
    if args.device != "cpu" and not (args.device == "cuda" and args.processes <= gpus):
        raise ValueError(
            f"--processes {args.processes} needs --device cpu, or --device cuda and as many GPUs; got "
            f"--device {args.device} and {gpus}"
        )


def _take_part(rank: int, main: Main, args: argparse.Namespace, meeting: str) -> None:
    """What the process of this number runs."""
    if args.device == "cuda":
        torch.cuda.set_device(rank)
    distributed.init_process_group(
        "gloo" if args.device == "cpu" else "cpu:gloo,cuda:nccl",
        init_method=f"file://{meeting}",
        rank=rank,
        world_size=args.processes,
    )
    if rank > 0:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")
    try:
        _told(_unless_alone, main, args)
    except SystemExit as end:
        if rank > 0 and end.code:
            time.sleep(PATIENCE)  # the first process may say the same, and this one is ended then
        raise


def _unless_alone(main: Main, args: argparse.Namespace) -> None:
    try:
        main(args)
    except ConnectionError:
        time.sleep(PATIENCE)  # the process that is gone is told of, and this one is ended
        raise
