"""Figures of a run: one JSON object a line, which a resumed run continues without a break."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from dmm.atomic import written_whole
from trainer.disk import writing


class Statistics:
    """Appends to `stats.jsonl`.

    Args:
        path: the file.
        steps_done: lines of later steps, written before a kill and now trained again, are dropped.
    """

    def __init__(self, path: Path, steps_done: int) -> None:
        kept = [line for line in _lines(path) if line["step"] <= steps_done]
        with writing(path), written_whole(path) as partial:
            partial.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        self._path = path

    def write(self, figures: dict[str, Any]) -> None:
        with writing(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(figures) + "\n")

    def flush(self) -> None:
        """Makes the lines survive a power cut, before the state of their step does."""
        with writing(self._path), self._path.open("rb+") as file:
            os.fsync(file.fileno())


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break  # a kill or a power cut came in the middle of this line
    return lines
