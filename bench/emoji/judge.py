"""Measures what a method made: distances to the teachers' pictures, seen prompts and unseen."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from bench.emoji.contest import Artist, Contest, Entry, as_teacher
from bench.emoji.probes import StyleProbe, concept_accuracy, style_accuracy
from trainer.evaluate.components import Components
from trainer.evaluate.extractors import Extractor
from trainer.evaluate.features import check_counts, extract
from trainer.evaluate.frechet import Gaussian, frechet_distance
from trainer.evaluate.kernel import kernel_distance
from trainer.evaluate.painting import Commission, PictureSet, latent_shape, paint_set
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
        distances: the diagonal of the Frechet matrix.
        kernel: KID on the diagonal, the mean over styles.
        style: share of pictures that a probe takes for the style they should be in.
        concept: share of pictures whose nearest among the teacher's is of the same prompt.
    """

    distances: list[float]
    kernel: float
    style: float
    concept: float

    @property
    def trace(self) -> float:
        return sum(self.distances)


class Judge:
    """Compares with each teacher's first set, which is painted and looked at once."""

    def __init__(self, contest: Contest, extractor: Extractor, device: torch.device) -> None:
        self._contest, self.extractor, self._device = contest, extractor, device
        size = contest.size
        check_counts([size.seen, size.unseen], extractor, size.components)

    def seen(self, entry: Entry) -> Marks:
        """By the prompts that the teachers were trained on."""
        return self._marks(entry, self.panel)

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
    def panel(self) -> Panel:
        """By the prompts that the teachers were trained on."""
        return self._painted(self._contest.seen, self._contest.size.seen)

    @cached_property
    def _unseen(self) -> Panel:
        return self._painted(self._contest.unseen, self._contest.size.unseen)

    def _painted(self, prompts: Path, pictures: int) -> Panel:
        size, base = self._contest.size, self._contest.opened_base
        settings = PaintSettings(
            shape=latent_shape(base, RESOLUTION),
            resolution=RESOLUTION,
            steps=size.sampling_steps,
            guidance=size.guidance,
            seed=FIRST_SEED,
        )
        commission = Commission(
            prompts=open_prompts(prompts),
            pictures=pictures,
            settings=settings,
            folder=self._contest.folder / "cache",
            device=self._device,
            dtype=torch.float32,
            batch_size=BATCH,
        )
        artists = [Artist(as_teacher(checkpoint)) for checkpoint in self._contest.opened.values()]
        features = [self.features(artist, commission) for artist in artists]
        reduce = None
        if size.components is not None:
            reduce = Components.of(torch.cat(features), size.components)
        return Panel(commission, features, reduce)

    def _marks(self, entry: Entry, panel: Panel) -> Marks:
        sets = [self.features(artist, self.again(panel.commission)) for artist in entry.artists]
        distances = [
            frechet_distance(panel.gaussian(features), reference)
            for features, reference in zip(sets, panel.references, strict=True)
        ]
        pairs, prompts = list(zip(sets, panel.features, strict=True)), panel.texts
        return Marks(
            distances,
            kernel=fmean(kernel_distance(ours, theirs, prompts) for ours, theirs in pairs),
            style=style_accuracy(panel.probe, sets),
            concept=fmean(concept_accuracy(ours, theirs, prompts) for ours, theirs in pairs),
        )

    def again(self, commission: Commission) -> Commission:
        """The same prompts from noise of the contest's seed, past that of the first sets."""
        seed = FIRST_SEED + (self._contest.seed + 1) * commission.pictures
        return replace(commission, settings=replace(commission.settings, seed=seed))

    def painted(self, artist: Artist, commission: Commission) -> PictureSet:
        """What an artist paints, or has painted before."""
        if artist.words:
            reworded = [caption + artist.words for caption in commission.prompts.captions]
            commission = replace(commission, prompts=Texts(reworded))
        return paint_set(artist.teacher, artist.style, commission, self._contest.opened_base)

    def features(self, artist: Artist, commission: Commission) -> Tensor:
        """Of what an artist paints, [n, d]."""
        return extract(self.painted(artist, commission), self.extractor, commission.folder)


@dataclass(frozen=True)
class Panel:
    """The teachers' first sets by one file of prompts.

    Attributes:
        commission: what they painted.
        features: of each style's pictures, [n, d].
        reduce: to so many components as the distances are taken of; None = all features.
    """

    commission: Commission
    features: list[Tensor]
    reduce: Components | None

    @cached_property
    def references(self) -> list[Gaussian]:
        return [self.gaussian(features) for features in self.features]

    @cached_property
    def probe(self) -> StyleProbe:
        return StyleProbe(self.features)

    @property
    def texts(self) -> list[str]:
        """The prompt of each picture of a set."""
        captions, count = self.commission.prompts.captions, self.commission.pictures
        return (captions * math.ceil(count / len(captions)))[:count]

    def gaussian(self, features: Tensor) -> Gaussian:
        return Gaussian.of(self.reduce(features) if self.reduce else features)
