"""A long run: steps, statistics, saved states, and Ctrl-C."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from dmm.errors import DmmError
from trainer.batches import Batch, TrainingBatches
from trainer.config import Train
from trainer.disk import writing
from trainer.learner import Learner
from trainer.states import load_last_state, save_state
from trainer.statistics import Statistics
from trainer.student import Student

# How another process asks one to stop on Windows, as the WebUI's merge tab does.
CTRL_BREAK = [signal.SIGBREAK] if hasattr(signal, "SIGBREAK") else []


class Objective(Protocol):
    """What the student is taught.

    Attributes:
        kinds: the names of the losses; the first is the one to watch.
    """

    kinds: Sequence[str]

    def backward(self, student: nn.Module, batch: Batch, share: float) -> Tensor:
        """Adds a micro-batch to the gradients.

        Args:
            share: of one pair in the step's gradient.

        Returns:
            Each kind of loss of each pair, [K, P], detached.
        """

    def update(self) -> None:
        """Updates what learns beside the student, once a step."""


class Stopped(Exception):
    """The user asked to stop, and everything is saved."""


class TrainingLoop:
    """Trains a student, and everything that goes with a long run.

    Args:
        config: hyper-parameters.
        names: of the styles.
        folder: where states and statistics go.
        title: of the progress bar.
        workers: processes that prepare batches ahead.
    """

    def __init__(
        self,
        config: Train,
        accelerator: Accelerator,
        learner: Learner,
        objective: Objective,
        batches: TrainingBatches,
        names: Sequence[str],
        folder: Path,
        title: str = "Training",
        workers: int = 0,
    ) -> None:
        self.config, self.accelerator, self.learner = config, accelerator, learner
        self.objective, self.batches, self.names = objective, batches, list(names)
        self.folder, self.title, self.workers = folder, title, workers
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
        done = load_last_state(accelerator, self.folder, config.keep_last)
        main = accelerator.is_main_process
        statistics = Statistics(self.folder / "stats.jsonl", done) if main else None
        loader = DataLoader(
            self.batches,
            batch_size=None,
            sampler=range(done, config.steps),
            num_workers=self.workers,
            worker_init_fn=_ignore_interrupt,
        )
        watched = self.objective.kinds[0]
        previous = self._listen()
        began = time.monotonic()
        try:
            with tqdm(
                total=config.steps, initial=done, desc=self.title, unit="step", disable=not main
            ) as bar:
                for step, batches in enumerate(loader, start=done + 1):
                    figures = self.step(step, batches)
                    bar.update()
                    bar.set_postfix({watched: f"{figures[watched]:.4f}"})
                    if statistics:
                        statistics.write(
                            {"step": step, **figures, "seconds": round(time.monotonic() - began, 3)}
                        )
                    with writing(self.folder / "logs"):
                        accelerator.log(
                            {f"train/{key}": v for key, v in figures.items() if key != "teachers"}
                            | {f"{watched}/{name}": v for name, v in figures["teachers"].items()},
                            step=step,
                        )
                    on_step(step)  # before the state: what a kill prevents is done again
                    stop = self._should_stop()
                    if stop or step % config.save_every == 0 or step == config.steps:
                        if statistics:
                            statistics.flush()
                        self.save(step)
                    if stop:
                        raise Stopped(f"Stopped after step {step} of {config.steps}; it is saved.")
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
        return self.learner.shipped()

    def save(self, step: int) -> None:
        """Saves the state after `step` steps; 0 = before the first."""
        save_state(self.accelerator, self.folder, step, self.config.keep_last)

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
        accelerator = self.accelerator
        # The sum over all processes' pairs, divided by their number; the gradient is the mean over
        # processes, hence the factor.
        share = accelerator.num_processes / self.config.batch_size
        # One row a kind of loss, and last the number of pairs; one column a style.
        rows = len(self.objective.kinds) + 1
        sums = torch.zeros(rows, len(self.names), device=accelerator.device)
        for number, batch in enumerate(batches, start=1):
            with self.learner.adding_up(number == len(batches)):
                batch = batch.to(accelerator.device)
                losses = self.objective.backward(self.learner.student, batch, share)
            counted = torch.cat([losses, torch.ones_like(losses[:1])])
            sums.index_add_(1, batch.styles, counted)
        sums = accelerator.reduce(sums, "sum")
        self._refuse_not_finite(step, sums)
        norm = self.learner.update()
        self.objective.update()
        return self._figures(sums, norm)

    def _refuse_not_finite(self, step: int, sums: Tensor) -> None:
        for loss, row in zip(self.objective.kinds, sums[:-1].tolist(), strict=True):
            for name, value in zip(self.names, row, strict=True):
                if not math.isfinite(value):
                    raise DmmError(
                        f"Step {step}: the {loss} loss of teacher {name!r} is {value}. Its weights "
                        "may be damaged or too large for the precision: try train.precision=fp32, "
                        "a lower train.learning_rate, or leave the teacher out. "
                        "The last saved state is whole."
                    )

    def _figures(self, sums: Tensor, norm: float) -> dict[str, Any]:
        *sums, counts = sums.tolist()
        means = [sum(row) / self.config.batch_size for row in sums]
        return {
            **dict(zip(self.objective.kinds, means, strict=True)),
            # fp16's first steps overflow until its scale is found; JSON knows no infinity.
            "gradient_norm": norm if math.isfinite(norm) else None,
            "learning_rate": self.learner.learning_rate,
            "teachers": {
                name: value / count
                for name, value, count in zip(self.names, sums[0], counts, strict=True)
                if count
            },
        }

    def _listen(self) -> dict[signal.Signals, Any]:
        def ask(_number: int, _frame: Any) -> None:
            self._stop_asked = True

        numbers = [signal.SIGINT, signal.SIGTERM, *CTRL_BREAK]
        return {number: signal.signal(number, ask) for number in numbers}

    def _should_stop(self) -> bool:
        """Whether any process was asked to stop; all must agree, or they would wait for ever."""
        if self.accelerator.num_processes == 1:
            return self._stop_asked
        asked = torch.tensor(float(self._stop_asked), device=self.accelerator.device)
        return bool(self.accelerator.reduce(asked, "sum"))


def _ignore_interrupt(_worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; the main one ends its step and needs its data."""
    for number in (signal.SIGINT, *CTRL_BREAK):
        signal.signal(number, signal.SIG_IGN)
