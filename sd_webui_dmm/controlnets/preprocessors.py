"""Preprocessors: which control a picture is for that one of them made, told by the names."""

from __future__ import annotations

import re
from collections.abc import Sequence

_SHORTEST = 3  # letters of a name that is looked for in another


def told_by(names: Sequence[str], preprocessor: str, kinds: Sequence[str] = ()) -> str:
    """The control that a preprocessor is for, or "" where that is not plain.

    Args:
        names: of the controls that there are: "pose", "control_v11p_sd15_openpose".
        preprocessor: its name, as "dw_openpose_full"; it goes before `kinds`.
        kinds: of control, as the hosts call them: "OpenPose"; several tell nothing.
    """
    if len(names) == 1:
        return names[0]
    for word in (preprocessor, *(kinds if len(kinds) == 1 else ())):
        found = _alike(names, word)
        if len(found) == 1:
            return found[0]
    return ""


def _alike(names: Sequence[str], word: str) -> list[str]:
    """The longest names that are in a word, else those that the word is in."""
    word = _simple(word)
    inside = [name for name in names if len(_simple(name)) >= _SHORTEST and _simple(name) in word]
    if inside:
        longest = max(len(_simple(name)) for name in inside)
        return [name for name in inside if len(_simple(name)) == longest]
    return [name for name in names if len(word) >= _SHORTEST and word in _simple(name)]


def _simple(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())
