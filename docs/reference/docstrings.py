"""Docstrings as this project writes them: prose, then sections such as "Args:" of named entries."""

from __future__ import annotations

import inspect
import re
from typing import Any

_SECTION = re.compile(r"^(Args|Attributes|Returns|Raises):\n((?: {4}.*\n?|\n)*)", re.MULTILINE)
_ENTRY = re.compile(r"^ {4}(\w+(?:, \w+)*): (.*(?:\n(?: {8}.*)?)*)", re.MULTILINE)


def markdown(described: Any) -> str:
    """A docstring as Markdown, its sections as lists."""
    text = _plain(described)
    parts = [_SECTION.sub("", text).strip()]
    for name, body in _SECTION.findall(text):
        named = [f"- `{entry}`: {_flat(said)}" for entry, said in _ENTRY.findall(body)]
        parts.append(f"**{name}**\n\n" + ("\n".join(named) or _flat(body)))
    return "\n\n".join(parts)


def entries(described: Any) -> dict[str, str]:
    """What a docstring says of each argument or attribute, and of each error."""
    bodies = [body for _, body in _SECTION.findall(_plain(described))]
    return {name: _flat(said) for body in bodies for name, said in _ENTRY.findall(body)}


def prose(described: Any) -> list[str]:
    """The paragraphs of a docstring before its sections."""
    text = _SECTION.sub("", _plain(described)).strip()
    return [_flat(paragraph) for paragraph in text.split("\n\n")]


def cell(text: str) -> str:
    """Text that is safe in a table, and begins as a sentence does."""
    text = text.replace("|", "\\|").replace("<", "&lt;")
    return text[:1].upper() + text[1:] if text[:1] != "λ" else text


def _plain(described: Any) -> str:
    return (inspect.getdoc(described) or "").replace("``", "`")


def _flat(text: str) -> str:
    return " ".join(text.split())
