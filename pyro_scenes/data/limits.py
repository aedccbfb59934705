"""What is checked before anything is allocated or drawn: whole numbers, memory, seeds."""

import math
import os
from numbers import Integral
from pathlib import Path

import torch

__all__ = ["available_memory", "check_memory", "check_whole", "seeded"]

#: Where a container's limit stands, in bytes, if there is one (cgroups 2 and 1).
CONTAINER = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def check_whole(least: int = 1, **numbers: object) -> None:
    """Raises a ValueError unless each is a whole number from ``least`` to 2**63 - 1."""
    for name, number in numbers.items():
        whole = isinstance(number, Integral) and not isinstance(number, bool)
        if not whole or not least <= int(number) < 2**63:  # type: ignore[call-overload]
            raise ValueError(f"{name} must be a whole number from {least} up, got {number!r}")


def seeded(seed: int) -> torch.Generator:
    """Random numbers on the CPU that depend on the seed alone.

    Raises:
        ValueError: The seed is not a whole number from 0 up.
    """
    check_whole(0, seed=seed)
    return torch.Generator("cpu").manual_seed(int(seed))


def check_memory(needed: float, what: str) -> None:
    """Raises a ValueError if more bytes are needed than this process can get.

    Args:
        needed: Bytes.
        what: What needs them, and how to need less: the start and the end of the message, parted by "|".
    """
    available = available_memory()
    if needed > available:
        start, _, advice = what.partition("|")
        raise ValueError(
            f"{start} needs about {needed / 2**30:.3g} GiB of memory, and {available / 2**30:.3g} GiB "
            f"are available: {advice or 'make it smaller'}"
        )


def available_memory() -> float:
    """Bytes that this process can still get: of the machine, its container and its own limit."""
    limits = [_of_machine(), _of_process()]
    for path in CONTAINER:
        text = path.read_text().strip() if path.is_file() else ""
        limits.append(float(text) if text.isdigit() else math.inf)
    return min(limits)


def _of_machine() -> float:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024 * float(dict(line.split(":") for line in lines)["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):  # not Linux: all that the machine has
        names = getattr(os, "sysconf_names", {})
        pages = os.sysconf("SC_PHYS_PAGES") if "SC_PHYS_PAGES" in names else -1
        return float(pages * os.sysconf("SC_PAGE_SIZE")) if pages > 0 else math.inf


def _of_process() -> float:
    """What ``ulimit -v`` leaves."""
    try:
        import resource  # not on Windows

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (ImportError, OSError):
        return math.inf
    return math.inf if limit == resource.RLIM_INFINITY else float(max(0, limit - used))
