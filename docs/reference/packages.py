"""The packages of the trainer's environment and their licences, as their metadata says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

from docs.reference.docstrings import cell

ROOT = Path(__file__).parents[2]
WRITTEN = Path(__file__).with_name("packages.md")
FILES = {
    "trainer/requirements.txt": "the trainer",
    "trainer/requirements-8bit.txt": "training with moments of eight bits",
    "trainer/requirements-evaluate.txt": "evaluation with Inception's features",
    "trainer/requirements-test.txt": "the tests",
    "bench/emoji/requirements.txt": "the emoji benchmark",
    "demo/make/requirements.txt": "making the demo's checkpoints",
}

INTRODUCTION = """# Packages and their licences

What each requirements file asks for, and the licence that the package's own metadata names. None of
it is in this repository; pip fetches it. The hosts get no package from us.
"""


def page() -> str:
    parts = [INTRODUCTION]
    for file, purpose in FILES.items():
        title = f"## {purpose[0].upper() + purpose[1:]} ([{file}](../../{file}))"
        parts += [title, "\n".join(_table((ROOT / file).read_text(encoding="utf-8")))]
    return "\n\n".join(parts)


def _table(requirements: str) -> Iterator[str]:
    yield "| package | licence | what for |"
    yield "| --- | --- | --- |"
    for line in requirements.splitlines():
        asked, _, purpose = line.partition("#")
        if asked.strip():
            name = re.split(r"[<>=\s]", asked.strip())[0]
            yield f"| {asked.strip()} | {_licence(name)} | {cell(purpose.strip(' .'))} |"


def _licence(package: str) -> str:
    try:
        said = metadata(package)
    except PackageNotFoundError:
        return _as_written(package)
    classifiers = [line for line in said.get_all("Classifier") or [] if line.startswith("License")]
    named = [line.rpartition(" :: ")[2] for line in classifiers]
    text = said.get("License-Expression") or ", ".join(named) or said.get("License") or "UNKNOWN"
    return "not named" if text == "UNKNOWN" else " ".join(text.splitlines()[0].split())


def _as_written(package: str) -> str:
    """Of a package that is not installed here: what the page has said so far."""
    text = WRITTEN.read_text(encoding="utf-8") if WRITTEN.is_file() else ""
    row = re.search(rf"^\| {re.escape(package)}\b[^|]*\| ([^|]*) \|", text, re.MULTILINE)
    return row[1] if row else "not installed here"
