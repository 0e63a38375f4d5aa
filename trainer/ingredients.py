"""What goes into a merge, opened and checked before anything starts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dmm.errors import DmmError
from dmm.merged import Styles, read_styles
from dmm.metadata import Family, Style, merged_metadata
from dmm.style_prompts import StylePrompts
from trainer.checkpoint import Checkpoint, open_checkpoint, refuse_other_architecture
from trainer.config import MergeConfig
from trainer.config import Teacher as TeacherConfig
from trainer.lora import open_lora, with_loras
from trainer.teachers import Teacher


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
        return read_styles(self.base.path) if self.base.styles else None

    @property
    def names(self) -> list[str]:
        """Of all styles, in codebook order."""
        return [style.name for style in self.styles]

    @cached_property
    def teachers(self) -> list[Teacher]:
        """Who teaches; the former self, where there is one and it regularises, comes first."""
        count = len(self.former.styles) if self.former else 0
        former = []
        if self.former and self.config.train.regularization:
            rows = tuple(range(count))
            kind = self.base.prediction_type
            former = [Teacher(self.base, kind, None, rows, self.former.prompts)]
        return former + [
            Teacher(
                checkpoint,
                said.prediction_type or checkpoint.prediction_type,
                said.clip_skip,
                (row,),
            )
            for row, (said, checkpoint) in enumerate(
                zip(self.config.teachers, self.checkpoints, strict=True), start=count
            )
        ]

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of a latent at the configured resolution."""
        factor = 2 ** (len(self.base.vae_config["block_out_channels"]) - 1)
        width, height = self.config.data.resolution
        return self.base.unet_config["in_channels"], height // factor, width // factor

    @property
    def dim(self) -> int:
        """d, the width of the time embedding."""
        return 4 * self.base.unet_config["block_out_channels"][0]

    @cached_property
    def unet_parameters(self) -> int:
        """How many numbers one UNet holds."""
        return sum(tensor.numel() for tensor in self.base.unet_tensors().values())

    @cached_property
    def new_styles(self) -> list[Style]:
        return [
            Style(said.name, checkpoint.sha256, checkpoint.kind, checkpoint.source)
            for said, checkpoint in zip(self.config.teachers, self.checkpoints, strict=True)
        ]

    @cached_property
    def styles(self) -> list[Style]:
        """All styles, in codebook order."""
        return [*(self.former.styles if self.former else ()), *self.new_styles]

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """How the file is made: enough to make it again, and to tell it from another merge."""
        config = self.config.model_dump(mode="json")
        for key in ("pictures", "prompts", "cache"):  # whose folders they are is nobody's business
            path = getattr(self.config.data, key)
            config["data"][key] = path.name if path else None
        return {
            "method": "dmm",
            "base": {"path": self.base.source, "sha256": self.base.sha256},
            "teachers": [
                {**vars(style), **checkpoint.made_of}
                for style, checkpoint in zip(self.new_styles, self.checkpoints, strict=True)
            ],
            **({"extends": self.former.recipe} if self.former else {}),
            "config": {key: config[key] for key in ("preset", "data", "train")},
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
        kept = ("modelspec.license", "dmm.vae_scaling_factor")
        return metadata | {
            key: self.base.metadata[key] for key in kept if key in self.base.metadata
        }

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
    opened = {base.path: base}  # many LoRAs may stand on one file, which is hashed once
    teachers = [_open_teacher(teacher, base, opened) for teacher in config.teachers]
    ingredients = Ingredients(config, base, teachers)
    _, height, width = ingredients.latent_shape
    levels = len(base.unet_config["block_out_channels"]) - 1
    if height % 2**levels or width % 2**levels:
        raise DmmError(
            f"`data.resolution` {list(config.data.resolution)} gives a latent of {width} x "
            f"{height}, which the UNet cannot halve {levels} times. Choose multiples of 64."
        )
    _refuse_impossible_extension(ingredients)
    return ingredients


def _refuse_impossible_extension(ingredients: Ingredients) -> None:
    base, train = ingredients.base, ingredients.config.train
    if not ingredients.former:
        return
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


def _open_teacher(
    said: TeacherConfig, base: Checkpoint, opened: dict[Path, Checkpoint]
) -> Checkpoint:
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
