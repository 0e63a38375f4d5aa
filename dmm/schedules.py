"""Plans: the styles of a sampling run, laid out over its steps, its pictures and their regions.

A plan is asked at every step for the styles of that moment. `Regions` is one that never changes;
the plans here are made of other plans, so that regions have schedules and schedules have regions.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Protocol

from torch import Tensor

from dmm.errors import DmmError
from dmm.regions import Regions, compose, mix_regions, per_picture, share


class Plan(Protocol):
    @property
    def constant(self) -> bool:
        """Whether the styles are the same at every step."""

    def at(self, progress: float) -> Regions:
        """The styles of a moment; the same object again while they stay the same.

        Args:
            progress: of the sampling, from 0, all noise, to 1, the finished picture.
        """


class Schedule:
    """A style for a span of the sampling.

    Chained through `otherwise`, schedules give any number of spans, the last one going first.

    Args:
        style: within the span.
        otherwise: before and after it.
        start: of the span, from 0 to 1.
        end: of the span, from 0 to 1, where 1 includes the last step.
        fade: how long the style takes to come after `start` and to go before `end`. A span that
            starts at 0 or ends at 1 has its style in full there.

    Raises:
        DmmError: numbers that make no span.
    """

    def __init__(
        self, style: Plan, otherwise: Plan, start: float, end: float, fade: float = 0.0
    ) -> None:
        if not (0 <= start < end <= 1 and 0 <= fade <= 1):
            raise DmmError(
                f"A style from {start:g} to {end:g} of the sampling (fade {fade:g}) is no span. "
                "Give a start below the end, both from 0 to 1, and a fade from 0 to 1."
            )
        self.style, self.otherwise = style, otherwise
        self.start, self.end, self.fade = start, end, fade
        self.constant = False

    def at(self, progress: float) -> Regions:
        weight = self.weight(progress)
        if weight == 0:
            return self.otherwise.at(progress)
        if weight == 1:
            return self.style.at(progress)
        return mix_regions(self.otherwise.at(progress), self.style.at(progress), weight)

    def weight(self, progress: float) -> float:
        """How much of the style there is, from 0 to 1."""
        if progress < self.start or (progress >= self.end and self.end < 1):
            return 0.0
        since_start = progress - self.start if self.start > 0 else 1.0
        until_end = self.end - progress if self.end < 1 else 1.0
        return 1.0 if self.fade == 0 else min(since_start / self.fade, until_end / self.fade, 1.0)


class Regional:
    """Styles side by side in one picture.

    Args:
        masks: a mask a region, as `dmm.regions.share` takes them.
        styles: a style a region.
        base: the style of what no region covers.
    """

    def __init__(self, masks: Sequence[Tensor], styles: Sequence[Plan], base: Plan) -> None:
        self.parts = (base, *styles)
        self.constant = all(part.constant for part in self.parts)
        self._composed = lru_cache(maxsize=1)(partial(compose, share(masks)))

    def at(self, progress: float) -> Regions:
        return self._composed(*(part.at(progress) for part in self.parts))


class PerPicture:
    """A style for each picture of a batch.

    Args:
        styles: in the order of the pictures, each of them for a single picture.
    """

    def __init__(self, styles: Sequence[Plan]) -> None:
        self.styles = tuple(styles)
        self.constant = all(style.constant for style in self.styles)
        self._stacked = lru_cache(maxsize=1)(per_picture)

    def at(self, progress: float) -> Regions:
        return self._stacked(*(style.at(progress) for style in self.styles))
