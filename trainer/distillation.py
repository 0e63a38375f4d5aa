"""Score distillation with feature imitation and a discriminator (paper, section 3.4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from accelerate import Accelerator
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.adversary import Adversary
from trainer.batches import Batch
from trainer.config import Train
from trainer.diffusion import Diffusion, PredictionType
from trainer.losses import feature_loss, score_loss
from trainer.repeats import Answer, Answers, Repeats
from trainer.teachers import TeacherPool


@dataclass
class Comparison:
    """What student and teachers make of the same noisy samples."""

    noisy: Tensor  # [P, c, h, w]
    student: Tensor  # the student's predictions, [P, c, h, w]
    teachers: Tensor  # the teachers', in the student's parametrisation
    score: Tensor  # losses, [P]
    feature: Tensor


class Distillation:
    """An `Objective`: in each style the student predicts what its teacher does.

    Args:
        num_styles: N.
        backbone: the UNet that the discriminator looks with; None = no adversarial loss.
    """

    def __init__(
        self,
        config: Train,
        accelerator: Accelerator,
        teachers: TeacherPool,
        prediction_type: PredictionType,
        num_styles: int,
        backbone: UNet2DConditionModel | None = None,
    ) -> None:
        self._config, self._accelerator, self._teachers = config, accelerator, teachers
        self._prediction_type, self._num_styles = prediction_type, num_styles
        self._diffusion = Diffusion(accelerator.device)
        self._weights = torch.ones(num_styles, device=accelerator.device)
        for teacher in teachers.teachers:
            if teacher.prompts:
                self._weights[list(teacher.styles)] = config.regularization_weight
        self.kinds = ["score", "feature"]
        share = -(-config.batch_size // accelerator.num_processes)
        remembered = Repeats.of(config).remembered if config.repeats > 1 else 0
        self._answers = Answers(remembered * share)
        self._adversary = None
        if backbone is not None:
            self._adversary = Adversary(accelerator, backbone, num_styles, config.learning_rate)
            self.kinds += ["adversarial", "discriminator"]

    def backward(self, student: nn.Module, batch: Batch, share: float) -> Tensor:
        """As `Objective`; L = L_score + λ_feat L_feat + λ_adv L_adv (equation 13).

        What the former self teaches, see `Teacher`, has a weight of its own in the first two.
        """
        config, seen = self._config, self.compare(student, batch)
        losses = [seen.score, seen.feature]
        total = seen.score + config.feature_weight * seen.feature
        total = total * self._weights[batch.styles]
        if self._adversary:
            ours, theirs = (
                self._adversary.look(
                    self._diffusion.predicted_x0(
                        output, seen.noisy, batch.timesteps, self._prediction_type
                    ),
                    batch,
                )
                for output in (seen.student, seen.teachers)
            )
            losses.append(self._adversary.student_loss(ours, batch.styles))
            total = total + config.adversarial_weight * losses[-1]
        self._accelerator.backward(total.sum() * share)
        if self._adversary:
            losses.append(self._adversary.learn(ours, theirs, batch.styles, share))
        return torch.stack(losses).detach()

    def update(self) -> None:
        """Updates the discriminator."""
        if self._adversary:
            self._adversary.step()

    def compare(self, student: nn.Module, batch: Batch) -> Comparison:
        """Student and teachers on the same noisy samples."""
        with_features = self._config.feature_weight > 0
        noisy = self._diffusion.add_noise(batch.latents, batch.noise, batch.timesteps)
        device = noisy.device
        target, theirs = self._answers.get(batch.key, lambda: self._ask(batch, noisy), device)
        weights = F.one_hot(batch.styles, self._num_styles).float()
        with self._accelerator.autocast():
            output, ours = student(
                noisy,
                batch.timesteps,
                batch.text,
                weights,
                batch.time_ids,
                with_features,
                batch.conditions,
            )
        score = score_loss(output, target)
        return Comparison(
            noisy=noisy,
            student=output.float(),
            teachers=target,
            score=score,
            feature=feature_loss(ours, theirs, self._config.feature_loss)
            if with_features
            else torch.zeros_like(score),
        )

    def _ask(self, batch: Batch, noisy: Tensor) -> Answer:
        """What each teacher says of its rows; predictions in the student's parametrisation."""
        predictions, features = [], []
        for (teacher, rows), text in zip(batch.segments(), batch.teacher_text, strict=True):
            output, blocks = self._teachers.predict(
                teacher,
                noisy[rows],
                batch.timesteps[rows],
                text,
                batch.styles[rows],
                batch.time_ids[rows],
                self._config.feature_weight > 0,
                None if batch.conditions is None else batch.conditions[rows],
            )
            spoken = self._teachers.teachers[teacher].prediction_type
            predictions.append(
                self._diffusion.convert(
                    output, noisy[rows], batch.timesteps[rows], spoken, self._prediction_type
                )
            )
            features.append(blocks)
        whole = [torch.cat(blocks) for blocks in zip(*features, strict=True)]
        return Answer(torch.cat(predictions), whole)
