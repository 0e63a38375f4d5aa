"""Whole merges in this very process: the command line's code path, without its start-up time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState
from torch import nn

from dmm.tensors import open_tensors
from tests import nets
from trainer.config_file import load_config
from trainer.merge import merge
from trainer.run import app, main

CONFIG = """
preset: paper
base: base.safetensors
teachers: [ink.safetensors, {path: anime.safetensors, name: Anime}, oil.safetensors]
output: out/merged.safetensors
data:
  prompts: prompts.txt
  resolution: 16
  workers: 0
  painting: {steps: 2, guidance: 1, negative: ""}
train:
  steps: 6
  batch_size: 6
  teachers_per_sample: null
  learning_rate: 1.0e-3
  adversarial_weight: 0
  save_every: 2
synthesised: null
samples: {steps: 2, guidance: 1, negative: "", prompts: [a cat]}
export: {dtype: fp32}
"""
PROMPTS = "a cat\na dog\na house\na tree\na red car\n"


def write_models(folder: Path, family: str = "sd1") -> Path:
    """Writes a base, three teachers, prompts and `merge.yaml`, whose path it gives."""
    for seed, name in enumerate(("base", "ink", "anime", "oil")):
        nets.write_single_file(folder / f"{name}.safetensors", *networks(family, seed))
    (folder / "prompts.txt").write_text(PROMPTS, encoding="utf-8")
    config = folder / "merge.yaml"
    config.write_text(CONFIG, encoding="utf-8")
    return config


def rest(folder: Path) -> Path:
    """A file with all of `merge.yaml` but for what `extend` and `accelerate` say themselves."""
    lines = (folder / "merge.yaml").read_text(encoding="utf-8").splitlines(keepends=True)
    path = folder / "rest.yaml"
    said = ("base:", "teachers:", "output:")
    kept = [line for line in lines if not line.startswith(said)]
    path.write_text("".join(kept), encoding="utf-8")
    return path


def networks(family: str, seed: int) -> tuple[nn.Module, nn.Module, list[nn.Module]]:
    """UNet, VAE and text encoders. All seeds share one VAE, as fine-tunes do."""
    if family == "sdxl":
        encoders = [nets.small_clip(seed), nets.small_bigg(seed)]
        return nets.small_sdxl_unet(seed), nets.small_vae(0), encoders
    return nets.small_sd1_unet(seed), nets.small_vae(0), [nets.small_clip(seed)]


def options(config: Path, name: str, *more: str) -> list[str]:
    """The words that make a merge write to a folder `name`; all such merges share one cache."""
    folder = config.parent
    output = folder / name / "merged.safetensors"
    return [f"output={output}", f"data.cache={folder / 'cache'}", *more]


def on_pictures(config: Path) -> list[str]:
    """The words that make a merge train on `pictures` beside its config, in three sizes."""
    pictures = config.parent / "pictures"
    return ["data.prompts=null", f"data.pictures={pictures}", "data.buckets=[[16,32],[32,16]]"]


def run_merge(config: Path, *overrides: str, overwrite: bool = False) -> Path:
    """Merges, and gives the merged checkpoint."""
    forget_the_last_merge()
    return merge(load_config(config, list(overrides)), overwrite=overwrite)[0]


def command(*words: str | Path) -> int:
    """Runs the trainer's command line and gives its exit code."""
    forget_the_last_merge()
    try:
        main(lambda: app(list(map(str, words))))
    except SystemExit as ended:
        return ended.code
    raise AssertionError("the command line came back without an exit code")


def statistics(merged: Path) -> list[dict[str, Any]]:
    """The lines of a merge's statistics, without the seconds, which no two runs share."""
    lines = (merged.with_suffix("") / "stats.jsonl").read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def assert_same(ours: Path, theirs: Path) -> None:
    """Two merges went alike, to the last bit of what was written."""
    assert statistics(ours) == statistics(theirs)
    assert_same_tensors(ours, theirs)


def assert_same_tensors(ours: Path, theirs: Path) -> None:
    ours, theirs = open_tensors(ours), open_tensors(theirs)
    assert set(ours) == set(theirs)
    assert not [key for key in theirs if not torch.equal(ours[key], theirs[key])]


def saved_student(merged: Path, step: int) -> dict[str, torch.Tensor]:
    """The student's weights in the state of a step."""
    from safetensors.torch import load_file

    folder = merged.with_suffix("") / "states" / f"step-{step:08d}"
    return load_file(folder / "model.safetensors")


def forget_the_last_merge() -> None:
    """accelerate keeps device and precision for a process's life, which is one merge for users."""
    AcceleratorState._reset_state(reset_partial_state=True)
