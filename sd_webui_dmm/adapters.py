"""Adapters: LoRAs that carry styles, which a prompt puts on its checkpoint with `<lora:name:1>`."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modules import shared

from dmm.errors import DmmError
from dmm.merged import Styles, is_adapter
from dmm.tensors import open_tensors
from sd_webui_dmm.checkpoints import styles_of

_LORA = re.compile(r"<lora:([^:>]+)")


def styles_in_use(checkpoint: Path, prompts: Sequence[str]) -> Styles | None:
    """The styles that prompts are painted in: those of their adapter, else of the checkpoint.

    Args:
        prompts: of one batch; the host puts the LoRAs of its first on the model.

    Raises:
        DmmError: there are two adapters, or a file's style tensors do not fit together.
    """
    adapter = adapter_in(prompts[0]) if prompts else None
    return styles_of(adapter or checkpoint)


def adapter_in(prompt: str) -> Path | None:
    """The adapter among the LoRAs of a prompt.

    Raises:
        DmmError: there are two, whose styles do not mix.
    """
    files = [file for name in _LORA.findall(prompt) if (file := _file_of(name.strip()))]
    adapters = list(dict.fromkeys(file for file in files if _is_adapter(file)))
    if len(adapters) > 1:
        names = " and ".join(file.stem for file in adapters)
        raise DmmError(f"{names} are both adapters, whose styles do not mix. Use one at a time.")
    return adapters[0] if adapters else None


def notice_of(adapter: Path | None) -> str | None:
    """What to tell of an adapter on another checkpoint than the one it was trained on."""
    styles = styles_of(adapter) if adapter else None
    base = styles.recipe.get("base") if styles else None
    loaded = shared.sd_model.sd_checkpoint_info
    if not isinstance(base, dict) or not loaded.sha256 or base.get("sha256") == loaded.sha256:
        return None
    return (
        f"DMM styles: {adapter.name} was trained on {base.get('path')}, not on {loaded.name}; its "
        "styles may come out otherwise."
    )


def _file_of(name: str) -> Path | None:
    """The file that the host's Lora extension, if it is there, knows by this name."""
    networks: Any = sys.modules.get("networks")
    if networks is None:
        return None
    found = _found_by(networks, name)
    if found is None:
        networks.list_available_networks()  # as the host does: the file may be new
        found = _found_by(networks, name)
    return Path(found.filename) if found else None


def _found_by(networks: Any, name: str) -> Any | None:
    """As the host looks: an alias that two files claim means nothing, and the file's name counts.

    Args:
        networks: the module of the host's Lora extension.
    """
    is_forbidden = name.lower() in networks.forbidden_network_aliases
    known = networks.available_networks if is_forbidden else networks.available_network_aliases
    return known.get(name)


def _is_adapter(file: Path) -> bool:
    try:
        return is_adapter(open_tensors(file))
    except DmmError:
        return False  # the host says what is wrong with it
