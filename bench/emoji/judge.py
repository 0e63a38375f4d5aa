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
BATCH = 32
CHANGES = 3  # timed; the median counts

# Of Student's t, two-sided 95 %, by degrees of freedom.
T_95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


@dataclass(frozen=True)
class Marks:
    """Of one method on one set of prompts.

    Attributes:
        trace: of the Frechet matrix, the mean over repeats.
        interval: half the width of its 95 % interval; None for a single repeat.
        kernel: KID on the diagonal, the mean over styles and repeats.
    """

    trace: float
    interval: float | None
    kernel: float


class Judge:
    """Compares with each teacher's first set, which is painted and looked at once."""

    def __init__(self, contest: Contest, extractor: Extractor, device: torch.device) -> None:
        self._contest, self._extractor, self._device = contest, extractor, device
        size = contest.size
        check_counts([size.seen, size.unseen], extractor, size.components)

    def seen(self, entry: Entry, repeats: int | None = None) -> Marks:
        """By the prompts that the teachers were trained on."""
        return self._marks(entry, self._seen, repeats or self._contest.size.repeats)

    def unseen(self, entry: Entry) -> Marks:
        """By other prompts."""
        return self._marks(entry, self._unseen, self._contest.size.repeats)

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

    def _marks(self, entry: Entry, panel: _Panel, repeats: int) -> Marks:
        traces, kernels = [], []
        for repeat in range(1, repeats + 1):
            seed = repeat * panel.studio.pictures  # past the noise of every set before
            studio = replace(panel.studio, settings=replace(panel.studio.settings, seed=seed))
            sets = [self._features(artist, studio) for artist in entry.artists]
            prompts = panel.texts
            traces.append(
                sum(
                    frechet_distance(panel.gaussian(features), reference)
                    for features, reference in zip(sets, panel.references, strict=True)
                )
            )
            kernels += [
                kernel_distance(features, reference, prompts)
                for features, reference in zip(sets, panel.features, strict=True)
            ]
        return Marks(fmean(traces), _interval(traces), fmean(kernels))

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


def _interval(values: Sequence[float]) -> float | None:
    """Half the width of the mean's 95 % interval."""
    count = len(values)
    if count < 2:
        return None
    return T_95[min(count - 1, max(T_95))] * statistics.stdev(values) / math.sqrt(count)
