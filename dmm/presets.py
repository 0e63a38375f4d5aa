"""Presets: named mixes, kept in one JSON file of the user's folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dmm.atomic import written_whole
from dmm.errors import DmmError
from dmm.mixes import parse_mix
from dmm.words import BEFORE_MLP, MAX_STRENGTH, MIXINGS

MAX_NAME, MAX_MIX, MAX_PRESETS = 100, 20_000, 1_000

Preset = dict[str, Any]
"""`{"mix": "ink:0.7, anime:0.3", "normalise": True, "strength": 1.0, "mixing": "before MLP"}`"""


@dataclass(frozen=True)
class Presets:
    """The presets in the file at `path`, which need not exist yet."""

    path: Path

    def read(self) -> dict[str, Preset]:
        """All presets by name.

        Raises:
            DmmError: the file is there but is not what `save` writes; it is then left as it is.
        """
        if not self.path.exists():
            return {}
        try:
            stored = json.loads(self.path.read_text(encoding="utf-8"))
            return {name: _preset(fields) for name, fields in stored.items()}
        except (OSError, ValueError, RecursionError, AttributeError, DmmError) as error:
            raise DmmError(
                f"{self.path} cannot be read as presets ({error}). Mend it, or move it away to "
                "start afresh."
            ) from None

    def save(self, fields: object) -> dict[str, Preset]:
        """Adds or replaces the preset called `fields["name"]`; returns all presets."""
        presets = self.read()
        name = _name(fields)
        presets[name] = _preset(fields)
        if len(presets) > MAX_PRESETS:
            raise DmmError(f"There are {MAX_PRESETS} presets already. Delete one first.")
        self._write(presets)
        return presets

    def delete(self, name: str) -> dict[str, Preset]:
        """Removes a preset; returns the others."""
        presets = self.read()
        if name not in presets:
            raise DmmError(f"There is no preset {name!r}.")
        del presets[name]
        self._write(presets)
        return presets

    def _write(self, presets: Mapping[str, Preset]) -> None:
        try:
            with written_whole(self.path) as partial:
                partial.write_text(json.dumps(presets, indent=2), encoding="utf-8")
        except OSError as error:
            raise DmmError(f"{self.path} cannot be written: {error.strerror}.") from error


def _name(fields: object) -> str:
    name = fields.get("name") if isinstance(fields, dict) else None
    if not isinstance(name, str) or not name.strip() or len(name) > MAX_NAME:
        raise DmmError(f"A preset needs a name of 1 to {MAX_NAME} characters.")
    if not _is_writable(name):
        raise DmmError("A preset's name has a half of a character, which cannot be written.")
    return name.strip()


def _is_writable(text: str) -> bool:
    """JSON can hold halves of characters, which no answer of a server can."""
    return text.encode(errors="replace").decode() == text


def _preset(fields: object) -> Preset:
    """The fields of a preset, from a stranger's JSON."""
    if not isinstance(fields, dict):
        raise DmmError("A preset is an object with a mix.")
    mix, strength = fields.get("mix"), fields.get("strength", 1.0)
    if not isinstance(mix, str) or len(mix) > MAX_MIX:
        raise DmmError(f"A preset needs a mix of at most {MAX_MIX} characters.")
    parse_mix(mix)
    if not _is_writable(mix):
        raise DmmError("A preset's mix has a half of a character, which cannot be written.")
    if type(strength) not in (int, float) or not 0 <= strength <= MAX_STRENGTH:
        raise DmmError(f"The strength of a preset is a number from 0 to {MAX_STRENGTH:g}.")
    normalise, mixing = fields.get("normalise", True), fields.get("mixing", BEFORE_MLP)
    if not isinstance(normalise, bool) or mixing not in MIXINGS:
        raise DmmError("A preset's normalise is true or false, its mixing before or after the MLP.")
    return {"mix": mix, "normalise": normalise, "strength": strength, "mixing": mixing}
