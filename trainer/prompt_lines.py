"""A line of a prompts file, in the syntax of kohya's sample prompts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dmm.errors import DmmError
from trainer.buckets import Size

MOST_SIDE, MOST_STEPS, MOST_GUIDANCE = 16_384, 1000, 1000
FLAGS = "--n NEGATIVE, --w WIDTH, --h HEIGHT, --d SEED, --s STEPS, --l CFG"


@dataclass(frozen=True)
class Prompt:
    """What to paint; None = as everything else is painted."""

    text: str
    negative: str | None = None
    size: Size | None = None  # width and height in pixels
    seed: int | None = None
    steps: int | None = None
    guidance: float | None = None


def parse_prompt(line: str, where: str, sizes: Sequence[Size] = ()) -> Prompt:
    """Reads `a fox in snow --n blurry --w 512 --h 768 --d 7 --s 30 --l 5.5`.

    Args:
        where: the file and the number of the line, for messages.
        sizes: those that `--w` and `--h` can ask for, the usual one first; none = any.

    Raises:
        DmmError: a flag is unknown, stands twice, or has a value that does not fit.
    """
    text, *flags = re.split(r"\s--(?=\w)", " " + line)
    values: dict[str, str] = {}
    for flag in flags:
        name, _, value = flag.partition(" ")
        if name not in ("n", "w", "h", "d", "s", "l"):
            raise DmmError(f"{where}: there is no flag --{name}. There are {FLAGS}.")
        if name in values:
            raise DmmError(f"{where}: --{name} stands there twice.")
        values[name] = value.strip()

    def number(name: str, kind: type[int] | type[float], least: int, most: int) -> Any:
        if name not in values:
            return None
        try:
            value = kind(values[name])
        except ValueError:
            value = float("nan")
        if not least <= value <= most:
            wanted = "whole number" if kind is int else "number"
            said = values[name][:40]
            raise DmmError(f"{where}: --{name} {said} is not a {wanted} from {least} to {most}.")
        return value

    return Prompt(
        text.strip(),
        values.get("n"),
        _size(number("w", int, 8, MOST_SIDE), number("h", int, 8, MOST_SIDE), where, sizes),
        number("d", int, 0, 2**64 - 1),
        number("s", int, 1, MOST_STEPS),
        number("l", float, 1, MOST_GUIDANCE),
    )


def _size(width: int | None, height: int | None, where: str, sizes: Sequence[Size]) -> Size | None:
    if width is None and height is None:
        return None
    usual = sizes[0] if sizes else (512, 512)
    size = (width or usual[0], height or usual[1])
    if sizes and size not in sizes:
        known = ", ".join(f"{w} x {h}" for w, h in sizes)
        raise DmmError(
            f"{where}: {size[0]} x {size[1]} is not a size that is trained at ({known}). "
            "Leave --w and --h out, or add the size to `data.buckets`."
        )
    return size
