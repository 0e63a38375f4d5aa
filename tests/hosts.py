"""Where the hosts are on this machine: ComfyUI, WebUI, Forge, reForge."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import tomllib

HOSTS_FILE = Path(os.environ.get("DMM_HOSTS_FILE", Path.home() / ".config" / "dmm" / "hosts.toml"))


@dataclass(frozen=True)
class Host:
    """A host as its user has it. Tests never write into its folder."""

    path: Path
    python: Path
    packs: Path | None  # a folder of other people's extensions, for the tests of company


def find_host(name: str) -> Host | None:
    """The host called "comfyui", "webui", "forge" or "reforge"; None where this machine has none.

    `COMFYUI_PATH` (`WEBUI_PATH`, `FORGE_PATH`, `REFORGE_PATH`) names its folder, `COMFYUI_PYTHON`
    its Python and `COMFYUI_PACKS` a folder of other packs; or `~/.config/dmm/hosts.toml` does:

        [comfyui]
        path = "/home/me/ComfyUI"
        python = "/home/me/ComfyUI/.venv/bin/python"
        packs = "/home/me/ComfyUI/custom_nodes"

    Without a Python, `.venv` or `venv` in the folder is used, else the one that runs the tests.
    """
    said = {}
    if HOSTS_FILE.is_file():
        said = tomllib.loads(HOSTS_FILE.read_text(encoding="utf-8")).get(name, {})
    keys = ("path", "python", "packs")
    said |= {
        key: value for key in keys if (value := os.environ.get(f"{name.upper()}_{key.upper()}"))
    }
    if "path" not in said:
        return None
    path = Path(said["path"]).expanduser()
    python = Path(said["python"]).expanduser() if "python" in said else _python_in(path)
    return Host(path, python, Path(said["packs"]).expanduser() if "packs" in said else None)


def why_skipped(name: str) -> str:
    return f"no {name} on this machine: set {name.upper()}_PATH, or write {HOSTS_FILE}"


def _python_in(path: Path) -> Path:
    inside = "Scripts/python.exe" if os.name == "nt" else "bin/python"
    candidates = (path / folder / inside for folder in (".venv", "venv"))
    return next((python for python in candidates if python.is_file()), Path(sys.executable))
