"""Commands that train: a merge, its plan, and what is made of a merged checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainer.commands.options import Config, Output, Overrides, Overwrite
from trainer.processes import say

if TYPE_CHECKING:
    from trainer.config import MergeConfig


def merge(
    config: Config,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
) -> None:
    """Merge checkpoints. The same command again goes on where it stopped."""
    from trainer.config_file import load_config

    _merge(load_config(config, overrides), overwrite)


def extend(
    merged: Annotated[Path, typer.Argument(help="The merged checkpoint to add styles to.")],
    new: Annotated[
        list[Path], typer.Option("--with", help="A teacher of a new style; repeat for more.")
    ],
    output: Output,
    overrides: Overrides = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file that says the rest: data, train and so on.")
    ] = None,
    regularization: Annotated[
        bool, typer.Option(help="Without it the old styles are forgotten, as the paper shows.")
    ] = True,
    overwrite: Overwrite = False,
) -> None:
    """Add styles to a merged checkpoint; the teachers of its own styles are not needed again."""
    from dmm.merged import read_styles
    from trainer.config_file import load_config

    read_styles(merged)  # a plain checkpoint is refused
    said = {
        "base": str(merged),
        "teachers": [{"path": str(path)} for path in new],
        "output": str(output),
        "train": {"regularization": regularization, "start_from": "base"},
    }
    _merge(load_config(config, overrides, said), overwrite)


def accelerate(
    merged: Annotated[Path, typer.Argument(help="The merged checkpoint.")],
    output: Output,
    overrides: Overrides = None,
    teachers: Annotated[
        list[Path] | None,
        typer.Option("--with", help="An original teacher, for its style; else the file itself is."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file that says the rest: data, train and so on.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Teach a merged checkpoint to paint in four steps, at CFG 1 with the sampler LCM."""
    from dmm.merged import read_styles
    from trainer.config_file import load_config

    read_styles(merged)  # a plain checkpoint is refused
    said = {"preset": "few-steps", "base": str(merged), "output": str(output), "synthesised": None}
    said["teachers"] = [{"path": str(path)} for path in teachers or ()]
    _merge(load_config(config, overrides, said), overwrite)


def plan(config: Config, overrides: Overrides = None) -> None:
    """Say what will be loaded where, the memory, the disk and the time; start nothing."""
    from trainer.config_file import load_config
    from trainer.plan import describe_plan

    typer.echo(describe_plan(load_config(config, overrides)))


def presets() -> None:
    """Say what each preset is for; choose one by `preset: NAME`, or `preset=NAME`."""
    from trainer.config_file import describe_presets

    for name, description in describe_presets().items():
        typer.echo(f"{name:<12}{description}.")


def _merge(config: MergeConfig, overwrite: bool) -> None:
    from trainer.loop import Stopped
    from trainer.merge import merge as run_merge

    try:
        written = run_merge(config, overwrite=overwrite)
    except Stopped as stopped:
        say(f"{stopped} Run the same command again to go on.", err=True)
        raise typer.Exit(130) from None
    for path in written:
        say(path.resolve())
