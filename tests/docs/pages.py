"""The pages people read, and the examples in them: fenced blocks, and commands within a line."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
ELSEWHERE = {".venv", "outputs", "node_modules"}
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in ROOT.rglob("*.md")
    if not ELSEWHERE & set(path.relative_to(ROOT).parts)
    and not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
)

SHELLS = {"sh", "bat"}
_FENCE = re.compile(r"^ *```(\w*)[^\n]*\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`([^`\n]+)`")
_PROGRAMS = r"python3?|pip|git|sudo|tensorboard|accelerate|run\.py|trainer/run\.py|\.venv[/\\]\S+"
_COMMAND = re.compile(rf"(?:[A-Z_]+=\S+ +)*(?:{_PROGRAMS}) +[\w./-].*")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    text: str


def read_page(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, *languages: str) -> list[Block]:
    found = [Block(language, text) for language, text in _FENCE.findall(read_page(page))]
    return [block for block in found if not languages or block.language in languages]


def commands(page: str) -> list[str]:
    """Every command of a page, a line each: of its shell blocks, and in code within its text."""
    found = [line for block in blocks(page, *SHELLS) for line in _lines(block.text)]
    text = _FENCE.sub("", read_page(page))
    inline = [code.strip() for code in _INLINE.findall(text)]
    return [*found, *(code for code in inline if _COMMAND.fullmatch(code))]


def words_of(command: str) -> list[str]:
    """The words of a command, without the comment behind it and variables before it."""
    words = shlex.split(command.replace("\\", "/"), comments=True)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    return words


def _lines(block: str) -> Iterator[str]:
    for line in re.sub(r"\\\n\s*", "", block).splitlines():
        line = line.strip()
        if line and not line.startswith("#"):
            yield line
