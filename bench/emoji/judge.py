"""Measures what a method made: distances to the teachers' pictures, seen prompts and unseen."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from bench.emoji.contest import Artist, Contest, Entry, as_teacher
from trainer.evaluate.components import Components
from trainer.evaluate.extractors import Extractor
from trainer.evaluate.features import check_counts, extract
from trainer.evaluate.frechet import Gaussian, frechet_distance
from trainer.evaluate.kernel import kernel_distance
from trainer.evaluate.painting import Studio, latent_shape, paint_set
from trainer.evaluate.prompts import Texts, open_prompts
from trainer.painting import PaintSettings

RESOLUTION = (64, 64)
BATCH = 64
FIRST_SEED = 1_000_000  # far from the noise of what merges are trained on
CHANGES = 3  # timed; the median counts


@dataclass(frozen=True)
class Marks:
    """Of one method on one set of prompts.

    Attributes:
        trace: of the Frechet matrix.
        kernel: KID on the diagonal, the mean over styles.
    """

    trace: float
    kernel: float


class Judge:
    """Compares with each teacher's first set, which is painted and looked at once."""

    def __init__(self, contest: Contest, extractor: Extractor, device: torch.device) -> None:
        self._contest, self._extractor, self._device = contest, extractor, device
        size = contest.size
        check_counts([size.seen, size.unseen], extractor, size.components)

    def seen(self, entry: Entry) -> Marks:
        """By the prompts that the teachers were trained on."""
        return self._marks(entry, self._seen)

    def unseen(self, entry: Entry) -> Marks:
        """By other prompts."""
        return self._marks(entry, self._unseen)

    def change_seconds(self, entry: Entry) -> float | None:
        """What changing the style takes, everything being in memory that can be."""
        if entry.change is None:
            return None
        last = len(entry.artists) - 1
        entry.change(last)
        seconds = []
        for number in range(CHANGES):
            began = time.perf_counter()
            entry.change(number % (last + 1))
            seconds.append(time.perf_counter() - began)
        return statistics.median(seconds)

    @cached_property
    def _seen(self) -> _Panel:
        return self._panel(self._contest.seen, self._contest.size.seen)

    @cached_property
    def _unseen(self) -> _Panel:
        return self._panel(self._contest.unseen, self._contest.size.unseen)

    def _panel(self, prompts: Path, pictures: int) -> _Panel:
        size, base = self._contest.size, self._contest.opened_base
        settings = PaintSettings(
            shape=latent_shape(base, RESOLUTION),
            resolution=RESOLUTION,
            steps=size.sampling_steps,
            guidance=size.guidance,
            seed=FIRST_SEED,
        )
        studio = Studio(
            prompts=open_prompts(prompts),
            pictures=pictures,
            settings=settings,
            folder=self._contest.folder / "cache",
            device=self._device,
            dtype=torch.float32,
            batch_size=BATCH,
        )
        artists = [Artist(as_teacher(checkpoint)) for checkpoint in self._contest.opened.values()]
        features = [self._features(artist, studio) for artist in artists]
        reduce = None
        if size.components is not None:
            reduce = Components.of(torch.cat(features), size.components)
        return _Panel(studio, features, reduce)

    def _marks(self, entry: Entry, panel: _Panel) -> Marks:
        sets = [self._features(artist, self._again(panel.studio)) for artist in entry.artists]
        distances = [
            frechet_distance(panel.gaussian(features), reference)
            for features, reference in zip(sets, panel.references, strict=True)
        ]
        kernels = [
            kernel_distance(features, reference, panel.texts)
            for features, reference in zip(sets, panel.features, strict=True)
        ]
        return Marks(sum(distances), fmean(kernels))

    def _again(self, studio: Studio) -> Studio:
        """The same prompts from noise of the contest's seed, past that of the first sets."""
        seed = FIRST_SEED + (self._contest.seed + 1) * studio.pictures
        return replace(studio, settings=replace(studio.settings, seed=seed))

    def _features(self, artist: Artist, studio: Studio) -> Tensor:
        if artist.words:
            reworded = [caption + artist.words for caption in studio.prompts.captions]
            studio = replace(studio, prompts=Texts(reworded))
        painted = paint_set(artist.teacher, artist.style, studio, self._contest.opened_base)
        return extract(painted, self._extractor, studio.folder)


@dataclass(frozen=True)
class _Panel:
    """The teachers' first sets by one file of prompts."""

    studio: Studio
    features: list[Tensor]
    reduce: Components | None

    @cached_property
    def references(self) -> list[Gaussian]:
        return [self.gaussian(features) for features in self.features]

    @property
    def texts(self) -> list[str]:
        """The prompt of each picture of a set."""
        captions, count = self.studio.prompts.captions, self.studio.pictures
        return (captions * math.ceil(count / len(captions)))[:count]

    def gaussian(self, features: Tensor) -> Gaussian:
        return Gaussian.of(self.reduce(features) if self.reduce else features)

