"""The names that our packs take from their hosts are all in the lists that are checked at start."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from dmm.needs import missing

ROOT = Path(__file__).parents[1]
HOST_PACKAGES = {
    "comfyui_dmm": ("comfy", "folder_paths", "nodes", "server"),
    "sd_webui_dmm": ("modules",),
}


NOT_CHECKED = {
    "modules.sd_unet.current_unet",  # we do without
    "modules.shared.sd_model",  # to look at it loads it
}


@pytest.mark.parametrize("pack", HOST_PACKAGES)
def test_the_list_is_complete(pack: str) -> None:
    needed = needed_by(pack)
    taken = {name for file in (ROOT / pack).rglob("*.py") for name in host_names(file, pack)}
    assert taken
    left_out = [
        name
        for name in sorted(taken - NOT_CHECKED)
        if not any(is_part(name, one) or is_part(one, name) for one in (*needed, *NOT_CHECKED))
    ]
    assert left_out == []


def is_part(name: str, whole: str) -> bool:
    """Whether a dotted name is the beginning of another, or all of it."""
    return f"{whole}.".startswith(f"{name}.")


def test_what_is_there_and_what_is_not() -> None:
    there = ["json.dumps", "json.decoder.JSONDecoder.decode", "pathlib.Path.home"]
    moved = ["json.dumbs", "json.decoder.JSONDecoder.undecode", "no_such_package.thing", "nothing"]
    assert missing([*there, *moved]) == moved


def needed_by(pack: str) -> tuple[str, ...]:
    spec = importlib.util.spec_from_file_location(f"{pack}_host", ROOT / pack / "host.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.NEEDED


def host_names(file: Path, pack: str) -> Iterator[str]:
    """The dotted names of the host that a file uses; for modules, with their attributes."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    modules: dict[str, str] = {}  # as the file calls them
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                modules[alias.asname or alias.name] = alias.name
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                modules[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    of_host = {
        name: full for name, full in modules.items() if full.split(".")[0] in HOST_PACKAGES[pack]
    }
    yield from of_host.values()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            name = ast.unparse(node.value)
            if name in of_host:
                yield f"{of_host[name]}.{node.attr}"
