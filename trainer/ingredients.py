"""What goes into a merge, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dmm.merged import Styles, styles_from
from dmm.metadata import Family, Sampling, Style, inherited, merged_metadata
from dmm.style_prompts import StylePrompts
from trainer.adapter import trained_parameters
from trainer.checkpoint import Checkpoint
from trainer.config import MergeConfig
from trainer.config import Teacher as TeacherConfig
from trainer.controlnet import ControlNetCheckpoint
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


def _without_folder(paths: str | list[str]) -> str | list[str]:
    return Path(paths).name if isinstance(paths, str) else [Path(path).name for path in paths]


def _shown(said: TeacherConfig) -> dict[str, str]:
    """What a ControlNet is shown, without the folder it lies in."""
    return {"condition": said.condition.name} if said.condition else {}
