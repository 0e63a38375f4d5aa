"""Methods that train: our merge, the paper's recipe, and the authors' code's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from bench.emoji.contest import Artist, Contest, Entry
from dmm.merged import read_styles
from dmm.resolving import resolve
from trainer.checkpoint import open_checkpoint
from trainer.evaluate.cost import cost_of
from trainer.teachers import Teacher

RUN = Path(__file__).parents[2] / "trainer" / "run.py"

Recipe = Mapping[str, Any]
"""Keys of `train:` that differ from what all merges share, and `second` for the second stage."""

AUTHORS: Recipe = {
    "start_from": "base",
    "teachers_per_sample": 1,
    "teachers_per_step": None,
    "feature_weight": 0.001,
    "adversarial_weight": 0,
}
RECIPES: dict[str, Recipe] = {
    # The paper's table 1, from the top down; the second line is what the authors' code does.
    "paper, score alone": {**AUTHORS, "feature_weight": 0},
    "authors": AUTHORS,
    "paper, one stage": {**AUTHORS, "adversarial_weight": 0.01},
    "paper": {**AUTHORS, "adversarial_weight": 0.01, "second": True},
    "dmm": {
        "start_from": "average",
        "teachers_per_sample": None,
        "feature_weight": 0.001,
        "adversarial_weight": 0,
        "schedule": "cosine",
    },
}


def merge(contest: Contest, folder: Path, recipe: Recipe) -> Entry:
    """Merges by the trainer's own command, which goes on where it was stopped."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "merge.yaml"
    output = folder / "merged.safetensors"
    config.write_text(yaml.safe_dump(_config(contest, output, recipe)), encoding="utf-8")
    subprocess.run([sys.executable, str(RUN), "merge", str(config)], check=True)

    styles, checkpoint = read_styles(output), open_checkpoint(output)
    rows = tuple(range(len(styles.names)))
    student = Teacher(checkpoint, checkpoint.prediction_type, None, rows, styles.prompts)
    cost = cost_of(styles.recipe, output, [output], [])
    return Entry(
        [Artist(student, row) for row in rows],
        [output],
        change=lambda row: resolve(styles, {styles.names[row]: 1.0}),
        seconds=cost.seconds or 0.0,
        samples=cost.samples or 0,
        unet_evaluations=cost.unet_evaluations or 0,
        config={key: value for key, value in styles.recipe["config"].items() if value},
    )


def _config(contest: Contest, output: Path, recipe: Recipe) -> dict[str, Any]:
    size = contest.size
    train = {key: value for key, value in recipe.items() if key != "second"}
    painting = {
        "pictures_per_teacher": size.painted,
        "steps": size.sampling_steps,
        "guidance": size.guidance,
        "negative": "",
        "batch_size": 32,
    }
    second = {
        "prompts": str(contest.seen),
        "painting": painting,
        "steps": size.second_steps,
        "batch_size": min(10, size.batch_size),
    }
    return {
        "base": str(contest.base),
        "teachers": [{"path": str(path), "name": name} for name, path in contest.teachers.items()],
        "output": str(output),
        "data": {
            "prompts": str(contest.seen),
            "resolution": 64,
            "workers": 0,
            "painting": painting,
            "cache": str(contest.folder / "cache"),
        },
        "train": {
            "steps": size.steps,
            "batch_size": size.batch_size,
            "learning_rate": size.learning_rate,
            "warmup_steps": size.warmup,
            "seed": contest.seed,
            "save_every": max(1, size.steps // 10),
            **train,
        },
        "synthesised": second if recipe.get("second") else None,
        "samples": {
            "steps": size.sampling_steps,
            "guidance": size.guidance,
            "negative": "",
            "count": 8,
        },
        "log_with": [],
    }
