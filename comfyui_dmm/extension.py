"""The node pack as ComfyUI loads it."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io
from server import PromptServer

from comfyui_dmm import (
    nodes_adapter,
    nodes_apply,
    nodes_authors,
    nodes_controlnet,
    nodes_load,
    nodes_regions,
    nodes_save,
    nodes_schedule,
    nodes_style,
    nodes_tiles,
)
from comfyui_dmm.folders import add_style_folders
from comfyui_dmm.routes import add_routes

NODE_MODULES = (
    nodes_load,
    nodes_adapter,
    nodes_controlnet,
    nodes_style,
    nodes_apply,
    nodes_regions,
    nodes_schedule,
    nodes_tiles,
    nodes_save,
    nodes_authors,
)


class DmmExtension(ComfyExtension):
    """Each node module lists its nodes in `NODES`."""

    def __init__(self) -> None:
        add_style_folders()
        add_routes(PromptServer.instance)

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [node for module in NODE_MODULES for node in module.NODES]
