"""The accordion. Its sliders are drawn by `javascript/dmm_styles.js`, and write the mix."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import gradio as gr
from gradio.components import Component
from modules.ui_components import FormRow, InputAccordion

from dmm.words import MAX_STRENGTH, METHODS, MIXINGS
from sd_webui_dmm import settings
from sd_webui_dmm.controlnets import controls
from sd_webui_dmm.request import Request, from_infotext, said_in

MIX_HINT = "ink:0.7, anime:0.3"
REGIONS_HINT = """ink:1
anime:0.5, photo:0.5 @ 0, 0.25, 0.5, 0.75"""
REGIONS_INFO = (
    "A line a region: its mix, and behind an @ a rectangle (x, y, width and height, as fractions "
    "of the picture) or a painted mask. Lines without an @ are the layout's cells, row by row."
)


def build(elem_id: Callable[[str], str]) -> tuple[list[Component], list[tuple]]:
    """Builds the accordion.

    The host calls this several times for each tab, before it has loaded a checkpoint: so it asks
    nothing, and leaves nothing behind.

    Every component has a value of its type, since the hosts read an infotext by it.

    Returns:
        The components: "enabled", then `Request`'s attributes in their order, then the controls of
        ControlNets; and how each is set from a parsed infotext.
    """
    default = settings.default_request()
    with InputAccordion(False, label="DMM styles", elem_id=elem_id("enabled")) as enabled:
        gr.HTML(elem_id=elem_id("sliders"), elem_classes=["dmm-sliders"])
        gr.HTML(elem_id=elem_id("presets"))
        mix = gr.Textbox(Request.mix, label="Mix", placeholder=MIX_HINT, elem_id=elem_id("mix"))
        strength = gr.Slider(
            0.0,
            MAX_STRENGTH,
            default.strength,
            step=0.05,
            label="Strength",
            elem_id=elem_id("strength"),
        )
        with FormRow():
            mixing = gr.Radio(
                list(MIXINGS), value=default.mixing, label="Mixing", elem_id=elem_id("mixing")
            )
            normalise = gr.Checkbox(
                Request.normalise, label="Normalise the weights", elem_id=elem_id("normalise")
            )
        with gr.Accordion("Regions", open=False, elem_id=elem_id("layout")):
            gr.HTML(elem_id=elem_id("region_editor"))
            with FormRow():
                columns = gr.Textbox(
                    Request.columns,
                    label="Columns",
                    placeholder="1,2,1",
                    elem_id=elem_id("columns"),
                )
                rows = gr.Textbox(
                    Request.rows, label="Rows", placeholder="1,1", elem_id=elem_id("rows")
                )
                feather = gr.Slider(
                    0, 256, Request.feather, step=1, label="Feather", elem_id=elem_id("feather")
                )
            method = gr.Radio(
                list(METHODS),
                value=Request.method,
                label="Method",
                info="In one pass regions see one another, and cost next to nothing. Per-region "
                "latents are strictly apart, at the cost of a pass for each region.",
                elem_id=elem_id("method"),
            )
            with gr.Accordion("As text", open=False, elem_id=elem_id("regions_as_text")):
                regions = gr.Textbox(
                    Request.regions,
                    label="Region styles",
                    placeholder=REGIONS_HINT,
                    info=REGIONS_INFO,
                    lines=3,
                    max_lines=8,
                    elem_id=elem_id("regions"),
                )
        with gr.Accordion("Schedule", open=False, elem_id=elem_id("schedule")):
            with FormRow():
                start, end, fade = (
                    gr.Slider(0.0, 1.0, value, step=0.01, label=label, elem_id=elem_id(name))
                    for name, value, label in (
                        ("start", Request.start, "Start"),
                        ("end", Request.end, "End"),
                        ("fade", Request.fade, "Fade"),
                    )
                )
            otherwise = gr.Textbox(
                Request.otherwise,
                label="Mix before and after",
                placeholder="anime:1; empty for no style",
                info="Start, end, and the fade in and out are shares of the steps, from 0 to 1.",
                elem_id=elem_id("otherwise"),
            )
    chosen = controls.build(elem_id)
    parts = {
        "mix": mix,
        "normalise": normalise,
        "strength": strength,
        "mixing": mixing,
        "columns": columns,
        "rows": rows,
        "regions": regions,
        "feather": feather,
        "method": method,
        "start": start,
        "end": end,
        "fade": fade,
        "otherwise": otherwise,
    }
    for part in (strength, mixing):  # our settings give their values, instead of ui-config.json
        part.do_not_save_to_config = True
    restored = [(part, partial(from_infotext, name=name)) for name, part in parts.items()]
    restored += [(enabled, said_in), (chosen, controls.from_infotext)]
    return [enabled, *parts.values(), chosen], restored
