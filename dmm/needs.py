"""What we need of a host by name, so that a host that was changed says at its start what moved."""

from __future__ import annotations

import importlib
from collections.abc import Iterable


def missing(names: Iterable[str]) -> list[str]:
    """Those of dotted names, such as `comfy.sd.load_lora`, that cannot be found."""
    return [name for name in names if not _is_there(name)]


def _is_there(name: str) -> bool:
    module, _, attribute = name.rpartition(".")
    while module:
        try:
            found: object = importlib.import_module(module)
        except ModuleNotFoundError:
            module, _, first = module.rpartition(".")
            attribute = f"{first}.{attribute}"
            continue
        for part in attribute.split("."):
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False
