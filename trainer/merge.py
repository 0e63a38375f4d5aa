"""A whole merge, from opened files to the merged checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from dmm.errors import DmmError
from dmm.style_prompts import StylePrompts
from trainer.average import Mean
from trainer.config import MergeConfig
from trainer.disk import writing
from trainer.export import export, is_complete, is_made_by, outputs
from trainer.fingerprint import fingerprint
from trainer.grid_painter import GridPainter
from trainer.ingredients import Ingredients, open_ingredients
from trainer.loop import TrainingLoop
from trainer.memory import teacher_slots
from trainer.precision import DTYPES
from trainer.prepare import Prepared, open_source, prepare
from trainer.sampling import sdxl_time_ids
from trainer.student import Student
from trainer.teachers import TeacherPool

GRID = "grid.png"


def merge(config: MergeConfig, *, overwrite: bool = False) -> list[Path]:
    """Merges; run again, it goes on where it stopped, or finds everything done.

    Returns:
        What was written: the merged checkpoint, what goes with it, and last the sample grid.

    Raises:
        DmmError: bad input, before anything is written.
        trainer.loop.Stopped: after Ctrl-C.
    """
    ingredients = open_ingredients(config)
    source = open_source(config)
    written = [*outputs(config), config.run_folder / GRID]
    if not overwrite:
        _refuse_foreign_outputs(ingredients)
        if is_complete(config):
            return written
    accelerator = new_accelerator(config)
    _same_run_or_refuse(ingredients, source.fingerprint, accelerator)
    prepared = prepare(ingredients, source, accelerator.device, DTYPES[config.train.precision])
    set_seed(config.train.seed)
    loop = training_loop(ingredients, prepared, accelerator)
    painter = GridPainter(ingredients, prepared, loop.teachers, accelerator)

    def on_step(step: int) -> None:
        every = config.samples.every
        if every and step % every == 0 and step < config.train.steps:
            painter.paint(
                loop.plain_student, config.run_folder / "samples" / f"step-{step:08d}.png"
            )

    student = loop.run(on_step)
    if accelerator.is_main_process:
        painter.paint(student, config.run_folder / GRID)
        export(student.cpu(), ingredients)
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return written


def training_loop(
    ingredients: Ingredients, prepared: Prepared, accelerator: Accelerator
) -> TrainingLoop:
    """The loop of a merge before its first step: student, teachers and data put together."""
    config, device = ingredients.config, accelerator.device
    dtype = DTYPES[config.train.precision]
    teachers = TeacherPool(
        ingredients.teachers,
        device,
        dtype,
        config.train.teacher_slots or teacher_slots(ingredients, dtype, device),
    )
    return TrainingLoop(
        config.train,
        accelerator,
        new_student(ingredients),
        teachers,
        prepared,
        ingredients.base.prediction_type,
        ingredients.names,
        config.run_folder,
        sdxl_time_ids(*config.data.resolution) if ingredients.family == "sdxl" else None,
        config.data.workers,
        ingredients.base.load_unet(dtype).to(device) if config.train.adversarial_weight else None,
    )


def new_student(ingredients: Ingredients) -> Student:
    """The student before its first step; its codebook is drawn from torch's generator."""
    unet = ingredients.base.load_unet(torch.float32)
    if ingredients.config.train.start_from == "average":
        unet.load_state_dict(Mean([file.unet_tensors() for file in ingredients.checkpoints]))
    unet.train().requires_grad_(True)
    prompts = StylePrompts(len(ingredients.checkpoints), ingredients.dim)
    if ingredients.former:
        prompts = ingredients.former.prompts.extended(prompts.codebook)
    return Student(unet, prompts)


def new_accelerator(config: MergeConfig) -> Accelerator:
    """The device, precision and loggers that the config asks for; makes the run folder."""
    precision = {"fp32": "no"}.get(config.train.precision, config.train.precision)
    accelerator = Accelerator(
        mixed_precision=precision,
        log_with=config.log_with or None,
        project_dir=str(config.run_folder),
        cpu=not torch.cuda.is_available() and not torch.backends.mps.is_available(),
    )
    if accelerator.num_processes > config.train.batch_size:
        raise DmmError(
            f"`train.batch_size` {config.train.batch_size} is less than a pair for each of the "
            f"{accelerator.num_processes} processes. Raise it, or start fewer processes."
        )
    with writing(config.run_folder):
        config.run_folder.mkdir(parents=True, exist_ok=True)
    accelerator.init_trackers("logs")
    return accelerator


def _refuse_foreign_outputs(ingredients: Ingredients) -> None:
    for path in outputs(ingredients.config):
        if path.exists() and not is_made_by(path, ingredients):
            raise DmmError(
                f"{path} is there already and was made by another merge. "
                "Choose another `output`, or give --overwrite."
            )


def _same_run_or_refuse(
    ingredients: Ingredients, data_fingerprint: str, accelerator: Accelerator
) -> None:
    """A run folder belongs to one merge: its states make no sense for other teachers or data."""
    config = ingredients.config
    fixed = {
        "base": ingredients.base.sha256,
        "teachers": [(style.name, style.sha256) for style in ingredients.styles],
        "data": data_fingerprint,
        "resolution": config.data.resolution,
        "batch_size": config.train.batch_size,
        "teachers_per_sample": config.train.teachers_per_sample,
        "seed": config.train.seed,
        "start_from": config.train.start_from,
        "regularization": config.train.regularization,
    }
    wanted = fingerprint({key: str(value) for key, value in fixed.items()})
    mark = config.run_folder / "run-id"
    if (config.run_folder / "states").exists() and mark.exists():
        if mark.read_text(encoding="utf-8") != wanted:
            raise DmmError(
                f"{config.run_folder} holds a run with other teachers, data, batch size or seed. "
                f"To go on with it, undo the change; to begin anew, delete {config.run_folder} "
                "or choose another `output`."
            )
    elif accelerator.is_main_process:
        with writing(mark):
            mark.write_text(wanted, encoding="utf-8")
    accelerator.wait_for_everyone()
