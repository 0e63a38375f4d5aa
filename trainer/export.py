"""From a trained student to the files people use."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import DDIMScheduler
from torch import nn

from dmm.atomic import rename_whole
from dmm.computed import stored
from dmm.errors import DmmError
from dmm.layouts import CONTROLNET_PREFIX, controlnet_to_single, single_file_tensors
from dmm.merged import UNET_PREFIXES, Styles, find_styles, write_merged, write_style_file
from dmm.metadata import read_dmm_entry
from dmm.tensors import open_tensors, save_tensors
from trainer.adapter import lora_tensors
from trainer.checkpoint import Checkpoint
from trainer.config import MergeConfig
from trainer.diffusion import BETA_END, BETA_START
from trainer.disk import writing
from trainer.ingredients import Ingredients
from trainer.lora import host_metadata
from trainer.precision import DTYPES
from trainer.student import Student

UNET_WEIGHTS = Path("unet", "diffusion_pytorch_model.safetensors")
CODEBOOK = "model_embedding.weight"


def style_file_path(output: Path) -> Path:
    return output.with_name(f"{output.stem}.styles.safetensors")


def diffusers_path(output: Path) -> Path:
    return output.with_name(f"{output.stem}-diffusers")


def outputs(config: MergeConfig) -> list[Path]:
    """What a merge writes, the merged checkpoint first."""
    paths = [config.output]
    if config.train.adapter or any(teacher.condition for teacher in config.teachers):
        return paths  # an adapter is a style file besides; a ControlNet has no use for one
    if config.export.style_file:
        paths.append(style_file_path(config.output))
    if config.export.diffusers_folder:
        paths.append(diffusers_path(config.output))
    return paths


def is_made_by(path: Path, ingredients: Ingredients) -> bool:
    """Whether what lies at `path` came out of this very merge."""
    try:
        recipe = read_dmm_entry(open_tensors(_weights(path)).metadata).get("recipe")
    except DmmError:
        return False
    return recipe == json.loads(json.dumps(ingredients.recipe))


def is_complete(config: MergeConfig) -> bool:
    """Whether all `outputs` are there, in the numbers that the config asks for."""
    if not all(path.exists() for path in outputs(config)):
        return False
    files = [open_tensors(_weights(path)) for path in outputs(config)]
    prefixes = (*UNET_PREFIXES, CONTROLNET_PREFIX)
    dtypes = {file.dtype(find_styles(file, prefixes)[CODEBOOK]) for file in files}
    return dtypes == {DTYPES[config.export.dtype]}


def _weights(path: Path) -> Path:
    return path / UNET_WEIGHTS if path.is_dir() else path


def export(student: Student, ingredients: Ingredients) -> None:
    """Writes the `outputs`, over what is there."""
    config, base = ingredients.config, ingredients.base
    dtype = DTYPES[config.export.dtype]
    styles = ingredients.merged_styles(student.style_prompts)
    if config.train.adapter:
        _write_adapter(student, styles, ingredients, dtype)
        return
    if ingredients.is_controlnet:
        _write_controlnet(student, styles, ingredients, dtype)
        return
    count = len(base.text_encoder_configs)
    checkpoint = single_file_tensors(
        base.family,
        student.unet.state_dict(),
        base.vae_tensors(),
        [base.text_encoder_tensors(index) for index in range(count)],
    )
    if config.export.style_file:
        write_style_file(
            style_file_path(config.output),
            styles,
            ingredients.metadata,
            dtype=dtype,
            overwrite=True,
        )
    if config.export.diffusers_folder:
        _write_diffusers(student, ingredients, dtype)
    write_merged(
        config.output, checkpoint, styles, ingredients.metadata, dtype=dtype, overwrite=True
    )


def _write_adapter(
    student: Student, styles: Styles, ingredients: Ingredients, dtype: torch.dtype
) -> None:
    """Writes a LoRA for the base, which is a style file besides."""
    config, base = ingredients.config, ingredients.base
    tensors = lora_tensors(student.unet, base.family) | styles.tensors()
    metadata = ingredients.metadata | host_metadata(
        base.family, base.source, config.train.adapter.rank
    )
    save_tensors(config.output, stored(tensors, dtype), metadata, overwrite=True)


def _write_controlnet(
    student: Student, styles: Styles, ingredients: Ingredients, dtype: torch.dtype
) -> None:
    """Writes a ControlNet in the layout of ControlNet's authors, which every host reads."""
    names = student.unet.controlnet.state_dict()
    tensors = {
        CONTROLNET_PREFIX + name: source.read(names)
        for name, source in controlnet_to_single(names).items()
    }
    tensors |= styles.tensors(CONTROLNET_PREFIX)
    save_tensors(
        ingredients.config.output, stored(tensors, dtype), ingredients.metadata, overwrite=True
    )


def _write_diffusers(student: Student, ingredients: Ingredients, dtype: torch.dtype) -> None:
    """Writes the diffusers folder whole or not at all; the one that was there stays until then."""
    final = diffusers_path(ingredients.config.output)
    partial, former = (final.with_name(f"{final.name}.{end}") for end in ("partial", "former"))
    networks = _networks_beside_unet(ingredients.base, dtype)
    with writing(final):
        _bring_back(former, final)  # which a kill may have kept the last run from
        for left_by_a_kill in (partial, former):
            shutil.rmtree(left_by_a_kill, ignore_errors=True)
        try:
            _fill_diffusers(partial, student, networks, ingredients, dtype)
            # Moved away, since a folder that is half removed looks like somebody else's.
            if final.exists():
                final.rename(former)
            rename_whole(partial, final)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            _bring_back(former, final)
    shutil.rmtree(former, ignore_errors=True)


def _bring_back(former: Path, final: Path) -> None:
    """Undoes that a folder was moved away, where no other has taken its place."""
    if former.exists() and not final.exists():
        former.rename(final)


def _networks_beside_unet(base: Checkpoint, dtype: torch.dtype) -> dict[str, nn.Module]:
    """What a diffusers folder holds besides, by the names of its folders."""
    networks = {"vae": base.load_vae(dtype)}
    for index in range(len(base.text_encoder_configs)):
        name = "text_encoder" if index == 0 else f"text_encoder_{index + 1}"
        networks[name] = base.load_text_encoder(index, dtype)
    return networks


def _fill_diffusers(
    folder: Path,
    student: Student,
    networks: Mapping[str, nn.Module],
    ingredients: Ingredients,
    dtype: torch.dtype,
) -> None:
    """The layout of the authors' release: a diffusers folder, style tensors in the UNet's file."""
    base = ingredients.base
    student.unet.save_config(folder / "unet")
    _as_authors(folder / "unet" / "config.json", base.family, len(ingredients.names))
    mlp = "add_embedding2" if base.family == "sdxl" else "add_embedding"
    unet = {**student.unet.state_dict(), **student.style_prompts.to_tensors(mlp)}
    metadata = {"format": "pt", **ingredients.metadata}
    save_tensors(folder / UNET_WEIGHTS, stored(unet, dtype), metadata)
    for name, network in networks.items():
        network.save_pretrained(folder / name)
    DDIMScheduler(
        beta_start=BETA_START,
        beta_end=BETA_END,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=base.prediction_type,
    ).save_pretrained(folder / "scheduler")


def _as_authors(config: Path, family: str, num_models: int) -> None:
    said = json.loads(config.read_text(encoding="utf-8"))
    said["_class_name"] = "DMMUNet2DConditionModel"
    said["addition_embed_type"] = "model_merge_xl" if family == "sdxl" else "model_merge"
    said["num_models"] = num_models
    config.write_text(json.dumps(said, indent=2), encoding="utf-8")
