"""What a run was begun with, written down, and held against what would go on with it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from accelerate import Accelerator
from pydantic import BaseModel

from dmm.atomic import written_whole
from dmm.errors import DmmError
from trainer.disk import writing
from trainer.ingredients import Ingredients
from trainer.stages import Stage

RUN = "run.json"


def refuse_another_run(
    ingredients: Ingredients, stages: Sequence[Stage], accelerator: Accelerator
) -> None:
    """A stage's folder belongs to one run: its states make no sense for other teachers or data.

    Args:
        stages: the one that is asked about comes last; what it starts from is made by the others.

    Raises:
        DmmError: its folder holds states of another run, or cannot be written.
    """
    stage, wanted = stages[-1], _fixed(ingredients, stages)
    mark = stage.folder / RUN
    if stage.is_begun and mark.exists():
        # What a later release holds fixed besides, an earlier one's runs do not say.
        was = json.loads(mark.read_text(encoding="utf-8"))
        changed = [f"`{key}`" for key in was if was[key] != wanted.get(key)]
        if changed:
            raise DmmError(
                f"{stage.folder} holds a run that differs in {' and '.join(changed)}. "
                f"To go on with it, undo the change; to begin anew, delete {stage.folder} "
                "or choose another `output`."
            )
    elif accelerator.is_main_process:
        with writing(mark), written_whole(mark) as partial:
            partial.write_text(json.dumps(wanted, indent=2), encoding="utf-8")
    accelerator.wait_for_everyone()


def _fixed(ingredients: Ingredients, stages: Sequence[Stage]) -> dict[str, Any]:
    """What the last of some stages cannot change on its way, by the config's keys; JSON values."""
    config, stage = ingredients.config, stages[-1]
    train = stage.train
    fixed = {
        "base": ingredients.base.sha256,
        "teachers": [(style.name, style.sha256) for style in ingredients.styles],
        "condition": [said.condition and str(said.condition) for said in config.teachers],
        "data": stage.source.fingerprint,
        "painting": _said(stage.painting, but="batch_size") if stage.is_painted else None,
        "own": stage.own,
        "resolution": config.data.resolution,
        "buckets": config.data.sizes[1:],
        "batch_size": train.batch_size,
        "teachers_per_sample": train.teachers_per_sample,
        "teachers_per_step": train.teachers_per_step,
        "repeats": train.repeats,
        "repeat_among": train.repeat_among if train.repeats > 1 else None,
        "regularization": train.regularization,
        "start_from": train.start_from,
        "adapter": _said(train.adapter),
        "optimizer": train.optimizer,
        "adversarial_weight": train.adversarial_weight > 0,  # whether there is a discriminator
        "ema_decay": train.ema_decay is not None,  # whether there is an average
        "seed": train.seed,
        "few_steps": _said(config.few_steps),
        "train": [_said(before.train) for before in stages[:-1]],
    }
    return json.loads(json.dumps(fixed))


def _said(section: BaseModel | None, but: str = "") -> dict[str, Any] | None:
    """What a section says besides its defaults, which later releases may have more of."""
    return section and section.model_dump(mode="json", exclude_defaults=True, exclude={but})
