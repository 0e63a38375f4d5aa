"""All benchmarks, one after the other, into one table: ratios first, then what each one printed.

  python -m bench --help

A benchmark that cannot run here, for want of a host, is left out with the reason.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from bench.report import machine, print_table

ROOT = Path(__file__).parents[1]


class Benchmark(NamedTuple):
    """A module in this folder, and its words at each size."""

    module: str
    small: str
    full: str


BENCHMARKS = (
    Benchmark("many_teachers", "--size demo", "--size sd15 --precision bf16"),
    Benchmark("cached_data", "--size demo", "--size sd15 --precision bf16"),
    Benchmark("authors_step", "--size demo --precision fp32", "--size sd15 --precision bf16"),
    Benchmark("ablation", "--steps 60 --batch-size 16", "--steps 2000"),
    Benchmark("adapter", "--steps 60 --seeds 1", "--steps 2000"),
    Benchmark("comfyui", "--size small --pixels 256 --cpu", "--size sd15"),
    Benchmark("webui", "--size small --pixels 256 --cpu", "--size sd15"),
)

WANTED = {
    "step_time_n8": "0.95 to 1.05",
    "step_time_n32": "0.95 to 1.05",
    "peak_memory_n8": "0.95 to 1.05",
    "peak_memory_n32": "0.95 to 1.05",
    "samples_per_second_to_authors": "≥ 2",
    "peak_memory_to_authors": "≤ 0.6",
    "style_time": "≤ 1.005",
    "style_flops": "≤ 1.005",
    "regions_time": "≤ 1.03",
    "regions_flops": "≤ 1.03",
    "load_to_style_change": "≥ 1000",
    "checkpoint_to_style_change": "≥ 1000",
    "merged_load": "≤ 1.02",
}
"""What we ask of a ratio; docs/performance.md says how much is possible."""


def main(
    full: Annotated[bool, typer.Option("--full", help="SD1.5's full size: for a GPU.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="A benchmark; repeat for more.")] = None,
) -> None:
    """Print one table of the ratios of all benchmarks."""
    rows, left_out = [], []
    for benchmark in BENCHMARKS:
        if only and benchmark.module not in only:
            continue
        words = (benchmark.full if full else benchmark.small).split()
        ratios = _ratios(benchmark.module, words)
        if isinstance(ratios, str):
            left_out.append(f"{benchmark.module}: {ratios}")
        else:
            rows += [
                (f"{value:.4g}", WANTED.get(name, ""), name, f"bench.{benchmark.module}")
                for name, value in ratios.items()
                if name != "machine"
            ]
    print(f"\n{machine()}\n")
    print_table(("ratio", "wanted", "of what", "benchmark"), rows)
    for reason in left_out:
        print(f"\nLeft out: {reason}")


def _ratios(module: str, words: list[str]) -> dict[str, Any] | str:
    """The last line of a benchmark, whose lines are shown as they come; or why there is none."""
    command = [sys.executable, "-m", f"bench.{module}", *words]
    print(f"\n$ python -m bench.{module} {' '.join(words)}", flush=True)
    last = ""
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line.strip() or last
    return json.loads(last) if process.returncode == 0 else last


if __name__ == "__main__":
    typer.run(main)
