"""The merged checkpoint and the style file: reading their styles, writing them."""

from __future__ import annotations

import json
from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dmm.computed import stored
from dmm.errors import DmmError
from dmm.folders import weight_files
from dmm.layouts import UNET_PREFIX
from dmm.metadata import Family, Sampling, Style, read_dmm_entry, read_sampling, read_styles_entry
from dmm.style_prompts import StylePrompts, mlp_name, style_tensor_names
from dmm.tensors import TensorFile, open_tensors, save_tensors


@dataclass
class Styles:
    """A file's styles: the prompts, and what each is called.

    `metadata` is the file's own as it stands there, `recipe` the part of it that tells how the
    file was made.
    """

    prompts: StylePrompts
    styles: list[Style]
    family: Family
    recipe: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return [style.name for style in self.styles]

    @property
    def sampling(self) -> Sampling | None:
        """How the file wants to be sampled, where it was trained for few steps."""
        return read_sampling(self.metadata)

    def tensors(self, prefix: str = UNET_PREFIX) -> dict[str, Tensor]:
        """The style tensors under the names of the single-file layout."""
        mlp = "add_embedding2" if self.family == "sdxl" else "add_embedding"
        return {prefix + name: tensor for name, tensor in self.prompts.to_tensors(mlp).items()}


UNET_PREFIXES = (UNET_PREFIX, "")
"""Before the style tensors in the single-file layout and in a diffusers folder."""


def find_styles(
    names: Mapping[str, object], prefixes: tuple[str, ...] = UNET_PREFIXES
) -> dict[str, str]:
    """Where a file keeps its style tensors: the authors' name → the file's own.

    Empty for a file that has no styles. Those of a merged ControlNet have a prefix of their own,
    `CONTROLNET_PREFIX`, so that nobody takes them for a UNet's.
    """
    for prefix in prefixes:
        if f"{prefix}model_embedding.weight" in names:
            plain = {name.removeprefix(prefix): name for name in names if name.startswith(prefix)}
            return {
                name: plain[name] for name in style_tensor_names(mlp_name(plain)) if name in plain
            }
    return {}


def is_adapter(names: Mapping[str, object]) -> bool:
    """Whether a file is an adapter: a LoRA in kohya's spelling that carries styles.

    It paints on its base, to which any host applies the LoRA.
    """
    return bool(find_styles(names)) and any(name.startswith("lora_unet_") for name in names)


def read_styles(path: str | Path) -> Styles:
    """Reads the styles of a merged checkpoint, a style file, or a diffusers folder.

    Raises:
        DmmError: the file cannot be read, has no styles, or its style tensors do not fit together.
    """
    path = Path(path)
    files = [open_tensors(file) for file in (_unet_files(path) if path.is_dir() else [path])]
    tensors: Mapping[str, Tensor] = ChainMap(
        *files  # type: ignore[arg-type] # it asks for maps to write to, and only reads
    )
    return styles_from(tensors, ChainMap(*(file.metadata for file in files)), path)


def styles_in(file: TensorFile, path: Path, prefixes: tuple[str, ...] = UNET_PREFIXES) -> Styles:
    """The styles of an open file, for whoever reads the rest of it as well.

    Args:
        path, prefixes: as `styles_from` takes them.

    Raises:
        DmmError: as `read_styles`.
    """
    return styles_from(file, file.metadata, path, prefixes)


def styles_from(
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    path: Path,
    prefixes: tuple[str, ...] = UNET_PREFIXES,
) -> Styles:
    """The styles among tensors that are open already, whatever files they lie in.

    Args:
        path: what the user chose, the file or its folder, for its side file and for messages.
        prefixes: as `find_styles` takes them.

    Raises:
        DmmError: as `read_styles`.
    """
    where = find_styles(dict.fromkeys(tensors), prefixes)
    if not where:
        raise DmmError(
            f"{path} has no style prompts: it is a plain checkpoint. Choose a merged one "
            "(made by `trainer/run.py merge`), or a style file."
        )
    try:
        prompts = StylePrompts.from_tensors({name: tensors[key] for name, key in where.items()})
    except DmmError as error:
        raise DmmError(f"{path}: {error}") from None
    entry = read_dmm_entry(metadata)
    recipe = entry.get("recipe")
    return Styles(
        prompts=prompts,
        styles=read_styles_entry(_side_names(path) or entry.get("styles"), prompts.num_styles),
        family="sdxl" if mlp_name(where) == "add_embedding2" else "sd1",
        recipe=recipe if isinstance(recipe, dict) else {},
        metadata=dict(metadata),
    )


def write_style_file(
    path: str | Path,
    styles: Styles,
    metadata: Mapping[str, str],
    *,
    dtype: torch.dtype = torch.float32,
    overwrite: bool = False,
) -> None:
    """Writes the style tensors alone: ~13 MB in fp32, ~6.6 MB in fp16 at d = 1280."""
    save_tensors(path, stored(styles.tensors(), dtype), metadata, overwrite=overwrite)


def write_merged(
    path: str | Path,
    checkpoint: Mapping[str, Tensor],
    styles: Styles,
    metadata: Mapping[str, str],
    *,
    dtype: torch.dtype = torch.float16,
    overwrite: bool = False,
) -> None:
    """Writes the merged checkpoint: a plain checkpoint's tensors and the style tensors.

    Args:
        checkpoint: UNet, VAE and text encoders under the names of the single-file layout.
        dtype: of every floating point tensor in the file.
    """
    tensors = ChainMap(
        styles.tensors(),
        checkpoint,  # type: ignore[arg-type] # it asks for maps to write to, and only reads
    )
    save_tensors(path, stored(tensors, dtype), metadata, overwrite=overwrite)


def _unet_files(folder: Path) -> list[Path]:
    for candidate in (folder / "unet", folder):
        if files := weight_files(candidate):
            return files
    raise DmmError(
        f"{folder} holds no unet/diffusion_pytorch_model.safetensors. "
        "Choose a diffusers folder, or a .safetensors file."
    )


def side_file(path: Path) -> Path:
    """`<checkpoint>.styles.json`, a JSON list of names that go before the file's own."""
    return path.with_name(f"{path.name if path.is_dir() else path.stem}.styles.json")


def _side_names(path: Path) -> object:
    side = side_file(path)
    if not side.exists():
        return None
    try:
        return json.loads(side.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DmmError(
            f'{side} is not JSON ({error}). Write it as ["ink", "anime"], in the order of the file.'
        ) from None
