"""Schedules: styles that change over the steps of a sampling run."""

from __future__ import annotations

from comfy_api.latest import io

from comfyui_dmm.sockets import ChosenStyle, DmmStyle, combined
from dmm.schedules import Schedule


def share_of_sampling(name: str, default: float, tooltip: str) -> io.Input:
    return io.Float.Input(name, default=default, min=0.0, max=1.0, step=0.001, tooltip=tooltip)


class StyleSchedule(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DMM_StyleSchedule",
            display_name="DMM Style Schedule",
            category="DMM",
            description=(
                "Paints in a style for a part of the sampling. Chain them through `otherwise` for "
                "as many parts as you like."
            ),
            inputs=[
                DmmStyle.Input("style", tooltip="The style within the span."),
                share_of_sampling("start_percent", 0.0, "Where it starts: 0 is the first step."),
                share_of_sampling("end_percent", 1.0, "Where it ends: 1 is the last step."),
                share_of_sampling(
                    "fade", 0.0, "How long it takes to come and to go, within the span."
                ),
                DmmStyle.Input(
                    "otherwise",
                    optional=True,
                    tooltip="The style before and after. Not connected: no style.",
                ),
            ],
            outputs=[DmmStyle.Output(display_name="style", tooltip="The styles, to be applied.")],
        )

    @classmethod
    def execute(
        cls,
        style: ChosenStyle,
        start_percent: float,
        end_percent: float,
        fade: float,
        otherwise: ChosenStyle | None = None,
    ) -> io.NodeOutput:
        other = otherwise or style.without()
        plan = Schedule(style.plan, other.plan, start_percent, end_percent, fade)
        return io.NodeOutput(combined([style, other], plan))


NODES = [StyleSchedule]
