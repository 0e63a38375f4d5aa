"""A merged checkpoint of random weights with its teachers, and the command that measures it."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState

from dmm.metadata import Style, merged_metadata
from dmm.style_prompts import StylePrompts
from tests import nets
from trainer.checkpoint import open_checkpoint

NAMES = ("ink", "anime", "oil")
DIM = 128  # of the style vectors, 4 × the first level's channels
PROMPTS = ("a cat", "a dog", "a house", "a tree", "a red car", "a ship")
STEPS, GUIDANCE, SIZE = 2, 3.0, (16, 16)
COMMAND = f"--steps {STEPS} --guidance {GUIDANCE} --features lite0 --batch-size 4".split()


def write_all(folder: Path) -> Path:
    """Writes three teachers, prompts, and the checkpoint merged from them, whose path it gives."""
    styles = []
    for seed, name in enumerate(NAMES, start=1):
        path = folder / f"{name}.safetensors"
        write_network(path, seed)
        styles.append(Style(name, open_checkpoint(path).sha256, source=path.name))
    (folder / "prompts.txt").write_text("\n".join(PROMPTS), encoding="utf-8")
    return write_merged(folder / "merged.safetensors", styles)


def write_merged(path: Path, styles: list[Style]) -> Path:
    metadata = merged_metadata(
        styles,
        {"method": "dmm"},
        family="sd1",
        title="merged",
        resolution=SIZE,
        prediction_type="epsilon",
    )
    torch.manual_seed(7)
    tensors = StylePrompts(len(styles), DIM).to_tensors("add_embedding")
    return write_network(path, 0, metadata=metadata, styles=tensors)


def write_network(path: Path, seed: int, **more: Any) -> Path:
    encoders = [nets.small_clip(seed)]
    return nets.write_single_file(
        path, nets.small_sd1_unet(seed), nets.small_vae(0), encoders, **more
    )


def words(merged: Path, *more: str | Path) -> list[str]:
    """The command line that evaluates the checkpoint, with all its teachers."""
    folder = merged.parent
    teachers = [folder / f"{name}.safetensors" for name in NAMES]
    prompts = folder / "prompts.txt"
    said = ["evaluate", merged, "--prompts", prompts, *COMMAND, *more, "--teachers", *teachers]
    return list(map(str, said))


def report(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def quietly(*arguments, **named) -> Any:
    """Runs the command line in this process; too few pictures are meant here."""
    from tests.trainer.merging import command

    AcceleratorState._reset_state(reset_partial_state=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*fewer than the 1280 features")
        return command(*arguments, **named)
