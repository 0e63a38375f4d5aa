"""What `bench.webui` measures, in the WebUI's own process."""

from __future__ import annotations

import os
import random
import statistics
import traceback
from collections.abc import Callable
from contextlib import closing
from threading import Thread
from typing import Any

import psutil
import torch
from modules import processing, script_callbacks, scripts, sd_models
from modules.api.api import Api
from tqdm import tqdm

from bench.passes import compare
from bench.report import print_ratios, print_table
from bench.timing import interleaved
from dmm.ldm import styled
from sd_webui_dmm.checkpoints import diffusion_model, loaded_file, styles_of
from sd_webui_dmm.regions.windows import Window
from sd_webui_dmm.request import Request

CHECKPOINTS = ("plain.safetensors", "merged.safetensors")


class Undecoded(scripts.Script):
    """Leaves the VAE out, which has no part in styles and takes most of a small picture's time."""

    def title(self):
        return "Undecoded"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def post_sample(self, p, ps, *args):
        height, width = (8 * side for side in ps.samples.shape[-2:])
        ps.samples = processing.DecodedSamples(torch.zeros(len(ps.samples), 3, height, width))


def begin(**options: int) -> None:
    """Has the host measure once it is up, and then end."""

    def run() -> None:
        try:
            measure(**options)
        except Exception:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)  # the host would wait for its last browser

    script_callbacks.on_app_started(lambda *_: Thread(target=run).start())


def measure(*, pixels: int, regions: int, rounds: int, loads: int, pictures: int) -> None:
    """Prints the tables and, last, the ratios."""
    styles = styles_of(loaded_file()).names
    passes = {
        "a plain pass": lambda: paint(None, pixels),
        "a style": lambda: paint({"styles": {styles[0]: 1}}, pixels),
        f"{regions} regions": lambda: paint(stripes(styles, regions), pixels),
    }
    ratios = compare(passes, rounds)
    memory = memory_over(pictures)
    change = statistics.median(interleaved({"": changer(styles, pixels)}, 50)[""])
    switch = statistics.median(interleaved({"": switcher()}, loads)[""])
    print_table(
        ("what", "ms"),
        [
            ("change the checkpoint", f"{switch * 1e3:.1f}"),
            ("change the style", f"{change * 1e3:.3f}"),
        ],
    )
    print_ratios(
        ratios
        | {
            "checkpoint_to_style_change": switch / change,
            "memory_after_pictures": memory,
        }
    )


def paint(dmm: dict[str, Any] | None, pixels: int) -> None:
    """A picture of one step by all of the host's usual ways, but for its decoding.

    Args:
        dmm: what a request to the API says to the extension; None leaves it out.
    """
    runner = scripts.scripts_txt2img
    args = Api.init_default_script_args(None, runner)
    ours = next(script for script in runner.alwayson_scripts if script.title() == "DMM styles")
    if dmm is not None:
        args[ours.args_from] = dmm
    size = {"width": pixels, "height": pixels}
    unsaved = {"do_not_save_samples": True, "do_not_save_grid": True}
    with closing(
        processing.StableDiffusionProcessingTxt2Img(
            prompt="a cat", seed=1, steps=1, sampler_name="Euler", **size, **unsaved
        )
    ) as p:
        p.is_api = True  # else the steps are the sliders'
        p.scripts, p.script_args = runner, tuple(args)
        processing.process_images(p)


def stripes(styles: list[str], count: int) -> dict[str, Any]:
    """Regions that stand side by side, each in a mix of its own."""
    mixes = [
        {styles[number % len(styles)]: 1 + number, styles[(number + 1) % len(styles)]: 1}
        for number in range(count)
    ]
    return {"columns": [1] * count, "regions": mixes}


def changer(styles: list[str], pixels: int) -> Callable[[], None]:
    """Changes the style, to another one at each call: all that happens between two pictures."""
    numbers = iter(range(10**9))

    def change() -> None:
        number = next(numbers)
        mix = f"{styles[number % len(styles)]}:1, {styles[(number + 1) % len(styles)]}:{number}"
        plan = Request(mix=mix).plan_of(styles_of(loaded_file()), Window((pixels, pixels)))
        with styled(diffusion_model(), plan.at(0.0)):
            pass

    return change


def switcher() -> Callable[[], None]:
    """Changes the checkpoint at each call, by the host's own way."""
    numbers = iter(range(10**9))

    def switch() -> None:
        name = CHECKPOINTS[next(numbers) % len(CHECKPOINTS)]
        sd_models.reload_model_weights(info=sd_models.checkpoint_aliases[name])

    return switch


def memory_over(pictures: int) -> float:
    """This process's memory after so many pictures in styles, to that after as many without.

    The host's own grows with every picture, so the two kinds take turns, and what each adds is
    summed.
    """
    process, chance = psutil.Process(), random.Random(0)
    styles = [f"Style {number}" for number in range(1, 9)]
    first = size = process.memory_info().rss
    added = {"plain": 0, "styled": 0}
    for number in tqdm(range(pictures), desc="Painting", unit="picture", leave=False):
        mix = {"styles": {name: chance.random() for name in styles}}
        styled = mix if number % 2 else stripes(styles, chance.randint(2, 8))
        for kind, dmm in (("plain", None), ("styled", styled)):
            paint(dmm, 64)
            size, before = process.memory_info().rss, size
            added[kind] += size - before
    return (first + added["styled"]) / (first + added["plain"])
