"""The page: prompt and sliders on the left, what is painted on the right."""

from __future__ import annotations

import html
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from itertools import accumulate
from typing import Any

import gradio as gr
from gradio.components import Component

from dmm.errors import DmmError
from dmm.words import MAX_STRENGTH
from trainer.play.colours import PALETTE
from trainer.play.painter import Painter, Picture
from trainer.play.pictures import Settings

CANVAS = 512  # pixels of the longer side of what regions are painted on
QUEUE = "painting"  # that all buttons and windows stand in: there is one UNet, and styles hook it
THEME = gr.themes.Soft(font=["system-ui", "sans-serif"], font_mono=["monospace"])  # asks no server
CSS = """
.dmm-picture img { object-fit: contain; min-height: 20em; max-height: 70vh; }
.dmm-colours span { display: inline-block; margin: 0 1em 0.3em 0; }
.dmm-colours i { display: inline-block; width: 1em; height: 1em; border-radius: 3px;
                 margin-right: 0.4em; vertical-align: -0.1em; border: 1px solid #0004; }
"""


def build(painter: Painter) -> gr.Blocks:
    """Lays out the page and wires it."""
    with gr.Blocks(title=f"DMM · {painter.model}", analytics_enabled=False) as page:
        gr.HTML(f"<h2>{html.escape(painter.model)}</h2>")
        with gr.Row():
            with gr.Column(scale=2):
                fields = _fields(painter)
            with gr.Column(scale=3):
                for add in (_one_picture, _every_style, _between_two, _regions):
                    add(painter, fields)
    return page


class _Fields(list[Component]):
    """The left half, as gradio hands over its values: the settings, then a weight a style."""

    def __init__(self, settings: list[Component], weights: list[Component]) -> None:
        super().__init__([*settings, *weights])
        self._count = len(settings)

    def read(self, names: list[str], values: tuple) -> tuple[Settings, dict[str, float], tuple]:
        """The settings, the mix, and what other components gave."""
        prompt, negative, strength, seed, steps, guidance, width, height = values[: self._count]
        chosen = int(seed) if seed is not None and seed >= 0 else random.randrange(2**32)
        settings = Settings(
            prompt, negative, strength, chosen, int(steps), guidance, int(width), int(height)
        )
        weights = dict(zip(names, values[self._count : len(self)], strict=True))
        return settings, weights, values[len(self) :]


def _fields(painter: Painter) -> _Fields:
    (width, height), sampling = painter.studio.size, painter.studio.sampling
    count = len(painter.names)
    prompt = gr.Textbox("", label="Prompt", lines=2, autofocus=True)
    with gr.Group():
        weights = [
            gr.Slider(0, 1, float(row == 0), step=0.01, label=name)
            for row, name in enumerate(painter.names)
        ]
    with gr.Row():
        gr.Button("Equal", size="sm", min_width=60).click(lambda: [1.0] * count, None, weights)
        gr.Button("Random", size="sm", min_width=60).click(
            lambda: [round(random.random(), 2) for _ in weights], None, weights
        )
        gr.Button("Clear", size="sm", min_width=60).click(lambda: [0.0] * count, None, weights)
    with gr.Row():
        strength = gr.Slider(0, MAX_STRENGTH, 1.0, step=0.05, label="Strength")
        seed = gr.Number(-1, precision=0, label="Seed", info="-1 = by chance")
    with gr.Accordion("More", open=False):
        negative = gr.Textbox("", label="Negative prompt")
        with gr.Row():
            steps = gr.Slider(1, 60, sampling.steps, step=1, label="Steps")
            guidance = gr.Slider(1, 15, sampling.guidance, step=0.5, label="Guidance")
        with gr.Row():
            wide = gr.Number(width, precision=0, step=8, label="Width")
            high = gr.Number(height, precision=0, step=8, label="Height")
    return _Fields([prompt, negative, strength, seed, steps, guidance, wide, high], weights)


def _one_picture(painter: Painter, fields: _Fields) -> None:
    with gr.Tab("One picture"):
        go, picture, said = gr.Button("Paint", variant="primary"), _picture(), _said()

    def paint(*values: Any) -> Picture:
        settings, mix, _ = fields.read(painter.names, values)
        return painter.mix(settings, mix)

    for event in (go.click, fields[0].submit):
        event(_spoken(paint), list(fields), [picture, said], concurrency_id=QUEUE)


def _every_style(painter: Painter, fields: _Fields) -> None:
    with gr.Tab("Every style"):
        go, stop, gallery = *_buttons("Paint every style"), _gallery(columns=4)

    def paint(*values: Any) -> Iterator[list[Picture]]:
        settings, _, _ = fields.read(painter.names, values)
        yield from _growing(painter.every_style(settings))

    painting = go.click(_spoken_as_it_goes(paint), list(fields), gallery, concurrency_id=QUEUE)
    stop.click(None, cancels=painting)


def _between_two(painter: Painter, fields: _Fields) -> None:
    with gr.Tab("Between two styles"):
        with gr.Row():
            first = gr.Dropdown(painter.names, value=painter.names[0], label="From")
            second = gr.Dropdown(painter.names, value=painter.names[-1], label="To")
        go, stop, gallery = *_buttons("Paint the strip"), _gallery(columns=6)

    def paint(*values: Any) -> Iterator[list[Picture]]:
        settings, _, (one, other) = fields.read(painter.names, values)
        yield from _growing(painter.strip(settings, one, other))

    asked = [*fields, first, second]
    painting = go.click(_spoken_as_it_goes(paint), asked, gallery, concurrency_id=QUEUE)
    stop.click(None, cancels=painting)


def _regions(painter: Painter, fields: _Fields) -> None:
    colours = dict(zip(PALETTE, painter.names, strict=False))
    longer = max(painter.studio.size)
    canvas = tuple(round(side * CANVAS / longer) for side in painter.studio.size)
    with gr.Tab("Regions"):
        gr.Markdown(
            "Paint each style where it belongs, in its colour. The rest has the sliders' mix."
        )
        gr.HTML(_legend(colours), elem_classes="dmm-colours")
        editor = gr.ImageEditor(
            type="pil",
            label="Where",
            canvas_size=canvas,
            fixed_canvas=True,
            sources=(),
            transforms=(),
            layers=False,
            buttons=["fullscreen"],
            brush=gr.Brush(default_size=40, colors=list(colours), color_mode="fixed"),
        )
        soft = gr.Slider(0, 64, longer // 16, step=1, label="Feather", info="Pixels at a border")
        go, picture, said = gr.Button("Paint", variant="primary"), _picture(), _said()

    def paint(*values: Any) -> Picture:
        settings, mix, (painted, pixels) = fields.read(painter.names, values)
        return painter.regions(settings, mix, painted["layers"], colours, int(pixels))

    go.click(_spoken(paint), [*fields, editor, soft], [picture, said], concurrency_id=QUEUE)


def _picture() -> gr.Image:
    return gr.Image(
        type="filepath",
        format="png",
        label="Picture",
        elem_classes="dmm-picture",
        interactive=False,
        buttons=["download", "fullscreen"],  # not "share", which uploads
    )


def _said() -> gr.Textbox:
    return gr.Textbox(label="Mix and seed", interactive=False, max_lines=2)


def _gallery(columns: int) -> gr.Gallery:
    return gr.Gallery(
        columns=columns,
        label="From one seed",
        interactive=False,
        format="png",
        buttons=["download", "download_all", "fullscreen"],
    )


def _buttons(label: str) -> tuple[gr.Button, gr.Button]:
    with gr.Row():
        return gr.Button(label, variant="primary"), gr.Button("Stop")


def _legend(colours: Mapping[str, str]) -> str:
    return "".join(
        f'<span><i style="background:{colour}"></i>{html.escape(name)}</span>'
        for colour, name in colours.items()
    )


def _growing(pictures: Iterable[Picture]) -> Iterator[list[Picture]]:
    """All pictures so far, each time there is one more."""
    return accumulate(([picture] for picture in pictures), lambda so_far, one: so_far + one)


def _spoken(paint: Callable[..., Any]) -> Callable[..., Any]:
    """What the user can mend is said on the page."""

    @wraps(paint)
    def told(*values: Any) -> Any:
        try:
            return paint(*values)
        except DmmError as error:
            raise gr.Error(html.escape(str(error)), print_exception=False) from None

    return told


def _spoken_as_it_goes(paint: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    @wraps(paint)
    def told(*values: Any) -> Iterator[Any]:
        try:
            yield from paint(*values)
        except DmmError as error:
            raise gr.Error(html.escape(str(error)), print_exception=False) from None

    return told
