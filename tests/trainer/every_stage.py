"""A folder of random models of some size, and the commands that take them through every stage."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from tests.trainer.merging import rest
from tests.trainer.random_files import (
    write_checkpoint,
    write_random_controlnet,
    write_unet_lora,
)
from tests.trainer.sizes import Model

CONFIG = """
preset: paper
base: base.safetensors
teachers: [base.safetensors, ink.safetensors, {{loras: [pen.safetensors]}}]
output: merged.safetensors
data: {{pictures: pictures, resolution: 64, buckets: [[128, 64]], workers: 0}}
train:
  adapter: {adapter}
  steps: 1
  batch_size: 3
  micro_batch_size: 1
  teachers_per_sample: null
  teacher_slots: 1
  precision: bf16
  gradient_checkpointing: true
  keep_last: 1
  feature_weight: 0.001
synthesised: null
samples: {{prompts: [a cat], steps: 1}}
export: {{style_file: false}}
log_with: []
"""
SECOND = (
    "synthesised={prompts: prompts.txt, steps: 1, batch_size: 3, "
    "painting: {pictures_per_teacher: 1, steps: 2, guidance: 2}}"
)
ADAPTER = "{rank: 8}"
CONTROLNETS = (
    "teachers=[{path: edges.safetensors, condition: edges}, {path: grey.safetensors, condition: "
    "grey}, {path: blur.safetensors, condition: pictures}]"
)


def write_models(folder: Path, model: Model, adapter: bool) -> None:
    """Two checkpoints, a LoRA, ControlNets, pictures of two shapes, and the configs of a merge.

    Args:
        adapter: whether students are adapters; then there are no ControlNets, which are none.
    """
    for seed, name in enumerate(("base", "ink")):
        write_checkpoint(folder / f"{name}.safetensors", model, seed)
    os.link(folder / "ink.safetensors", folder / "brush.safetensors")  # gigabytes, once on the disk
    write_unet_lora(folder / "pen.safetensors", model, 2)
    for seed, name in enumerate(() if adapter else ("edges", "grey", "blur")):
        write_random_controlnet(folder / f"{name}.safetensors", model, seed)
    (folder / "pictures").mkdir()
    # Wide, not high: on CPUs with AMX, oneDNN gets 4 x 2 wrong in bf16, at a stride of 2.
    for number, size in enumerate([(64, 64), (130, 60)] * 2):
        picture = folder / "pictures" / f"{number}.png"
        Image.effect_noise(size, 60).save(picture)
        picture.with_suffix(".txt").write_text("a cat", encoding="utf-8")
    (folder / "prompts.txt").write_text("a cat\n", encoding="utf-8")
    said = CONFIG.format(adapter=ADAPTER if adapter else "null")
    (folder / "merge.yaml").write_text(said, encoding="utf-8")
    rest(folder)


class Stage(NamedTuple):
    """A command of the trainer, said in the folder of the models.

    Attributes:
        name: as people call what it does.
        goes_on: whether it needs the states that the stage before has saved.
    """

    name: str
    words: list[str]
    goes_on: bool = False


def stages(adapter: bool) -> list[Stage]:
    """What to run, in this order.

    Args:
        adapter: as `write_models`; what is merged is folded before anything is made of it.
    """
    merged = "folded.safetensors" if adapter else "merged.safetensors"
    said = ["--config", "rest.yaml"]
    new = [*said, "--with", "brush.safetensors"]
    paint = ["--prompt", "a cat", "--steps", "2", "--width", "64", "--height", "64"]
    found = [
        Stage("distillation", ["merge", "merge.yaml"]),
        Stage("export", ["merge", "merge.yaml", "export.dtype=bf16"], goes_on=True),
        Stage("synthesised", ["merge", "merge.yaml", SECOND, "--overwrite"], goes_on=True),
        Stage("extend", ["extend", merged, *new, *_to("extended")]),
        Stage("LCM", ["accelerate", merged, *said, "few_steps.loss=lcm", *_to("lcm")]),
        Stage("SPLAM", ["accelerate", merged, *said, "few_steps.loss=splam", *_to("splam")]),
        Stage("sample", ["sample", merged, *paint]),
        Stage("average", ["average", "base.safetensors", "ink.safetensors", *_to("average")]),
    ]
    base = ["--base", "base.safetensors"]
    if adapter:
        found.insert(3, Stage("fold", ["fold", "merged.safetensors", *base, *_to("folded")]))
        return found
    lora = [f"train.adapter={ADAPTER}", "output=adapter.safetensors"]
    controls = ["preset=controlnet", CONTROLNETS, "output=controls.safetensors"]
    return [
        *found,
        Stage("adapter", ["merge", "merge.yaml", *lora]),
        Stage("fold", ["fold", "adapter.safetensors", *base, *_to("folded")]),
        Stage("extract", ["extract", "ink.safetensors", *base, "--rank", "4", *_to("lora")]),
        Stage("ControlNets", ["merge", "merge.yaml", *controls]),
    ]


def _to(output: str) -> list[str]:
    return ["--output", f"{output}.safetensors"]


def remove_states(folder: Path) -> None:
    """At full size a state is ten gigabytes."""
    for states in folder.rglob("states"):
        shutil.rmtree(states)
