"""From a trained student to the files people use."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

from dmm.errors import DmmError
from dmm.layouts import single_file_tensors
from dmm.merged import write_merged, write_style_file
from dmm.metadata import read_dmm_entry
from dmm.tensors import open_tensors
from trainer.ingredients import Ingredients
from trainer.student import Student

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


def style_file_path(output: Path) -> Path:
    return output.with_name(f"{output.stem}.styles.safetensors")


def diffusers_path(output: Path) -> Path:
    return output.with_name(f"{output.stem}-diffusers")


def is_written(ingredients: Ingredients) -> bool:
    """Whether the output is there already and was made by this very merge."""
    output = ingredients.config.output
    if not output.is_file():
        return False
    try:
        recipe = read_dmm_entry(open_tensors(output).metadata).get("recipe")
    except DmmError:
        return False
    return recipe == json.loads(json.dumps(ingredients.recipe))


def export(student: Student, ingredients: Ingredients, *, overwrite: bool = False) -> list[Path]:
    """Writes the merged checkpoint and, where wanted, the style file and the diffusers folder."""
    config, base = ingredients.config, ingredients.base
    dtype = DTYPES[config.export.dtype]
    styles = ingredients.merged_styles(student.style_prompts)
    count = len(base.text_encoder_configs)
    checkpoint = single_file_tensors(
        base.family,
        student.unet.state_dict(),
        base.vae_tensors(),
        [base.text_encoder_tensors(index) for index in range(count)],
    )
    written = []
    if config.export.style_file:
        path = style_file_path(config.output)
        write_style_file(path, styles, ingredients.metadata, dtype=dtype, overwrite=True)
        written.append(path)
    if config.export.diffusers_folder:
        written.append(_write_diffusers(student, ingredients, dtype))
    # The merged file comes last: where it is, everything is.
    write_merged(
        config.output, checkpoint, styles, ingredients.metadata, dtype=dtype, overwrite=overwrite
    )
    return [config.output, *written]


def _write_diffusers(student: Student, ingredients: Ingredients, dtype: torch.dtype) -> Path:
    """The layout of the authors' release: a diffusers folder, style tensors in the UNet's file."""
    base, final = ingredients.base, diffusers_path(ingredients.config.output)
    folder = final.with_name(f"{final.name}.partial")
    shutil.rmtree(folder, ignore_errors=True)
    unet = UNet2DConditionModel.from_config(student.unet.config)
    unet.load_state_dict(student.unet.state_dict())
    mlp = "add_embedding2" if base.family == "sdxl" else "add_embedding"
    state = {**unet.state_dict(), **student.style_prompts.to_tensors(mlp)}
    unet.to(dtype).save_pretrained(
        folder / "unet", state_dict={name: tensor.to(dtype) for name, tensor in state.items()}
    )
    _as_authors(folder / "unet" / "config.json", base.family, len(ingredients.teachers))
    vae: AutoencoderKL = base.load_vae(dtype)
    vae.save_pretrained(folder / "vae")
    for index in range(len(base.text_encoder_configs)):
        name = "text_encoder" if index == 0 else f"text_encoder_{index + 1}"
        base.load_text_encoder(index, dtype).save_pretrained(folder / name)
    DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=base.prediction_type,
    ).save_pretrained(folder / "scheduler")
    shutil.rmtree(final, ignore_errors=True)
    folder.rename(final)
    return final


def _as_authors(config: Path, family: str, num_models: int) -> None:
    said = json.loads(config.read_text(encoding="utf-8"))
    said["_class_name"] = "DMMUNet2DConditionModel"
    said["addition_embed_type"] = "model_merge_xl" if family == "sdxl" else "model_merge"
    said["num_models"] = num_models
    config.write_text(json.dumps(said, indent=2), encoding="utf-8")
