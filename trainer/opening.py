"""Opens what goes into a merge, and refuses what cannot be merged before anything starts."""

from __future__ import annotations

import functools
from pathlib import Path

from dmm.errors import DmmError
from dmm.merged import Styles
from trainer.buckets import Size
from trainer.checkpoint import Checkpoint, open_checkpoint, refuse_other_architecture
from trainer.config import MergeConfig
from trainer.config import Teacher as TeacherConfig
from trainer.controlnet import MADE, is_controlnet, on_base, open_controlnet
from trainer.ingredients import Ingredients
from trainer.lora import open_lora, with_loras
from trainer.precision import DTYPES


def open_ingredients(config: MergeConfig) -> Ingredients:
    """Opens base and teachers.

    Raises:
        DmmError: a file is unfit, or a teacher is of another architecture than the base.
    """
    base = open_checkpoint(config.base)
    if base.vae_config is None or not base.text_encoder_configs:
        lacking = "VAE" if base.vae_config is None else "text encoder"
        raise DmmError(
            f"{base.path} has no {lacking}, and the base gives the merged file its text encoder "
            "and VAE. Choose a full checkpoint as `base`."
        )
    ingredients = Ingredients(config, base, _open_teachers(config, base))
    for size in config.data.sizes:
        _refuse_unfit_size(ingredients, size)
    if config.few_steps:
        _refuse_impossible_acceleration(ingredients)
    else:
        _refuse_impossible_extension(ingredients)
    return ingredients


def _refuse_unfit_size(ingredients: Ingredients, size: Size) -> None:
    _, height, width = ingredients.base.latent_shape(size)
    levels = len(ingredients.base.unet_config["block_out_channels"]) - 1
    if height % 2**levels or width % 2**levels:
        key = "resolution" if size == ingredients.config.data.resolution else "buckets"
        raise DmmError(
            f"`data.{key}` {list(size)} gives a latent of {width} x {height}, which the UNet "
            f"cannot halve {levels} times. Choose multiples of 64."
        )


def _refuse_impossible_acceleration(ingredients: Ingredients) -> None:
    base = ingredients.base
    if not ingredients.former:
        raise DmmError(
            f"{base.path} has no style prompts: it is a plain checkpoint. Merge first; the merged "
            "checkpoint learns to paint in few steps."
        )
    _refuse_few_steps(ingredients.former, base)
    folded = [name.casefold() for name in ingredients.former.names]
    for teacher in ingredients.config.teachers:
        if teacher.name.casefold() not in folded:
            raise DmmError(
                f"{base.path} has no style {teacher.name!r} that this teacher could teach. It has "
                f"{', '.join(ingredients.former.names)}; give the teacher such a `name`."
            )


def _refuse_few_steps(former: Styles, base: Checkpoint) -> None:
    if former.sampling:
        raise DmmError(
            f"{base.path} paints in few steps already ({former.sampling}), and has forgotten the "
            "path of many steps that is to be learned from. Use the merged checkpoint it came from."
        )


def _refuse_impossible_extension(ingredients: Ingredients) -> None:
    base, train = ingredients.base, ingredients.config.train
    if not ingredients.former:
        return
    _refuse_few_steps(ingredients.former, base)
    if train.start_from == "average":
        raise DmmError(
            f"{base.path} is a merged checkpoint, which is extended from where it stands; "
            "`train.start_from: average` would lose its styles. Use `base`."
        )
    folded = [name.casefold() for name in ingredients.former.names]
    for teacher in ingredients.config.teachers:
        if teacher.name.casefold() in folded:
            raise DmmError(
                f"{base.path} has a style {teacher.name!r} already. "
                "Give the new teacher another `name`."
            )


def _open_teachers(config: MergeConfig, base: Checkpoint) -> list[Checkpoint]:
    controls = [said for said in config.teachers if said.path and is_controlnet(said.path)]
    if not controls:
        opened = {base.path: base}  # many LoRAs may stand on one file, which is hashed once
        return [_open_teacher(said, base, opened) for said in config.teachers]
    for said in config.teachers:
        if said not in controls or said.loras:
            what = "has LoRAs" if said in controls else "is a UNet"
            raise DmmError(
                f"{controls[0].path} is a ControlNet, but the teacher {said.name!r} {what}. Merge "
                "ControlNets by themselves, and UNets by themselves: the two results go together."
            )
        if said.condition is None:
            raise DmmError(
                f"{said.path} is a ControlNet: say by the teacher's `condition` what it is shown, "
                f"a folder of pictures named as those of the data, or {' or '.join(MADE)}."
            )
    dtype = DTYPES[config.train.precision]
    frozen = functools.cache(lambda: base.load_unet(dtype).requires_grad_(False))
    teachers = [on_base(base, open_controlnet(said.path), frozen) for said in controls]
    for teacher in teachers[1:]:
        if teacher.file.network.config != teachers[0].file.network.config:
            raise DmmError(
                f"{teacher.path} is built otherwise than {teachers[0].path}. All ControlNets must "
                "share one architecture."
            )
    return teachers


def _open_teacher(
    said: TeacherConfig, base: Checkpoint, opened: dict[Path, Checkpoint]
) -> Checkpoint:
    if said.condition is not None:
        raise DmmError(
            f"The teacher {said.name!r} has a `condition`, but is no ControlNet. Leave it out."
        )
    path = said.path or base.path
    if path not in opened:
        opened[path] = open_checkpoint(path)
    checkpoint = opened[path]
    refuse_other_architecture(base, checkpoint)
    if not checkpoint.text_encoder_configs:
        raise DmmError(
            f"{path} has no text encoder, so what it was trained to read is unknown. "
            "Choose the full checkpoint."
        )
    if not said.loras:
        return checkpoint
    return with_loras(checkpoint, [open_lora(lora.path, lora.weight) for lora in said.loras])
