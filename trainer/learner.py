"""The student in training: its optimizer, its learning rate, its moving average."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from trainer.config import Train
from trainer.sharding import blank, filled, is_deepspeed, is_fsdp, tell_deepspeed
from trainer.student import Student


class Learner:
    """A student and all that makes it learn; `accelerator` saves and resumes it.

    Attributes:
        student: the student as `accelerate` wraps it, for the forwards that are trained.
    """

    def __init__(self, config: Train, accelerator: Accelerator, student: Student) -> None:
        self._config, self._accelerator = config, accelerator
        self._blank = blank(student) if is_fsdp(accelerator) else None
        if config.gradient_checkpointing:
            student.unet.enable_gradient_checkpointing()
        optimizer = _optimizer(config, student)
        # `accelerate` steps a scheduler once a process; one that counts its own calls would run
        # ahead, so it is told the steps of all processes. DeepSpeed steps it once.
        processes = 1 if is_deepspeed(accelerator) else accelerator.num_processes
        tell_deepspeed(config, accelerator)
        schedule = get_scheduler(
            config.schedule,
            optimizer,
            num_warmup_steps=config.warmup_steps * processes,
            num_training_steps=config.steps * processes,
        )
        self.student: nn.Module
        self.student, self._optimizer, self._schedule = accelerator.prepare(
            student, optimizer, schedule
        )
        self._ema = None
        if config.ema_decay:
            self._ema = EMAModel(self.plain.trained.values(), decay=config.ema_decay)
            self._ema.to(accelerator.device)
            accelerator.register_for_checkpointing(self._ema)

    @property
    def plain(self) -> Student:
        """The student itself, without what `accelerate` wraps around it."""
        return self._accelerator.unwrap_model(self.student)

    def whole(self) -> Student:
        """The plain student; a copy with all weights where they are spread over the processes.

        All processes must ask for it together.
        """
        if self._blank is None:
            return self.plain
        student = filled(self._blank, self.plain)
        is_painted = self._accelerator.is_main_process
        return student.to(self._accelerator.device) if is_painted else student

    def adding_up(self, is_last: bool) -> AbstractContextManager:
        """For the backward of a micro-batch: only the step's last takes other processes' along."""
        self._accelerator.sync_gradients = is_last  # DeepSpeed updates the student right then
        return nullcontext() if is_last else self._accelerator.no_sync(self.student)

    @property
    def learning_rate(self) -> float:
        """Of the step to come."""
        return self._schedule.get_last_lr()[0]

    def update(self) -> float:
        """Updates the student with the gradients there are; gives their length before clipping."""
        parameters = self.student.parameters()
        norm = self._accelerator.clip_grad_norm_(parameters, self._config.max_grad_norm)
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad(set_to_none=True)
        if self._ema:
            self._ema.step(self.plain.trained.values())
        return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)

    def averaged(self) -> dict[str, Tensor]:
        """The parameters of the moving average by name; the student's own where there is none."""
        parameters = dict(self.plain.trained)
        if self._ema is None:
            return parameters
        return dict(zip(parameters, self._ema.shadow_params, strict=True))

    def shipped(self) -> Student:
        """The student as it leaves the training: the moving average where there is one."""
        if self._blank is not None:
            return self.whole()
        student = self._accelerator.unwrap_model(self.student, keep_fp32_wrapper=False)
        if self._ema:
            self._ema.copy_to(student.trained.values())
        return student


def _optimizer(config: Train, student: Student) -> torch.optim.Optimizer:
    def learning(module: nn.Module) -> list[nn.Parameter]:
        return [found for found in module.parameters() if found.requires_grad]

    groups = [
        {"params": learning(student.unet), "lr": config.learning_rate},
        {
            "params": learning(student.style_prompts),
            "lr": config.style_learning_rate or config.learning_rate,
            # It would move the rows of the codebook that are to stand still.
            "weight_decay": 0.0 if student.kept else config.weight_decay,
        },
    ]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, weight_decay=config.weight_decay)
    if config.optimizer == "muon":
        return _muon(groups, config.weight_decay)
    from bitsandbytes.optim import AdamW8bit

    return AdamW8bit(groups, weight_decay=config.weight_decay)


def _muon(groups: list[dict[str, Any]], weight_decay: float) -> torch.optim.Optimizer:
    """Muon for the UNet's matrices and kernels, AdamW for the rest (Liu et al. 2025, Moonlight).

    Muon's updates are scaled to be as long as AdamW's, so that one learning rate serves both.
    """
    from pytorch_optimizer import Muon

    unet, prompts = groups
    matrices = [found for found in unet["params"] if found.ndim > 1]
    others = [found for found in unet["params"] if found.ndim < 2]
    as_adamw = {"use_muon": False, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": weight_decay}
    return Muon(
        [
            {
                **unet,
                "params": matrices,
                "use_muon": True,
                "use_adjusted_lr": True,
                "weight_decay": weight_decay,
            },
            {**as_adamw, **unet, "params": others},
            {**as_adamw, **prompts},
        ]
    )
