"""What goes into a merge, opened and checked before anything starts."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dmm.errors import DmmError
from dmm.merged import Styles, styles_from
from dmm.metadata import Family, Sampling, Style, inherited, merged_metadata
from dmm.style_prompts import StylePrompts
from trainer.adapter import trained_parameters
from trainer.buckets import Size
from trainer.checkpoint import Checkpoint, open_checkpoint, refuse_other_architecture
from trainer.config import MergeConfig
from trainer.config import Teacher as TeacherConfig
from trainer.controlnet import (
    MADE,
    ControlNetCheckpoint,
    is_controlnet,
    on_base,
    open_controlnet,
)
from trainer.lora import open_lora, with_loras
from trainer.precision import DTYPES
from trainer.teachers import Teacher

_PRIVATE = [
    *(("data", key) for key in ("pictures", "shards", "prompts", "cache")),
    ("synthesised", "prompts"),
]
"""Whose folders they are is nobody's business: recipes say the last part of these paths."""


@dataclass
class Ingredients:
    """The base and the teachers of a merge.

    A base that is merged itself is extended: its styles stay, the teachers' follow them.

    Attributes:
        checkpoints: of the teachers that the config names.
    """

    config: MergeConfig
    base: Checkpoint
    checkpoints: list[Checkpoint]

    @property
    def family(self) -> Family:
        return self.base.family

    @cached_property
    def former(self) -> Styles | None:
        """The styles that are there already, where a merged checkpoint is extended."""
        if self.is_controlnet or not self.base.styles:
            return None
        return styles_from(self.base.styles, self.base.metadata, self.base.path)

    @property
    def names(self) -> list[str]:
        """Of all styles, in codebook order."""
        return [style.name for style in self.styles]

    @cached_property
    def teachers(self) -> list[Teacher]:
        """Who teaches, by the rows of the codebook.

        The former self, where there is one and it regularises, comes first: it teaches the styles
        that no other teacher does.
        """
        rows = {name.casefold(): row for row, name in enumerate(self.names)}
        taught = [rows[said.name.casefold()] for said in self.config.teachers]
        others = [
            Teacher(
                checkpoint,
                said.prediction_type or checkpoint.prediction_type,
                said.clip_skip,
                (row,),
            )
            for row, said, checkpoint in zip(
                taught, self.config.teachers, self.checkpoints, strict=True
            )
        ]
        left = tuple(row for row in range(len(self.names)) if row not in taught)
        if not left or not (self.config.train.regularization or self.config.few_steps):
            return others
        kind = self.base.prediction_type
        return [Teacher(self.base, kind, None, left, self.former.prompts), *others]

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of a latent at the configured resolution."""
        return self.base.latent_shape(self.config.data.resolution)

    @property
    def dim(self) -> int:
        """d, the width of the time embedding."""
        return 4 * self.base.unet_config["block_out_channels"][0]

    @property
    def is_controlnet(self) -> bool:
        """Whether ControlNets are merged, not UNets."""
        return any(isinstance(found, ControlNetCheckpoint) for found in self.checkpoints)

    @property
    def start(self) -> Checkpoint:
        """Whose weights the student has first: the base's; of ControlNets, the first teacher's."""
        return self.checkpoints[0] if self.is_controlnet else self.base

    @cached_property
    def unet_parameters(self) -> int:
        """How many numbers one UNet, or one ControlNet, holds."""
        return sum(tensor.numel() for tensor in self.start.unet_tensors().values())

    @cached_property
    def trained_parameters(self) -> int:
        """How many numbers of the student learn, its style prompts aside."""
        adapter = self.config.train.adapter
        if adapter:
            return trained_parameters(self.start.unet_tensors(), adapter)
        return self.unet_parameters

    @cached_property
    def frozen_parameters(self) -> int:
        """How many numbers of the base stand still under the student."""
        if not (self.config.train.adapter or self.is_controlnet):
            return 0
        return sum(tensor.numel() for tensor in self.base.unet_tensors().values())

    @cached_property
    def given_styles(self) -> list[Style]:
        """Of the teachers that the config names."""
        return [
            Style(said.name, checkpoint.sha256, checkpoint.kind, checkpoint.source)
            for said, checkpoint in zip(self.config.teachers, self.checkpoints, strict=True)
        ]

    @property
    def new_styles(self) -> list[Style]:
        """Those that the base has not; one that learns to paint in few steps has them all."""
        return [] if self.config.few_steps else self.given_styles

    @cached_property
    def styles(self) -> list[Style]:
        """All styles, in codebook order."""
        return [*(self.former.styles if self.former else ()), *self.new_styles]

    @property
    def sampling(self) -> Sampling | None:
        """How the merged file wants to be sampled, where it is trained for few steps."""
        few = self.config.few_steps
        return Sampling(few.steps, 1.0, "lcm") if few else None

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """How the file is made: enough to make it again, and to tell it from another merge."""
        config = self.config.model_dump(mode="json")
        for section, key in _PRIVATE:
            if config[section] and config[section][key]:
                config[section][key] = _without_folder(config[section][key])
        made = "accelerates" if self.config.few_steps else "extends"
        said = ("preset", "data", "train", "synthesised", "few_steps")
        return {
            "method": "dmm",
            "base": {"path": self.base.source, "sha256": self.base.sha256},
            "teachers": [
                {**vars(style), **checkpoint.made_of, **_shown(said)}
                for said, style, checkpoint in zip(
                    self.config.teachers, self.given_styles, self.checkpoints, strict=True
                )
            ],
            **({made: self.former.recipe} if self.former else {}),
            "config": {key: config[key] for key in said},
        }

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata of the merged file; the scaling factor and licence are the base's."""
        metadata = merged_metadata(
            self.styles,
            self.recipe,
            family=self.family,
            title=self.config.output.stem,
            resolution=self.config.data.resolution,
            prediction_type=self.base.prediction_type,
        )
        if self.is_controlnet:
            metadata["modelspec.architecture"] += "/controlnet"
        if self.sampling:
            metadata |= self.sampling.to_metadata()
        return metadata | inherited(self.base.metadata)

    def merged_styles(self, prompts: StylePrompts) -> Styles:
        return Styles(prompts, self.styles, self.family, self.recipe)


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


def _without_folder(paths: str | list[str]) -> str | list[str]:
    return Path(paths).name if isinstance(paths, str) else [Path(path).name for path in paths]


def _shown(said: TeacherConfig) -> dict[str, str]:
    """What a ControlNet is shown, without the folder it lies in."""
    return {"condition": said.condition.name} if said.condition else {}
