"""Adapters: styles and a LoRA in one small file, for a checkpoint that is there already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.lora
import folder_paths
from comfy_api.latest import io

from comfyui_dmm.folders import LORAS, fingerprint, is_offered, model_file
from comfyui_dmm.nodes_load import in_no_style, styles_output
from comfyui_dmm.plain import plain_tensors
from dmm.errors import DmmError
from dmm.ldm import check_fits
from dmm.merged import Styles, find_styles, is_adapter, styles_in
from dmm.tensors import open_tensors


def load_adapter(model: Any, path: Path) -> tuple[Any, Styles]:
    """A clone of the MODEL with the adapter on it, and the adapter's styles.

    Raises:
        DmmError: the file is no adapter, or does not fit the model.
    """
    file = open_tensors(path)
    if not is_adapter(file):
        kind = "a merged checkpoint or style file" if find_styles(file) else "a LoRA without styles"
        raise DmmError(
            f"{path.name} is no adapter but {kind}. Use the node that loads those, or choose a "
            "file that `trainer/run.py merge` wrote with `train.adapter`."
        )
    styles = styles_in(file, path)
    check_fits(model.model.diffusion_model, styles.family, styles.prompts.dim)
    lora = plain_tensors(file)
    places = comfy.lora.model_lora_keys_unet(model.model, {})
    modules = {name.partition(".")[0] for name in lora}
    strangers = sorted(modules - places.keys())
    if strangers:
        raise DmmError(
            f"{path.name} does not fit this model: {len(strangers)} of the {len(modules)} layers "
            f"it changes are not there ({', '.join(strangers[:3])}). Load the checkpoint it was "
            f"trained on: {_base_of(styles)}."
        )
    adapted = model.clone()
    adapted.add_patches(comfy.lora.load_lora(lora, places))
    return in_no_style(adapted, styles), styles


def _base_of(styles: Styles) -> str:
    base = styles.recipe.get("base")
    return str(base.get("path")) if isinstance(base, dict) else "its metadata does not say which"


class LoadAdapter(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DMM_AdapterLoader",
            display_name="Load DMM Adapter",
            category="DMM",
            description=(
                "Puts an adapter on the checkpoint it was trained on: a LoRA that holds many "
                "styles, a small part of a merged checkpoint's size."
            ),
            inputs=[
                io.Model.Input("model", tooltip="The checkpoint that the adapter was trained on."),
                io.Combo.Input(
                    "adapter_name",
                    options=folder_paths.get_filename_list(LORAS),
                    tooltip="An adapter from the loras folder.",
                ),
            ],
            outputs=[
                io.Model.Output(tooltip="The model, in no style until one is applied."),
                styles_output(),
            ],
        )

    @classmethod
    def validate_inputs(cls, adapter_name: str | None) -> bool | str:
        return is_offered(adapter_name, LORAS)

    @classmethod
    def fingerprint_inputs(cls, model: Any = None, adapter_name: str | None = None) -> str:
        return fingerprint(adapter_name, LORAS)

    @classmethod
    def execute(cls, model: Any, adapter_name: str) -> io.NodeOutput:
        return io.NodeOutput(*load_adapter(model, model_file(adapter_name, LORAS)))


NODES = [LoadAdapter]
