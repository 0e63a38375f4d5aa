"""Styles in the real ComfyUI: what they cost in a pass, to change, to load and to keep.

  COMFYUI_PATH=~/ComfyUI python -m bench.comfyui --help

The host's own Python does the measuring (`bench/comfyui_host.py`).
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Annotated, Literal

import typer

from tests.hosts import find_host, why_skipped

ROOT = Path(__file__).parents[1]
START = """
import comfy.options
comfy.options.enable_args_parsing()
from bench.comfyui_host import measure
measure(**{!r})
"""


def main(
    size: Annotated[Literal["small", "sd15"], typer.Option(help="Of the UNet.")] = "sd15",
    pixels: Annotated[int, typer.Option(help="Width and height of the picture.")] = 512,
    regions: Annotated[int, typer.Option(help="R of the regional pass.")] = 8,
    rounds: Annotated[int, typer.Option(help="Steps that count, of each kind.")] = 10,
    loads: Annotated[int, typer.Option(help="Loads that count, of each kind.")] = 5,
    prompts: Annotated[int, typer.Option(help="Prompts with changing styles, for memory.")] = 200,
    cpu: Annotated[bool, typer.Option("--cpu", help="Leave the GPU alone.")] = False,
) -> None:
    """Print what styles and regions cost against the bare UNet in the same host."""
    host = find_host("comfyui")
    if host is None:
        raise SystemExit(why_skipped("comfyui"))
    sizes = {"size": size, "pixels": pixels, "regions": regions}
    counts = {"rounds": rounds, "loads": loads, "prompts": prompts}
    paths = os.pathsep.join([str(host.path), str(ROOT)])
    subprocess.run(
        [host.python, "-c", START.format(sizes | counts), *(["--cpu"] if cpu else [])],
        env=os.environ | {"PYTHONPATH": paths},
        check=True,
    )


if __name__ == "__main__":
    typer.run(main)
