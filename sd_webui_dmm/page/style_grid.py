"""The style grid: every style of the loaded checkpoint from one seed, labelled, in one picture."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import replace
from math import ceil, sqrt
from typing import Any

import gradio as gr
from gradio.components import Component
from modules import images, processing
from modules.shared import opts, state
from PIL import Image

from dmm.errors import DmmError
from dmm.mixes import format_mix
from sd_webui_dmm import changes
from sd_webui_dmm.adapters import adapter_in
from sd_webui_dmm.checkpoints import chosen_styles, styles_of
from sd_webui_dmm.errors import DmmStylesError

NO_STYLE, EQUAL_MIX = "no style", "equal mix"


def build(elem_id: Callable[[str], str]) -> list[Component]:
    return [
        gr.Checkbox(True, label="Paint without a style too", elem_id=elem_id("no_style")),
        gr.Checkbox(False, label="Paint the equal mix too", elem_id=elem_id("equal_mix")),
    ]


def paint(p: Any, no_style: bool, equal_mix: bool) -> processing.Processed:
    """Paints the grid, and what was painted of it where it is interrupted.

    Whatever else the accordion says holds for every picture; tags in the prompt are left out.

    Args:
        p: the host's StableDiffusionProcessing.

    Returns:
        The grid, and every picture with an infotext of its own.

    Raises:
        DmmStylesError: the checkpoint has no styles.
    """
    mixes = _mixes(p, no_style, equal_mix)
    processing.fix_seed(p)
    p.batch_size = p.n_iter = 1
    state.job_count = len(mixes)
    painted: dict[str, processing.Processed] = {}
    for number, (label, mix) in enumerate(mixes.items(), start=1):
        if state.interrupted or state.stopping_generation:
            break
        state.job = f"{number} out of {len(mixes)}"
        job = copy(p)
        changes.add(job, lambda request, mix=mix: replace(request, mix=mix), instead_of_tags=True)
        processed = processing.process_images(job)
        if processed.images:
            painted[label] = processed
    return _with_grid(p, painted) if painted else processing.Processed(p, [])


def _mixes(p: Any, no_style: bool, equal_mix: bool) -> dict[str, str]:
    """The mix of each picture by its label."""
    try:
        adapter = adapter_in(p.prompt)
        names = (styles_of(adapter) if adapter else chosen_styles(p)).names
    except DmmError as error:
        raise DmmStylesError(str(error)) from None
    mixes = {NO_STYLE: ""} if no_style else {}
    mixes |= {name: format_mix({name: 1.0}) for name in names}
    return mixes | ({EQUAL_MIX: format_mix(dict.fromkeys(names, 1.0))} if equal_mix else {})


def _with_grid(p: Any, painted: dict[str, processing.Processed]) -> processing.Processed:
    results = list(painted.values())
    pictures = [processed.images[0] for processed in results]
    infotexts = [processed.infotexts[0] for processed in results]
    grid = labelled_grid(dict(zip(painted, pictures, strict=True)))
    if opts.grid_save and not p.do_not_save_grid:
        images.save_image(
            grid,
            p.outpath_grids,
            "dmm_style_grid",
            info=infotexts[0],
            extension=opts.grid_format,
            prompt=results[0].prompt,
            seed=results[0].seed,
            grid=True,
            p=p,
        )
    whole = results[0]
    whole.images = [grid, *pictures]
    whole.infotexts = [infotexts[0], *infotexts]
    whole.all_prompts = [processed.prompt for processed in (whole, *results)]
    whole.all_seeds = [processed.seed for processed in (whole, *results)]
    whole.index_of_first_image = 1
    return whole


def labelled_grid(pictures: dict[str, Image.Image]) -> Image.Image:
    """Pictures of one size with their labels above them, in about as many rows as columns."""
    columns = ceil(sqrt(len(pictures)))
    labels = list(pictures)
    starts = range(0, len(labels), columns)
    rows = [_row({name: pictures[name] for name in labels[at : at + columns]}) for at in starts]
    size = max(row.width for row in rows), sum(row.height for row in rows)
    grid = Image.new("RGB", size, opts.grid_background_color)
    top = 0
    for row in rows:
        grid.paste(row, (0, top))
        top += row.height
    return grid


def _row(pictures: dict[str, Image.Image]) -> Image.Image:
    row = images.image_grid(list(pictures.values()), rows=1)
    width, height = next(iter(pictures.values())).size
    labels = [[images.GridAnnotation(label)] for label in pictures]
    return images.draw_grid_annotations(row, width, height, labels, [[images.GridAnnotation()]])
