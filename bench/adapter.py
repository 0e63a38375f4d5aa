"""How near a merge comes that trains an adapter, to one that trains the whole UNet.

  python -m bench.adapter --help

Both merge the demo's teachers from its base, each at the learning rate that suits it best, and are
measured on held-out captions, from several draws of codebook, noise and order.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import typer
from accelerate.state import AcceleratorState

from bench.held_out import DEMO, HeldOut, demo_config
from bench.report import print_ratios, print_table
from trainer.fold import fold
from trainer.merge import merge

BASE = DEMO / "teachers" / "base.safetensors"
WHOLE = [5e-4, 1e-3, 2e-3]  # learning rates to choose from
ADAPTER = [2e-3, 4e-3, 8e-3]


def main(
    steps: Annotated[int, typer.Option(help="Of each merge.")] = 200,
    batch_size: Annotated[int, typer.Option(help="Pairs a step.")] = 16,
    ranks: Annotated[list[int] | None, typer.Option(help="Of the adapters. None = 16.")] = None,
    seeds: Annotated[int, typer.Option(help="Merges of each kind.")] = 3,
    folder: Annotated[
        Path | None, typer.Option(help="Keeps the merges there; the same command goes on.")
    ] = None,
) -> None:
    """Print the squared error to the teachers, and its ratio to that of the whole UNet."""
    kinds = {"the whole UNet": (None, WHOLE)}
    kinds |= {f"rank {rank}": ({"rank": rank}, ADAPTER) for rank in ranks or (16,)}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        work = folder or Path(name)
        held_out = HeldOut(work)

        def error(adapter: dict[str, int] | None, rate: float, seed: int) -> float:
            train = {"adapter": adapter, "learning_rate": rate, "seed": seed, "steps": steps}
            merged = _merged(work, {**train, "batch_size": batch_size})
            return mean(found.score for found in held_out.distances(merged).values())

        rows, first, ratios = [], None, {}
        for kind, (adapter, rates) in kinds.items():
            best = min(rates, key=lambda rate, adapter=adapter: error(adapter, rate, 0))
            errors = [error(adapter, best, seed) for seed in range(seeds)]
            first = first or errors
            each = [one / other for one, other in zip(errors, first, strict=True)]
            ratios[kind] = mean(errors) / mean(first)
            said = ", ".join(f"{one:.3f}" for one in each)
            rows.append((kind, f"{best:g}", f"{mean(errors):.4f}", f"{ratios[kind]:.3f}", said))
    print_table(("trained", "learning rate", "score", "to the whole", "each draw"), rows)
    print_ratios(ratios)


def _merged(work: Path, train: dict[str, Any]) -> Path:
    """The merged checkpoint; an adapter is folded into its base."""
    name = "-".join(str(value).replace(" ", "") for value in train.values() if value)
    name = "".join(letter for letter in name if letter.isalnum() or letter in "-.")
    output, folded = work / f"{name}.safetensors", work / f"{name}-folded.safetensors"
    said = {
        "teachers_per_sample": None,
        "adversarial_weight": 0,
        "schedule": "cosine",
        "warmup_steps": 10,
        "save_every": train["steps"],
    }
    # accelerate keeps its state for the life of a process, which is one merge for users.
    AcceleratorState._reset_state(reset_partial_state=True)
    merge(demo_config(output, train={**train, **said}))
    if not train["adapter"]:
        return output
    fold(output, BASE, folded, dtype="fp32", overwrite=True)
    return folded


if __name__ == "__main__":
    typer.run(main)
