"""Reading a merge from YAML, checked before anything starts.

It is read in three layers, the later ones winning: the preset it names (`trainer/presets/`), the
YAML file, and `key=value` words from the command line. Relative paths in the YAML file are relative
to the file, those on the command line to the working folder; `~` is the user's home in both.
"""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError
from yaml import YAMLError

from dmm.errors import DmmError
from trainer.config import CONDITIONS, MergeConfig

PRESETS = Path(__file__).parent / "presets"
DEFAULT = MergeConfig.model_fields["preset"].default
MOST_VALUES = 100_000  # in a YAML file
_UNFIT = (ValueError, IndexError, TypeError, RecursionError)
"""What OmegaConf raises besides its own errors, as for a list where the preset has a section."""

_DESCRIPTION = "description"  # the line of a preset that is for people
_PATHS = (
    *("base", "output", "run", "synthesised.prompts"),
    *("data.pictures", "data.shards", "data.prompts", "data.cache"),
)


def load_config(
    path: Path | None,
    overrides: list[str] | None = None,
    said: Mapping[str, Any] | None = None,
) -> MergeConfig:
    """Reads a merge from YAML.

    Args:
        path: the YAML file; None = there is none.
        overrides: ``key=value`` words, such as ``train.steps=500`` or ``teachers.0.name=ink``.
        said: keys that go before the file's.

    Raises:
        DmmError: the file is missing or no YAML, a key is unknown (with a suggestion), or a value
            does not fit.
    """
    where = path or "The command line"
    written, pairs = _read_yaml(path) if path else OmegaConf.create(), _pairs(overrides or [])
    try:
        _spell_out(written)
        _resolve_paths(written, path.resolve().parent if path else Path.cwd())
        written = OmegaConf.merge(written, said or {})
        preset = str(dict(pairs).get("preset", written.get("preset", DEFAULT)))
        config = OmegaConf.merge(_read_preset(preset), written)
    except (OmegaConfBaseException, *_UNFIT) as error:
        raise DmmError(f"{where}: {error}") from None
    for key, value in pairs:
        try:
            OmegaConf.update(config, key, value)
            _spell_out(config)
        except (OmegaConfBaseException, *_UNFIT) as error:
            raise DmmError(f"The override {key}={value} cannot be applied: {error}") from None
    try:
        _resolve_paths(config, Path())
        return MergeConfig.model_validate(OmegaConf.to_container(config, resolve=True))
    except ValidationError as error:
        raise DmmError(_explain(where, error)) from None
    except (OmegaConfBaseException, *_UNFIT) as error:
        raise DmmError(f"{where}: {error}") from None


def describe_presets() -> dict[str, str]:
    """What each preset is for, by its name."""
    return {path.stem: _read_yaml(path)[_DESCRIPTION] for path in sorted(PRESETS.glob("*.yaml"))}


def _read_yaml(path: Path):
    if not path.is_file():
        raise DmmError(f"There is no file {path}. Give the path of a merge's YAML file.")
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, yaml.SafeLoader)
        _refuse_unfolding(path, root)
        if root is None or isinstance(root, yaml.MappingNode):
            return OmegaConf.load(path)
    # ValueError: no UTF-8, or a number of thousands of digits; RecursionError: as many brackets.
    except (YAMLError, OmegaConfBaseException, ValueError, RecursionError, OSError) as error:
        raise DmmError(f"{path} is not valid YAML: {error}") from None
    raise DmmError(f"{path} is not a merge: it should hold keys such as `base:` and `teachers:`.")


def _refuse_unfolding(path: Path, root: yaml.Node | None) -> None:
    """A few anchors in one another unfold to billions of values, which no memory holds."""
    sizes: dict[yaml.Node, float] = {}

    def size(node: yaml.Node) -> float:
        if node not in sizes:
            sizes[node] = math.inf  # for whatever holds itself
            inner = node.value if isinstance(node, yaml.CollectionNode) else ()
            parts = chain.from_iterable(inner) if isinstance(node, yaml.MappingNode) else inner
            sizes[node] = 1 + sum(map(size, parts))
        return sizes[node]

    if root and size(root) > MOST_VALUES:
        raise DmmError(
            f"{path} holds more than {MOST_VALUES:,} values once its anchors (&) are unfolded. "
            "Write it without them."
        )


def _read_preset(name: str):
    known = sorted(preset.stem for preset in PRESETS.glob("*.yaml"))
    if name not in known:
        raise DmmError(f"There is no preset {name!r}. There are: {', '.join(known)}.")
    preset = _read_yaml(PRESETS / f"{name}.yaml")
    del preset[_DESCRIPTION]
    return preset


def _pairs(overrides: list[str]) -> list[tuple[str, Any]]:
    pairs = []
    for word in overrides:
        key, equals, _ = word.partition("=")
        if not equals or not key:
            raise DmmError(f"{word!r} is not an override. Write it as key=value: train.steps=500.")
        try:
            parsed = OmegaConf.to_container(
                OmegaConf.from_dotlist([f"value={word[len(key) + 1 :]}"])
            )
        except (YAMLError, OmegaConfBaseException, *_UNFIT) as error:
            raise DmmError(f"The value in {word!r} is not valid YAML: {error}") from None
        pairs.append((key, parsed["value"]))
    return pairs


def _spell_out(config) -> None:
    """`data: synthetic` as the section that it stands for, so that an override can add to it."""
    if config.get("data") == "synthetic":
        config.data = {"synthetic": True}


def _resolve_paths(config, folder: Path) -> None:
    for key in _PATHS:
        value = OmegaConf.select(config, key)
        if isinstance(value, str):
            OmegaConf.update(config, key, _resolved(value, folder))
        elif OmegaConf.is_list(value):  # of shards
            value[:] = [_resolved(path, folder) for path in value]
    teachers = config.get("teachers")
    _resolve_files(teachers, folder)
    for teacher in teachers if OmegaConf.is_list(teachers) else ():
        if OmegaConf.is_dict(teacher):
            _resolve_files(teacher.get("loras"), folder)
            condition = teacher.get("condition")
            if isinstance(condition, str) and condition not in CONDITIONS:
                teacher.condition = _resolved(condition, folder)


def _resolve_files(files, folder: Path) -> None:
    """Resolves the paths in a list of paths and of tables with a `path`."""
    for index, entry in enumerate(files if OmegaConf.is_list(files) else ()):
        if isinstance(entry, str):
            # Spelled out, so that an override can add to it: teachers.0.name=ink.
            files[index] = {"path": _resolved(entry, folder)}
        elif OmegaConf.is_dict(entry) and isinstance(entry.get("path"), str):
            entry.path = _resolved(entry.path, folder)


def _resolved(path: Any, folder: Path) -> Any:
    """A path as the user means it; what is none stays as it is, to be refused by its key."""
    # Not by pathlib, which raises where a file's name begins with ~ and is nobody's home.
    return str(folder / os.path.expanduser(path)) if isinstance(path, str) else path


def _explain(where: Path | str, error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            lines.append(f"unknown key `{key}`{_suggestion(problem['loc'])}")
        elif problem["type"] == "missing":
            lines.append(f"`{key}` is missing")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            shown = (
                f" (it is {problem['input']!r})" if not isinstance(problem["input"], dict) else ""
            )
            lines.append(f"`{key}`: {message}{shown}" if key else message)
    return f"{where}: " + "; ".join(lines) + "."


def _suggestion(location: tuple[int | str, ...]) -> str:
    section: Any = MergeConfig
    for part in location[:-1]:
        if isinstance(part, str):
            annotation = section.model_fields[part].annotation
            section = next(iter(get_args(annotation)), annotation)  # of a list, what is in it
    close = difflib.get_close_matches(str(location[-1]), section.model_fields, n=1)
    if close:
        return f": did you mean `{close[0]}`?"
    return f". Known here: {', '.join(section.model_fields)}"
