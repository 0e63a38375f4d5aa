"""Prompt tags: ``<dmm:ink:0.6>`` gives the pictures of a prompt a mix of their own."""

from __future__ import annotations

import re

from modules import extra_networks

_TAG = re.compile(r"<dmm:([^>]+)>")


def mix_in(prompt: str) -> str:
    """The mix that a prompt's tags spell together, or "" for a prompt without a tag."""
    return ", ".join(_TAG.findall(prompt))


class DmmTag(extra_networks.ExtraNetwork):
    """Makes the tag known to the host, which takes it out of the prompt.

    The host hands over the tags of a batch's first prompt alone; `painting` reads every prompt's.
    """

    def __init__(self) -> None:
        super().__init__("dmm")

    def activate(self, p, params_list) -> None:
        pass

    def deactivate(self, p) -> None:
        pass
