"""The keys of a merge's YAML file: pydantic's fields, and the comments that stand at them."""

from __future__ import annotations

import inspect
import io
import re
import tokenize
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from docs.reference.docstrings import cell, markdown
from trainer.config import MergeConfig
from trainer.config_file import describe_presets

INTRODUCTION = """# Keys of a merge's YAML file

Every key can be given on the command line as well, `train.steps=500`, and goes before the file's
there. Defaults are those without a preset; a file that names none has `preset: dmm`.
"""


def page() -> str:
    parts = [INTRODUCTION, "## Presets", "\n".join(_presets())]
    for section, key in SECTIONS.items():
        title = f"`{key}`" if key else "The file itself"
        parts += [f"## {title}", markdown(section), "\n".join(_table(section))]
    return "\n\n".join(parts)


def _presets() -> Iterator[str]:
    yield "| preset | what it is for |"
    yield "| --- | --- |"
    for name, description in describe_presets().items():
        yield f"| [`{name}`](../../trainer/presets/{name}.yaml) | {cell(description)} |"


def _sections(section: type[BaseModel], key: str = "") -> dict[type[BaseModel], str]:
    """A section and those within it → the first key that holds each."""
    found = {section: key}
    for inner_key, field in section.model_fields.items():
        for inner in _models(field.annotation):
            found = _sections(inner, inner_key) | found
    return found


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models(inner)]


def _table(section: type[BaseModel]) -> Iterator[str]:
    said = _comments(section)
    yield "| key | values | default | |"
    yield "| --- | --- | --- | --- |"
    for key, field in section.model_fields.items():
        yield f"| `{key}` | {_kind(field)} | {_default(field)} | {cell(said[key])} |"


def _kind(field: FieldInfo) -> str:
    bounds = [
        f"{sign} {getattr(rule, name):g}"
        for rule in field.metadata
        for name, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))
        if hasattr(rule, name)
    ]
    return " ".join([_spelled(field.annotation), ", ".join(bounds)]).strip()


def _spelled(annotation: Any) -> str:
    arguments = [inner for inner in get_args(annotation) if inner is not type(None)]
    origin = get_origin(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(map(_spelled, arguments))
    if origin is list:
        return f"list of {_spelled(arguments[0])}"
    if origin is tuple:
        return "`[width, height]`"
    names = {str: "text", int: "whole number", float: "number", bool: "`true`, `false`"}
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"[section](#{SECTIONS[annotation]})"
    return names.get(annotation, "path" if annotation is Path else str(annotation))


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "**needed**"
    if value is None or value in ("", []):
        return "none"
    if isinstance(value, BaseModel):
        return "its own"
    if isinstance(value, tuple):
        value = list(value)
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _comments(section: type[BaseModel]) -> dict[str, str]:
    """What the source says at each key: behind it, or in the lines above."""
    source = inspect.getsource(section)
    said: dict[str, str] = {}
    above: list[str] = []
    key = None
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        text = token.string.lstrip("# ").strip()
        if token.type == tokenize.COMMENT and token.line.lstrip().startswith("#"):
            above.append(text)
        elif token.type == tokenize.COMMENT and key:
            said[key] = f"{said[key]} {text}".strip()
        elif found := re.match(r" {4}(\w+): ", token.line):
            if found[1] != key and token.start[1] == 4:
                key = found[1]
                said[key], above = " ".join(above), []
        elif re.match(r" {4}(def |@)", token.line):
            break
    return said


SECTIONS = dict(reversed(_sections(MergeConfig).items()))
