"""The plan of a merge: what will be loaded where, memory, disk and time, before anything starts."""

from __future__ import annotations

import math
import time
from typing import NamedTuple

import torch

from trainer.config import MergeConfig
from trainer.diffusion import Diffusion
from trainer.ingredients import Ingredients
from trainer.losses import score_loss
from trainer.memory import (
    GIB,
    backbone_bytes,
    state_bytes,
    student_bytes,
    teacher_bytes,
    teacher_slots,
)
from trainer.merge import new_student
from trainer.opening import open_ingredients
from trainer.pairs import PairPlan
from trainer.precision import DTYPES
from trainer.repeats import Repeats
from trainer.sampling import unet_passes
from trainer.shards import STORED
from trainer.stages import Stage, open_stages
from trainer.student import predict
from trainer.teachers import Teacher
from trainer.text import TextEmbedding

OPTIMISERS = {"adamw": "AdamW", "adamw8bit": "AdamW of eight bits", "muon": "Muon"}


def describe_plan(config: MergeConfig) -> str:
    """The plan as text; one pair is trained on random numbers to measure the time.

    Raises:
        DmmError: what `merge` would refuse.
    """
    ingredients = open_ingredients(config)
    stages = open_stages(config)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = DTYPES[config.train.precision]
    train = config.train
    slots = train.teacher_slots or teacher_slots(ingredients, dtype, device)
    resident = slots * teacher_bytes(ingredients, dtype)
    backbone = backbone_bytes(ingredients, dtype)
    needed = student_bytes(ingredients) + resident + backbone
    pace = _pace(ingredients, device, dtype)
    shapes = [ingredients.base.latent_shape(size) for size in config.data.sizes]
    a_latent = sum(map(math.prod, shapes)) // len(shapes) * STORED.itemsize
    latents = a_latent * sum(_examples(ingredients, stage) for stage in stages)
    states = train.keep_last * len(stages)
    rows = [
        ("base", f"{config.base} ({ingredients.family}, {ingredients.base.prediction_type})"),
        *([("extends", ", ".join(ingredients.former.names))] if ingredients.former else []),
        *(
            (f"teacher {ingredients.names[teacher.styles[0]]}", _described(teacher))
            for teacher in ingredients.teachers
            if teacher.prompts is None
        ),
        ("sizes", ", ".join(f"{width} x {height}" for width, height in config.data.sizes)),
        ("cache", f"{config.cache_folder}: {_size(latents)} of latents, and the text embeddings"),
        (
            "ControlNet" if ingredients.is_controlnet else "UNet",
            f"{ingredients.unet_parameters / 1e6:.1f} M parameters",
        ),
        *([("adapter", _adapter(ingredients))] if train.adapter else []),
        (
            "student",
            f"{_size(student_bytes(ingredients))} on {device}, float32 with "
            f"{OPTIMISERS[train.optimizer]}",
        ),
        ("teachers", f"{slots} of {len(ingredients.teachers)} on {device}: {_size(resident)}"),
        *([("discriminator", f"{_size(backbone)} on {device}")] if backbone else []),
        ("memory", f"{_size(needed)} and the activations"),
        *(row for stage in stages for row in _stage(ingredients, stage, pace)),
        ("states", f"{config.run_folder}: {states} x {_size(state_bytes(ingredients))}"),
        ("output", str(config.output)),
    ]
    width = max(len(key) for key, _ in rows)
    return "\n".join(f"{key:<{width}}  {value}" for key, value in rows)


class _Pace(NamedTuple):
    """Seconds for one sample."""

    teacher: float  # a teacher's forward
    pair: float  # that, and the student forwards and backwards


def _stage(ingredients: Ingredients, stage: Stage, pace: _Pace) -> list[tuple[str, str]]:
    """What a stage is trained on, and how long it takes."""
    train, count = stage.train, _examples(ingredients, stage)
    data = f"{count} pictures"
    if stage.is_painted:
        how = stage.painting
        seconds = count * how.steps * unet_passes(how.guidance) * pace.teacher
        data = (
            f"{count} pictures that the teachers paint in {how.steps} steps: "
            f"about {_duration(seconds)}"
        )
    plan = PairPlan.of(train, len(ingredients.teachers))
    asked = Repeats.of(train).new(train.steps) / train.steps
    seconds = (pace.pair - (1 - asked) * pace.teacher) * train.batch_size
    repeated = f", learned from {train.repeats} times" if train.repeats > 1 else ""
    return [
        (stage.title.lower(), data),
        (
            "",
            f"{train.batch_size} pairs a step{repeated}: {plan.samples_per_step} samples, "
            f"{plan.active} teachers; about {_duration(seconds)}",
        ),
        ("", f"{train.steps} steps: about {_duration(seconds * train.steps)}"),
    ]


def _examples(ingredients: Ingredients, stage: Stage) -> int:
    """How many pictures a stage is trained on."""
    painters = sum(len(teacher.styles) for teacher in ingredients.teachers)
    if stage.is_painted and stage.painting.pictures_per_teacher:
        return stage.painting.pictures_per_teacher * painters
    return len(stage.source) * (painters if stage.own else 1)


def _pace(ingredients: Ingredients, device: torch.device, dtype: torch.dtype) -> _Pace:
    """Measured on random numbers; the second of two tries counts."""

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    student = new_student(ingredients).to(device)
    teacher = ingredients.teachers[-1].checkpoint.load_unet(dtype).to(device)
    encoders = ingredients.base.text_encoder_configs
    length = encoders[0]["max_position_embeddings"]
    width = ingredients.base.unet_config["cross_attention_dim"]
    is_sdxl = ingredients.family == "sdxl"
    text = TextEmbedding(
        torch.randn(1, length, width, device=device),
        torch.randn(1, encoders[1]["projection_dim"], device=device) if is_sdxl else None,
    )
    noisy = torch.randn(1, *ingredients.latent_shape, device=device)
    timesteps = torch.full((1,), 500, device=device)
    time_ids = torch.full((1, 6), 512.0, device=device)
    shown = None
    if ingredients.is_controlnet:
        width, height = ingredients.config.data.resolution
        shown = torch.rand(1, 3, height, width, device=device)
    weights = torch.ones(1, len(ingredients.names), device=device)
    spoken, wanted = ingredients.teachers[-1].prediction_type, ingredients.base.prediction_type
    for _ in range(2):
        began = now()
        with torch.no_grad():
            told = text.to(device, dtype)
            output = predict(teacher, noisy.to(dtype), timesteps, told, time_ids, shown)
        painted = now()
        target = Diffusion(device).convert(output.float(), noisy, timesteps, spoken, wanted)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            ours, _ = student(noisy, timesteps, text, weights, time_ids, condition=shown)
        score_loss(ours, target).sum().backward()
        ended = now()
    return _Pace(painted - began, ended - began)


def _adapter(ingredients: Ingredients) -> str:
    train, count = ingredients.config.train, ingredients.trained_parameters
    size = _size(count * DTYPES[ingredients.config.export.dtype].itemsize)
    return (
        f"rank {train.adapter.rank}, layers {train.adapter.layers}: {count / 1e6:.1f} M parameters "
        f"on the base in {train.precision}; its file has {size} and the styles"
    )


def _described(teacher: Teacher) -> str:
    return f"{teacher.checkpoint.source} ({teacher.prediction_type})"


def _size(count: int) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / 2**20:.0f} MiB"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes / 60:.0f} h" if minutes < 72 * 60 else f"{minutes / 60 / 24:.0f} days"
