"""The accordion. Its sliders are drawn by `javascript/dmm_styles.js`, and write the mix."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import gradio as gr
from gradio.components import Component
from modules.ui_components import FormRow, InputAccordion

from sd_webui_dmm.request import MIXINGS, Request, from_infotext, said_in

MIX_HINT = "ink:0.7, anime:0.3"
REGIONS_HINT = "A mix a line, row by row. A region without one has the mix above."


def build(elem_id: Callable[[str], str]) -> tuple[list[Component], list[tuple]]:
    """Builds the accordion.

    The host calls this several times for each tab, before it has loaded a checkpoint: so it asks
    nothing, and leaves nothing behind.

    Every component has a value of its type, since the hosts read an infotext by it.

    Returns:
        The components: "enabled", then `Request`'s attributes in their order; and how each is set
        from a parsed infotext.
    """
    with InputAccordion(False, label="DMM styles", elem_id=elem_id("enabled")) as enabled:
        gr.HTML(elem_id=elem_id("sliders"), elem_classes=["dmm-sliders"])
        mix = gr.Textbox(Request.mix, label="Mix", placeholder=MIX_HINT, elem_id=elem_id("mix"))
        strength = gr.Slider(
            0.0, 2.0, Request.strength, step=0.05, label="Strength", elem_id=elem_id("strength")
        )
        with FormRow():
            mixing = gr.Radio(
                list(MIXINGS), value=Request.mixing, label="Mixing", elem_id=elem_id("mixing")
            )
            normalise = gr.Checkbox(
                Request.normalise, label="Normalise the weights", elem_id=elem_id("normalise")
            )
        with gr.Accordion("Regions", open=False, elem_id=elem_id("layout")):
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
            regions = gr.Textbox(
                Request.regions,
                label="Region styles",
                placeholder=REGIONS_HINT,
                lines=3,
                elem_id=elem_id("regions"),
            )
    parts = {
        "mix": mix,
        "normalise": normalise,
        "strength": strength,
        "mixing": mixing,
        "columns": columns,
        "rows": rows,
        "regions": regions,
        "feather": feather,
    }
    restored = [(part, partial(from_infotext, name=name)) for name, part in parts.items()]
    return [enabled, *parts.values()], [(enabled, said_in), *restored]
