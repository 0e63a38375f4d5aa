"""The fields of the WebUI's API, from the classes that they are read into."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from dmm.resolving import resolve
from dmm.schedules import Schedule
from dmm.words import METHODS, MIXINGS
from docs.reference.docstrings import cell, entries, prose
from sd_webui_dmm.api import FIELDS, REGION_FIELDS, read_request
from sd_webui_dmm.request import Request

INTRODUCTION = """# The WebUI's API

`"alwayson_scripts": {"dmm styles": {"args": [{…}]}}` in `/sdapi/v1/txt2img` and `img2img`; examples
are [in the API page](../api.md).
"""
ATTRIBUTES = {"styles": "mix"}  # a field → how `Request` calls it, where it differs
BESIDES = {  # what is no part of a picture's styles
    "enabled": ("`true`", "`false` paints without styles."),
    "controls": (
        "none",
        "What each ControlNet unit follows, where its file is a merged one: a control's name, "
        'weights as `{"canny": 1, "depth": 1}`, or `null`.',
    ),
}
CHOICES = {"mixing": MIXINGS, "method": METHODS}


def page() -> str:
    regions = ", ".join(f"`{name}`" for name in REGION_FIELDS)
    return "\n\n".join(
        [
            INTRODUCTION,
            "## Fields",
            "\n".join(_table()),
            *prose(read_request)[1:],
            f"## A region\n\nAn object of {regions}; or a mix alone, in columns and rows.",
        ]
    )


def _table() -> Iterator[str]:
    defaults = {field.name: field.default for field in fields(Request)}
    said = entries(Request)
    for source, names in (
        (resolve, ("normalise", "strength")),
        (Schedule, ("start", "end", "fade")),
    ):
        said |= {name: entries(source)[name] for name in names}
    said["mixing"] = "Where styles are mixed; the paper does it before the MLP."
    yield "| field | default | |"
    yield "| --- | --- | --- |"
    for name in FIELDS:
        attribute = ATTRIBUTES.get(name, name)
        if name in BESIDES:
            default, text = BESIDES[name]
        else:
            default, text = _shown(defaults[attribute]), said[attribute]
        text += "".join(f" `{choice}`." for choice in CHOICES.get(name, ()))
        yield f"| `{name}` | {default} | {cell(text)} |"


def _shown(default: object) -> str:
    if default == "":
        return "none"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"
