"""What every benchmark prints: a table for people, and as its last line one JSON object."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence

import psutil
import torch


def machine() -> str:
    """The machine in words, as it is kept beside the figures."""
    memory = round(psutil.virtual_memory().total / 2**30)
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    return (
        f"{platform.machine()} CPU, {torch.get_num_threads()} threads, {memory} GiB, "
        f"torch {torch.__version__}"
    )


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints rows of text as a Markdown table, ready for `bench/README.md`."""
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    for cells in (columns, ["-" * width for width in widths], *rows):
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        print("| " + " | ".join(padded) + " |")


def print_ratios(ratios: Mapping[str, float]) -> None:
    """Prints the last line."""
    print(json.dumps({"machine": machine()} | {key: round(v, 4) for key, v in ratios.items()}))
