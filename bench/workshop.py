"""Merges to measure: checkpoints and data made on the spot, opened by the trainer's own code.

The weights are the demo's, or random ones at SD1.5's full size: neither time nor memory depends on
what the numbers are. All teachers are one file under many names, which the system therefore has in
memory: their copying into slots is measured, the speed of a disk is not.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel

from dmm.layouts import single_file_tensors
from dmm.tensors import save_tensors
from trainer.config import MergeConfig
from trainer.ingredients import Ingredients
from trainer.loop import TrainingLoop
from trainer.merge import new_accelerator, teacher_pool, training_loop
from trainer.opening import open_ingredients
from trainer.precision import DTYPES
from trainer.prepare import Prepared, prepare
from trainer.stages import open_stages

Size = Literal["demo", "sd15"]

DEMO_TEACHERS = Path(__file__).parents[1] / "demo" / "teachers"
PICTURES = 64
RESOLUTION = {"demo": 64, "sd15": 512}
SD15_UNET = {"cross_attention_dim": 768, "attention_head_dim": 8}  # else diffusers' defaults
SD15_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}
SD15_CLIP = CLIPTextConfig(
    hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12
)


def merge_config(folder: Path, size: Size, teachers: int, **train: Any) -> MergeConfig:
    """A merge of `teachers` checkpoints on `PICTURES` captioned pictures, all in `folder`.

    Args:
        train: what differs from the paper's hyper-parameters.
    """
    base = folder / "base.safetensors"
    if not base.exists():
        _write_base(base, size)
        _write_pictures(folder / "pictures", RESOLUTION[size])
    paths = [folder / f"teacher-{number}.safetensors" for number in range(teachers)]
    for path in paths:
        if not path.exists():
            path.hardlink_to(base)
    return MergeConfig(
        base=base,
        teachers=[str(path) for path in paths],
        output=folder / f"merged-{teachers}.safetensors",
        data={"pictures": folder / "pictures", "resolution": RESOLUTION[size], "workers": 0},
        train=train,
        log_with=[],
    )


def open_loop(config: MergeConfig) -> tuple[TrainingLoop, Ingredients, Prepared]:
    """A merge's loop before its first step, as `trainer.merge.merge` has it."""
    ingredients = open_ingredients(config)
    stage = open_stages(config)[0]
    accelerator = new_accelerator(config, stage)
    prepared = prepare(ingredients, stage, accelerator.device, DTYPES[config.train.precision])
    teachers = teacher_pool(ingredients, accelerator.device)
    loop = training_loop(ingredients, stage, prepared, teachers, accelerator)
    return loop, ingredients, prepared


def stepper(loop: TrainingLoop) -> Callable[[], object]:
    """A call that makes the loop's next step."""
    steps = itertools.count()

    def step() -> None:
        number = next(steps)
        loop.step(number + 1, loop.batches[number])

    return step


def _write_base(path: Path, size: Size) -> None:
    if size == "demo":
        shutil.copyfile(DEMO_TEACHERS / "base.safetensors", path)
        return
    unet, vae = UNet2DConditionModel(**SD15_UNET), AutoencoderKL(**SD15_VAE)
    clip = CLIPTextModel(SD15_CLIP)
    text = {
        key if key.startswith("text_model.") else f"text_model.{key}": tensor
        for key, tensor in clip.state_dict().items()
    }
    tensors = single_file_tensors("sd1", unet.state_dict(), vae.state_dict(), [text])
    save_tensors(path, {name: tensor.half() for name, tensor in tensors.items()}, {})


def _write_pictures(folder: Path, resolution: int) -> None:
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    for number in range(PICTURES):
        levels = torch.randint(256, (resolution, resolution, 3), generator=generator)
        Image.fromarray(levels.byte().numpy()).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"picture number {number}", encoding="utf-8")
