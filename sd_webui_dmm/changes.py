"""What a script paints otherwise than the accordion says: the X/Y/Z plot, the style grid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sd_webui_dmm.request import Request

Change = Callable[[Request], Request]


def add(p: Any, change: Change, *, instead_of_tags: bool = False) -> None:
    """Changes the request of the job `p` before it is painted.

    Args:
        p: the host's StableDiffusionProcessing.
        instead_of_tags: the tags in the job's prompts are left out, since they would go before the
            changed mix.
    """
    p.dmm_changes = (*of(p), change)  # a new tuple, since a script's jobs share the old one
    if instead_of_tags:
        p.dmm_without_tags = True


def of(p: Any) -> tuple[Change, ...]:
    """The changes in the order they were added."""
    return getattr(p, "dmm_changes", ())


def without_tags(p: Any) -> bool:
    return getattr(p, "dmm_without_tags", False)
