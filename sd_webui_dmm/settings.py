"""The section "DMM styles" of the host's settings page."""

from __future__ import annotations

import gradio as gr
from modules import shared

from dmm.words import MAX_STRENGTH, MIXINGS
from sd_webui_dmm.request import Request

SECTION = ("dmm", "DMM styles")
PREVIEW_PROMPT = "a house by a lake, a tree, mountains"


def register() -> None:
    options = {
        "dmm_strength": shared.OptionInfo(
            Request.strength,
            "Strength of the styles, unless the accordion or a request says otherwise",
            gr.Slider,
            {"minimum": 0.0, "maximum": MAX_STRENGTH, "step": 0.05},
            section=SECTION,
        ).needs_reload_ui(),
        "dmm_mixing": shared.OptionInfo(
            Request.mixing,
            "Mixing of the styles, unless the accordion or a request says otherwise",
            gr.Radio,
            {"choices": list(MIXINGS)},
            section=SECTION,
        ).needs_reload_ui(),
        "dmm_preview_prompt": shared.OptionInfo(
            PREVIEW_PROMPT,
            "Prompt of the pictures on the cards of the tab DMM",
            gr.Textbox,
            section=SECTION,
        ),
        "dmm_trainer_python": shared.OptionInfo(
            "",
            "Python of the trainer's environment, for the tab DMM merge; empty for the one that "
            "install.py makes",
            gr.Textbox,
            section=SECTION,
            restrict_api=True,
        ),
    }
    for name, option in options.items():
        shared.opts.add_option(name, option)


def default_request() -> Request:
    """What is painted where nobody says otherwise."""
    return Request(
        strength=float(getattr(shared.opts, "dmm_strength", Request.strength)),
        mixing=getattr(shared.opts, "dmm_mixing", Request.mixing),
    )


def preview_prompt() -> str:
    # Without a page, as in the API alone, the host asks nobody for settings.
    return getattr(shared.opts, "dmm_preview_prompt", PREVIEW_PROMPT)


def trainer_python() -> str:
    """Empty for the one that `install.py` makes."""
    return getattr(shared.opts, "dmm_trainer_python", "").strip()
