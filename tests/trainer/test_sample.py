"""`run.py sample`: rows of a picture are the styles that they say."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageChops

from dmm.metadata import Style
from dmm.resolving import resolve
from tests.trainer import evaluating
from tests.trainer.merging import command
from trainer.grid import save_grid
from trainer.studio import Studio

NAMES = ("v1", "v1:2", "Fate: Zero", "ink wash")


def test_every_style_whatever_it_is_called(tmp_path: Path) -> None:
    merged = evaluating.write_merged(tmp_path / "merged.safetensors", [Style(n) for n in NAMES])
    asked = ["--prompt", "a cat", "--steps", "1", "--seed", "3"]
    assert command("sample", merged, *asked, "--output", tmp_path / "all.png") == 0
    studio = Studio(merged)
    rows = [
        (name, studio.paint(["a cat"], resolve(studio.styles, {name: 1.0}), steps=1, seed=3))
        for name in NAMES
    ]
    assert len({row[0].tobytes() for _, row in rows}) == len(NAMES)
    save_grid(tmp_path / "wanted.png", rows)
    found, wanted = (Image.open(tmp_path / f"{name}.png") for name in ("all", "wanted"))
    assert ImageChops.difference(found, wanted).getbbox() is None
