"""The interface to a checkpoint, whatever it is stored as."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from dmm.errors import DmmError
from dmm.metadata import Family, PredictionType
from trainer.architecture import NETWORKS, Config
from trainer.checkpoint.network import Network
from trainer.hashed_files import HashedFiles

TEXT_ENCODERS = ("text_encoder", "text_encoder_2")
UNET_DEFAULTS = inspect.signature(UNet2DConditionModel.__init__).parameters


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint of the SD1 or SDXL family. Opening one reads headers only.

    Attributes:
        path: the file or folder.
        networks: those that the checkpoint has, by their names in a diffusers folder.
        prediction_type: what the UNet predicts.
        metadata: strings, of the file (of the UNet's file in a folder).
        weight_files: what `sha256` is taken of.
        styles: the style tensors by the authors' names; none in a plain checkpoint.
    """

    path: Path
    family: Family
    networks: Mapping[str, Network]
    prediction_type: PredictionType
    metadata: Mapping[str, str]
    weight_files: tuple[Path, ...]
    styles: Mapping[str, Tensor]

    @property
    def unet_config(self) -> Config:
        """Keyword arguments of `diffusers.UNet2DConditionModel`."""
        return self.networks["unet"].config

    @property
    def vae_config(self) -> Config | None:
        """Keyword arguments of `diffusers.AutoencoderKL`; None for a checkpoint without a VAE."""
        return self.networks["vae"].config if "vae" in self.networks else None

    @property
    def vae_scale_factor(self) -> int:
        """Pixels in a row for each of a latent; 8 for a checkpoint without a VAE."""
        return 2 ** (len(self.vae_config["block_out_channels"]) - 1) if self.vae_config else 8

    def latent_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        """(channels, height, width) of the latent of a picture of a width and height in pixels."""
        width, height = (side // self.vae_scale_factor for side in size)
        return self.unet_config["in_channels"], height, width

    @property
    def text_encoder_configs(self) -> list[Config]:
        """Keyword arguments of `transformers.CLIPTextConfig`; SDXL has two, CLIP and OpenCLIP."""
        return [self.networks[name].config for name in TEXT_ENCODERS if name in self.networks]

    def unet_tensors(self) -> Mapping[str, Tensor]:
        """The UNet's tensors by their names in diffusers, without style tensors; read lazily."""
        return self._network("unet").tensors

    def vae_tensors(self) -> Mapping[str, Tensor]:
        """The VAE's tensors by their names in diffusers; read lazily."""
        return self._network("vae").tensors

    def text_encoder_tensors(self, index: int) -> Mapping[str, Tensor]:
        """A text encoder's tensors by their names in files (`text_model.…`); read lazily."""
        return self._network(TEXT_ENCODERS[index]).tensors

    def load_unet(self, dtype: torch.dtype = torch.float32) -> UNet2DConditionModel:
        """The UNet on the CPU, a copy of its own."""
        return self._load("unet", dtype)

    def load_vae(self, dtype: torch.dtype = torch.float32) -> AutoencoderKL:
        """The VAE on the CPU, a copy of its own."""
        return self._load("vae", dtype)

    def load_text_encoder(
        self, index: int, dtype: torch.dtype = torch.float32
    ) -> CLIPTextModel | CLIPTextModelWithProjection:
        """A text encoder on the CPU, a copy of its own; SDXL's second has a projection."""
        return self._load(TEXT_ENCODERS[index], dtype)

    @property
    def sha256(self) -> str:
        """Hash of the file, as the WebUI and its mergers know it; in a folder, of the UNet's."""
        return self._hashed.sha256

    @cached_property
    def _hashed(self) -> HashedFiles:
        return HashedFiles(self.weight_files, self.path.name)

    def refuse_changed(self) -> None:
        """Check that the files, which a long run reads again and again, are what was hashed.

        Raises:
            DmmError: another program has written into one.
        """
        self._hashed.refuse_changed()

    @property
    def kind(self) -> str:
        """What a style learned from it is said to come from."""
        return "checkpoint"

    @property
    def source(self) -> str:
        """The names of its files, without their folders."""
        return self.path.name

    @property
    def made_of(self) -> Mapping[str, Any]:
        """What else a recipe says of it; JSON values only."""
        return {}

    def _load(self, name: str, dtype: torch.dtype) -> Any:
        network = self._network(name).load(dtype)
        self.refuse_changed()  # while it was read
        return network

    def _network(self, name: str) -> Network:
        if name not in self.networks:
            raise DmmError(
                f"{self.path} holds no {NETWORKS[name]}. Use a checkpoint that was not stripped of "
                "it, or name another checkpoint for it."
            )
        self.refuse_changed()
        return self.networks[name]


def refuse_other_architecture(base: Checkpoint, other: Checkpoint) -> None:
    """Check that two checkpoints have the same UNet.

    Raises:
        DmmError: they have not; the message says what differs.
    """
    if other.family != base.family:
        raise DmmError(
            f"{other.path} is of the {other.family} family, {base.path} of the {base.family} "
            "family. Both must share one architecture."
        )
    for key, value in base.unet_config.items():
        # A folder says more than the tensors of a file tell, and "null" where diffusers has False.
        found = other.unet_config.get(key, UNET_DEFAULTS[key].default)
        if key != "sample_size" and (found or None) != (value or None):
            raise DmmError(
                f"{other.path} has another UNet than {base.path}: `{key}` is {found} where the "
                f"latter has {value}. Both must share one architecture."
            )
