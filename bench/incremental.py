"""What becomes of the old styles when a new one comes in: the paper's table 2, on the demo's.

  python -m bench.incremental --help

Three of the demo's teachers are merged; the fourth comes in with and without regularisation. On
held-out captions each old style's distance to its teacher is measured before and after.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import typer
from accelerate.state import AcceleratorState

from bench.held_out import TEACHERS, HeldOut, demo_config
from bench.report import print_ratios, print_table
from trainer.config import MergeConfig
from trainer.merge import merge

*OLD, NEW = TEACHERS
PAINTING = {"pictures_per_teacher": 32, "steps": 8, "guidance": 1, "negative": ""}


def main(
    steps: Annotated[int, typer.Option(help="Of the merge.")] = 300,
    more_steps: Annotated[int, typer.Option(help="With the new style.")] = 150,
    batch_size: Annotated[int, typer.Option(help="Pairs a step.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="With the new style.")] = 3e-4,
    folder: Annotated[
        Path | None, typer.Option(help="Keeps the merges there; the same command goes on.")
    ] = None,
) -> None:
    """Print the old styles' distances before and after, and their ratios."""
    train = {
        "batch_size": batch_size,
        "teachers_per_sample": None,
        "adversarial_weight": 0,
        "schedule": "cosine",
    }
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        place = folder or Path(name)
        held_out = HeldOut(place)
        said = {"steps": steps, "learning_rate": 1e-3, "start_from": "average"}
        merged = _merged(place / f"merged-{steps}.safetensors", OLD, {**train, **said})
        found = {"before": held_out.distances(merged)}
        for regularization in (True, False):
            variant = "regularised" if regularization else "not regularised"
            said = {"steps": more_steps, "learning_rate": learning_rate}
            extended = _merged(
                place / f"{variant} {steps}-{more_steps}.safetensors",
                [NEW],
                {**train, **said, "regularization": regularization},
                base=merged,
            )
            found[variant] = held_out.distances(extended)
    old = {variant: mean(found[variant][name].score for name in OLD) for variant in found}
    rows = [
        (
            variant,
            *(f"{found[variant][name].score:.4f}" for name in OLD),
            f"{old[variant] / old['before']:.3f}",
            f"{found[variant][NEW].score:.4f}" if NEW in found[variant] else "",
        )
        for variant in found
    ]
    print_table(("", *OLD, "to before", f"{NEW} (new)"), rows)
    print_ratios({variant: old[variant] / old["before"] for variant in found})


def _merged(output: Path, teachers: list[str], train: dict[str, Any], **said: Any) -> Path:
    # accelerate keeps its state for the life of a process, which is one merge for users.
    AcceleratorState._reset_state(reset_partial_state=True)
    config: MergeConfig = demo_config(
        output, teachers, train=train, synthesised=None, data={"painting": PAINTING}, **said
    )
    return merge(config)[0]


if __name__ == "__main__":
    typer.run(main)
