"""The nodes of the authors' plugin (songtianhui/ComfyUI-DMM), so that its workflows run here.

Same ids, inputs and outputs. Unlike there, a style belongs to the MODEL it was applied to: two
branches of a graph do not share it.
"""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from comfyui_dmm.folders import CHECKPOINTS, model_file
from comfyui_dmm.nodes_load import (
    STYLES_OF_MODEL,
    LoadCheckpoint,
    checkpoint_input,
    checkpoint_outputs,
    load_checkpoint,
)
from comfyui_dmm.nodes_style import picked
from comfyui_dmm.sampling import with_style
from dmm.errors import DmmError


class AuthorsLoader(LoadCheckpoint):
    """Gives out no styles: AuthorsApply finds them on the MODEL."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DMMLoader",
            display_name="DMMLoader (authors' workflows)",
            category="DMM",
            description="For workflows of the authors' plugin. Load DMM Checkpoint does more.",
            inputs=[checkpoint_input()],
            outputs=checkpoint_outputs(),
            is_deprecated=True,
        )

    @classmethod
    def execute(cls, ckpt_name: str) -> io.NodeOutput:
        model, clip, vae, _styles = load_checkpoint(model_file(ckpt_name, CHECKPOINTS))
        return io.NodeOutput(model, clip, vae)


class AuthorsApply(io.ComfyNode):
    """A style by its number in the codebook, which is all that their files tell."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DMMApply",
            display_name="DMMApply (authors' workflows)",
            category="DMM",
            description="For workflows of the authors' plugin. Apply DMM Style does more.",
            inputs=[
                io.Model.Input("model", tooltip="A model from one of the DMM loaders."),
                io.Int.Input("index", default=0, min=0, tooltip="The style's number, from 0."),
            ],
            outputs=[io.Model.Output(tooltip="The model, painting in that style.")],
            is_deprecated=True,
        )

    @classmethod
    def execute(cls, model: Any, index: int) -> io.NodeOutput:
        styles = model.get_attachment(STYLES_OF_MODEL)
        if styles is None:
            raise DmmError(
                "The model has no styles. Load it with DMMLoader or Load DMM Checkpoint, or use "
                "Load DMM Styles and Apply DMM Style."
            )
        if index >= len(styles.names):
            raise DmmError(
                f"There is no style number {index}: the file has the styles 0 to "
                f"{len(styles.names) - 1} ({', '.join(styles.names)})."
            )
        style = picked(styles, {styles.names[index]: 1.0}, strength=1.0)
        return io.NodeOutput(with_style(model, style))


NODES = [AuthorsLoader, AuthorsApply]
