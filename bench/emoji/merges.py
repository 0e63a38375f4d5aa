"""Methods that train: ours, the paper's recipe, the authors' code's, and styles added later."""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from bench.emoji.contest import Artist, Contest, Entry
from bench.emoji.sizes import Size
from bench.timing import watched
from dmm.merged import read_styles
from dmm.resolving import resolve
from trainer.checkpoint import open_checkpoint
from trainer.config import Train
from trainer.evaluate.cost import cost_of
from trainer.repeats import Repeats
from trainer.sampling import unet_passes
from trainer.teachers import Teacher

RUN = Path(__file__).parents[2] / "trainer" / "run.py"
SECOND_RATE = 0.1
"""The second stage's learning rate, of the first's.

Its batches are ten pairs, as the paper's are, and at a rate far above the paper's so few undo what
was learned.
"""

NEW_STYLES_RATE = 1e-2
"""Of style prompts that are added: the MLP stands still, so they have to find their place alone."""


@dataclass(frozen=True)
class Recipe:
    """What one merge does otherwise than the others.

    Attributes:
        train: keys of that section.
        own: the share of samples that a style takes from what its own teacher paints.
        second: whether it is fine-tuned on that in a second stage.
        finer: how many steps it makes of one, each with as much less in its batch.
        rate: its learning rate, of the others'.
        hasty: whether teachers paint in half of the steps, and without guidance.
        evaluations: of the UNet it has, of the paper's recipe's; None = as many steps as that.
    """

    train: Mapping[str, Any] = field(default_factory=dict)
    own: float = 0.0
    second: bool = False
    finer: int = 1
    rate: float = 1.0
    hasty: bool = False
    evaluations: float | None = None


AUTHORS = {
    "start_from": "base",
    "teachers_per_sample": 1,
    "teachers_per_step": None,
    "feature_weight": 0.001,
    "adversarial_weight": 0,
}
# Ours, one thing after the other; all with a fifth of the paper's evaluations but the last.
AVERAGE = {
    "start_from": "average",
    "teachers_per_sample": None,
    "feature_weight": 0.001,
    "adversarial_weight": 0,
    "schedule": "cosine",
    "caption_dropout": 0.05,
    "style_learning_rate": 1e-4,
}
RELATIVE = AVERAGE | {"feature_loss": "relative", "feature_weight": 1.0}
SHIFTED = RELATIVE | {"timestep_shift": 2.5}
MUON = SHIFTED | {"optimizer": "muon"}
REPEATED = MUON | {"repeats": 4, "repeat_among": 2400}
FIFTH = Recipe(AVERAGE, own=0.8, hasty=True, evaluations=0.2)
SMALL_BATCHES = replace(FIFTH, finer=8, rate=0.35)
DMM = Recipe(REPEATED, own=0.8, hasty=True, finer=8, rate=0.6)
RECIPES = {
    # The paper's table 1, from the top down; the second line is what the authors' code does.
    "paper, score alone": Recipe({**AUTHORS, "feature_weight": 0}),
    "authors": Recipe(AUTHORS),
    "paper, one stage": Recipe({**AUTHORS, "adversarial_weight": 0.01}),
    "paper": Recipe({**AUTHORS, "adversarial_weight": 0.01}, second=True),
    "a fifth, from the average": FIFTH,
    "a fifth, small batches": SMALL_BATCHES,
    "a fifth, relative features": replace(SMALL_BATCHES, train=RELATIVE),
    "a fifth, more noise": replace(SMALL_BATCHES, train=SHIFTED),
    "a fifth, Muon": replace(SMALL_BATCHES, train=MUON, rate=DMM.rate),
    "dmm, a fifth": replace(DMM, evaluations=FIFTH.evaluations),
    "dmm": DMM,
}


def merge(contest: Contest, folder: Path, recipe: Recipe) -> Entry:
    """Merges by the trainer's own command, which goes on where it was stopped."""
    output = folder / "merged.safetensors"
    peak = _run("merge", _config(contest, output, recipe, contest.base, contest.styles))
    return _entry(contest, [output], peak)


def extended(contest: Contest, folder: Path, regularization: bool) -> Entry:
    """Half of the styles in one merge, the others added to it in another (paper, section 3.5).

    Args:
        regularization: whether the first merge teaches the second its styles.
    """
    half, output = folder / "half.safetensors", folder / "merged.safetensors"
    count = len(contest.styles) // 2
    further = {
        **DMM.train,
        "start_from": "base",  # as the first ended, which no average of teachers could stand for
        "style_learning_rate": NEW_STYLES_RATE,
        "regularization": regularization,
    }
    first = _config(contest, half, DMM, contest.base, contest.styles[:count])
    second = _config(contest, output, replace(DMM, train=further), half, contest.styles[count:])
    peaks = [_run("merge", config) for config in (first, second)]
    return _entry(contest, [half, output], max(peaks))


def _entry(contest: Contest, merges: list[Path], peak: int) -> Entry:
    """The last of some merges, each of which goes on from the one before."""
    output = merges[-1]
    styles, checkpoint = read_styles(output), open_checkpoint(output)
    rows = [styles.names.index(name) for name in contest.styles]
    student = Teacher(checkpoint, checkpoint.prediction_type, None, tuple(rows), styles.prompts)
    costs = [cost_of(read_styles(path).recipe, path, [path], []) for path in merges]
    return Entry(
        [Artist(student, row) for row in rows],
        [output],
        change=lambda row: resolve(styles, {contest.styles[row]: 1.0}),
        seconds=sum(cost.seconds or 0 for cost in costs),
        samples=sum(cost.samples or 0 for cost in costs),
        unet_evaluations=sum(cost.unet_evaluations or 0 for cost in costs),
        painting_evaluations=sum(cost.painting_evaluations or 0 for cost in costs),
        peak_bytes=peak,
        config={key: value for key, value in styles.recipe["config"].items() if value},
    )


def _run(command: str, config: Mapping[str, Any]) -> int:
    """Runs the trainer, or goes on with it; gives the most memory that it ever had, in bytes."""
    output = Path(config["output"])
    output.parent.mkdir(parents=True, exist_ok=True)
    said, seen = output.with_suffix(".yaml"), output.with_suffix(".peak")
    said.write_text(yaml.safe_dump(config), encoding="utf-8")
    before = int(seen.read_text(encoding="utf-8")) if seen.exists() else 0
    peak = max(before, watched([sys.executable, str(RUN), command, str(said)]))
    seen.write_text(str(peak), encoding="utf-8")
    return peak


def _config(
    contest: Contest, output: Path, recipe: Recipe, base: Path, styles: list[str]
) -> dict[str, Any]:
    size = contest.size
    batch = max(size.batch_size // recipe.finer, 1)
    train = {
        "batch_size": batch,
        "learning_rate": size.learning_rate * recipe.rate,
        "seed": contest.seed,
        **recipe.train,
    }
    painting = {
        "pictures_per_teacher": size.painted,
        "steps": max(size.sampling_steps // 2, 1) if recipe.hasty else size.sampling_steps,
        "guidance": 1 if recipe.hasty else size.guidance,
        "negative": "",
        "batch_size": 32,
    }
    second = {
        "prompts": str(contest.seen),
        "painting": painting,
        "steps": size.second_steps,
        "batch_size": _second_batch(size),
        "learning_rate": size.learning_rate * SECOND_RATE,
    }
    steps = size.steps * size.batch_size // batch
    if recipe.evaluations:
        left = recipe.evaluations * _paper(size, len(styles))
        left -= size.painted * len(styles) * painting["steps"]
        steps = _affordable(left / batch, Repeats.of(Train(**train)))
    return {
        "preset": "paper",
        "base": str(base),
        "teachers": [{"path": str(contest.teachers[name]), "name": name} for name in styles],
        "output": str(output),
        "data": {
            "prompts": str(contest.seen),
            "own": recipe.own,
            "resolution": 64,
            "workers": 0,
            "painting": painting,
            "cache": str(contest.folder / "cache"),
        },
        "train": {
            "steps": steps,
            "warmup_steps": min(size.warmup, steps // 5),
            "save_every": max(1, steps // 10),
            **train,
        },
        "synthesised": second if recipe.second else None,
        "samples": {
            "steps": size.sampling_steps,
            "guidance": size.guidance,
            "negative": "",
            "count": 8,
        },
        "log_with": [],
    }


def _second_batch(size: Size) -> int:
    return min(10, size.batch_size)


def _paper(size: Size, styles: int) -> int:
    """UNet evaluations of the paper's recipe."""
    pairs = size.steps * size.batch_size + size.second_steps * _second_batch(size)
    painting = size.painted * styles * size.sampling_steps * unet_passes(size.guidance)
    return 2 * pairs + painting


def _affordable(evaluations: float, repeats: Repeats) -> int:
    """The most steps of one pair that take so many evaluations, student and teacher."""
    spent = bisect_right(
        range(max(int(evaluations), 2)), evaluations, key=lambda steps: steps + repeats.new(steps)
    )
    return max(spent - 1, 1)
