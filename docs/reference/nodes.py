"""ComfyUI's nodes, from the words that its pages show (tests hold them to the nodes' own)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from docs.reference.docstrings import cell

ROOT = Path(__file__).parents[2]
WORDS = ROOT / "locales" / "en" / "nodeDefs.json"
HELP = "../../comfyui_dmm/web/docs"

INTRODUCTION = """# Nodes for ComfyUI

The id in brackets is what a graph in API format calls the node, and it stays the same.
"""


def page() -> str:
    nodes: dict[str, dict[str, Any]] = json.loads(WORDS.read_text(encoding="utf-8"))
    parts = [INTRODUCTION]
    for node_id, node in nodes.items():
        parts += [f"## {node['display_name']} (`{node_id}`)", node["description"]]
        rows = [*_rows("input", node["inputs"]), *_rows("output", node["outputs"])]
        parts += ["\n".join(["| | name | |", "| --- | --- | --- |", *rows])]
        parts += [f"[Help page]({HELP}/{node_id}.md)"]
    return "\n\n".join(parts)


def _rows(kind: str, said: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    for slot in said.values():
        yield f"| {kind} | `{slot['name']}` | {cell(slot['tooltip'])} |"
