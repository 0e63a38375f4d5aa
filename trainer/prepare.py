"""Everything that is computed once before the training: latents and text embeddings."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from accelerate import PartialState

from dmm.errors import DmmError
from trainer.cache import Examples, TextCache, cache_latents, cache_text
from trainer.config import MergeConfig
from trainer.data import PictureFolder, Prompts, Source, WebdatasetShards
from trainer.ingredients import Ingredients
from trainer.painting import Painter, PaintSettings, paint_latents
from trainer.text import TextEncoders


@dataclass
class Prepared:
    """The training data, ready to be read."""

    examples: Examples
    student_text: TextCache
    teacher_text: list[TextCache]
    grid_prompts: list[str]


def open_source(config: MergeConfig) -> Source:
    """The data the config names.

    Raises:
        DmmError: it is missing, empty or without captions.
    """
    if config.data.pictures:
        return PictureFolder(config.data.pictures)
    if config.data.shards:
        return WebdatasetShards(config.data.shards)
    return Prompts(config.data.prompts)


def prepare(
    ingredients: Ingredients, source: Source, device: torch.device, dtype: torch.dtype
) -> Prepared:
    """Computes latents and embeddings, or finds them in the cache.

    Args:
        device: where the encoders and the painting teachers compute.
        dtype: in what the painting teachers compute.
    """
    config, folder = ingredients.config, ingredients.config.cache_folder
    encoders = [
        TextEncoders(teacher.checkpoint, teacher.clip_skip, device)
        for teacher in ingredients.teachers
    ]
    if isinstance(source, Prompts):
        painters = [
            Painter(teacher, style, text)
            for teacher, text in zip(ingredients.teachers, encoders, strict=True)
            for style in teacher.styles
        ]
        painting = config.data.painting
        settings = PaintSettings(
            shape=ingredients.latent_shape,
            resolution=config.data.resolution,
            steps=painting.steps,
            guidance=painting.guidance,
            negative=painting.negative,
            seed=config.train.seed,
        )
        examples = paint_latents(
            painters,
            source,
            settings,
            folder,
            pictures_per_teacher=painting.pictures_per_teacher,
            device=device,
            dtype=dtype,
            batch_size=painting.batch_size,
        )
    else:
        examples = cache_latents(
            source, ingredients.base, config.data.resolution, folder, device=device
        )
    _refuse_other_latents(ingredients, examples)
    grid_prompts = config.samples.prompts or _first_different(source.captions, config.samples.count)
    captions = [*source.captions, *grid_prompts, config.samples.negative]
    student_encoders = TextEncoders(ingredients.base, None, device)
    if PartialState().is_main_process:
        _warn_of_cut(student_encoders, captions)
    return Prepared(
        examples,
        cache_text(student_encoders, captions, folder),
        [cache_text(text, captions, folder) for text in encoders],
        grid_prompts,
    )


def _refuse_other_latents(ingredients: Ingredients, examples: Examples) -> None:
    shape, wanted = tuple(examples.latent(0).shape), ingredients.latent_shape
    if shape != wanted:
        raise DmmError(
            f"The VAE gives latents of shape {list(shape)} where the UNet of "
            f"{ingredients.base.path} takes {list(wanted)}. "
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
