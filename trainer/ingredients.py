"""What goes into a merge, opened and checked before anything starts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from dmm.errors import DmmError
from dmm.merged import Styles
from dmm.metadata import Family, Style, merged_metadata
from dmm.style_prompts import StylePrompts
from trainer.checkpoint import Checkpoint, open_checkpoint
from trainer.config import MergeConfig
from trainer.diffusion import PredictionType


@dataclass
class Ingredients:
    """The base and the teachers of a merge."""

    config: MergeConfig
    base: Checkpoint
    teachers: list[Checkpoint]

    @property
    def family(self) -> Family:
        return self.base.family

    @property
    def names(self) -> list[str]:
        return [teacher.name for teacher in self.config.teachers]

    @property
    def prediction_types(self) -> list[PredictionType]:
        """What each teacher predicts: what the config says, else what its file says."""
        return [
            said.prediction_type or checkpoint.prediction_type
            for said, checkpoint in zip(self.config.teachers, self.teachers, strict=True)
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
    def styles(self) -> list[Style]:
        return [
            Style(name, checkpoint.sha256, "checkpoint", checkpoint.path.name)
            for name, checkpoint in zip(self.names, self.teachers, strict=True)
        ]

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """How the file is made: enough to make it again, and to tell it from another merge."""
        config = self.config.model_dump(mode="json")
        for key in ("pictures", "prompts", "cache"):  # whose folders they are is nobody's business
            path = getattr(self.config.data, key)
            config["data"][key] = path.name if path else None
        return {
            "method": "dmm",
            "base": {"path": self.base.path.name, "sha256": self.base.sha256},
            "teachers": [vars(style) for style in self.styles],
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
    teachers = [open_checkpoint(teacher.path) for teacher in config.teachers]
    for teacher in teachers:
        _refuse_other_architecture(base, teacher)
        if not teacher.text_encoder_configs:
            raise DmmError(
                f"{teacher.path} has no text encoder, so what it was trained to read is unknown. "
                "Choose the full checkpoint."
            )
    ingredients = Ingredients(config, base, teachers)
    _, height, width = ingredients.latent_shape
    levels = len(base.unet_config["block_out_channels"]) - 1
    if height % 2**levels or width % 2**levels:
        raise DmmError(
            f"`data.resolution` {list(config.data.resolution)} gives a latent of {width} x "
            f"{height}, which the UNet cannot halve {levels} times. Choose multiples of 64."
        )
    return ingredients


def _refuse_other_architecture(base: Checkpoint, teacher: Checkpoint) -> None:
    if teacher.family != base.family:
        raise DmmError(
            f"{teacher.path} is of the {teacher.family} family, the base {base.path} of the "
            f"{base.family} family. Teachers and base must share one architecture."
        )
    for key, value in base.unet_config.items():
        if key != "sample_size" and teacher.unet_config.get(key) != value:
            raise DmmError(
                f"{teacher.path} has another UNet than the base {base.path}: `{key}` is "
                f"{teacher.unet_config.get(key)} where the base has {value}. "
                "Teachers and base must share one architecture."
            )
