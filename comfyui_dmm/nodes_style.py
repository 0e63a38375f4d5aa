"""Styles: one by name, a mix of several, or one for each picture of a batch."""

from __future__ import annotations

from collections.abc import Mapping

from comfy_api.latest import io

from comfyui_dmm.combos import choose, is_option
from comfyui_dmm.sockets import ChosenStyle, DmmStyle, DmmStyles
from dmm.errors import DmmError
from dmm.merged import Styles
from dmm.resolving import resolve_regions
from dmm.schedules import PerPicture
from dmm.words import AFTER_MLP, BEFORE_MLP, MAX_STRENGTH

MIXING = {BEFORE_MLP: False, AFTER_MLP: True}
"""Whether styles are mixed after the MLP."""


def picked(
    styles: Styles, mix: str | Mapping[str, float], *, strength: float, **how: bool
) -> ChosenStyle:
    """The style of a mix (see `dmm.resolving.resolve`)."""
    plan = resolve_regions(styles, mix, strength=strength, **how)
    return ChosenStyle(plan, styles.family, styles.prompts.dim)


def styles_input() -> io.Input:
    return DmmStyles.Input("styles", tooltip="The styles of a file, from a DMM loader.")


def strength_input() -> io.Input:
    return io.Float.Input(
        "strength",
        default=1.0,
        min=0.0,
        max=MAX_STRENGTH,
        step=0.01,
        tooltip="How strongly the style is painted. 0 is no style: the average of them all.",
    )


def normalise_input() -> io.Input:
    return io.Boolean.Input(
        "normalise",
        default=True,
        tooltip="Scale the weights to sum 1. Without it they are taken as they are, even negative.",
    )


def mixing_input() -> io.Input:
    return io.Combo.Input(
        "mixing",
        options=list(MIXING),
        default=BEFORE_MLP,
        tooltip=(
            "Before the MLP, as in the paper: a style in between. After it: the finished style "
            "vectors are averaged."
        ),
    )


class PickStyle(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DMM_Style",
            display_name="DMM Style",
            category="DMM",
            description="Picks one style of a merged checkpoint.",
            inputs=[
                styles_input(),
                io.String.Input("style", default="", tooltip="The style's name."),
                strength_input(),
            ],
            outputs=[DmmStyle.Output(display_name="style", tooltip="The style, to be applied.")],
        )

    @classmethod
    def execute(cls, styles: Styles, style: str, strength: float) -> io.NodeOutput:
        if not style:
            raise DmmError(f"No style is chosen. The file has: {', '.join(styles.names)}.")
        return io.NodeOutput(picked(styles, {style: 1.0}, strength=strength))


class MixStyles(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DMM_StyleMix",
            display_name="DMM Style Mix",
            category="DMM",
            description="Mixes several styles of a merged checkpoint into one.",
            inputs=[
                styles_input(),
                io.String.Input(
                    "mix",
                    default="",
                    tooltip="Names and weights: ink:0.7, anime:0.3. The sliders write this.",
                ),
                normalise_input(),
                strength_input(),
                mixing_input(),
            ],
            outputs=[DmmStyle.Output(display_name="style", tooltip="The mix, to be applied.")],
        )

    @classmethod
    def validate_inputs(cls, mixing: str | None) -> bool | str:
        return is_option(MIXING, mixing, "mixing")

    @classmethod
    def execute(
        cls, styles: Styles, mix: str, normalise: bool, strength: float, mixing: str
    ) -> io.NodeOutput:
        if not mix.strip():
            raise DmmError(
                "The mix is empty. Write it as 'ink:0.7, anime:0.3'. "
                f"The file has: {', '.join(styles.names)}."
            )
        how = {"normalise": normalise, "after_mlp": choose(MIXING, mixing, "mixing")}
        return io.NodeOutput(picked(styles, mix, strength=strength, **how))


class StyleBatch(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DMM_StyleBatch",
            display_name="DMM Style Batch",
            category="DMM",
            description=(
                "Paints each picture of a latent batch in its own style: a grid of all styles in "
                "one sampling run."
            ),
            inputs=[
                styles_input(),
                io.String.Input(
                    "mixes",
                    default="",
                    multiline=True,
                    placeholder="ink\nanime\nink:0.7, anime:0.3",
                    tooltip="A style or a mix a line, a line a picture. Empty: every style.",
                ),
                normalise_input(),
                strength_input(),
                mixing_input(),
            ],
            outputs=[
                DmmStyle.Output(display_name="style", tooltip="The styles, to be applied."),
                io.Int.Output(
                    display_name="count", tooltip="The number of pictures, for the latent batch."
                ),
                io.String.Output(display_name="names", tooltip="A line a picture."),
            ],
        )

    @classmethod
    def validate_inputs(cls, mixing: str | None) -> bool | str:
        return is_option(MIXING, mixing, "mixing")

    @classmethod
    def execute(
        cls, styles: Styles, mixes: str, normalise: bool, strength: float, mixing: str
    ) -> io.NodeOutput:
        lines = [line.strip() for line in mixes.splitlines() if line.strip()]
        names = lines or styles.names
        how = {"normalise": normalise, "after_mlp": choose(MIXING, mixing, "mixing")}
        plans = []
        for name in names:
            mix = {name: 1.0} if name in styles.names else name
            plans.append(picked(styles, mix, strength=strength, **how).plan)
        style = ChosenStyle(PerPicture(plans), styles.family, styles.prompts.dim)
        return io.NodeOutput(style, len(names), "\n".join(names))


NODES = [PickStyle, MixStyles, StyleBatch]
