"""The benchmark inside the real WebUI runs there and prints what it promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hosts import find_host, why_skipped

ROOT = Path(__file__).parents[2]
SMALL = ["--size", "small", "--pixels", "64", "--cpu"]
SMALL += ["--rounds", "1", "--loads", "2", "--pictures", "10"]


@pytest.mark.skipif(find_host("webui") is None, reason=why_skipped("webui"))
def test_benchmark_prints_tables_and_ratios() -> None:
    printed = subprocess.check_output(
        [sys.executable, "-m", "bench.webui", *SMALL],
        cwd=ROOT,
        text=True,
        encoding="utf-8",
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    *lines, last = printed.splitlines()
    figures = json.loads(last)
    assert sum(line.startswith("| ") for line in lines) == 5 + 4
    assert figures.pop("machine")
    assert all(value > 0 for value in figures.values())
    assert 1 < figures["style_flops"] < figures["regions_flops"] < 1.03
