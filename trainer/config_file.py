"""Reading a merge from YAML, checked before anything starts.

It is read in three layers, the later ones winning: the preset it names (`trainer/presets/`), the
YAML file, and `key=value` words from the command line. Relative paths in the YAML file are relative
to the file, those on the command line to the working folder.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError
from yaml import YAMLError

from dmm.errors import DmmError
from trainer.config import CONDITIONS, MergeConfig

PRESETS = Path(__file__).parent / "presets"
_PATHS = (
    *("base", "output", "run", "synthesised.prompts"),
    *("data.pictures", "data.prompts", "data.cache"),
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
        preset = str(dict(pairs).get("preset", written.get("preset", "paper")))
        config = OmegaConf.merge(_read_yaml(_preset_path(preset)), written)
    except OmegaConfBaseException as error:
        raise DmmError(f"{where}: {error}") from None
    for key, value in pairs:
        try:
            OmegaConf.update(config, key, value)
            _spell_out(config)
        except (OmegaConfBaseException, ValueError, IndexError, TypeError) as error:
            raise DmmError(f"The override {key}={value} cannot be applied: {error}") from None
    try:
        return MergeConfig.model_validate(OmegaConf.to_container(config, resolve=True))
    except OmegaConfBaseException as error:
        raise DmmError(f"{where}: {error}") from None
    except ValidationError as error:
        raise DmmError(_explain(where, error)) from None


def _read_yaml(path: Path):
    if not path.is_file():
        raise DmmError(f"There is no file {path}. Give the path of a merge's YAML file.")
    try:
        config = OmegaConf.load(path)
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError, OSError) as error:
        raise DmmError(f"{path} is not valid YAML: {error}") from None
    if not OmegaConf.is_dict(config):
        raise DmmError(
            f"{path} is not a merge: it should hold keys such as `base:` and `teachers:`."
        )
    return config


def _preset_path(name: str) -> Path:
    known = sorted(preset.stem for preset in PRESETS.glob("*.yaml"))
    if name not in known:
        raise DmmError(f"There is no preset {name!r}. There are: {', '.join(known)}.")
    return PRESETS / f"{name}.yaml"


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
        except (YAMLError, OmegaConfBaseException) as error:
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
            OmegaConf.update(config, key, str(folder / Path(value).expanduser()))
    shards = OmegaConf.select(config, "data.shards")
    if isinstance(shards, str):
        config.data.shards = str(folder / shards)
    elif OmegaConf.is_list(shards):
        config.data.shards = [str(folder / shard) for shard in shards]
    teachers = config.get("teachers")
    _resolve_files(teachers, folder)
    for teacher in teachers if OmegaConf.is_list(teachers) else ():
        if OmegaConf.is_dict(teacher):
            _resolve_files(teacher.get("loras"), folder)
            condition = teacher.get("condition")
            if isinstance(condition, str) and condition not in CONDITIONS:
                teacher.condition = str(folder / Path(condition).expanduser())


def _resolve_files(files, folder: Path) -> None:
    """Resolves the paths in a list of paths and of tables with a `path`."""
    for index, entry in enumerate(files if OmegaConf.is_list(files) else ()):
        if isinstance(entry, str):
            # Spelled out, so that an override can add to it: teachers.0.name=ink.
            files[index] = {"path": str(folder / Path(entry).expanduser())}
        elif OmegaConf.is_dict(entry) and isinstance(entry.get("path"), str):
            entry.path = str(folder / Path(entry.path).expanduser())


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
