"""Everything that is computed once before a stage: latents and text embeddings."""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass, field

import torch
from accelerate import PartialState

from dmm.errors import DmmError
from trainer.batches import Show
from trainer.buckets import Size
from trainer.cache import Examples, TextCache, cache_latents, cache_text
from trainer.config import Samples
from trainer.ingredients import Ingredients
from trainer.painting import Painter, PaintSettings, paint_latents
from trainer.stages import Stage
from trainer.text import TextEncoders


@dataclass
class Prepared:
    """A stage's training data, ready to be read.

    `examples` are those that all styles share, or those of each style that is taught. `shown` is
    what each ControlNet is shown beside an example, None for UNets; of the grid's prompts, it is
    what belongs to `grid_examples`.
    """

    examples: Examples | dict[int, Examples]
    student_text: TextCache
    teacher_text: list[TextCache]
    grid_prompts: list[str]
    shown: list[Show] | None = None
    grid_examples: list[int] = field(default_factory=list)


def prepare(
    ingredients: Ingredients, stage: Stage, device: torch.device, dtype: torch.dtype
) -> Prepared:
    """Computes a stage's latents and embeddings, or finds them in the cache.

    Args:
        device: where the encoders and the painting teachers compute.
        dtype: in what the painting teachers compute.
    """
    config, folder = ingredients.config, ingredients.config.cache_folder
    encoders = [
        TextEncoders(teacher.checkpoint, teacher.clip_skip, device)
        for teacher in ingredients.teachers
    ]
    examples = _examples(ingredients, stage, encoders, device, dtype)
    for some in examples.values() if stage.own else [examples]:
        _refuse_other_latents(ingredients, some)
    grid_prompts, grid_examples = _grid(config.samples, stage, examples)
    captions = [*stage.source.captions, *grid_prompts, config.samples.negative]
    if config.few_steps:
        captions.append(config.few_steps.negative)
    student_encoders = TextEncoders(ingredients.base, None, device)
    if PartialState().is_main_process:
        _warn_of_cut(student_encoders, captions)
    return Prepared(
        examples,
        cache_text(student_encoders, captions, folder),
        [cache_text(text, captions, folder) for text in encoders],
        grid_prompts,
        _shows(ingredients, stage),
        grid_examples,
    )


def _examples(
    ingredients: Ingredients,
    stage: Stage,
    encoders: list[TextEncoders],
    device: torch.device,
    dtype: torch.dtype,
) -> Examples | dict[int, Examples]:
    """The latents of the stage's pictures, or of what the teachers paint of its prompts."""
    folder, sizes = ingredients.config.cache_folder, ingredients.config.data.sizes
    if not stage.is_painted:
        return cache_latents(stage.source, ingredients.base, sizes, folder, device=device)
    painters = [
        Painter(teacher, style, text)
        for teacher, text in zip(ingredients.teachers, encoders, strict=True)
        for style in teacher.styles
    ]
    paint = functools.partial(
        paint_latents,
        prompts=stage.source,
        settings=[_settings(ingredients, stage, size) for size in sizes],
        folder=folder,
        pictures_per_teacher=stage.painting.pictures_per_teacher,
        device=device,
        dtype=dtype,
        batch_size=stage.painting.batch_size,
    )
    return {one.style: paint([one]) for one in painters} if stage.own else paint(painters)


def _grid(
    samples: Samples, stage: Stage, examples: Examples | dict[int, Examples]
) -> tuple[list[str], list[int]]:
    """The prompts of the sample grid and, where ControlNets steer it, the example of each."""
    if not stage.conditions:
        return samples.prompts or _first_different(stage.source.captions, samples.count), []
    chosen = [int(index) for index in examples.buckets[0][: samples.count]]
    captions = [examples.caption(index) for index in chosen]
    prompts = (samples.prompts or captions)[: len(chosen)]
    return prompts, chosen[: len(prompts)]


def _shows(ingredients: Ingredients, stage: Stage) -> list[Show] | None:
    """What each ControlNet is shown beside an example; None for UNets."""
    scale = ingredients.base.vae_scale_factor
    return [functools.partial(one.beside, scale) for one in stage.conditions] or None


def _settings(ingredients: Ingredients, stage: Stage, size: Size) -> PaintSettings:
    painting = stage.painting
    return PaintSettings(
        shape=ingredients.base.latent_shape(size),
        resolution=size,
        steps=painting.steps,
        guidance=painting.guidance,
        negative=painting.negative,
        seed=stage.train.seed,
    )


def _refuse_other_latents(ingredients: Ingredients, examples: Examples) -> None:
    shape = tuple(examples.latent(0).shape)
    wanted = [ingredients.base.latent_shape(size) for size in ingredients.config.data.sizes]
    if shape not in wanted:
        raise DmmError(
            f"The VAE gives latents of shape {list(shape)} where the UNet of "
            f"{ingredients.base.path} takes {list(wanted[0])}. "
            "Choose a base whose VAE belongs to its UNet."
        )


def _warn_of_cut(encoders: TextEncoders, captions: list[str]) -> None:
    different = sorted(set(captions))
    count = encoders.count_cut(different)
    if count:
        warnings.warn(
            f"{count} of {len(different)} captions are longer than the 75 tokens that the text "
            "encoder reads; their ends are cut off.",
            stacklevel=2,
        )


def _first_different(captions: list[str], count: int) -> list[str]:
    return list(dict.fromkeys(caption for caption in captions if caption))[:count] or [""]
