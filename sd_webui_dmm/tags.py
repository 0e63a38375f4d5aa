"""Prompt tags: ``<dmm:ink:0.6>`` gives the pictures of a prompt a mix of their own.

Style names are strangers'. Characters that would end a tag, or mean something to the extensions
that read prompts before it, are written as in an address: ``<dmm:ink %3E wash:0.6>``.
"""

from __future__ import annotations

import re

from modules import extra_networks

from dmm.mixes import format_mix

_TAG = re.compile(r"<dmm:([^>]+)>")
_SPECIAL = "%<>{}|"  # % first, for it is part of the others' spelling
_SPELLED = {f"%{ord(character):02X}": character for character in _SPECIAL + "_"}


def mix_in(prompt: str) -> str:
    """The mix that a prompt's tags spell together, or "" for a prompt without a tag."""
    return ", ".join(map(_unescape, _TAG.findall(prompt)))


def tag(name: str) -> str:
    """The tag of a style, in full."""
    for spelled, character in _SPELLED.items():
        plain = "__" if character == "_" else character  # a single one means nothing to anybody
        name = name.replace(plain, plain[:-1] + spelled)
    return f"<dmm:{format_mix({name: 1})}>"


def without_tags(prompt: str) -> str:
    return _TAG.sub("", prompt)


def _unescape(text: str) -> str:
    return re.sub("|".join(_SPELLED), lambda match: _SPELLED[match[0]], text)


class DmmTag(extra_networks.ExtraNetwork):
    """Makes the tag known to the host, which takes it out of the prompt.

    The host hands over the tags of a batch's first prompt alone; `painting.sampling` reads those of
    every prompt.
    """

    def __init__(self) -> None:
        super().__init__("dmm")

    def activate(self, p, params_list) -> None:
        pass

    def deactivate(self, p) -> None:
        pass
