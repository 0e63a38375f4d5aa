"""Pictures of teachers and student side by side, while a merge runs and at its end."""

from __future__ import annotations

from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers import UNet2DConditionModel
from PIL import Image
from torch import Tensor

from dmm.injection import styled
from trainer.cache import TextCache
from trainer.diffusion import PredictionType
from trainer.grid import save_grid
from trainer.ingredients import Ingredients
from trainer.prepare import Prepared
from trainer.sampling import decode, sample_latents, sdxl_time_ids
from trainer.student import Student
from trainer.teachers import TeacherPool


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
        self._teacher_pictures: list[list[Image.Image]] | None = None

    @torch.no_grad()
    def paint(self, student: Student, path: Path) -> None:
        """Writes the grid on the main process; the teachers' half is painted only once."""
        if not self._accelerator.is_main_process:
            return
        names = self._ingredients.names
        vae = self._ingredients.base.load_vae().to(self._accelerator.device)
        if self._teacher_pictures is None:
            self._teacher_pictures = [
                decode(vae, self._teacher_latents(index)) for index in range(len(names))
            ]
        rows = []
        for index, (name, teacher_pictures) in enumerate(
            zip(names, self._teacher_pictures, strict=True)
        ):
            student_pictures = decode(vae, self._student_latents(student, index))
            rows += [
                (f"{name} · teacher", teacher_pictures),
                (f"{name} · student", student_pictures),
            ]
        save_grid(path, rows)

    def _teacher_latents(self, index: int) -> Tensor:
        return self._sample(
            self._teachers.unet(index),
            self._prepared.teacher_text[index],
            self._teachers.prediction_types[index],
            f"Painting {self._ingredients.names[index]} by its teacher",
        )

    def _student_latents(self, student: Student, index: int) -> Tensor:
        style = student.style_prompts(torch.eye(len(self._ingredients.names))[index])
        training = student.unet.training
        student.unet.eval()
        try:
            with styled(student.unet, style):
                return self._sample(
                    student.unet,
                    self._prepared.student_text,
                    self._ingredients.base.prediction_type,
                    f"Painting {self._ingredients.names[index]} by the student",
                )
        finally:
            student.unet.train(training)

    def _sample(
        self,
        unet: UNet2DConditionModel,
        text: TextCache,
        prediction_type: PredictionType,
        progress: str,
    ) -> Tensor:
        config, prompts = self._ingredients.config, self._prepared.grid_prompts
        device, dtype = self._accelerator.device, unet.dtype
        return sample_latents(
            unet,
            text.lookup(prompts).to(device, dtype),
            text.lookup([config.samples.negative]).to(device, dtype),
            shape=self._ingredients.latent_shape,
            seeds=[config.samples.seed + number for number in range(len(prompts))],
            steps=config.samples.steps,
            guidance=config.samples.guidance,
            prediction_type=prediction_type,
            time_ids=sdxl_time_ids(*config.data.resolution),
            progress=progress,
        )
