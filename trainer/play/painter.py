"""What the page's buttons paint; every picture is kept, with what it was made from inside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from PIL.Image import Image

from dmm.mixes import format_mix
from dmm.regions import Regions, compose, feather, no_style, share
from dmm.resolving import resolve_regions
from trainer.play.colours import masks_of
from trainer.play.pictures import Settings, save
from trainer.studio import Studio

STRIP = 11  # pictures from one style to the other: 0, 0.1 … 1

Picture = tuple[str, str]
"""A file and its caption."""


class Painter:
    """Paints for a page.

    Args:
        model: the merged file's name, for the pictures' metadata.
        folder: where pictures are kept.
    """

    def __init__(self, studio: Studio, model: str, folder: Path) -> None:
        self.studio, self.model, self.folder = studio, model, folder
        self.names = studio.styles.names

    def mix(self, settings: Settings, weights: Mapping[str, float]) -> Picture:
        """One picture in a mix; with no weight but 0, in no style."""
        text = format_mix(_used(weights))
        path = self._paint(settings, self._resolved(settings, weights), text)
        return path, f"{text or 'no style'} · seed {settings.seed}"

    def every_style(self, settings: Settings) -> Iterator[Picture]:
        """No style, then each, from one noise."""
        yield self.mix(settings, {})[0], "no style"
        for name in self.names:
            yield self.mix(settings, {name: 1.0})[0], name

    def strip(self, settings: Settings, first: str, second: str) -> Iterator[Picture]:
        """From one style to another in equal parts, from one noise."""
        for part in range(STRIP):
            weight = part / (STRIP - 1)
            mix = {first: 1 - weight}
            mix[second] = mix.get(second, 0) + weight
            yield self.mix(settings, mix)[0], f"{weight:g}"

    def regions(
        self,
        settings: Settings,
        base: Mapping[str, float],
        painted: Sequence[Image],
        colours: Mapping[str, str],
        soft: int,
    ) -> Picture:
        """A picture with styles where they were painted.

        Args:
            base: the mix of the rest.
            painted: RGBA, of any size.
            colours: colour → style.
            soft: pixels on either side of a border in which styles blend.
        """
        masks = masks_of(painted, list(colours), (settings.width, settings.height))
        places = {
            name: mask for mask, name in zip(masks, colours.values(), strict=True) if mask.any()
        }
        if not places:
            return self.mix(settings, base)
        shares = share([feather(mask, soft) if soft else mask for mask in places.values()])
        styles = [self._resolved(settings, mix) for mix in (base, *({n: 1.0} for n in places))]
        text = (
            f"{format_mix(_used(base)) or 'no style'}, with painted regions of {', '.join(places)}"
        )
        path = self._paint(settings, compose(shares, *styles), text)
        return path, f"{text} · seed {settings.seed}"

    def _resolved(self, settings: Settings, weights: Mapping[str, float]) -> Regions:
        styles, mix = self.studio.styles, _used(weights)
        if not mix:
            return no_style(styles.prompts.dim)
        return resolve_regions(styles, mix, strength=settings.strength)

    def _paint(self, settings: Settings, style: Regions, mix: str) -> str:
        [picture] = self.studio.paint(
            [settings.prompt],
            style if style.has_style else None,
            negative=settings.negative,
            size=(settings.width, settings.height),
            seed=settings.seed,
            steps=settings.steps,
            guidance=settings.guidance,
            progress="Painting",
        )
        sampler = self.studio.sampling.sampler
        return str(save(picture, self.folder, settings, self.model, mix, sampler))


def _used(weights: Mapping[str, float]) -> dict[str, float]:
    return {name: weight for name, weight in weights.items() if weight}
