"""Times and memory, measured side by side."""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import torch
from tqdm import tqdm


def own_clock() -> Callable[[], float]:
    """Tells the time that a call keeps this process busy for, in seconds.

    On a GPU that is the wall's. On the CPU it is what the process gets of it: others do not count.
    """
    return time.perf_counter if torch.cuda.is_available() else time.process_time


def interleaved(
    contestants: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    warm_up: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each contestant's calls, taken in turn so that all meet the same weather.

    Args:
        contestants: what to time, by name.
        rounds: calls of each that count.
        warm_up: calls of each before those.
        clock: tells the seconds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in tqdm(range(warm_up + rounds), desc="Measuring", unit="round", leave=False):
        for name, call in contestants.items():
            began = clock()
            call()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn >= warm_up:
                seconds[name].append(clock() - began)
    return seconds


def median_ratio(seconds: Mapping[str, list[float]], name: str, reference: str) -> float:
    """The median over the rounds of one contestant's time by the reference's."""
    pairs = zip(seconds[name], seconds[reference], strict=True)
    return statistics.median(ours / theirs for ours, theirs in pairs)


def measured_apart(module: str, *words: str) -> int:
    """What a benchmark prints last when it is started anew with more words.

    Memory is measured so: one process must not stand in what another left behind.
    """
    command = [sys.executable, "-m", module, *sys.argv[1:], *words]
    return int(subprocess.check_output(command, text=True).split()[-1])


def watched(command: Sequence[str]) -> int:
    """Runs a command, and gives the most memory of its own that it had, in bytes.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    peak = 0
    with psutil.Popen(command) as process:
        while process.poll() is None:
            try:
                peak = max(peak, _own(process))
            except psutil.NoSuchProcess:
                break
            time.sleep(0.1)
        if process.wait():
            raise subprocess.CalledProcessError(process.returncode, command)
    return peak


@dataclass
class Peak:
    """Most memory in use, in bytes; filled when the block ends."""

    bytes: int = 0


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """The most that torch allocates on the GPU within the block; without one, the most of this
    process's own memory (pages of memory-mapped files are the system's to drop and do not count).
    """
    peak = Peak()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        yield peak
        peak.bytes = torch.cuda.max_memory_allocated()
        return
    process, done = psutil.Process(), threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            peak.bytes = max(peak.bytes, _own(process))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()
        peak.bytes = max(peak.bytes, _own(process))


def _own(process: psutil.Process) -> int:
    memory = process.memory_info()
    return memory.rss - getattr(memory, "shared", 0)
