"""What a merged file says about itself, in its safetensors metadata (strings only)."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any, Literal

Family = Literal["sd1", "sdxl"]
PredictionType = Literal["epsilon", "v_prediction"]

FORMAT = 1
_ARCHITECTURES = {"sd1": "stable-diffusion-v1", "sdxl": "stable-diffusion-xl-v1-base"}
_IMPLEMENTATION = "https://github.com/Stability-AI/generative-models"


@dataclass(frozen=True)
class Style:
    """One row of the codebook: its name and the teacher it was learned from."""

    name: str
    sha256: str = ""
    kind: str = "checkpoint"
    source: str = ""


SAMPLING = "dmm.sampling"
SCALING_FACTOR = "dmm.vae_scaling_factor"


@dataclass(frozen=True)
class Sampling:
    """How a file wants to be sampled that was trained to paint in few steps.

    Attributes:
        guidance: the CFG scale; 1 = none, so that negative prompts have no effect.
        sampler: as the hosts call it; "lcm" is known to all of them.
    """

    steps: int
    guidance: float
    sampler: str

    def __str__(self) -> str:
        return f"{self.steps} steps, CFG {self.guidance:g}, sampler {self.sampler.upper()}"

    def to_metadata(self) -> dict[str, str]:
        return {SAMPLING: json.dumps(asdict(self))}


def read_sampling(metadata: Mapping[str, str]) -> Sampling | None:
    """How a file says it wants to be sampled; None where it does not, or makes no sense."""
    try:
        said = json.loads(metadata.get(SAMPLING, "{}"))
        steps, guidance = int(said["steps"]), float(said["guidance"])
        sampler = str(said["sampler"])
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return None
    known = 1 <= steps <= 1000 and 1 <= guidance <= 1000 and re.fullmatch(r"[\w+-]{1,40}", sampler)
    return Sampling(steps, guidance, sampler) if known else None


def default_styles(count: int) -> list[Style]:
    """Names for a file that has none (the authors' own): "Style 1", "Style 2", …"""
    return [Style(f"Style {number}") for number in range(1, count + 1)]


def merged_metadata(
    styles: Sequence[Style],
    recipe: Mapping[str, Any],
    *,
    family: Family,
    title: str,
    resolution: tuple[int, int] | None,
    prediction_type: PredictionType,
) -> dict[str, str]:
    """The metadata of a merged checkpoint or style file (DESIGN, file formats).

    Args:
        styles: in codebook order.
        recipe: how the file was made; JSON values only.
        resolution: width and height it was trained at, in pixels; None where nobody knows.
    """
    return modelspec(family, title, resolution, prediction_type) | styles_metadata(styles, recipe)


def modelspec(
    family: Family,
    title: str,
    resolution: tuple[int, int] | None,
    prediction_type: PredictionType,
) -> dict[str, str]:
    """What modelspec 1.0.1 says of any checkpoint; arguments as in `merged_metadata`."""
    size = {"modelspec.resolution": f"{resolution[0]}x{resolution[1]}"} if resolution else {}
    return {
        **size,
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": _ARCHITECTURES[family],
        "modelspec.implementation": _IMPLEMENTATION,
        "modelspec.title": title,
        "modelspec.date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "modelspec.prediction_type": "v" if prediction_type == "v_prediction" else "epsilon",
    }


def inherited(metadata: Mapping[str, str], *more: str) -> dict[str, str]:
    """What is true of whatever is made from a checkpoint: its licence and its VAE's scaling factor.

    Args:
        metadata: the checkpoint's.
        more: keys of what is true in this case besides.
    """
    keys = ("modelspec.license", SCALING_FACTOR, *more)
    return {key: metadata[key] for key in keys if key in metadata}


def styles_metadata(styles: Sequence[Style], recipe: Mapping[str, Any]) -> dict[str, str]:
    """The part of the metadata that tells of the styles."""
    names = [style.name for style in styles]
    merged_from = {style.sha256: {"name": style.name} for style in styles if style.sha256}
    return {
        "dmm": json.dumps(
            {"format": FORMAT, "styles": [asdict(style) for style in styles], "recipe": recipe}
        ),
        "modelspec.description": f"Styles: {', '.join(names)}",
        "modelspec.merged_from": ", ".join(style.source or style.name for style in styles),
        "sd_merge_recipe": json.dumps({"type": "dmm", "styles": names}),
        "sd_merge_models": json.dumps(merged_from),
    }


def read_dmm_entry(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The `dmm` entry of a file's metadata; empty where there is none or it makes no sense."""
    try:
        entry = json.loads(metadata.get("dmm", "{}"))
    except (ValueError, RecursionError):  # ValueError: no JSON, or a number of too many digits
        entry = None
    if not isinstance(entry, dict):
        warnings.warn(
            "The file's `dmm` metadata is not a JSON object and is ignored.", stacklevel=2
        )
        return {}
    return entry


def read_styles_entry(styles: object, count: int) -> list[Style]:
    """Styles out of JSON from a stranger, one for each of the codebook's `count` rows.

    Accepts a list of names or of objects with a "name". What does not fit the codebook is replaced
    by "Style 1" .. with a warning, since the pictures do not depend on it.
    """
    if styles is None:
        return default_styles(count)
    entries = styles if isinstance(styles, list) else []
    read = [_style(entry) for entry in entries]
    names = [style.name for style in read if style]
    if len(entries) != count or len(set(names)) != count:
        warnings.warn(
            f"The file has {count} styles but its metadata names {len(set(names))}; "
            "they are called 'Style 1' .. instead.",
            stacklevel=2,
        )
        return default_styles(count)
    return [style for style in read if style]


def _style(entry: object) -> Style | None:
    fields = {"name": entry} if isinstance(entry, str) else entry
    if not isinstance(fields, dict) or not isinstance(fields.get("name"), str):
        return None
    name = _sayable(fields["name"])
    known = ("sha256", "kind", "source")
    said = {key: _writable(str(fields[key])) for key in known if key in fields}
    return Style(name, **said) if name else None


def _sayable(name: str) -> str:
    """A stranger's style name as a mix can say it: no comma, which parts styles, no line break."""
    return " ".join(_writable(name).replace(",", " ").split())


def _writable(text: str) -> str:
    """JSON can hold halves of characters, which no file and no answer of a server can."""
    return text.encode(errors="replace").decode()
