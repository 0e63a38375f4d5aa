"""Memory of a host's server over many pictures."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from tests.server import Server

MEBIBYTE = 2**20


def growth(server: Server, count: int, paint: Callable[[], object]) -> float:
    """By how many MiB a picture the server's memory grows, the first tenth left aside.

    The slope of the median line through its readings (Theil and Sen), which a single reading in the
    midst of something cannot tilt.
    """
    readings = []
    for _ in range(count):
        paint()
        readings.append(server.memory() / MEBIBYTE)
    settled = readings[count // 10 :]
    half = max(len(settled) // 2, 1)
    pairs = zip(settled[:-half], settled[half:], strict=True)
    return median((later - earlier) / half for earlier, later in pairs)
