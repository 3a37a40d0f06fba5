"""Clocks and gauges of the benchmarks. What is compared takes turns in one process: speed is a ratio, side by side."""

import re
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch


def clock(run: Callable[[], object]) -> tuple[float, object]:
    """Seconds of one call, and what it returned; a GPU is waited for."""
    start = time.perf_counter()
    found = run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start, found


def turns(steps: dict[str, Callable[[int], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every step in every round; a machine that slows down slows all steps alike.

    Each step is told the number of the round. Round 0 warms up, and does not count.
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in steps.items():
            seconds[name].append(clock(partial(step, number))[0])
    return {name: found[1:] for name, found in seconds.items()}


def resident(what: str = "VmRSS") -> int:
    """Bytes of memory of this process: "VmRSS", now, or "VmHWM", at its peak. Linux only."""
    return 1024 * int(re.search(rf"{what}:\s+(\d+)", Path("/proc/self/status").read_text()).group(1))


def resident_peak(step: Callable[[], object]) -> int:
    """Bytes of memory of this process at its worst moment while ``step`` runs. Linux only."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is resident now
    step()
    return resident("VmHWM")


def alone(run: Callable, *arguments):
    """What ``run`` returns in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(run, *arguments).result()
