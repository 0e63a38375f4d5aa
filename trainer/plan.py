"""The plan of a merge: what will be loaded where, memory, disk and time, before anything starts."""

from __future__ import annotations

import math
import time

import torch

from trainer.config import MergeConfig
from trainer.data import Prompts
from trainer.diffusion import Diffusion
from trainer.ingredients import Ingredients, open_ingredients
from trainer.losses import score_loss
from trainer.memory import GIB, critic_bytes, student_bytes, teacher_bytes, teacher_slots
from trainer.merge import new_student
from trainer.pairs import PairPlan
from trainer.precision import DTYPES
from trainer.prepare import open_source
from trainer.student import predict
from trainer.teachers import Teacher
from trainer.text import TextEmbedding


def describe_plan(config: MergeConfig) -> str:
    """The plan as text; one pair is trained on random numbers to measure the time.

    Raises:
        DmmError: what `merge` would refuse.
    """
    ingredients = open_ingredients(config)
    source = open_source(config)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = DTYPES[config.train.precision]
    train = config.train
    plan = PairPlan.of(train, len(ingredients.teachers))
    slots = train.teacher_slots or teacher_slots(ingredients, dtype, device)
    resident = slots * teacher_bytes(ingredients, dtype)
    critic = critic_bytes(ingredients, dtype)
    seconds = _seconds_a_pair(ingredients, device, dtype) * train.batch_size
    painted = isinstance(source, Prompts)
    count = len(source)
    if painted and config.data.painting.pictures_per_teacher:
        count = config.data.painting.pictures_per_teacher * len(ingredients.names)
    latents = count * math.prod(ingredients.latent_shape) * 2
    rows = [
        ("base", f"{config.base} ({ingredients.family}, {ingredients.base.prediction_type})"),
        *([("extends", ", ".join(ingredients.former.names))] if ingredients.former else []),
        *(
            (f"teacher {ingredients.names[teacher.styles[0]]}", _described(teacher))
            for teacher in ingredients.teachers
            if teacher.prompts is None
        ),
        ("data", f"{count} {'latents the teachers paint' if painted else 'pictures'}"),
        ("cache", f"{config.cache_folder}: {_size(latents)} of latents, and the text embeddings"),
        ("UNet", f"{ingredients.unet_parameters / 1e6:.1f} M parameters"),
        ("student", f"{_size(student_bytes(ingredients))} on {device}, float32 with AdamW"),
        ("teachers", f"{slots} of {len(ingredients.teachers)} on {device}: {_size(resident)}"),
        *([("discriminator", f"{_size(critic)} on {device}")] if critic else []),
        ("memory", f"{_size(student_bytes(ingredients) + resident + critic)} and the activations"),
        (
            "a step",
            f"{train.batch_size} pairs: {plan.samples_per_step} samples, {plan.active} teachers",
        ),
        ("time", f"about {_duration(seconds)} a step, {_duration(seconds * train.steps)} in all"),
        ("states", f"{config.run_folder}: {train.keep_last} x {_size(student_bytes(ingredients))}"),
        ("output", str(config.output)),
    ]
    width = max(len(key) for key, _ in rows)
    return "\n".join(f"{key:<{width}}  {value}" for key, value in rows)


def _seconds_a_pair(ingredients: Ingredients, device: torch.device, dtype: torch.dtype) -> float:
    """Student forwards, backward and a teacher's forward for one pair, the second of two tries."""
    student = new_student(ingredients).to(device)
    teacher = ingredients.checkpoints[-1].load_unet(dtype).to(device)
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
    weights = torch.ones(1, len(ingredients.names), device=device)
    spoken, wanted = ingredients.teachers[-1].prediction_type, ingredients.base.prediction_type
    for _ in range(2):
        began = time.perf_counter()
        with torch.no_grad():
            output = predict(
                teacher, noisy.to(dtype), timesteps, text.to(device, dtype), time_ids.to(dtype)
            )
        target = Diffusion(device).convert(output.float(), noisy, timesteps, spoken, wanted)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            ours, _ = student(noisy, timesteps, text, weights, time_ids)
        score_loss(ours, target).sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
    return time.perf_counter() - began


def _described(teacher: Teacher) -> str:
    return f"{teacher.checkpoint.source} ({teacher.prediction_type})"


def _size(count: int) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / 2**20:.0f} MiB"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.0f} h"
