"""What the user asks for, and its spelling in a picture's infotext."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from dmm.merged import Styles
from dmm.regions import Regions, compose, no_style
from dmm.resolving import resolve_regions
from dmm.schedules import Plan, Schedule
from dmm.words import AFTER_MLP, BEFORE_MLP, ONE_PASS
from sd_webui_dmm.regions.lines import parse_region
from sd_webui_dmm.regions.shares import shares
from sd_webui_dmm.regions.windows import Window

_PREFIX = "DMM "  # of every entry in the infotext


@dataclass(frozen=True)
class Request:
    """The accordion's values, in its order, and spelled as the infotext spells them.

    Attributes:
        mix: of the whole picture, and of regions that have none, ``"ink:0.7, anime:0.3"``.
        normalise: see `dmm.resolving.resolve`, as for `strength` and `mixing`.
        columns: their ratios, ``"1,2,1"``; empty for one.
        rows: their ratios.
        regions: a line each (see `regions`); where they overlap they share.
        feather: pixels on either side of a border in which regions blend.
        method: whether regions see one another, or are painted in passes of their own.
        start: of the styles, as a share of a pass's steps (see `dmm.schedules.Schedule`, as for
            `end` and `fade`).
        otherwise: the mix before and after; empty for no style.
    """

    mix: str = ""
    normalise: bool = True
    strength: float = 1.0
    mixing: str = BEFORE_MLP
    columns: str = ""
    rows: str = ""
    regions: str = ""
    feather: int = 0
    method: str = ONE_PASS
    start: float = 0.0
    end: float = 1.0
    fade: float = 0.0
    otherwise: str = ""

    def plan_of(self, styles: Styles, window: Window) -> Plan:
        """The styles of what the host paints, over its steps.

        Args:
            window: the part of the picture that is painted.

        Raises:
            DmmError: a value that the user has to mend.
        """
        regions = self.regions_of(styles, window)
        otherwise = self._vector(self.otherwise, styles)
        schedule = Schedule(regions, otherwise, self.start, self.end, self.fade)
        return regions if (self.start, self.end) == (0, 1) else schedule

    def regions_of(self, styles: Styles, window: Window) -> Regions:
        """The style vectors and masks of what the host paints.

        Args:
            window: the part of the picture that is painted.

        Raises:
            DmmError: a value that the user has to mend.
        """
        self._vector(self.mix, styles)  # refused if wrong, even where no region has it
        # Regions of the same mix are one: fewer of them, and no border between them.
        masks: dict[str, Tensor] = {}
        said = self.columns, self.rows, self.regions, self.feather
        for mix, mask in shares(*said, window):
            mix = mix or self.mix
            masks[mix] = masks.get(mix, 0) + mask
        mask = torch.stack([*masks.values()])
        parts = [self._vector(mix, styles) for mix in masks]
        return compose((mask / mask.sum(dim=0))[None], *parts)

    def _vector(self, mix: str, styles: Styles) -> Regions:
        if not mix:
            return no_style(styles.prompts.dim)
        return resolve_regions(
            styles,
            mix,
            normalise=self.normalise,
            strength=self.strength,
            after_mlp=self.mixing == AFTER_MLP,
        )

    def infotext(self) -> dict[str, str]:
        """Entries for the infotext: whatever differs from the default."""
        regions = "\n".join(str(parse_region(line)) for line in self.regions.splitlines())
        said = replace(self, regions=regions)
        return {
            _PREFIX + field.name: str(getattr(said, field.name))
            for field in fields(said)
            if getattr(said, field.name) != field.default
        }


def said_in(infotext: Mapping[str, Any]) -> bool:
    """Whether a parsed infotext is of a picture painted in styles."""
    return any(_PREFIX + field.name in infotext for field in fields(Request))


def from_infotext(infotext: Mapping[str, Any], name: str) -> Any:
    """The value of one of `Request`'s attributes; None where the picture had no styles.

    Infotexts are strangers': what is no number where one should be is the default.
    """
    if not said_in(infotext):
        return None
    default = getattr(Request, name)
    text = str(infotext.get(_PREFIX + name, default))
    if isinstance(default, bool):
        return text == "True"
    try:
        value = type(default)(text)
    except ValueError:
        return default
    return value if isinstance(value, str) or math.isfinite(value) else default
