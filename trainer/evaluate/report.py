"""The report people look at: one HTML page that holds everything, Markdown, and JSON."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from PIL import Image

from dmm.atomic import written_whole
from trainer.disk import writing
from trainer.evaluate.cost import Cost
from trainer.evaluate.evaluation import Evaluation
from trainer.evaluate.exhibits import MOST_IN_PAIRS, Exhibits
from trainer.evaluate.measure import Distances
from trainer.grid import save_grid

TEMPLATES = Path(__file__).parent / "templates"
SHOWN_SIDE = 256  # pixels; larger pictures are made smaller for the page
MOST_DIGITS = 5  # behind the point
PICTURES = "report.png"
MARKDOWN_SIGNS = re.compile(r"([\\`*_{}\[\]<>()#|~&])")


def write_report(evaluation: Evaluation, exhibits: Exhibits, folder: Path) -> list[Path]:
    """Writes `report.html`, `.md` with its picture, and `.json`; gives their paths.

    What comes out of a file (names, recipe) is a stranger's and is shown as text.

    Raises:
        DmmError: the folder cannot be written to.
    """
    values = _values(evaluation, exhibits)
    texts = {
        "report.html": _environment(html=True).get_template("report.html.j2").render(values),
        "report.md": _environment(html=False).get_template("report.md.j2").render(values),
        "report.json": evaluation.as_json(),
    }
    save_grid(folder / PICTURES, _rows(evaluation, exhibits))
    for name, text in texts.items():
        _write(folder / name, text)
    return [folder / name for name in (*texts, PICTURES)]


def _values(evaluation: Evaluation, exhibits: Exhibits) -> dict[str, Any]:
    distances = evaluation.distances
    return {
        "e": evaluation,
        "d": distances,
        "v": evaluation.vectors,
        "x": exhibits,
        "css": Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        "trace_name": "FIDt" if evaluation.figure == "FID" else f"trace of {evaluation.figure}",
        "excess": over_floor(distances.excess),
        "own": sum(row == near for row, near in enumerate(distances.nearest)),
        "closeness": _closeness(distances),
        "mean": fmean,
        "longest": max(evaluation.vectors.norms) or 1.0,
        "paired": evaluation.styles[:MOST_IN_PAIRS],
        "cost": _cost(evaluation.cost),
        "how": [(key, _plain(value)) for key, value in evaluation.how.items()],
        "recipe": json.dumps(evaluation.recipe, indent=2, ensure_ascii=False),
        "pictures": PICTURES,
    }


def _environment(html: bool) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES, encoding="utf-8"),
        autoescape=html,
        trim_blocks=html,
        lstrip_blocks=html,
    )
    environment.filters |= {"figure": figure, "inline": _inline, "cell": _markdown_cell}
    return environment


def figure(value: float) -> str:
    """A number with three digits that count: 1,234; 56.7; 8.90; 0.0123."""
    if not math.isfinite(value) or abs(value) < 10**-MOST_DIGITS:
        return f"{abs(value):.0f}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(digits, MOST_DIGITS)}f}"


def _closeness(distances: Distances) -> Callable[[float], float]:
    """From a distance to 0 (the farthest of both matrices) .. 1 (the nearest), by its logarithm."""
    values = [
        math.log(max(value, 1e-9))
        for matrix in (distances.matrix, distances.reference)
        for row in matrix
        for value in row
    ]
    near, far = min(values), max(values)
    span = far - near or 1.0
    return lambda value: (far - math.log(max(value, 1e-9))) / span


def over_floor(share: float) -> str:
    """How far above the floor, "+3.5 %", or where that says more how many times the floor."""
    return f"{100 * share:+.1f} %" if share < 1 else f"{share + 1:.1f} ×"


def _inline(picture: Image.Image) -> str:
    """A picture as a data URI: small ones without loss."""
    stream = io.BytesIO()
    if max(picture.size) > SHOWN_SIDE:
        picture = picture.copy()
        picture.thumbnail((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.LANCZOS)
        picture.save(stream, "WEBP", quality=88)
    else:
        picture.save(stream, "WEBP", lossless=True)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _markdown_cell(value: object) -> str:
    """A stranger's text in a Markdown table: one line, and none of its signs means anything."""
    return MARKDOWN_SIGNS.sub(r"\\\1", " ".join(str(value).split()))


def _cost(cost: Cost) -> list[tuple[str, str]]:
    """What is known of the cost, in words."""
    known = {
        "training steps": _counted(cost.steps),
        "samples seen, once a teacher": _counted(cost.pairs),
        "different samples": _counted(cost.samples),
        "UNet evaluations": _counted(cost.unet_evaluations),
        "training time": None if cost.seconds is None else _duration(cost.seconds),
        "merged file": _size(cost.merged_bytes),
        "teachers' files together": _size(cost.teachers_bytes),
    }
    return [(key, value) for key, value in known.items() if value is not None]


def _counted(number: int | None) -> str | None:
    return None if number is None else f"{number:,}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _plain(value: object) -> str:
    if isinstance(value, list):
        return " × ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value) or "none"


def _rows(evaluation: Evaluation, exhibits: Exhibits) -> list[tuple[str, list[Image.Image]]]:
    rows = []
    for name, theirs, ours in zip(
        evaluation.styles, exhibits.teachers, exhibits.students, strict=True
    ):
        rows += [(f"{name} · teacher", theirs), (f"{name} · merged", ours)]
    return [*rows, ("no style", exhibits.no_style)]


def _write(path: Path, text: str) -> None:
    with writing(path), written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")
