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
    stages = _stages(recipe)
    pairs = [stage.steps * stage.batch_size for stage in stages]
    shared = [count // stage.sharing for count, stage in zip(pairs, stages, strict=True)]
    run = merged.with_suffix("")
    seconds = [_seconds(folder / "stats.jsonl") for folder in (run, run / "synthesised")]
    return Cost(
        steps=sum(stage.steps for stage in stages) or None,
        pairs=sum(pairs) or None,
        samples=sum(shared) or None,
        unet_evaluations=2 * sum(pairs) + sum(stage.painting for stage in stages) or None,
        seconds=sum(seconds) or None,
        merged_bytes=sum(file.stat().st_size for file in files),
        teachers_bytes=sum(file.stat().st_size for file in teachers),
    )


@dataclass(frozen=True)
class _Stage:
    """One training.

    Attributes:
        sharing: teachers that see one sample.
        painting: UNet evaluations that went into painting its data.
    """

    steps: int
    batch_size: int
    sharing: int
    painting: int


def _stages(recipe: Mapping[str, Any]) -> list[_Stage]:
    """What our own merges write; nothing where a recipe is somebody else's."""
    try:
        config, count = recipe["config"], len(recipe["teachers"])
        train, data = config["train"], config["data"]
        sharing = min(train["teachers_per_sample"] or count, count)
        painting = data["painting"] if data["prompts"] else None
        stages = [_Stage(train["steps"], train["batch_size"], sharing, _painted(painting, count))]
        second = config.get("synthesised")
        if second:
            again = [second["prompts"], second["painting"]] == [data["prompts"], painting]
            known = again and painting["pictures_per_teacher"]  # or else they shared the prompts
            painted = 0 if known else _painted(second["painting"], count)
            stages.append(_Stage(second["steps"], second["batch_size"], 1, painted))
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError):
        return []
    numbers = [number for stage in stages for number in vars(stage).values()]
    return stages if all(isinstance(number, int) and number >= 0 for number in numbers) else []


def _painted(painting: Mapping[str, Any] | None, teachers: int) -> int:
    """Forward passes, two a step where captions guide."""
    if not painting:
        return 0
    passes = 1 if painting["guidance"] == 1 else 2
    return (painting["pictures_per_teacher"] or 0) * teachers * painting["steps"] * passes


def _seconds(statistics: Path) -> float:
    """A training's seconds; each time a run went on, its clock began anew."""
    if not statistics.is_file():
        return 0.0
    total = last = 0.0
    for line in statistics.read_text(encoding="utf-8").splitlines():
        try:
            seconds = float(json.loads(line)["seconds"])
        except (ValueError, KeyError, TypeError):
            continue
        total += seconds - last if seconds > last else seconds
        last = seconds
    return total
