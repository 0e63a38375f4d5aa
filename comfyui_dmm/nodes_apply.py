"""Applying a style: to everything a MODEL paints, or to what one prompt asks for."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from comfyui_dmm.sampling import set_style, with_style
from comfyui_dmm.sockets import ChosenStyle, DmmStyle


class ApplyStyle(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DMM_ApplyStyle",
            display_name="Apply DMM Style",
            category="DMM",
            description="Paints in a style. It replaces the style the model had.",
            inputs=[
                io.Model.Input("model", tooltip="A merged checkpoint's model."),
                DmmStyle.Input("style", tooltip="From any of the DMM style nodes."),
            ],
            outputs=[io.Model.Output(tooltip="The model in that style.")],
        )

    @classmethod
    def execute(cls, model: Any, style: ChosenStyle) -> io.NodeOutput:
        return io.NodeOutput(with_style(model, style))


class SetStyleOnConditioning(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DMM_SetStyleOnConditioning",
            display_name="Set DMM Style on Conditioning",
            category="DMM",
            description=(
                "Gives a prompt its own style, in place of the model's: the negative prompt, or "
                "one with a mask or an area. All prompts are still painted in one pass."
            ),
            inputs=[
                io.Conditioning.Input("conditioning", tooltip="A prompt, or several combined."),
                DmmStyle.Input("style", tooltip="From any of the DMM style nodes."),
            ],
            outputs=[io.Conditioning.Output(tooltip="The prompt in that style.")],
        )

    @classmethod
    def execute(cls, conditioning: list, style: ChosenStyle) -> io.NodeOutput:
        return io.NodeOutput(set_style(conditioning, style))


NODES = [ApplyStyle, SetStyleOnConditioning]
