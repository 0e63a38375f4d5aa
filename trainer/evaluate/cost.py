"""What a merge cost, as far as its file and its statistics tell."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.pairs import PairPlan
from trainer.repeats import Repeats
from trainer.sampling import unet_passes

MOST = 10**12
"""More of anything, no merge has."""

_STRANGE = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)
"""What reading a recipe raises where it is none of ours."""


@dataclass(frozen=True)
class Cost:
    """None where nobody knows.

    Attributes:
        steps: of training.
        pairs: noisy samples that a teacher was asked about, counted once for each that was.
        samples: different noisy samples.
        unet_evaluations: forward passes of a whole UNet over one sample: the teacher's of each
            pair, the student's each time it learned from one, and those of painting the data.
            Backward passes and the discriminator's are left out.
        painting_evaluations: those among them that painted the data.
        seconds: of training, on whatever machine it ran.
        merged_bytes, teachers_bytes: the size of the merged file, and of the teachers' together.
    """

    steps: int | None
    pairs: int | None
    samples: int | None
    unet_evaluations: int | None
    painting_evaluations: int | None
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
    run = merged.with_suffix("")
    seconds = [_seconds(folder / "stats.jsonl") for folder in (run, run / "synthesised")]
    return Cost(
        steps=_total(stage.steps for stage in stages),
        pairs=_total(stage.pairs for stage in stages),
        samples=_total(stage.samples for stage in stages),
        unet_evaluations=_total(stage.unet_evaluations for stage in stages),
        painting_evaluations=_total(stage.painting_evaluations for stage in stages),
        seconds=sum(seconds) or None,
        merged_bytes=sum(file.stat().st_size for file in files),
        teachers_bytes=sum(file.stat().st_size for file in teachers),
    )


def _total(counts: Iterable[int | None]) -> int | None:
    counts = list(counts)
    return None if None in counts else sum(counts) or None


@dataclass(frozen=True)
class _Stage:
    """One training, counted as `Cost` counts."""

    steps: int
    pairs: int
    samples: int
    unet_evaluations: int | None
    painting_evaluations: int | None


def _stages(recipe: Mapping[str, Any]) -> list[_Stage]:
    """What our own merges write; nothing where a recipe is somebody else's."""
    try:
        config, given = recipe["config"], len(recipe["teachers"])
        train, data, second = config["train"], config["data"], config.get("synthesised")
        few, styles = config.get("few_steps"), _num_styles(recipe)
        # Where there is a former self, it taught the styles that nobody else did.
        former = styles != given and (few or train["regularization"])
        teachers, taught = (given + 1, styles) if former else (given, given)
        painting = data["painting"] if data["prompts"] or data.get("synthetic") else None
        stages = [_stage(train, teachers, _passes(few), _painted(painting, taught))]
        if second:
            again = [second["prompts"], second["painting"]] == [data["prompts"], painting]
            painted = 0 if again else _painted(second["painting"], taught)
            said = {"teachers_per_sample": 1}  # who painted it
            stages.append(_stage(train | second | said, teachers, _passes(few), painted))
    except _STRANGE:
        return []
    return stages


def _num_styles(recipe: Mapping[str, Any]) -> int | None:
    """Of the file that is made so."""
    if "teachers" not in recipe:
        return None
    if "accelerates" in recipe:
        return _num_styles(recipe["accelerates"])
    former = _num_styles(recipe["extends"]) if "extends" in recipe else 0
    return None if former is None else former + len(recipe["teachers"])


def _stage(train: Mapping[str, Any], teachers: int, passes: int, painted: int | None) -> _Stage:
    """A stage of a recipe's `train` section.

    Args:
        passes: UNet evaluations of a pair.
        painted: of all its data.
    """
    steps, batch = _whole(train["steps"]), _whole(train["batch_size"])
    plan = PairPlan(teachers, batch, train["teachers_per_sample"], train.get("teachers_per_step"))
    times, among = _whole(train.get("repeats", 1)), _whole(train.get("repeat_among", 1))
    new = Repeats.among(times, among, batch).new(steps)
    trained = ((passes - 1) * new + steps) * batch
    evaluations = None if painted is None else trained + painted
    return _Stage(steps, new * batch, new * plan.samples_per_step, evaluations, painted)


def _passes(few_steps: Mapping[str, Any] | None) -> int:
    """UNet evaluations of a pair: the teacher's, twice where captions guide, and the student's.

    One that learns to paint in few steps is asked twice too: what it says, and what it should.
    """
    if not few_steps:
        return 2
    return 2 + unet_passes(few_steps["guidance"])


def _painted(painting: Mapping[str, Any] | None, styles: int | None) -> int | None:
    """UNet evaluations of painting in some styles, where it is known how many."""
    if not painting:
        return 0
    if painting["pictures_per_teacher"] is None or styles is None:
        return None  # as many as there were prompts, or styles
    evaluations = _whole(painting["steps"]) * unet_passes(painting["guidance"])
    return _whole(painting["pictures_per_teacher"]) * styles * evaluations


def _whole(number: object) -> int:
    """A stranger's number, where it is one that a merge can have."""
    if not isinstance(number, int) or not 0 < number <= MOST:
        raise ValueError(f"{number!r} counts nothing.")
    return number


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
