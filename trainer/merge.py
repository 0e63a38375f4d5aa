"""A whole merge, from opened files to the merged checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, set_seed

from dmm.atomic import make_folder
from dmm.errors import DmmError
from dmm.style_prompts import StylePrompts
from trainer.adapter import add_adapter
from trainer.average import mean
from trainer.batches import TrainingBatches
from trainer.claim import claimed
from trainer.config import MergeConfig
from trainer.consistency import Consistency
from trainer.disk import writing
from trainer.distillation import Distillation
from trainer.export import export, is_complete, is_made_by, outputs
from trainer.grid_painter import GridPainter
from trainer.ingredients import Ingredients
from trainer.learner import Learner
from trainer.loop import Objective, TrainingLoop
from trainer.memory import teacher_slots
from trainer.opening import open_ingredients
from trainer.pairs import PairPlan
from trainer.precision import DTYPES
from trainer.prepare import Prepared, prepare
from trainer.processes import PATIENCE
from trainer.repeats import Repeats
from trainer.same_run import refuse_another_run
from trainer.sharding import mixed_precision, refuse_unfit
from trainer.stages import Stage, open_stages
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
    stages = open_stages(config)
    written = [*outputs(config), config.run_folder / GRID]
    if not overwrite:
        _refuse_foreign_outputs(ingredients)
        if is_complete(config):
            return written
    accelerator = new_accelerator(config, stages[0])
    with claimed(config.run_folder, accelerator):
        _merge(ingredients, stages, accelerator)
    return written


def _merge(ingredients: Ingredients, stages: Sequence[Stage], accelerator: Accelerator) -> None:
    """Trains what is left of the stages, and writes the merged checkpoint."""
    config = ingredients.config
    for number, stage in enumerate(stages):
        refuse_unfit(stage.train, accelerator)
        refuse_another_run(ingredients, stages[: number + 1], accelerator)
    begun = [number for number, stage in enumerate(stages) if stage.is_begun]
    student = None
    for number, stage in list(enumerate(stages))[max(begun, default=0) :]:
        if number:
            for tracker in accelerator.trackers:
                tracker.finish()
            accelerator = new_accelerator(config, stage)
        student = _train(ingredients, stage, accelerator, student, number + 1 == len(stages))
    if accelerator.is_main_process:
        export(student.cpu(), ingredients)
    accelerator.wait_for_everyone()
    with writing(config.run_folder):
        accelerator.end_training()


def _train(
    ingredients: Ingredients,
    stage: Stage,
    accelerator: Accelerator,
    student: Student | None,
    is_last: bool,
) -> Student:
    """Trains one stage, from its last saved state where there is one.

    Args:
        student: what the stage before gave; None = there is none, or its states are there.
    """
    config, train = ingredients.config, stage.train
    prepared = prepare(ingredients, stage, accelerator.device, DTYPES[train.precision])
    set_seed(train.seed)
    teachers = teacher_pool(ingredients, accelerator.device)
    loop = training_loop(ingredients, stage, prepared, teachers, accelerator, student)
    painter = GridPainter(ingredients, prepared, teachers, accelerator)

    def on_step(step: int) -> None:
        every = config.samples.every
        if every and step % every == 0 and step < train.steps:
            painter.paint(loop.learner.whole(), stage.folder / "samples" / f"step-{step:08d}.png")

    if student and not stage.is_begun:
        loop.save(0)  # from here on the stages before are done
    student = loop.run(on_step)
    if is_last and accelerator.is_main_process:
        painter.paint(student, config.run_folder / GRID)
    accelerator.free_memory()
    return student


def teacher_pool(ingredients: Ingredients, device: torch.device) -> TeacherPool:
    """The teachers, as many on the device as the config says or as fit."""
    train = ingredients.config.train
    dtype = DTYPES[train.precision]
    slots = train.teacher_slots or teacher_slots(ingredients, dtype, device)
    return TeacherPool(ingredients.teachers, device, dtype, slots)


def training_loop(
    ingredients: Ingredients,
    stage: Stage,
    prepared: Prepared,
    teachers: TeacherPool,
    accelerator: Accelerator,
    student: Student | None = None,
) -> TrainingLoop:
    """The loop of a stage before its first step: student, objective and data put together."""
    train = stage.train
    # The student comes first: so a saved state's `model.safetensors` is the student.
    learner = Learner(train, accelerator, student or new_student(ingredients))
    batches = TrainingBatches(
        prepared.examples,
        prepared.student_text,
        prepared.teacher_text,
        PairPlan.of(train, len(teachers.teachers)),
        taught=[teacher.styles for teacher in teachers.teachers],
        conditions=prepared.shown,
        own=stage.own,
        caption_dropout=train.caption_dropout,
        timestep_shift=train.timestep_shift,
        repeats=Repeats.of(train),
        seed=train.seed,
        micro_batch_size=train.micro_batch_size,
        process=accelerator.process_index,
        processes=accelerator.num_processes,
    )
    return TrainingLoop(
        train,
        accelerator,
        learner,
        new_objective(ingredients, stage, prepared, teachers, learner, accelerator),
        batches,
        ingredients.names,
        stage.folder,
        stage.title,
        ingredients.config.data.workers,
    )


def new_objective(
    ingredients: Ingredients,
    stage: Stage,
    prepared: Prepared,
    teachers: TeacherPool,
    learner: Learner,
    accelerator: Accelerator,
) -> Objective:
    """What the student is taught in a stage."""
    train, base, few = stage.train, ingredients.base, ingredients.config.few_steps
    if few:
        negative = [text.lookup([few.negative]) for text in prepared.teacher_text]
        return Consistency(
            few,
            accelerator,
            teachers,
            negative,
            learner,
            base.prediction_type,
            len(ingredients.names),
        )
    backbone = None
    if train.adversarial_weight:
        backbone = base.load_unet(DTYPES[train.precision]).to(accelerator.device)
    return Distillation(
        train, accelerator, teachers, base.prediction_type, len(ingredients.names), backbone
    )


def new_student(ingredients: Ingredients) -> Student:
    """The student before its first step; its codebook is drawn from torch's generator."""
    train = ingredients.config.train
    unet = ingredients.start.load_unet(DTYPES[train.precision] if train.adapter else torch.float32)
    if train.start_from == "average":
        unet.load_state_dict(mean([file.unet_tensors() for file in ingredients.checkpoints]))
    unet.train().requires_grad_(True)
    prompts, kept = StylePrompts(len(ingredients.new_styles), ingredients.dim), 0
    if ingredients.former:
        prompts = ingredients.former.prompts.extended(prompts.codebook)
        if ingredients.new_styles and train.regularization:
            kept = ingredients.former.prompts.num_styles
    if train.adapter:
        add_adapter(unet, train.adapter)
    return Student(unet, prompts, kept)


def new_accelerator(config: MergeConfig, stage: Stage) -> Accelerator:
    """The device, precision and loggers that the config asks for; makes the stage's folder."""
    accelerator = Accelerator(
        mixed_precision=mixed_precision(stage.train),
        log_with=config.log_with or None,
        project_dir=str(stage.folder),
        cpu=not torch.cuda.is_available() and not torch.backends.mps.is_available(),
        kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
    )
    refuse_unfit(stage.train, accelerator)
    with writing(stage.folder):
        make_folder(stage.folder)
        accelerator.init_trackers("logs")
    return accelerator


def _refuse_foreign_outputs(ingredients: Ingredients) -> None:
    for path in outputs(ingredients.config):
        if path.exists() and not is_made_by(path, ingredients):
            raise DmmError(
                f"{path} is there already and was made by another merge. "
                "Choose another `output`, or give --overwrite."
            )
