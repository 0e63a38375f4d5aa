"""A merged ControlNet: one file for many controls, each chosen by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import comfy.controlnet
import folder_paths
import torch
from comfy_api.latest import io
from torch import Tensor

from comfyui_dmm.folders import CONTROL_NETS, fingerprint, is_offered, model_file
from comfyui_dmm.plain import plain_tensors
from dmm.errors import DmmError
from dmm.layouts import CONTROLNET_PREFIX
from dmm.ldm import styled
from dmm.merged import Styles, find_styles, styles_in
from dmm.regions import Regions
from dmm.resolving import resolve_regions
from dmm.tensors import open_tensors

_loaded: WeakValueDictionary[tuple[Path, str], Any] = WeakValueDictionary()
"""What is in use, by file and fingerprint: several controls of one file share its weights."""


def load_controlnet(name: str, control: str) -> Any:
    """A CONTROL_NET that follows one of the file's controls.

    Raises:
        DmmError: the file is no merged ControlNet, or has no such control.
    """
    path = model_file(name, CONTROL_NETS)
    controls = read_controls(path)
    if not control.strip():
        raise DmmError(f"No control is chosen. {path.name} has: {', '.join(controls.names)}.")
    regions = resolve_regions(controls, {control.strip(): 1.0})
    key = path, fingerprint(name, CONTROL_NETS)
    plain = _loaded.get(key) or _load(path)
    _loaded[key] = plain
    chosen = plain.copy()
    chosen.control_model = _Steered(plain, regions)
    return chosen


def read_controls(path: Path) -> Styles:
    """The controls of a merged ControlNet, which are to it what styles are to a UNet."""
    file = open_tensors(path)
    if not find_styles(file, (CONTROLNET_PREFIX,)):
        raise DmmError(
            f"{path.name} is no merged ControlNet. Use Load ControlNet Model for a plain one, or "
            "choose a file that `trainer/run.py merge` made of several."
        )
    return styles_in(file, path, (CONTROLNET_PREFIX,))


def _load(path: Path) -> Any:
    tensors = plain_tensors(open_tensors(path), (CONTROLNET_PREFIX,))
    loaded = comfy.controlnet.load_controlnet_state_dict(tensors)
    if not isinstance(loaded, comfy.controlnet.ControlNet):
        raise DmmError(f"{path.name} has controls, but no ControlNet that ComfyUI knows.")
    return loaded


class _Steered:
    """Stands in for a ControlNet's network: it is called in a control, and is as before after.

    Args:
        plain: the CONTROL_NET whose network it is, kept for others to share.
    """

    def __init__(self, plain: Any, control: Regions) -> None:
        self._plain, self._control = plain, control

    @property
    def dtype(self) -> torch.dtype:
        return self._plain.control_model.dtype

    def __call__(self, *args: Any, **kwargs: Any) -> dict[str, list[Tensor]]:
        """What the network gives each block of the UNet, [B, C, h, w], by the block's kind."""
        with styled(self._plain.control_model, self._control) as network:
            return network(*args, **kwargs)


class LoadControlNet(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DMM_ControlNetLoader",
            display_name="Load DMM ControlNet",
            category="DMM",
            description=(
                "Loads a merged ControlNet, one file for many controls, and chooses one of them. "
                "Use it as any ControlNet: with Apply ControlNet, on any model of its family."
            ),
            inputs=[
                io.Combo.Input(
                    "control_net_name",
                    options=folder_paths.get_filename_list(CONTROL_NETS),
                    tooltip="A merged ControlNet from the controlnet folder.",
                ),
                io.String.Input("control", default="", tooltip="The name of a control in it."),
            ],
            outputs=[io.ControlNet.Output(tooltip="The ControlNet in that control.")],
        )

    @classmethod
    def validate_inputs(cls, control_net_name: str | None) -> bool | str:
        return is_offered(control_net_name, CONTROL_NETS)

    @classmethod
    def fingerprint_inputs(cls, control_net_name: str | None, control: str | None = None) -> str:
        return fingerprint(control_net_name, CONTROL_NETS)

    @classmethod
    def execute(cls, control_net_name: str, control: str) -> io.NodeOutput:
        return io.NodeOutput(load_controlnet(control_net_name, control))


NODES = [LoadControlNet]
