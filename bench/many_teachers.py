"""Step time and peak memory of training as the number of teachers grows.

  python -m bench.many_teachers --help

Two teachers serve each step and have a slot each; the others wait on disk and take turns, so with
more than two both slots are filled anew at every step. The batch is the same for every N.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from bench.report import print_ratios, print_table
from bench.timing import interleaved, measured_apart, median_ratio, peak_memory
from bench.workshop import Size, merge_config, open_loop, stepper

COUNTS = (2, 8, 32)
STEPS_FOR_MEMORY = 4


def main(
    size: Annotated[Size, typer.Option(help="demo: 2.2 M parameters; sd15: 860 M.")] = "demo",
    batch_size: Annotated[int, typer.Option(help="Pairs a step.")] = 32,
    precision: Annotated[str, typer.Option(help="fp32, bf16 or fp16.")] = "fp32",
    rounds: Annotated[int, typer.Option(help="Steps that count, for each N.")] = 20,
    memory_of: Annotated[int, typer.Option(hidden=True)] = 0,
    folder: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Print step time and peak memory for N = 2, 8 and 32 teachers, and their ratios to N = 2."""
    train = {
        "batch_size": batch_size,
        "precision": precision,
        "teachers_per_step": 2,
        "teacher_slots": 2,
    }
    if memory_of:
        with peak_memory() as peak:
            step = stepper(open_loop(merge_config(folder, size, memory_of, **train))[0])
            for _ in range(STEPS_FOR_MEMORY):
                step()
        print(peak.bytes)
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        loops = {
            str(count): open_loop(merge_config(Path(name), size, count, **train))[0]
            for count in COUNTS
        }
        seconds = interleaved({key: stepper(loop) for key, loop in loops.items()}, rounds)
        del loops
        peaks = {
            str(count): measured_apart(
                "bench.many_teachers", "--folder", name, "--memory-of", str(count)
            )
            for count in COUNTS
        }
    reference = str(COUNTS[0])
    times = {key: median_ratio(seconds, key, reference) for key in seconds}
    memory = {key: peak / peaks[reference] for key, peak in peaks.items()}
    print_table(
        ("teachers", "s a step", "to N = 2", "peak MiB", "to N = 2"),
        [
            (
                key,
                f"{statistics.median(seconds[key]):.3f}",
                f"{times[key]:.3f}",
                f"{peaks[key] / 2**20:.0f}",
                f"{memory[key]:.3f}",
            )
            for key in seconds
        ],
    )
    print_ratios(
        {f"step_time_n{key}": times[key] for key in times}
        | {f"peak_memory_n{key}": memory[key] for key in memory}
    )


if __name__ == "__main__":
    typer.run(main)
