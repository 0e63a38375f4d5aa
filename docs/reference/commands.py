"""The commands of `trainer/run.py`, by typer's own renderer of Markdown."""

from __future__ import annotations

import re

import typer
import typer.main
from typer.cli import get_docs_for_click

from trainer.run import app

INTRODUCTION = """
Call them as `.venv/bin/python trainer/run.py COMMAND`. `COMMAND --help` says the same as this page.
"""

TIDY = {
    r"```console\n\$ ": "```\n",  # which hinders copying
    r"^\* `--help`.*\n": "",
    r"^\*\*Options\*\*:\n\n(?=\n|#|\Z)": "",  # none but that
    r"^\* ` <": "* `more… <",  # an argument without a name ...
    r"\[\]\.\.\.": "[more]...",  # ... which usage shows so
    r"(?<=[ .])<(\w+)>(?!`)": r"&lt;\1&gt;",  # in the text, where it would be HTML
    r" +$": "",
}


def page() -> str:
    group = typer.main.get_command(app)
    text = get_docs_for_click(
        obj=group, ctx=typer.Context(group), name="run.py", title="Commands of `run.py`"
    )
    title, _, rest = text.partition("\n")
    _, first, rest = rest.partition("\n## ")  # before it is a list of what follows, cut short
    for pattern, better in TIDY.items():
        rest = re.sub(pattern, better, rest, flags=re.MULTILINE)
    return title + "\n" + INTRODUCTION + first + rest
