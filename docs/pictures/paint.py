"""Paints styles.png, the README's picture, from the demo's merged file.

python install.py demo
.venv/bin/python -m docs.pictures.paint outputs/demo/merged.safetensors
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL.Image import Image

from dmm.resolving import resolve
from trainer.grid import save_grid
from trainer.studio import Studio

FOLDER = Path(__file__).parent
THINGS = ("fox", "cat face", "grinning face", "robot", "ghost", "snowman", "jack-o-lantern")
BETWEEN = (0, 0.3, 0.4, 0.5, 0.6, 0.7, 1)
STRIPS = (("high-contrast", "openmoji"), ("openmoji", "fluent-3d"))


def main(merged: Path) -> None:
    studio = Studio(merged)

    def paint(thing: str, mix: str) -> Image:
        [picture] = studio.paint([thing], resolve(studio.styles, mix), guidance=2.0)
        return picture

    rows = [(name, [paint(thing, name) for thing in THINGS]) for name in studio.styles.names]
    for one, other in STRIPS:
        mixes = [f"{one}:{1 - weight}, {other}:{weight}" for weight in BETWEEN]
        rows.append((f"{one} to {other}", [paint("fox", mix) for mix in mixes]))
    save_grid(FOLDER / "styles.png", rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
