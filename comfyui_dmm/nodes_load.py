"""Loading: a merged checkpoint, or the styles alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.sd
import folder_paths
from comfy_api.latest import io

from comfyui_dmm.folders import (
    CHECKPOINTS,
    STYLE_FOLDERS,
    fingerprint,
    is_offered,
    model_file,
    style_files,
)
from comfyui_dmm.plain import plain_tensors
from comfyui_dmm.sampling import with_style
from comfyui_dmm.sockets import DmmStyles
from dmm.errors import DmmError
from dmm.merged import Styles, read_styles, styles_in
from dmm.tensors import open_tensors

STYLES_OF_MODEL = "dmm_styles"
"""The attachment of a MODEL that holds the styles of its file, for `DMMApply`."""


def load_checkpoint(path: Path) -> tuple[Any, Any, Any, Styles]:
    """Reads a merged checkpoint once: MODEL, CLIP, VAE and its styles.

    Raises:
        DmmError: the file cannot be read, has no styles, or holds no UNet.
    """
    file = open_tensors(path)
    styles = styles_in(file, path)
    loaded = comfy.sd.load_state_dict_guess_config(
        plain_tensors(file),
        embedding_directory=folder_paths.get_folder_paths("embeddings"),
        metadata=file.metadata,
    )
    if loaded is None:
        raise DmmError(
            f"{path.name} has styles, but no UNet that ComfyUI knows. For a style file, use "
            "Load DMM Styles beside the loader of the model."
        )
    model, clip, vae, _ = loaded
    return in_no_style(model, styles), clip, vae, styles


def in_no_style(model: Any, styles: Styles) -> Any:
    """A clone of the MODEL that knows of its styles, and is in none until one is applied."""
    model = with_style(model, None)
    model.set_attachments(STYLES_OF_MODEL, styles)
    return model


def checkpoint_input() -> io.Combo.Input:
    return io.Combo.Input(
        "ckpt_name",
        options=folder_paths.get_filename_list(CHECKPOINTS),
        tooltip="A merged checkpoint, SD 1.5 or SDXL, from the checkpoints folder.",
    )


def checkpoint_outputs() -> list[io.Output]:
    return [
        io.Model.Output(tooltip="The model, in no style until one is applied."),
        io.Clip.Output(tooltip="The text encoder that the styles were learned with."),
        io.Vae.Output(tooltip="For encoding and decoding pictures."),
    ]


def styles_output() -> io.Output:
    return DmmStyles.Output(
        display_name="styles", tooltip="The file's styles, to pick and mix from."
    )


class LoadCheckpoint(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DMM_CheckpointLoader",
            display_name="Load DMM Checkpoint",
            category="DMM",
            description="Loads a merged checkpoint: one model that holds many styles.",
            inputs=[checkpoint_input()],
            outputs=[*checkpoint_outputs(), styles_output()],
        )

    @classmethod
    def validate_inputs(cls, ckpt_name: str | None) -> bool | str:
        return is_offered(ckpt_name, CHECKPOINTS)

    @classmethod
    def fingerprint_inputs(cls, ckpt_name: str | None) -> str:
        return fingerprint(ckpt_name, CHECKPOINTS)

    @classmethod
    def execute(cls, ckpt_name: str) -> io.NodeOutput:
        return io.NodeOutput(*load_checkpoint(model_file(ckpt_name, CHECKPOINTS)))


class LoadStyles(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DMM_StylesLoader",
            display_name="Load DMM Styles",
            category="DMM",
            description=(
                "Loads the styles alone, for a model from another loader: the same merged UNet, "
                "pruned or quantised by another tool."
            ),
            inputs=[
                io.Combo.Input(
                    "styles_name",
                    options=style_files(),
                    tooltip="A style file from the dmm_styles folder, or a merged checkpoint.",
                )
            ],
            outputs=[styles_output()],
        )

    @classmethod
    def validate_inputs(cls, styles_name: str | None) -> bool | str:
        return is_offered(styles_name, *STYLE_FOLDERS)

    @classmethod
    def fingerprint_inputs(cls, styles_name: str | None) -> str:
        return fingerprint(styles_name, *STYLE_FOLDERS)

    @classmethod
    def execute(cls, styles_name: str) -> io.NodeOutput:
        return io.NodeOutput(read_styles(model_file(styles_name, *STYLE_FOLDERS)))


NODES = [LoadCheckpoint, LoadStyles]
