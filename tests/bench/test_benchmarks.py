"""Every benchmark runs, prints its table, and ends with one JSON object of positive ratios."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALL = ["--size", "demo", "--batch-size", "2", "--precision", "fp32", "--rounds", "1"]


@pytest.mark.parametrize(
    ("benchmark", "ratios"),
    [
        ("many_teachers", {"step_time_n2", "step_time_n32", "peak_memory_n8", "peak_memory_n32"}),
        ("cached_data", {"uncached_to_cached"}),
        ("authors_step", {"samples_per_second_to_authors", "peak_memory_to_authors"}),
    ],
)
def test_benchmark_prints_table_and_ratios(benchmark: str, ratios: set[str]) -> None:
    printed = subprocess.check_output(
        [sys.executable, "-m", f"bench.{benchmark}", *SMALL],
        cwd=ROOT,
        text=True,
        encoding="utf-8",
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    *table, last = printed.splitlines()
    figures = json.loads(last)
    assert sum(line.startswith("| ") for line in table) >= 4
    assert figures.pop("machine")
    assert ratios <= figures.keys()
    assert all(value > 0 for value in figures.values())
