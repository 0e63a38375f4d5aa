"""Choices of a combo: ComfyUI does not check those of the V3 schema against their options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from dmm.errors import DmmError

Meaning = TypeVar("Meaning")


def choose(options: Mapping[str, Meaning], choice: str, what: str) -> Meaning:
    """What an option stands for; a choice that is none is refused by name."""
    if choice not in options:
        raise DmmError(f"There is no {what} {choice!r}. Choose one of: {', '.join(options)}.")
    return options[choice]
