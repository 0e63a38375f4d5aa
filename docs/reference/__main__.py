"""Writes the reference pages from the code that they describe.

.venv/bin/python -m docs.reference
"""

from __future__ import annotations

from pathlib import Path

from docs.reference import commands, nodes, packages, python, webui_api, yaml_keys

FOLDER = Path(__file__).parent
WRITTEN = "<!-- Written by `python -m docs.reference` from the code: change it there. -->"
PAGES = {
    "commands.md": commands.page,
    "merge-yaml.md": yaml_keys.page,
    "comfyui-nodes.md": nodes.page,
    "webui-api.md": webui_api.page,
    "python.md": python.page,
    "packages.md": packages.page,
}


def render(name: str) -> str:
    """A page as it should be now."""
    return f"{WRITTEN}\n\n{PAGES[name]().strip()}\n"


if __name__ == "__main__":
    for name in PAGES:
        (FOLDER / name).write_text(render(name), encoding="utf-8", newline="\n")
        print(FOLDER / name)
