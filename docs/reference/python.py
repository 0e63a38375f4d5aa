"""The public functions and classes of `dmm`, from their docstrings."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import dmm
from docs.reference.docstrings import markdown

INTRODUCTION = """# The package `dmm`

The heart: what the three doors share. It needs torch and safetensors only. Examples are
[in the API page](../api.md#python).
"""


def page() -> str:
    parts = [INTRODUCTION]
    for module in _modules():
        entries = list(_entries(module))
        if entries:
            parts += [f"## `{module.__name__}`", markdown(module), *entries]
    return "\n\n".join(parts)


def _modules() -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(dmm.__path__, "dmm."):
        yield importlib.import_module(found.name)


def _entries(module: ModuleType) -> Iterator[str]:
    for name, member in vars(module).items():
        if name.startswith("_") or getattr(member, "__module__", None) != module.__name__:
            continue
        if inspect.isclass(member):
            yield _entry(name, member)
            methods = {key: getattr(member, key) for key in vars(member) if key[0] != "_"}
            for key, method in methods.items():
                if callable(method) and inspect.getdoc(method):
                    yield _entry(f"{name}.{key}", method)
        elif inspect.isfunction(member):
            yield _entry(name, member)


def _entry(name: str, member: Any) -> str:
    signature = "(message: str)"  # an exception's, of which Python knows none
    if not (inspect.isclass(member) and issubclass(member, Exception)):
        # Annotations are kept as text, which is shown between quotes.
        signature = re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(inspect.signature(member)))
        signature = re.sub(r"<function (\w+) at 0x\w+>", r"\1", signature)
    kind = "class " if inspect.isclass(member) else ""
    return f"```python\n{kind}{name}{signature}\n```\n\n{markdown(member)}"
