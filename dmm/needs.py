"""What we need of a host by name, and what a host that was changed says of it at its start."""

from __future__ import annotations

import importlib
from collections.abc import Iterable


def missing(names: Iterable[str]) -> list[str]:
    """Those of dotted names, such as `comfy.sd.load_lora`, that cannot be found."""
    return [name for name in names if not _is_there(name)]


def refuse_changed(host: str, names: Iterable[str]) -> None:
    """Called before anything of ours that needs them is imported.

    Args:
        host: its kind, as the message calls it.

    Raises:
        ImportError: the host lacks some; the message says which. Hosts show it, and go on without
            us.
    """
    if moved := missing(names):
        raise ImportError(
            f"DMM needs {', '.join(moved)}, which this {host} has not. DMM is left out; everything "
            f"else works as ever. Update DMM, or use a {host} that its docs/compatibility.md names."
        )


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
