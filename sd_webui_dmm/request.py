"""What the user asks for, and its spelling in a picture's infotext."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from dmm.errors import DmmError
from dmm.merged import Styles
from dmm.regions import Regions, Size, compose, no_style, whole_picture
from dmm.resolving import resolve
from sd_webui_dmm import layouts

BEFORE_MLP, AFTER_MLP = "before MLP", "after MLP"
MIXINGS = (BEFORE_MLP, AFTER_MLP)

_PREFIX = "DMM "  # of every entry in the infotext


@dataclass(frozen=True)
class Request:
    """The accordion's values, in its order, and spelled as the infotext spells them.

    Attributes:
        mix: of the whole picture, and of regions that have none, ``"ink:0.7, anime:0.3"``.
        normalise: see `dmm.resolving.resolve`, as for `strength` and `mixing`.
        columns: their ratios, ``"1,2,1"``; empty for one.
        rows: their ratios.
        regions: a mix a line for the cells of the layout, row by row.
        feather: pixels on either side of a border in which its cells blend.
    """

    mix: str = ""
    normalise: bool = True
    strength: float = 1.0
    mixing: str = BEFORE_MLP
    columns: str = ""
    rows: str = ""
    regions: str = ""
    feather: int = 0

    def regions_of(self, styles: Styles, size: Size) -> Regions:
        """The style vectors and masks of a picture.

        Args:
            size: of the picture, in pixels.

        Raises:
            DmmError: a value that the user has to mend.
        """
        columns = layouts.parse_ratios(self.columns, "columns")
        rows = layouts.parse_ratios(self.rows, "rows")
        said = self.regions.splitlines()
        count = len(columns) * len(rows)
        if len(said) > count:
            raise DmmError(
                f"There are {len(said)} region styles for {count} "
                f"{'region' if count == 1 else 'regions'} ({len(columns)} columns, {len(rows)} "
                "rows). Add columns or rows, or remove lines."
            )
        mixes = [mix.strip() or self.mix for mix in said] + [self.mix] * (count - len(said))
        # Cells of the same mix are one region: fewer of them, and no border between them.
        shares: dict[str, Tensor] = {}
        for mix, cell in zip(mixes, layouts.cells(columns, rows, size, self.feather), strict=True):
            shares[mix] = shares.get(mix, 0) + cell
        if len(shares) == 1:
            return self._vector(mixes[0], styles)
        masks = torch.stack([*shares.values()])
        parts = [self._vector(mix, styles) for mix in shares]
        return compose((masks / masks.sum(dim=0))[None], *parts)

    def _vector(self, mix: str, styles: Styles) -> Regions:
        if not mix:
            return no_style(styles.prompts.dim)
        vector = resolve(
            styles,
            mix,
            normalise=self.normalise,
            strength=self.strength,
            after_mlp=self.mixing == AFTER_MLP,
        )
        return no_style(styles.prompts.dim) if vector is None else whole_picture(vector)

    def infotext(self) -> dict[str, str]:
        """Entries for the infotext: whatever differs from the default."""
        return {
            _PREFIX + field.name: str(getattr(self, field.name))
            for field in fields(self)
            if getattr(self, field.name) != field.default
        }


def said_in(infotext: Mapping[str, Any]) -> bool:
    """Whether a parsed infotext is of a picture painted in styles."""
    return any(key.startswith(_PREFIX) for key in infotext)


def from_infotext(infotext: Mapping[str, Any], name: str) -> Any:
    """The value of one of `Request`'s attributes; None where the picture had no styles."""
    if not said_in(infotext):
        return None
    default = getattr(Request, name)
    text = infotext.get(_PREFIX + name, str(default))
    return text == "True" if isinstance(default, bool) else type(default)(text)
