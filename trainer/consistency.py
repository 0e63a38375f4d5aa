"""Consistency distillation: the student jumps to the end of its teacher's path from anywhere on it.

The path is the teacher's DDIM path under guidance, cut into equal pieces. What the student says at
the end of a piece it has to say at its start (LCM, Luo et al. 2023, arXiv 2310.04378), or anywhere
on the straight line between the two (SPLAM, Xu et al. 2024, arXiv 2404.13903).

Both papers tell the UNet more than a checkpoint's UNet can hear: LCM the guidance scale, SPLAM the
place γ on the line. So that every host runs the result, one guidance scale is learned for good, and
γ is told by the timestep: the point x_{γ,t} is noisy as a sample at some fractional timestep is,
scaled by a number, and as that sample the student sees it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from trainer.batches import Batch
from trainer.config import FewSteps
from trainer.diffusion import TIMESTEPS, Diffusion, PredictionType, alphas_cumprod
from trainer.learner import Learner
from trainer.losses import huber_loss
from trainer.teachers import TeacherPool
from trainer.text import TextEmbedding

SIGMA_DATA = 0.5
TIMESTEP_SCALING = 10  # LCM's, so that its sampler in every host is the right one


class Consistency:
    """An `Objective`: the student learns to paint in few steps.

    Args:
        negative: what guidance leads away from, as each teacher reads it: [1, …] a teacher.
        learner: whose moving average says what is right at the end of a piece.
        num_styles: N.
    """

    kinds = ("consistency",)

    def __init__(
        self,
        config: FewSteps,
        accelerator: Accelerator,
        teachers: TeacherPool,
        negative: Sequence[TextEmbedding],
        learner: Learner,
        prediction_type: PredictionType,
        num_styles: int,
    ) -> None:
        self._config, self._accelerator, self._learner = config, accelerator, learner
        self._teachers, self._negative = teachers, list(negative)
        self._prediction_type, self._num_styles = prediction_type, num_styles
        self._diffusion = Diffusion(accelerator.device)
        self._trajectory = Trajectory(accelerator.device)

    def backward(self, student: nn.Module, batch: Batch, share: float) -> Tensor:
        """As `Objective`."""
        start, end = piece(batch.timesteps, self._config.pieces)
        at_start = self._diffusion.add_noise(batch.latents, batch.noise, start)
        at_end = self._one_step(batch, at_start, start, end)
        target = self._jump(self._target, batch, at_end, end.float())
        places = torch.ones_like(batch.places) if self._config.loss == "lcm" else batch.places
        point, timesteps = self._trajectory.point(at_start, at_end, start, end, places)
        losses = huber_loss(self._jump(student, batch, point, timesteps), target)
        self._accelerator.backward(losses.sum() * share)
        return losses.detach()[None]

    def update(self) -> None:
        """Nothing learns beside the student."""

    @torch.no_grad()
    def _one_step(self, batch: Batch, noisy: Tensor, start: Tensor, end: Tensor) -> Tensor:
        """The teachers' DDIM step under guidance, from the start of each piece to its end."""
        predicted = []
        for (teacher, rows), text in zip(batch.segments(), batch.teacher_text, strict=True):
            seen = teacher, rows, batch, noisy, start
            wanted, scale = self._noise(*seen, text), self._config.guidance
            if scale != 1:
                unwanted = self._noise(*seen, self._negative[teacher].expand(len(text.hidden)))
                wanted = unwanted + scale * (wanted - unwanted)
            predicted.append(wanted)
        noise = torch.cat(predicted)
        clean = self._diffusion.predicted_x0(noise, noisy, start, "epsilon")
        return self._diffusion.add_noise(clean, noise, end)

    def _noise(
        self,
        teacher: int,
        rows: slice,
        batch: Batch,
        noisy: Tensor,
        timesteps: Tensor,
        text: TextEmbedding,
    ) -> Tensor:
        """The noise that a teacher sees in its rows of a batch."""
        noisy, timesteps = noisy[rows], timesteps[rows]
        output, _ = self._teachers.predict(
            teacher, noisy, timesteps, text, batch.styles[rows], batch.time_ids[rows]
        )
        spoken = self._teachers.teachers[teacher].prediction_type
        return self._diffusion.convert(output, noisy, timesteps, spoken, "epsilon")

    def _jump(self, student: nn.Module, batch: Batch, noisy: Tensor, timesteps: Tensor) -> Tensor:
        """f(x, t) = c_skip(t) x + c_out(t) x̂_0: where the student says the path ends."""
        weights = F.one_hot(batch.styles, self._num_styles).float()
        with self._accelerator.autocast():
            output, _ = student(noisy, timesteps, batch.text, weights, batch.time_ids)
        clean = self._trajectory.predicted_x0(
            output.float(), noisy, timesteps, self._prediction_type
        )
        skip, out = boundary_scalings(timesteps)
        return _column(skip) * noisy + _column(out) * clean

    @torch.no_grad()
    def _target(self, *inputs: Tensor | TextEmbedding) -> tuple[Tensor, list[Tensor]]:
        """The student as its moving average has it."""
        return functional_call(self._learner.plain, self._learner.averaged(), inputs)


def piece(timesteps: Tensor, pieces: int) -> tuple[Tensor, Tensor]:
    """Start and end of the pieces that some timesteps lie in; a path runs from 999 to 0."""
    length = TIMESTEPS // pieces
    number = (timesteps // length).clamp(max=pieces - 1)
    start = (number + 1) * length - 1
    return start, (start - length).clamp(min=0)


def boundary_scalings(timesteps: Tensor) -> tuple[Tensor, Tensor]:
    """c_skip and c_out (LCM, appendix A), so that f(x, 0) = x."""
    scaled = timesteps * TIMESTEP_SCALING
    total = scaled.square() + SIGMA_DATA**2
    return SIGMA_DATA**2 / total, scaled / total.sqrt()


class Trajectory:
    """Signal and noise at fractional timesteps, as k-diffusion has them between the whole ones."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        signal = alphas_cumprod()
        self._log_ratios = (((1 - signal) / signal).log() / 2).float().to(device)

    def point(
        self, at_start: Tensor, at_end: Tensor, start: Tensor, end: Tensor, places: Tensor
    ) -> tuple[Tensor, Tensor]:
        """x_{γ,t} = (1 − γ) α_t/α_s x_s + γ x_t, scaled to the sample that it is as noisy as.

        Args:
            at_start, at_end: x_t and x_s, [P, c, h, w], with one noise.
            start, end: t and s, [P].
            places: γ, [P]; 1 = the start.

        Returns:
            That sample, and its fractional timesteps [P].
        """
        (signal, ratio), (end_signal, end_ratio) = self._levels(start), self._levels(end)
        scale = _column(signal / end_signal)
        along = _column(places)
        line = (1 - along) * scale * at_end + along * at_start
        # α_t is the signal all along the line; the noise over it goes from σ_s/α_s to σ_t/α_t.
        timesteps = self._timesteps((1 - places) * end_ratio + places * ratio)
        there, _ = self._levels(timesteps)
        return _column(there / signal) * line, timesteps

    def predicted_x0(
        self, output: Tensor, noisy: Tensor, timesteps: Tensor, spoken: PredictionType
    ) -> Tensor:
        """The clean sample that a UNet's output stands for."""
        signal, ratio = map(_column, self._levels(timesteps))
        if spoken == "epsilon":
            return noisy / signal - ratio * output
        return signal * (noisy - ratio * output)

    def _levels(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """α, and σ/α."""
        below = timesteps.long().clamp(max=TIMESTEPS - 2)
        low, high = self._log_ratios[below], self._log_ratios[below + 1]
        ratio = torch.lerp(low, high, (timesteps - below).float()).exp()
        return (1 + ratio.square()).rsqrt(), ratio

    def _timesteps(self, ratios: Tensor) -> Tensor:
        """Where σ/α has some values; the inverse of `_levels`."""
        logs = ratios.log()
        below = (torch.searchsorted(self._log_ratios, logs) - 1).clamp(0, TIMESTEPS - 2)
        low, high = self._log_ratios[below], self._log_ratios[below + 1]
        return below + ((logs - low) / (high - low)).clamp(0, 1)


def _column(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)
