"""ControlNets: merged as UNets are, on a base that stays as it is (rebuttal, Q.24)."""

from trainer.controlnet.applied import ControlledUNet, ControlNetCheckpoint, on_base
from trainer.controlnet.conditions import MADE, Conditions
from trainer.controlnet.file import ControlNetFile, is_controlnet, open_controlnet

__all__ = [
    "MADE",
    "Conditions",
    "ControlNetCheckpoint",
    "ControlNetFile",
    "ControlledUNet",
    "is_controlnet",
    "on_base",
    "open_controlnet",
]
