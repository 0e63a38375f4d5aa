"""What each part of the method adds: the order of the paper's table 3, on the demo's teachers.

  python -m bench.ablation --help

The same merge is trained with more and more of the method, and measured on held-out captions. It is
small and short, so it shows the order and not the size of what each part brings.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import typer
from accelerate.state import AcceleratorState

from bench.held_out import DEMO, PAINTING, Distance, HeldOut, demo_config
from bench.report import print_ratios, print_table
from trainer.merge import merge

SCORE = {"feature_weight": 0, "adversarial_weight": 0}
FEATURES = {**SCORE, "feature_weight": 0.001}  # λ_feat and λ_adv are the paper's
ADVERSARIAL = {**FEATURES, "adversarial_weight": 0.01}
SYNTHESISED_SHARE = 10  # the paper's second stage has a tenth of the first one's steps


def main(
    steps: Annotated[int, typer.Option(min=SYNTHESISED_SHARE, help="Of each merge.")] = 300,
    batch_size: Annotated[int, typer.Option(help="Pairs a step.")] = 32,
    folder: Annotated[
        Path | None, typer.Option(help="Keeps the merges there; the same command goes on.")
    ] = None,
) -> None:
    """Print the distances to the teachers on held-out captions, and their ratios to score alone."""
    fine_tuning = {
        "prompts": DEMO / "prompts.txt",
        "painting": {**PAINTING, "pictures_per_teacher": 32},
        "steps": steps // SYNTHESISED_SHARE,
        "batch_size": batch_size,
        "learning_rate": 1e-4,
    }
    variants: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {
        "score": (SCORE, None),
        "+ features": (FEATURES, None),
        "+ adversarial": (ADVERSARIAL, None),
        "+ synthesised": (ADVERSARIAL, fine_tuning),
    }
    train = {
        "steps": steps,
        "batch_size": batch_size,
        "teachers_per_sample": None,
        "start_from": "average",
        "learning_rate": 1e-3,
        "schedule": "cosine",
        "save_every": steps,
    }
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        held_out = HeldOut(folder or Path(name))
        found = {}
        for number, (variant, (parts, second)) in enumerate(variants.items()):
            output = (folder or Path(name)) / f"{number}-{steps}-{batch_size}.safetensors"
            config = demo_config(output, train={**train, **parts}, synthesised=second)
            # accelerate keeps its state for the life of a process, which is one merge for users.
            AcceleratorState._reset_state(reset_partial_state=True)
            found[variant] = _mean(held_out.distances(merge(config)[0]).values())
    first = found["score"]
    rows = [
        (
            variant,
            f"{distance.score:.4f}",
            f"{distance.score / first.score:.3f}",
            f"{distance.feature:.4f}",
            f"{distance.feature / first.feature:.3f}",
        )
        for variant, distance in found.items()
    ]
    print_table(("trained with", "score", "to score", "features", "to score"), rows)
    print_ratios(
        {f"score {variant}": found[variant].score / first.score for variant in found}
        | {f"features {variant}": found[variant].feature / first.feature for variant in found}
    )


def _mean(distances) -> Distance:
    distances = list(distances)
    return Distance(
        mean(distance.score for distance in distances),
        mean(distance.feature for distance in distances),
    )


if __name__ == "__main__":
    typer.run(main)
