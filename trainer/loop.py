"""The training loop."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import UNet2DConditionModel
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader
from tqdm import tqdm

from dmm.errors import DmmError
from trainer.adversary import Adversary
from trainer.batches import Batch, TrainingBatches
from trainer.config import Train
from trainer.diffusion import Diffusion, PredictionType
from trainer.losses import feature_loss, score_loss
from trainer.pairs import PairPlan
from trainer.prepare import Prepared
from trainer.states import load_last_state, save_state
from trainer.statistics import Statistics
from trainer.student import Student
from trainer.teachers import TeacherPool


@dataclass
class Comparison:
    """What student and teachers make of the same noisy samples."""

    noisy: Tensor  # [P, c, h, w]
    student: Tensor  # the student's predictions, [P, c, h, w]
    teachers: Tensor  # the teachers', in the student's parametrisation
    score: Tensor  # losses, [P]
    feature: Tensor


class Stopped(Exception):
    """The user asked to stop, and everything is saved."""


class TrainingLoop:
    """Trains a student, and everything that goes with a long run.

    Args:
        config: hyper-parameters.
        names: of the styles.
        time_ids: SDXL's sizes, [6]; None for SD1.5.
        run_folder: where states and statistics go.
        critic: what the discriminator looks with; None = no adversarial loss.
    """

    def __init__(
        self,
        config: Train,
        accelerator: Accelerator,
        student: Student,
        teachers: TeacherPool,
        prepared: Prepared,
        prediction_type: PredictionType,
        names: list[str],
        run_folder: Path,
        time_ids: Tensor | None = None,
        workers: int = 0,
        critic: UNet2DConditionModel | None = None,
    ) -> None:
        self.config, self.accelerator, self.names = config, accelerator, names
        self.teachers, self.prediction_type, self.run_folder = teachers, prediction_type, run_folder
        self.plan = PairPlan.of(config, len(teachers.teachers))
        self.diffusion = Diffusion(accelerator.device)
        self.time_ids = time_ids.to(accelerator.device) if time_ids is not None else None
        self.workers = workers
        self.batches = TrainingBatches(
            prepared.examples,
            prepared.student_text,
            prepared.teacher_text,
            self.plan,
            taught=[teacher.styles for teacher in teachers.teachers],
            caption_dropout=config.caption_dropout,
            seed=config.seed,
            micro_batch_size=config.micro_batch_size,
            process=accelerator.process_index,
            processes=accelerator.num_processes,
        )
        if config.gradient_checkpointing:
            student.unet.enable_gradient_checkpointing()
        optimizer = _optimizer(config, student)
        # `accelerate` steps a scheduler once a process; one that counts its own calls would run
        # ahead, so it is told the steps of all processes.
        processes = accelerator.num_processes
        schedule = get_scheduler(
            config.schedule,
            optimizer,
            num_warmup_steps=config.warmup_steps * processes,
            num_training_steps=config.steps * processes,
        )
        self.student, self.optimizer, self.schedule = accelerator.prepare(
            student, optimizer, schedule
        )
        self.ema = None
        if config.ema_decay:
            self.ema = EMAModel(self.plain_student.parameters(), decay=config.ema_decay)
            self.ema.to(accelerator.device)
            accelerator.register_for_checkpointing(self.ema)
        self.adversary, self.kinds = None, ["score", "feature"]
        if critic is not None:
            self.adversary = Adversary(accelerator, critic, len(names), config.learning_rate)
            self.kinds += ["adversarial", "discriminator"]
        self._stop_asked = False

    def run(self, on_step: Callable[[int], None] = lambda step: None) -> Student:
        """Trains from the last saved state to the end, and gives the student to ship.

        Args:
            on_step: called after each step with the steps done, on every process.

        Raises:
            Stopped: after Ctrl-C, once the state is saved.
            DmmError: a loss is not finite.
        """
        config, accelerator = self.config, self.accelerator
        states = self.run_folder / "states"
        done = load_last_state(accelerator, states, config.keep_last)
        main = accelerator.is_main_process
        statistics = Statistics(self.run_folder / "stats.jsonl", done) if main else None
        loader = DataLoader(
            self.batches,
            batch_size=None,
            sampler=range(done, config.steps),
            num_workers=self.workers,
            worker_init_fn=_ignore_interrupt,
        )
        previous = self._listen()
        began = time.monotonic()
        try:
            with tqdm(
                total=config.steps, initial=done, desc="Training", unit="step", disable=not main
            ) as bar:
                for step, batches in enumerate(loader, start=done + 1):
                    figures = self.step(step, batches)
                    bar.update()
                    bar.set_postfix(score=f"{figures['score']:.4f}")
                    if statistics:
                        statistics.write(
                            {"step": step, **figures, "seconds": round(time.monotonic() - began, 3)}
                        )
                    accelerator.log(
                        {f"train/{key}": v for key, v in figures.items() if key != "teachers"}
                        | {f"score/{name}": v for name, v in figures["teachers"].items()},
                        step=step,
                    )
                    on_step(step)  # before the state: what a kill prevents is done again
                    if self._should_stop():
                        save_state(accelerator, states, step, config.keep_last)
                        raise Stopped(f"Stopped after step {step} of {config.steps}; it is saved.")
                    if step % config.save_every == 0 or step == config.steps:
                        save_state(accelerator, states, step, config.keep_last)
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
        return self.shipped()

    def shipped(self) -> Student:
        """The student as it is exported: the moving average where there is one."""
        student = self.plain_student
        if self.ema:
            self.ema.copy_to(student.parameters())
        return student

    @property
    def plain_student(self) -> Student:
        """The student itself, without what `accelerate` wraps around it."""
        return self.accelerator.unwrap_model(self.student)

    def compare(self, batch: Batch) -> Comparison:
        """Student and teachers on the same noisy samples."""
        with_features = self.config.feature_weight > 0
        noisy = self.diffusion.add_noise(batch.latents, batch.noise, batch.timesteps)
        time_ids = self._time_ids(len(noisy))
        targets, features = [], []
        for (teacher, rows), text in zip(batch.segments(), batch.teacher_text, strict=True):
            output, blocks = self.teachers.predict(
                teacher,
                noisy[rows],
                batch.timesteps[rows],
                text,
                batch.styles[rows],
                None if time_ids is None else time_ids[rows],
                with_features,
            )
            spoken = self.teachers.teachers[teacher].prediction_type
            targets.append(
                self.diffusion.convert(
                    output, noisy[rows], batch.timesteps[rows], spoken, self.prediction_type
                )
            )
            features.append(blocks)
        weights = F.one_hot(batch.styles, len(self.names)).float()
        with self.accelerator.autocast():
            output, ours = self.student(
                noisy, batch.timesteps, batch.text, weights, time_ids, with_features
            )
        theirs = [torch.cat(blocks) for blocks in zip(*features, strict=True)]
        target = torch.cat(targets)
        score = score_loss(output, target)
        return Comparison(
            noisy=noisy,
            student=output.float(),
            teachers=target,
            score=score,
            feature=feature_loss(ours, theirs, self.config.feature_loss)
            if with_features
            else torch.zeros_like(score),
        )

    def step(self, step: int, batches: list[Batch]) -> dict[str, Any]:
        """One update of the student.

        Args:
            step: counted from 1.
            batches: this process's share of the step's pairs.

        Returns:
            The losses and what else `stats.jsonl` keeps.

        Raises:
            DmmError: a loss is not finite.
        """
        accelerator, config = self.accelerator, self.config
        # The sum over all processes' pairs, divided by their number; DDP takes the mean over
        # processes, hence the factor.
        share = accelerator.num_processes / config.batch_size
        # One row a kind of loss, and last the number of pairs; one column a style.
        sums = torch.zeros(len(self.kinds) + 1, len(self.names), device=accelerator.device)
        for number, batch in enumerate(batches, start=1):
            with ExitStack() as on_this_process_only:
                if number < len(batches):
                    for model in self._trained():
                        on_this_process_only.enter_context(accelerator.no_sync(model))
                batch = batch.to(accelerator.device)
                losses = self._backward(batch, share)
            counted = torch.cat([losses, torch.ones_like(losses[:1])])
            sums.index_add_(1, batch.styles, counted)
        sums = accelerator.reduce(sums, "sum")
        self._refuse_not_finite(step, sums)
        norm = accelerator.clip_grad_norm_(self.student.parameters(), config.max_grad_norm)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.adversary:
            self.adversary.step()
        if self.ema:
            self.ema.step(self.plain_student.parameters())
        return self._figures(sums, norm)

    def _backward(self, batch: Batch, share: float) -> Tensor:
        """Adds a micro-batch to the gradients; gives each kind of loss of each pair, [K, P]."""
        config, seen = self.config, self.compare(batch)
        losses = [seen.score, seen.feature]
        total = seen.score + config.feature_weight * seen.feature
        if self.adversary:
            ours, theirs = (
                self.adversary.look(
                    self.diffusion.predicted_x0(
                        output, seen.noisy, batch.timesteps, self.prediction_type
                    ),
                    batch,
                    self._time_ids(len(output)),
                )
                for output in (seen.student, seen.teachers)
            )
            losses.append(self.adversary.student_loss(ours, batch.styles))
            total = total + config.adversarial_weight * losses[-1]
        self.accelerator.backward(total.sum() * share)
        if self.adversary:
            losses.append(self.adversary.learn(ours, theirs, batch.styles, share))
        return torch.stack(losses).detach()

    def _trained(self) -> list[torch.nn.Module]:
        return [self.student, *([self.adversary.discriminator] if self.adversary else [])]

    def _time_ids(self, pairs: int) -> Tensor | None:
        return None if self.time_ids is None else self.time_ids.expand(pairs, -1)

    def _refuse_not_finite(self, step: int, sums: Tensor) -> None:
        for loss, row in zip(self.kinds, sums[:-1].tolist(), strict=True):
            for name, value in zip(self.names, row, strict=True):
                if not math.isfinite(value):
                    raise DmmError(
                        f"Step {step}: the {loss} loss of teacher {name!r} is {value}. Its weights "
                        "may be damaged or too large for the precision: try train.precision=fp32, "
                        "a lower train.learning_rate, or leave the teacher out. "
                        "The last saved state is whole."
                    )

    def _figures(self, sums: Tensor, norm: Tensor) -> dict[str, Any]:
        *sums, counts = sums.tolist()
        means = [sum(row) / self.config.batch_size for row in sums]
        return {
            **dict(zip(self.kinds, means, strict=True)),
            # fp16's first steps overflow until its scale is found; JSON knows no infinity.
            "gradient_norm": float(norm) if norm.isfinite() else None,
            "learning_rate": self.schedule.get_last_lr()[0],
            "teachers": {
                name: value / count
                for name, value, count in zip(self.names, sums[0], counts, strict=True)
                if count
            },
        }

    def _listen(self) -> dict[signal.Signals, Any]:
        def ask(_number: int, _frame: Any) -> None:
            self._stop_asked = True

        numbers = (signal.SIGINT, signal.SIGTERM)
        return {number: signal.signal(number, ask) for number in numbers}

    def _should_stop(self) -> bool:
        """Whether any process was asked to stop; all must agree, or they would wait for ever."""
        if self.accelerator.num_processes == 1:
            return self._stop_asked
        asked = torch.tensor(float(self._stop_asked), device=self.accelerator.device)
        return bool(self.accelerator.reduce(asked, "sum"))


def _ignore_interrupt(_worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; the main one ends its step and needs its data."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _optimizer(config: Train, student: Student) -> torch.optim.Optimizer:
    groups = [
        {"params": list(student.unet.parameters()), "lr": config.learning_rate},
        {
            "params": list(student.style_prompts.parameters()),
            "lr": config.style_learning_rate or config.learning_rate,
        },
    ]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, weight_decay=config.weight_decay)
    from bitsandbytes.optim import AdamW8bit

    return AdamW8bit(groups, weight_decay=config.weight_decay)
