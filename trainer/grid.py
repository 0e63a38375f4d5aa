"""The sample grid: one row a style, the teacher's pictures above the student's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from dmm.atomic import written_whole
from trainer.disk import writing

GAP = 4
LEAST_SIDE = 96  # small pictures are enlarged so that people can see them


def save_grid(path: Path, rows: Sequence[tuple[str, Sequence[Image.Image]]]) -> None:
    """Writes a picture of labelled rows; rows of one style stand together.

    Args:
        rows: (label, pictures), all of one size. Labels read "style · who".
    """
    width, height = rows[0][1][0].size
    scale = max(1, -(-LEAST_SIDE // min(width, height)))
    width, height = width * scale, height * scale
    font = ImageFont.load_default(size=15)
    margin = 16 + max(round(font.getlength(label)) for label, _ in rows)
    columns = max(len(pictures) for _, pictures in rows)
    sheet = Image.new(
        "RGB",
        (margin + columns * (width + GAP), len(rows) * (height + 3 * GAP)),
        "white",
    )
    draw = ImageDraw.Draw(sheet)
    top, last_style = 0, None
    for label, pictures in rows:
        style = label.split(" · ")[0]
        top += GAP if last_style == style else 3 * GAP if last_style else 0
        last_style = style
        draw.text((8, top + height / 2), label, fill="black", font=font, anchor="lm")
        for column, picture in enumerate(pictures):
            left = margin + column * (width + GAP)
            sheet.paste(picture.resize((width, height), Image.Resampling.LANCZOS), (left, top))
        top += height
    with writing(path), written_whole(path) as partial:
        sheet.crop((0, 0, sheet.width, top)).save(partial, format="PNG")
