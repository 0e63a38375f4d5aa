"""A step's batch as a function of the step, so that any resume and any process finds the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from trainer.buckets import Turns
from trainer.cache import Examples, TextCache
from trainer.diffusion import TIMESTEPS
from trainer.pairs import PairPlan
from trainer.repeats import ONCE, Repeats
from trainer.seeds import generator
from trainer.text import TextEmbedding

Show = Callable[[str, Tensor], Tensor]
"""From a picture's key in the data and its latent [c, h, w] to what a ControlNet is shown."""

SHARED = -1  # in a style's place: the examples that all styles share


@dataclass
class Batch:
    """Pairs that go through the student at once.

    latents, noise: [P, c, h, w]; timesteps, teachers: [P]; styles: rows of the student's codebook,
    [P]; text: the student's, P rows; teacher_text: what each teacher is told, in the order of
    `teachers`, which is sorted; time_ids: what SDXL is told of the pictures' sizes, [P, 6];
    conditions: what ControlNets are shown, [P, 3, H, W] from 0 to 1, or None;
    discriminator_noise, discriminator_timesteps: what the discriminator's latents are noised with;
    places: where on its line SPLAM trains each pair, from 0 to 1, [P];
    key: the same for the same pairs, however often they come.
    """

    latents: Tensor
    noise: Tensor
    timesteps: Tensor
    teachers: Tensor
    styles: Tensor
    text: TextEmbedding
    teacher_text: list[TextEmbedding]
    time_ids: Tensor
    conditions: Tensor | None
    discriminator_noise: Tensor
    discriminator_timesteps: Tensor
    places: Tensor
    key: tuple[int, int]

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
            self.time_ids.to(device, torch.float32),
            None if self.conditions is None else self.conditions.to(device),
            self.discriminator_noise.to(device),
            self.discriminator_timesteps.to(device),
            self.places.to(device),
            self.key,
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


def shifted(timestep: int, shift: float) -> int:
    """A timestep from 0 to 999 moved towards noise: s u / (1 + (s - 1) u) of all, where it was u.

    With s = 1 it stays. The first and the last stay at any s > 0 (Esser et al. 2024, section 5.3.2,
    who move the schedule of sampling so).
    """
    place = timestep / (TIMESTEPS - 1)
    return round((TIMESTEPS - 1) * shift * place / (1 + (shift - 1) * place))


class _Sample(NamedTuple):
    latent: Tensor
    noise: Tensor
    timestep: int
    caption: str
    picture: str  # its key in the data
    time_ids: Tensor
    discriminator_noise: Tensor
    discriminator_timestep: int
    place: float


class TrainingBatches(Dataset):
    """Item `step` is one process's share of that step, in micro-batches.

    A step's examples are of one size, see `Turns`. Those of a size are taken in a new random order
    each time as many have been seen as there are. Timestep, noise and caption dropout of a sample
    come from a generator of its own, seeded by (seed, step, sample).

    Args:
        examples: latents and captions; or those of each style that is taught.
        own: the share of samples that each style takes from its own examples, where it has such;
            the others are of one style for all styles that take them.
        student_text: embeddings for the student.
        teacher_text: embeddings for each teacher.
        plan: who sees what.
        taught: the styles that each teacher teaches, one of which is drawn for each sample;
            None = teacher i teaches style i.
        conditions: what each teacher is shown with a picture of the data, see `Show`; None =
            nothing, for teachers that are no ControlNets.
        caption_dropout: share of samples whose caption is "" for student and teacher alike.
        timestep_shift: see `shifted`.
        repeats: which steps have the batch of an earlier one.
        micro_batch_size: pairs in one `Batch`; None = the whole share.
        process, processes: whose share.
    """

    def __init__(
        self,
        examples: Examples | Mapping[int, Examples],
        student_text: TextCache,
        teacher_text: Sequence[TextCache],
        plan: PairPlan,
        *,
        taught: Sequence[Sequence[int]] | None = None,
        conditions: Sequence[Show] | None = None,
        own: float = 1.0,
        caption_dropout: float,
        timestep_shift: float = 1.0,
        repeats: Repeats = ONCE,
        seed: int,
        micro_batch_size: int | None = None,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        has_own = isinstance(examples, Mapping)
        self._examples = dict(examples) if has_own else {SHARED: examples}
        self._own = own if has_own else 0.0
        self._student_text = student_text
        self._teacher_text = list(teacher_text)
        self._plan, self._dropout, self._seed = plan, caption_dropout, seed
        self._shift, self._repeats = timestep_shift, repeats
        self._conditions = conditions
        self._taught = taught or [[teacher] for teacher in range(plan.num_teachers)]
        self._micro, self._process, self._processes = micro_batch_size, process, processes
        # Styles with examples of their own have as many of each size: they paint the same prompts.
        buckets = next(iter(self._examples.values())).buckets
        self._turns = Turns([len(bucket) for bucket in buckets], plan.samples_per_step, seed)
        self._orders: dict[tuple[int, int], tuple[int, Tensor]] = {}  # see `_index`

    def __getitem__(self, step: int) -> list[Batch]:
        number = self._repeats.batch(step)
        pairs = self._plan.share(number, self._process, self._processes)
        size = self._micro or len(pairs)
        draw = lru_cache(maxsize=None)(lambda sample, whose: self._sample(number, sample, whose))
        return [
            self._batch(number, first, pairs[first : first + size], draw)
            for first in range(0, len(pairs), size)
        ]

    def _batch(
        self,
        step: int,
        first: int,
        pairs: list[tuple[int, int]],
        draw: Callable[[int, int], _Sample],
    ) -> Batch:
        styles = [self._style(step, teacher, sample) for teacher, sample in pairs]
        samples = [
            draw(sample, self._whose(step, sample, style))
            for (_, sample), style in zip(pairs, styles, strict=True)
        ]
        captions = [sample.caption for sample in samples]
        teachers = torch.tensor([teacher for teacher, _ in pairs])
        batch = Batch(
            latents=torch.stack([sample.latent for sample in samples]),
            noise=torch.stack([sample.noise for sample in samples]),
            timesteps=torch.tensor([sample.timestep for sample in samples]),
            teachers=teachers,
            styles=torch.tensor(styles),
            text=self._student_text.lookup(captions),
            teacher_text=[],
            time_ids=torch.stack([sample.time_ids for sample in samples]),
            conditions=self._shown(pairs, samples),
            discriminator_noise=torch.stack([sample.discriminator_noise for sample in samples]),
            discriminator_timesteps=torch.tensor(
                [sample.discriminator_timestep for sample in samples]
            ),
            places=torch.tensor([sample.place for sample in samples]),
            key=(step, first),
        )
        batch.teacher_text = [
            self._teacher_text[teacher].lookup(captions[rows]) for teacher, rows in batch.segments()
        ]
        return batch

    def _shown(self, pairs: list[tuple[int, int]], samples: list[_Sample]) -> Tensor | None:
        if self._conditions is None:
            return None
        return torch.stack(
            [
                self._conditions[teacher](sample.picture, sample.latent)
                for (teacher, _), sample in zip(pairs, samples, strict=True)
            ]
        )

    def _style(self, step: int, teacher: int, sample: int) -> int:
        """The style of a pair; drawn where the teacher has several."""
        taught = self._taught[teacher]
        drawn = torch.randint(
            len(taught), (), generator=generator(self._seed, step, sample, "style")
        )
        return taught[int(drawn)]

    def _whose(self, step: int, sample: int, style: int) -> int:
        """Whose examples a pair's sample is from."""
        if torch.rand((), generator=generator(self._seed, step, sample, style)) < self._own:
            return style
        drawn = generator(self._seed, step, sample, "whose")
        return list(self._examples)[int(torch.randint(len(self._examples), (), generator=drawn))]

    def _sample(self, step: int, sample: int, whose: int) -> _Sample:
        """A sample of the examples of the style `whose`, or of those that all share."""
        bucket, turns = self._turns.at(step)
        examples = self._examples[whose]
        index = self._index(whose, bucket, turns * self._plan.samples_per_step + sample)
        own = generator(self._seed, step, sample)
        latent = examples.latent(index)
        timestep = shifted(int(torch.randint(TIMESTEPS, (), generator=own)), self._shift)
        dropped = bool(torch.rand((), generator=own) < self._dropout)
        return _Sample(
            latent,
            torch.randn(latent.shape, generator=own),
            timestep,
            "" if dropped else examples.caption(index),
            examples.key(index),
            examples.time_ids(index),
            torch.randn(latent.shape, generator=own),
            int(torch.randint(TIMESTEPS, (), generator=own)),
            float(torch.rand((), generator=own)),
        )

    def _index(self, whose: int, bucket: int, seen: int) -> int:
        """The example that comes after `seen` others of its bucket.

        `_orders` keeps the epoch and order that each bucket is in.
        """
        indices = self._examples[whose].buckets[bucket]
        epoch, position = divmod(seen, len(indices))
        key = whose, bucket
        if key not in self._orders or self._orders[key][0] != epoch:
            own = generator(self._seed, "order", *key, epoch)
            self._orders[key] = epoch, torch.randperm(len(indices), generator=own)
        return int(indices[self._orders[key][1][position]])
