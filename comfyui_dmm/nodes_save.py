"""Saving: a merged checkpoint with whatever was patched into it, or the styles alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy import model_base
from comfy.cli_args import args
from comfy_api.latest import io, ui

from comfyui_dmm.combos import choose, is_option
from comfyui_dmm.sockets import DmmStyles
from comfyui_dmm.weights import checkpoint_tensors
from dmm.ldm import check_fits
from dmm.merged import Styles, write_merged, write_style_file
from dmm.metadata import merged_metadata

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}

STALE = ("modelspec.hash_sha256", "prompt", "workflow")
"""Metadata of the file that the styles are from, which is not true of a file made out of it."""


def new_file(filename_prefix: str) -> Path:
    """The next free name in the output folder, which ComfyUI refuses to leave."""
    folder, name, counter, *_ = folder_paths.get_save_image_path(
        filename_prefix, folder_paths.get_output_directory()
    )
    return Path(folder, f"{name}_{counter:05}_.safetensors")


def metadata_of(
    path: Path, styles: Styles, predicts_v: bool, hidden: io.HiddenHolder
) -> dict[str, str]:
    """The recipe the styles came with and, unless the host is told to keep it out, the workflow."""
    kept = {key: value for key, value in styles.metadata.items() if key not in STALE}
    made = merged_metadata(
        styles.styles,
        styles.recipe,
        family=styles.family,
        title=path.stem,
        resolution=None,
        prediction_type="v_prediction" if predicts_v else "epsilon",
    )
    if args.disable_metadata:
        return kept | made
    said = {"prompt": hidden.prompt} | (hidden.extra_pnginfo or {})
    return kept | made | {key: json.dumps(value) for key, value in said.items()}


def prefix_input(default: str) -> io.String.Input:
    return io.String.Input(
        "filename_prefix",
        default=default,
        tooltip="Folder and name in the output folder; a number is added to it.",
    )


def dtype_input(default: str) -> io.Combo.Input:
    return io.Combo.Input(
        "dtype",
        options=list(DTYPES),
        default=default,
        tooltip="How numbers are stored: fp16 and bf16 take half the space of fp32.",
    )


class SaveCheckpoint(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DMM_CheckpointSave",
            display_name="Save DMM Checkpoint",
            category="DMM",
            description=(
                "Saves a merged checkpoint with its styles. LoRAs on the model and the text "
                "encoder are merged in; the recipe and this workflow go into the metadata."
            ),
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model. A style applied to it is not baked in."
                ),
                DmmStyles.Input("styles", tooltip="The styles that belong to the model."),
                io.Clip.Input("clip", optional=True, tooltip="Without it, no text encoder."),
                io.Vae.Input("vae", optional=True, tooltip="Without it, no VAE."),
                prefix_input("checkpoints/DMM"),
                dtype_input("fp16"),
            ],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, dtype: str | None) -> bool | str:
        return is_option(DTYPES, dtype, "dtype")

    @classmethod
    def execute(
        cls,
        model: Any,
        styles: Styles,
        filename_prefix: str,
        dtype: str,
        clip: Any = None,
        vae: Any = None,
    ) -> io.NodeOutput:
        check_fits(model.model.diffusion_model, styles.family, styles.prompts.dim)
        path = new_file(filename_prefix)
        tensors = checkpoint_tensors(model, clip, vae)
        predicts_v = model.model.model_type == model_base.ModelType.V_PREDICTION
        metadata = metadata_of(path, styles, predicts_v, cls.hidden)
        write_merged(path, tensors, styles, metadata, dtype=choose(DTYPES, dtype, "dtype"))
        return saved(path)


class SaveStyles(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DMM_StylesSave",
            display_name="Save DMM Styles",
            category="DMM",
            description=(
                "Saves the styles alone, about 13 MB, for a UNet that another tool prunes or "
                "quantises. Load DMM Styles reads the file."
            ),
            inputs=[
                DmmStyles.Input("styles", tooltip="The styles of a merged checkpoint."),
                prefix_input("dmm_styles/DMM"),
                dtype_input("fp32"),
            ],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, dtype: str | None) -> bool | str:
        return is_option(DTYPES, dtype, "dtype")

    @classmethod
    def execute(cls, styles: Styles, filename_prefix: str, dtype: str) -> io.NodeOutput:
        path = new_file(filename_prefix)
        predicts_v = styles.metadata.get("modelspec.prediction_type") == "v"
        metadata = metadata_of(path, styles, predicts_v, cls.hidden)
        write_style_file(path, styles, metadata, dtype=choose(DTYPES, dtype, "dtype"))
        return saved(path)


def saved(path: Path) -> io.NodeOutput:
    """Tells clients of the API which file was written."""
    name = path.relative_to(folder_paths.get_output_directory())
    return io.NodeOutput(ui=ui.PreviewText(name.as_posix()))


NODES = [SaveCheckpoint, SaveStyles]
