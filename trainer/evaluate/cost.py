"""What a merge cost, as far as its file and its statistics tell."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Cost:
    """None where nobody knows.

    Attributes:
        steps: of training.
        pairs: noisy samples seen by a teacher, each counted once for each teacher that saw it.
        samples: different noisy samples.
        unet_evaluations: forward passes of a whole UNet over one sample: the student's and the
            teacher's of each pair, and those of painting the data. Backward passes and the
            discriminator's are left out.
        seconds: of training, on whatever machine it ran.
        merged_bytes, teachers_bytes: the size of the merged file, and of the teachers' together.
    """

    steps: int | None
    pairs: int | None
    samples: int | None
    unet_evaluations: int | None
    seconds: float | None
    merged_bytes: int
    teachers_bytes: int


def cost_of(
    recipe: Mapping[str, Any], merged: Path, files: list[Path], teachers: list[Path]
) -> Cost:
    """Reads the recipe, and `stats.jsonl` in the run's folder where that is still there.

    Args:
        recipe: of the merged file; a stranger's, so that anything may be missing.
        merged: the file or folder.
        files, teachers: files whose sizes are added up.
    """
    train, painting, count = _config(recipe)
    steps, pairs, samples, evaluations = None, None, None, None
    if train:
        steps = train["steps"]
        pairs = steps * train["batch_size"]
        samples = pairs // min(train["teachers_per_sample"] or count, count)
        evaluations = 2 * pairs
        if painting:
            passes = 1 if painting["guidance"] == 1 else 2
            painted = (painting["pictures_per_teacher"] or 0) * count
            evaluations += painted * painting["steps"] * passes
    return Cost(
        steps=steps,
        pairs=pairs,
        samples=samples,
        unet_evaluations=evaluations,
        seconds=_seconds(merged.with_suffix("") / "stats.jsonl"),
        merged_bytes=sum(file.stat().st_size for file in files),
        teachers_bytes=sum(file.stat().st_size for file in teachers),
    )


def _config(recipe: Mapping[str, Any]) -> tuple[dict | None, dict | None, int]:
    """The parts of a recipe that are needed here, where they are what our own merges write."""
    try:
        train = recipe["config"]["train"]
        data = recipe["config"]["data"]
        numbers = [train["steps"], train["batch_size"], train["teachers_per_sample"] or 1]
        painting = data["painting"] if data["prompts"] else None
        if painting:
            numbers += [painting["pictures_per_teacher"] or 0, painting["steps"]]
            float(painting["guidance"])
        if not all(isinstance(number, int) and number >= 0 for number in numbers):
            return None, None, 0
        return train, painting, len(recipe["teachers"])
    except (KeyError, TypeError, ValueError):
        return None, None, 0


def _seconds(statistics: Path) -> float | None:
    """The training's seconds; each time a run went on, its clock began anew."""
    if not statistics.is_file():
        return None
    total = last = 0.0
    for line in statistics.read_text(encoding="utf-8").splitlines():
        try:
            seconds = float(json.loads(line)["seconds"])
        except (ValueError, KeyError, TypeError):
            continue
        total += seconds - last if seconds > last else seconds
        last = seconds
    return total or None
