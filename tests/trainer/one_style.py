"""A merged checkpoint that was trained on real art, without the minutes that a merge takes."""

from __future__ import annotations

from pathlib import Path

import torch

from dmm.layouts import UNET_PREFIX
from dmm.merged import Styles, write_merged
from dmm.metadata import Style, merged_metadata
from dmm.style_prompts import StylePrompts
from dmm.tensors import open_tensors
from trainer.checkpoint import open_checkpoint

DEMO = Path(__file__).parents[2] / "demo"


def write_one_style(path: Path, name: str, seed: int = 0) -> Path:
    """A teacher of the demo as a merged checkpoint of one style, which adds nothing to it.

    Args:
        seed: of the style prompts; the MLP is as live as any other.
    """
    file = open_tensors(DEMO / "teachers" / f"{name}.safetensors")
    torch.manual_seed(seed)  # the fixtures of a module come before the tests' own seed
    prompts = StylePrompts(1, len(file[f"{UNET_PREFIX}time_embed.2.bias"]))
    with torch.no_grad():
        prompts.linear_2.bias -= prompts(torch.ones(1))
    metadata = merged_metadata(
        [Style(name)],
        {},
        family="sd1",
        title=path.stem,
        resolution=(64, 64),
        prediction_type=open_checkpoint(file.path).prediction_type,
    )
    kept = {key: value for key, value in file.metadata.items() if key.startswith("dmm.")}
    styles = Styles(prompts, [Style(name)], "sd1")
    write_merged(path, dict(file), styles, metadata | kept, dtype=torch.float32)
    return path
