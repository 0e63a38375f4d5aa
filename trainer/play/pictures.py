"""Pictures that say how they were made, in the words that the WebUI's "PNG Info" reads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from PIL.Image import Image
from PIL.PngImagePlugin import PngInfo

from dmm.atomic import written_whole

SAMPLERS = {"dpm++": "DPM++ 2M", "lcm": "LCM"}
"""Our name of a sampler → the WebUI's."""


@dataclass(frozen=True)
class Settings:
    """What the page's fields say of a picture, its style apart."""

    prompt: str
    negative: str
    strength: float
    seed: int
    steps: int
    guidance: float
    width: int
    height: int


def save(
    picture: Image, folder: Path, settings: Settings, model: str, mix: str, sampler: str
) -> Path:
    """Writes a picture with its prompt, settings and mix inside, and gives the path.

    Args:
        folder: pictures are numbered there.
        model: the merged file's name.
        sampler: a key of `SAMPLERS`.
        mix: as `dmm.mixes` spells it, or what else tells the style; "" = no style.
    """
    info = PngInfo()
    info.add_text("parameters", describe(settings, model, mix, sampler))
    taken = [int(path.stem) for path in folder.glob("*.png") if path.stem.isdecimal()]
    path = folder / f"{max(taken, default=0) + 1:05d}.png"
    with written_whole(path) as partial:
        picture.save(partial, format="PNG", pnginfo=info)
    return path


def describe(settings: Settings, model: str, mix: str, sampler: str) -> str:
    """The infotext of a picture."""
    fields = {
        "Steps": settings.steps,
        "Sampler": SAMPLERS[sampler],
        "CFG scale": settings.guidance,
        "Seed": settings.seed,
        "Size": f"{settings.width}x{settings.height}",
        "Model": model,
        "DMM mix": mix,
        "DMM strength": settings.strength,
    }
    lines = [settings.prompt]
    if settings.negative:
        lines.append(f"Negative prompt: {settings.negative}")
    said = {key: value for key, value in fields.items() if value != ""}
    return "\n".join([*lines, ", ".join(f"{key}: {_quoted(value)}" for key, value in said.items())])


def _quoted(value: object) -> str:
    """As the WebUI quotes: what holds a comma, a colon or a line break becomes a JSON string."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if set(text) & set(",:\n") else text
