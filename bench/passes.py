"""A step of sampling without styles, in a style and in regions, measured in turns."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from torch.utils.flop_counter import FlopCounterMode

from bench.report import print_table
from bench.timing import interleaved, median_ratio, own_clock


def compare(passes: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Prints a table of their seconds and FLOPs; gives the ratios to the first.

    Args:
        passes: three, without styles, in a style and in regions, by their names in the table.
    """
    flops = {name: _flops(call) for name, call in passes.items()}
    seconds = interleaved(passes, rounds, clock=own_clock())
    plain, style, regions = passes
    print_table(
        ("one step", "s", f"time to {plain}", f"FLOPs to {plain}"),
        [
            (
                name,
                f"{statistics.median(seconds[name]):.4f}",
                f"{median_ratio(seconds, name, plain):.4f}",
                f"{flops[name] / flops[plain]:.4f}",
            )
            for name in passes
        ],
    )
    return {
        "style_time": median_ratio(seconds, style, plain),
        "style_flops": flops[style] / flops[plain],
        "regions_time": median_ratio(seconds, regions, plain),
        "regions_flops": flops[regions] / flops[plain],
    }


def _flops(call: Callable[[], Any]) -> int:
    call()  # the first loads what is needed
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()
