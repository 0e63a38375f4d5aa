"""A whole merge, from opened files to the merged checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from dmm.errors import DmmError
from dmm.injection import styled
from dmm.style_prompts import StylePrompts
from trainer.config import MergeConfig
from trainer.export import export, is_written
from trainer.fingerprint import fingerprint
from trainer.grid import save_grid
from trainer.ingredients import Ingredients, open_ingredients
from trainer.loop import TrainingLoop
from trainer.memory import teacher_slots
from trainer.prepare import Prepared, open_source, prepare
from trainer.sampling import decode, sample_latents, sdxl_time_ids
from trainer.student import Student, averaged
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
    grid = config.run_folder / GRID
    if config.output.exists() and not overwrite:
        if is_written(ingredients):
            return [config.output, grid]
        raise DmmError(
            f"{config.output} is there already and was made by another merge. "
            "Choose another `output`, or give --overwrite."
        )
    accelerator = _accelerator(config)
    _same_run_or_refuse(ingredients, source.fingerprint, accelerator)
    dtype = _compute_dtype(accelerator)
    prepared = prepare(ingredients, source, accelerator.device, dtype)
    set_seed(config.train.seed)
    student = new_student(ingredients)
    time_ids = sdxl_time_ids(*config.data.resolution) if ingredients.family == "sdxl" else None
    teachers = TeacherPool(
        ingredients.teachers,
        ingredients.prediction_types,
        accelerator.device,
        dtype,
        config.train.teacher_slots or teacher_slots(ingredients, dtype, accelerator.device),
    )
    loop = TrainingLoop(
        config.train,
        accelerator,
        student,
        teachers,
        prepared,
        ingredients.base.prediction_type,
        ingredients.names,
        config.run_folder,
        time_ids,
        config.data.workers,
    )
    painter = GridPainter(ingredients, prepared, teachers, accelerator)

    def on_step(step: int) -> None:
        every = config.samples.every
        if every and step % every == 0 and step < config.train.steps:
            painter.paint(student, config.run_folder / "samples" / f"step-{step:08d}.png")

    student = loop.run(on_step)
    written: list[Path] = []
    if accelerator.is_main_process:
        painter.paint(student, grid)
        written = [*export(student.cpu(), ingredients, overwrite=overwrite), grid]
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return written


def new_student(ingredients: Ingredients) -> Student:
    """The student before its first step; its codebook is drawn from torch's generator."""
    unet = ingredients.base.load_unet(torch.float32)
    if ingredients.config.train.start_from == "average":
        unet.load_state_dict(averaged(teacher.unet_tensors() for teacher in ingredients.teachers))
    unet.train().requires_grad_(True)
    return Student(unet, StylePrompts(len(ingredients.teachers), ingredients.dim))


class GridPainter:
    """Paints each style by its teacher and by the student, from the same noise."""

    def __init__(
        self,
        ingredients: Ingredients,
        prepared: Prepared,
        teachers: TeacherPool,
        accelerator: Accelerator,
    ) -> None:
        self._ingredients, self._prepared = ingredients, prepared
        self._teachers, self._accelerator = teachers, accelerator
        self._teacher_pictures: list | None = None

    @torch.no_grad()
    def paint(self, student: Student, path: Path) -> None:
        """Writes the grid on the main process; the teachers' half is painted only once."""
        if not self._accelerator.is_main_process:
            return
        count = len(self._ingredients.names)
        vae = self._ingredients.base.load_vae().to(self._accelerator.device)
        if self._teacher_pictures is None:
            self._teacher_pictures = [
                decode(vae, self._sample(self._teachers.unet(index), index, style=None))
                for index in range(count)
            ]
        rows = []
        for index, name in enumerate(self._ingredients.names):
            style = student.style_prompts(torch.eye(count)[index])
            pictures = decode(vae, self._sample(student.unet, index, style))
            rows += [
                (f"{name} · teacher", self._teacher_pictures[index]),
                (f"{name} · student", pictures),
            ]
        save_grid(path, rows)

    def _sample(self, unet, index: int, style: torch.Tensor | None) -> torch.Tensor:
        """Latents by teacher `index`, or by the student where a style is given."""
        config, is_student = self._ingredients.config, style is not None
        prepared = self._prepared
        text = prepared.student_text if is_student else prepared.teacher_text[index]
        dtype = next(unet.parameters()).dtype
        device = self._accelerator.device
        kinds = self._ingredients.prediction_types
        training = unet.training
        unet.eval()
        try:
            with styled(unet, style):
                return sample_latents(
                    unet,
                    text.lookup(prepared.grid_prompts).to(device, dtype),
                    text.lookup([config.samples.negative]).to(device, dtype),
                    shape=self._ingredients.latent_shape,
                    seeds=[config.samples.seed + n for n in range(len(prepared.grid_prompts))],
                    steps=config.samples.steps,
                    guidance=config.samples.guidance,
                    prediction_type=self._ingredients.base.prediction_type
                    if is_student
                    else kinds[index],
                    time_ids=sdxl_time_ids(*config.data.resolution),
                    progress=f"Painting {self._ingredients.names[index]}",
                )
        finally:
            unet.train(training)


def _accelerator(config: MergeConfig) -> Accelerator:
    config.run_folder.mkdir(parents=True, exist_ok=True)
    precision = {"fp32": "no"}.get(config.train.precision, config.train.precision)
    loggers = [name for name in config.log_with if name != "wandb" or _has_wandb()]
    accelerator = Accelerator(
        mixed_precision=precision,
        log_with=loggers,
        project_dir=str(config.run_folder),
        cpu=not torch.cuda.is_available() and not torch.backends.mps.is_available(),
    )
    accelerator.init_trackers("logs")
    return accelerator


def _has_wandb() -> bool:
    from importlib.util import find_spec

    return find_spec("wandb") is not None


def _compute_dtype(accelerator: Accelerator) -> torch.dtype:
    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(
        accelerator.mixed_precision, torch.float32
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
        mark.write_text(wanted, encoding="utf-8")
    accelerator.wait_for_everyone()
