"""Styles in the real WebUI: what they cost in a pass, to change, and to keep.

  WEBUI_PATH=~/stable-diffusion-webui python -m bench.webui --help

The host's own process does the measuring (`bench/webui_host.py`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated, Literal

import typer

from tests.comfyui.checkpoints import small_styles
from tests.hosts import find_host, why_skipped
from tests.server import NOT_IN_A_CLONE, free_port
from tests.webui.checkpoints import write_checkpoint

ROOT = Path(__file__).parents[1]
STYLES = tuple(f"Style {number}" for number in range(1, 9))
EXTENSION = """
import sys
sys.path.append({root!r})
from bench.webui_host import Undecoded, begin
begin(**{options!r})
"""
SETTINGS = '{"sd_model_checkpoint": "merged.safetensors", "auto_launch_browser": "Disable"}'
ARGUMENTS = ("--skip-prepare-environment", "--skip-torch-cuda-test", "--skip-version-check")
ARGUMENTS += ("--no-hashing", "--no-download-sd-model", "--do-not-download-clip")
ARGUMENTS += ("--disable-console-progressbars",)
CPU = ("--use-cpu", "all", "--no-half", "--disable-nan-check")


def main(
    size: Annotated[Literal["small", "sd15"], typer.Option(help="Of the UNet.")] = "sd15",
    pixels: Annotated[int, typer.Option(help="Width and height of the picture.")] = 512,
    regions: Annotated[int, typer.Option(help="R of the regional pass.")] = 8,
    rounds: Annotated[int, typer.Option(help="Steps that count, of each kind.")] = 10,
    loads: Annotated[int, typer.Option(help="Changes of checkpoint that count.")] = 5,
    pictures: Annotated[int, typer.Option(help="Pictures in changing styles, for memory.")] = 200,
    cpu: Annotated[bool, typer.Option("--cpu", help="Leave the GPU alone.")] = False,
) -> None:
    """Print what styles and regions cost against a plain pass in the same host."""
    host = find_host("webui")
    if host is None:
        raise SystemExit(why_skipped("webui"))
    options = {"pixels": pixels, "regions": regions, "rounds": rounds, "loads": loads}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        base = Path(name)
        checkpoints = base / "checkpoints"
        checkpoints.mkdir()
        sd1_yaml = host.path / "configs" / "v1-inference.yaml"
        styles = small_styles(STYLES)
        write_checkpoint(checkpoints / "merged.safetensors", styles, sd1_yaml, size)
        write_checkpoint(checkpoints / "plain.safetensors", None, sd1_yaml, size)
        shutil.copytree(ROOT, base / "extensions" / "dmm", ignore=NOT_IN_A_CLONE)
        script = base / "extensions" / "bench" / "scripts" / "measure.py"
        script.parent.mkdir(parents=True)
        said = EXTENSION.format(root=str(ROOT), options=options | {"pictures": pictures})
        script.write_text(said, encoding="utf-8")
        (base / "config.json").write_text(SETTINGS, encoding="utf-8")
        folders = ("--data-dir", str(base), "--ckpt-dir", str(checkpoints))
        port = ("--port", str(free_port()))
        subprocess.run(
            [host.python, "launch.py", *port, *folders, *ARGUMENTS, *(CPU if cpu else ())],
            cwd=host.path,
            check=True,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"},
        )


if __name__ == "__main__":
    typer.run(main)
