"""Pictures of teachers and student side by side, while a merge runs and at its end."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers import UNet2DConditionModel
from PIL import Image
from torch import Tensor

from dmm.injection import styled
from dmm.metadata import Sampling
from trainer.cache import TextCache
from trainer.diffusion import PredictionType
from trainer.grid import save_grid
from trainer.ingredients import Ingredients
from trainer.prepare import Prepared
from trainer.sampling import decode, sample_latents, sdxl_time_ids, unet_passes
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
        self._teacher_pictures: dict[int, list[Image.Image]] = {}

    @torch.no_grad()
    def paint(self, student: Student, path: Path) -> None:
        """Writes the grid on the main process; the teachers' half is painted only once."""
        if not self._accelerator.is_main_process:
            return
        vae = self._ingredients.base.load_vae().to(self._accelerator.device)
        for number, teacher in enumerate(self._teachers.teachers):
            for style in teacher.styles:
                if style not in self._teacher_pictures:
                    latents = self._teacher_latents(number, style)
                    self._teacher_pictures[style] = decode(vae, latents)
        rows = []
        for style, name in enumerate(self._ingredients.names):
            # A former style that nobody keeps up (`regularization: false`) has no teacher.
            if style in self._teacher_pictures:
                rows.append((f"{name} · teacher", self._teacher_pictures[style]))
            pictures = decode(vae, self._student_latents(student, style))
            rows.append((f"{name} · student", pictures))
            if self._prepared.shown:
                levels = (self._shown(style) * 255).round().byte().permute(0, 2, 3, 1)
                pictures = [Image.fromarray(picture.numpy()) for picture in levels]
                rows.append((f"{name} · shown", pictures))
        save_grid(path, rows)

    def _teacher_latents(self, number: int, style: int) -> Tensor:
        with self._teachers.painting(number, torch.tensor([style])) as unet:
            return self._sample(
                unet,
                style,
                self._prepared.teacher_text[number],
                self._teachers.teachers[number].prediction_type,
                f"Painting {self._ingredients.names[style]} by its teacher",
            )

    def _student_latents(self, student: Student, style: int) -> Tensor:
        names = self._ingredients.names
        vector = student.style_prompts(torch.eye(len(names))[style])
        training = student.unet.training
        student.unet.eval()
        try:
            with styled(student.unet, vector):
                return self._sample(
                    student.unet,
                    style,
                    self._prepared.student_text,
                    self._ingredients.base.prediction_type,
                    f"Painting {names[style]} by the student",
                    self._ingredients.sampling,
                )
        finally:
            student.unet.train(training)

    def _sample(
        self,
        unet: UNet2DConditionModel,
        style: int,
        text: TextCache,
        prediction_type: PredictionType,
        progress: str,
        sampling: Sampling | None = None,
    ) -> Tensor:
        config, prompts = self._ingredients.config, self._prepared.grid_prompts
        said = config.few_steps or config.samples  # the guidance that few steps learn
        how = sampling or Sampling(config.samples.steps, said.guidance, "dpm++")
        device, dtype, called = self._accelerator.device, unet.dtype, unet
        if self._prepared.shown:
            shown = self._shown(style).to(device)
            repeated = torch.cat([shown] * unet_passes(how.guidance))
            called = partial(unet, controlnet_cond=repeated)
        return sample_latents(
            called,
            text.lookup(prompts).to(device, dtype),
            text.lookup([said.negative]).to(device, dtype),
            shape=self._ingredients.latent_shape,
            seeds=[config.samples.seed + number for number in range(len(prompts))],
            steps=how.steps,
            guidance=how.guidance,
            prediction_type=prediction_type,
            time_ids=sdxl_time_ids(*config.data.resolution),
            sampler=how.sampler,
            progress=progress,
        )

    def _shown(self, style: int) -> Tensor:
        """What the ControlNet of a style is shown in the grid, [B, 3, H, W]."""
        prepared, latent = self._prepared, torch.empty(self._ingredients.latent_shape)
        keys = [prepared.examples.key(index) for index in prepared.grid_examples]
        return torch.stack([prepared.shown[style](key, latent) for key in keys])
