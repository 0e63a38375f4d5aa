"""Choices of a combo: ComfyUI does not check those of the V3 schema against their options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from dmm.errors import DmmError

Meaning = TypeVar("Meaning")


def choose(options: Mapping[str, Meaning], choice: str, what: str) -> Meaning:
    """What an option stands for.

    Raises:
        DmmError: the choice is no option.
    """
    if choice not in options:
        raise DmmError(f"There is no {what} {choice!r}. Choose one of: {', '.join(options)}.")
    return options[choice]


def is_option(options: Mapping[str, object], choice: str | None, what: str) -> bool | str:
    """For `validate_inputs`, before anything runs: True, or the reason.

    A choice that comes over a wire is None there, and is looked up when the node runs.
    """
    try:
        if choice is not None:
            choose(options, choice, what)
    except DmmError as error:
        return str(error)
    return True
