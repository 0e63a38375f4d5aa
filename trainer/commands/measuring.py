"""Commands that measure pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from trainer.commands.options import Merged
from trainer.processes import say

Features = Annotated[
    str, typer.Option(help="inception, lite0 (needs no download), or torch-fidelity's.")
]
Weights = Annotated[Path | None, typer.Option(help="Of the features' network.")]
Components = Annotated[
    int | None, typer.Option(min=1, help="Principal components, where pictures are few.")
]


def evaluate(
    merged: Merged,
    prompts: Annotated[Path, typer.Option(help="One prompt a line, or COCO captions.")],
    more: Annotated[
        list[str] | None, typer.Argument(help="More teachers, after the first.", metavar="")
    ] = None,
    teachers: Annotated[
        list[str] | None, typer.Option(help="Files it was merged from; or style=file.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="The merge's YAML file, instead of --teachers.")
    ] = None,
    pictures: Annotated[
        int | None, typer.Option(min=2, help="Of each set. Every prompt once if left out.")
    ] = None,
    features: Features = "inception",
    weights: Weights = None,
    components: Components = None,
    scores: Annotated[
        str, typer.Option(help="By networks from a hub: clip, pick, aesthetic, or several of them.")
    ] = "",
    steps: Annotated[int, typer.Option(min=1)] = 25,
    guidance: Annotated[float, typer.Option(min=1)] = 7.0,
    negative: Annotated[str | None, typer.Option(help="The paper's if left out.")] = None,
    width: Annotated[int | None, typer.Option(help="Pixels; as trained if left out.")] = None,
    height: Annotated[int | None, typer.Option(help="Pixels; as trained if left out.")] = None,
    seed: Annotated[int, typer.Option()] = 0,
    batch_size: Annotated[int, typer.Option(min=1)] = 8,
    precision: Annotated[Literal["fp32", "bf16", "fp16"], typer.Option()] = "fp32",
    output: Annotated[
        Path | None, typer.Option(help="Folder of the report. <merged>-evaluation if left out.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="What is painted. dmm-cache beside it if left out.")
    ] = None,
) -> None:
    """Measure each style of a merged checkpoint against its teacher, and write a report.

    The same command again goes on where it stopped; `accelerate launch` shares the work.
    """
    from trainer.config import NEGATIVE
    from trainer.evaluate.evaluation import Settings
    from trainer.evaluate.evaluation import evaluate as run_evaluation
    from trainer.evaluate.report import write_report

    output = output or merged.with_name(f"{merged.stem}-evaluation")
    settings = Settings(
        prompts=prompts,
        cache=cache or output.parent / "dmm-cache",
        pictures=pictures,
        size=(width, height),
        steps=steps,
        guidance=guidance,
        negative=NEGATIVE if negative is None else negative,
        seed=seed,
        batch_size=batch_size,
        precision=precision,
        features=features,
        weights=weights,
        components=components,
        scores=[name.strip() for name in scores.split(",") if name.strip()],
    )
    found = run_evaluation(merged, [*(teachers or ()), *(more or ())], settings, config)
    if found:
        for line in write_report(*found, output):
            say(line)


def compare(
    folders: Annotated[list[Path], typer.Argument(help="Folders of pictures, two or more.")],
    features: Features = "inception",
    weights: Weights = None,
    components: Components = None,
) -> None:
    """Measure FID and KID between folders of pictures."""
    from trainer.evaluate.extractors import open_extractor
    from trainer.evaluate.features import figure_name
    from trainer.evaluate.folders import compare as compare_folders

    extractor = open_extractor(features, weights=weights)
    figure = figure_name(extractor, components)
    for found in compare_folders(folders, extractor, components):
        typer.echo(f"{found.one} | {found.other}: {figure} {found.frechet:.4f}, ", nl=False)
        typer.echo(f"KID {found.kernel:.6f}")
