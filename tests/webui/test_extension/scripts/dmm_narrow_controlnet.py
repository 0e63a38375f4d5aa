"""ControlNet's extension takes one width of UNet for granted; tests have a narrower one."""

import sys

from modules import script_callbacks


def narrow():
    if guess := sys.modules.get("scripts.controlnet_model_guess"):
        guess.controlnet_default_config["model_channels"] = 32


script_callbacks.on_before_ui(narrow)
