"""A step's batch as a function of the step, so that any resume and any process finds the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from trainer.cache import Examples, TextCache
from trainer.diffusion import TIMESTEPS
from trainer.pairs import PairPlan
from trainer.text import TextEmbedding


@dataclass
class Batch:
    """Pairs that go through the student at once.

    latents, noise: [P, c, h, w]; timesteps, teachers: [P]; styles: rows of the student's codebook,
    [P]; text: the student's, P rows; teacher_text: what each teacher is told, in the order of
    `teachers`, which is sorted;
    critic_noise, critic_timesteps: what the discriminator's latents are noised with.
    """

    latents: Tensor
    noise: Tensor
    timesteps: Tensor
    teachers: Tensor
    styles: Tensor
    text: TextEmbedding
    teacher_text: list[TextEmbedding]
    critic_noise: Tensor
    critic_timesteps: Tensor

    def to(self, device: torch.device | str) -> Batch:
        """The batch on `device`, in float32 where it is floating point."""
        return Batch(
            self.latents.to(device, torch.float32),
            self.noise.to(device),
            self.timesteps.to(device),
            self.teachers.to(device),
            self.styles.to(device),
            self.text.to(device, torch.float32),
            [text.to(device) for text in self.teacher_text],
            self.critic_noise.to(device),
            self.critic_timesteps.to(device),
        )

    def segments(self) -> list[tuple[int, slice]]:
        """(teacher, its rows), one entry a teacher."""
        found, counts = self.teachers.unique_consecutive(return_counts=True)
        ends = counts.cumsum(0).tolist()
        starts = [0, *ends[:-1]]
        return [
            (teacher, slice(start, end))
            for teacher, start, end in zip(found.tolist(), starts, ends, strict=True)
        ]


class _Sample(NamedTuple):
    latent: Tensor
    noise: Tensor
    timestep: int
    caption: str
    critic_noise: Tensor
    critic_timestep: int
    draw: int  # decides the style where a teacher has several


class TrainingBatches(Dataset):
    """Item `step` is one process's share of that step, in micro-batches.

    Examples are taken in a new random order each time all have been seen. Timestep, noise and
    caption dropout of a sample come from a generator of its own, seeded by (seed, step, sample).

    Args:
        examples: latents and captions.
        student_text: embeddings for the student.
        teacher_text: embeddings for each teacher.
        plan: who sees what.
        taught: the styles that each teacher teaches, one of which is drawn for each sample;
            None = teacher i teaches style i.
        caption_dropout: share of samples whose caption is "" for student and teacher alike.
        micro_batch_size: pairs in one `Batch`; None = the whole share.
        process, processes: whose share.
    """

    def __init__(
        self,
        examples: Examples,
        student_text: TextCache,
        teacher_text: Sequence[TextCache],
        plan: PairPlan,
        *,
        taught: Sequence[Sequence[int]] | None = None,
        caption_dropout: float,
        seed: int,
        micro_batch_size: int | None = None,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        self._examples, self._student_text = examples, student_text
        self._teacher_text = list(teacher_text)
        self._plan, self._dropout, self._seed = plan, caption_dropout, seed
        self._taught = taught or [[teacher] for teacher in range(plan.num_teachers)]
        self._micro, self._process, self._processes = micro_batch_size, process, processes
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)

    def __getitem__(self, step: int) -> list[Batch]:
        pairs = self._plan.share(step, self._process, self._processes)
        size = self._micro or len(pairs)
        draw = lru_cache(maxsize=None)(lambda sample: self._sample(step, sample))
        return [
            self._batch(pairs[first : first + size], draw) for first in range(0, len(pairs), size)
        ]

    def _batch(self, pairs: list[tuple[int, int]], draw) -> Batch:
        samples = [draw(sample) for _, sample in pairs]
        captions = [sample.caption for sample in samples]
        teachers = torch.tensor([teacher for teacher, _ in pairs])
        batch = Batch(
            latents=torch.stack([sample.latent for sample in samples]),
            noise=torch.stack([sample.noise for sample in samples]),
            timesteps=torch.tensor([sample.timestep for sample in samples]),
            teachers=teachers,
            styles=torch.tensor(
                [
                    self._taught[teacher][sample.draw % len(self._taught[teacher])]
                    for (teacher, _), sample in zip(pairs, samples, strict=True)
                ]
            ),
            text=self._student_text.lookup(captions),
            teacher_text=[],
            critic_noise=torch.stack([sample.critic_noise for sample in samples]),
            critic_timesteps=torch.tensor([sample.critic_timestep for sample in samples]),
        )
        batch.teacher_text = [
            self._teacher_text[teacher].lookup(captions[rows]) for teacher, rows in batch.segments()
        ]
        return batch

    def _sample(self, step: int, sample: int) -> _Sample:
        seen = step * self._plan.samples_per_step + sample
        epoch, position = divmod(seen, len(self._examples))
        index = self._index(epoch, position)
        generator = _generator(self._seed, step, sample)
        latent = self._examples.latent(index)
        timestep = int(torch.randint(TIMESTEPS, (), generator=generator))
        dropped = bool(torch.rand((), generator=generator) < self._dropout)
        return _Sample(
            latent,
            torch.randn(latent.shape, generator=generator),
            timestep,
            "" if dropped else self._examples.caption(index),
            torch.randn(latent.shape, generator=generator),
            int(torch.randint(TIMESTEPS, (), generator=generator)),
            int(torch.randint(2**31, (), generator=generator)),
        )

    def _index(self, epoch: int, position: int) -> int:
        if self._epoch != epoch:
            order = torch.randperm(len(self._examples), generator=_generator(self._seed, epoch))
            self._epoch, self._order = epoch, order
        return int(self._order[position])


def _generator(*parts: int) -> torch.Generator:
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
