"""What the page of the "DMM merge" tab sends, checked and made into a merge for the trainer.

Knows no host. Whether the values suit the files is for the trainer to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from dmm.errors import DmmError

PRESETS = ("adapter", "one-gpu", "dmm", "paper")  # the trainer's that the page offers
ADAPTER = "adapter"  # the one that makes a LoRA, and no checkpoint
PROMPTS = "prompts.txt"  # beside the merge's YAML file
PICTURES, SYNTHETIC = "pictures", "synthetic"  # kinds of data; the third is prompts

# Fields of the page that are whole numbers, and the keys of the trainer's config.
NUMBERS = {
    "steps": "train.steps",
    "batch_size": "train.batch_size",
    "micro_batch_size": "train.micro_batch_size",
    "samples_every": "samples.every",
    "pictures_per_teacher": "data.painting.pictures_per_teacher",
}
# What "More settings" may set; the rest has fields of its own, names files, or is another preset's.
DATA = ("data.painting", "data.buckets", "data.workers")
MORE = ("train", "synthesised", "samples", "export", *DATA)
NOT_MORE = ("synthesised.prompts", "train.adapter")

_UNFIT_IN_NAMES = re.compile(r'[<>:"/\\|?*\x00-\x1f]|^[. ]|[. ]$')  # on one system or another
_WINDOWS_DEVICES = re.compile(r"(CON|PRN|AUX|NUL|COM\d|LPT\d)(\..*)?", re.IGNORECASE)
_KEY_VALUE = re.compile(r"([\w.]+)\s*=\s*(.*)")


class FieldError(DmmError):
    """A field of the page that makes no sense.

    Attributes:
        field: its name in the page, "name" or "teachers.0.name".
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True)
class Models:
    """What the host has to choose from, and where merges go.

    Attributes:
        checkpoints: files by the names the host shows.
        loras: likewise.
        checkpoint_folder: for merged checkpoints.
        lora_folder: for adapters.
        run_folder: for runs.
    """

    checkpoints: Mapping[str, Path]
    loras: Mapping[str, Path]
    checkpoint_folder: Path
    lora_folder: Path
    run_folder: Path

    def output_folder(self, preset: str) -> Path:
        """Where merges by a preset go."""
        return self.lora_folder if preset == ADAPTER else self.checkpoint_folder


@dataclass(frozen=True)
class Merge:
    """A merge that was asked for.

    Attributes:
        config: the trainer's, as its YAML file says it.
        files: texts that go beside that file.
    """

    name: str
    config: dict[str, Any]
    files: dict[str, str]


def read_form(form: Mapping[str, Any], models: Models) -> Merge:
    """Makes a merge of what the page sends.

    Raises:
        FieldError: a value that the user has to mend.
    """
    name = read_name(form.get("name"))
    preset = _preset(form.get("preset"))
    data, files = _data(form)
    config: dict[str, Any] = {
        "preset": preset,
        "base": str(_chosen(form.get("base"), models.checkpoints, "base", "base checkpoint")),
        "teachers": _teachers(form.get("teachers") or [], models),
        "output": str(models.output_folder(preset) / f"{name}.safetensors"),
        "run": str(models.run_folder / name),
        "data": {
            **data,
            "resolution": [_side(form, "width"), _side(form, "height")],
            "cache": str(models.run_folder / ".cache"),
        },
        "export": {"style_file": False},  # the host would list it as a checkpoint
    }
    for field, key in NUMBERS.items():
        if form.get(field) is not None:
            _set(config, key, _number(form[field], field))
    if form.get("precision"):
        _set(config, "train.precision", str(form["precision"]))
    if form.get("synthesised") is False:
        config["synthesised"] = None
    for key, value in _more(str(form.get("more") or "")):
        _set(config, key, value)
    return Merge(name, config, files)


def read_name(value: Any) -> str:
    """The name of a merge, which is a file's and a folder's.

    Raises:
        FieldError: it is empty, leaves its folder, or is none on some system.
    """
    name = str(value or "").strip().removesuffix(".safetensors")
    if not name:
        raise FieldError("name", "Name: give the merged file a name.")
    if _UNFIT_IN_NAMES.search(name) or _WINDOWS_DEVICES.fullmatch(name) or len(name) > 100:
        raise FieldError(
            "name",
            f"Name: {name!r} is no file name. Use up to 100 letters, digits, spaces, - and _, "
            "and no folders.",
        )
    return name


def _preset(name: Any) -> str:
    if name not in PRESETS:
        raise FieldError("preset", f"Preset: there is no {name!r}. There are {', '.join(PRESETS)}.")
    return name


def _teachers(rows: list[Mapping[str, Any]], models: Models) -> list[dict[str, Any]]:
    if not rows:
        raise FieldError("teachers", "Teachers: add at least one checkpoint or LoRA to learn from.")
    teachers = [_teacher(row, f"teachers.{index}", models) for index, row in enumerate(rows)]
    seen: dict[str, int] = {}
    for index, teacher in enumerate(teachers):
        name = teacher["name"]
        other = seen.setdefault(name.casefold(), index)
        if other != index:
            raise FieldError(
                f"teachers.{index}.name",
                f"Teachers: {other + 1} and {index + 1} have styles of the same name, {name!r}. "
                "Give one of them another.",
            )
    return teachers


def _teacher(row: Mapping[str, Any], field: str, models: Models) -> dict[str, Any]:
    teacher: dict[str, Any] = {}
    if row.get("checkpoint"):
        path = _chosen(row["checkpoint"], models.checkpoints, f"{field}.model", "teacher")
        teacher["path"] = str(path)
    if row.get("lora"):
        path = _chosen(row["lora"], models.loras, f"{field}.model", "LoRA")
        weight = row.get("weight")
        if not isinstance(weight, (int, float)) or isinstance(weight, bool):
            raise FieldError(f"{field}.weight", f"LoRA weight: {weight!r} is not a number.")
        teacher["loras"] = [{"path": str(path), "weight": float(weight)}]
    if not teacher:
        raise FieldError(f"{field}.model", "Teachers: choose a checkpoint or a LoRA in every row.")
    name = " ".join(str(row.get("name") or path.stem).split())
    if "," in name:
        raise FieldError(
            f"{field}.name", f"Style name: {name!r} holds a comma, which separates styles in a mix."
        )
    if row.get("clip_skip"):
        teacher["clip_skip"] = _number(row["clip_skip"], f"{field}.clip_skip")
    return {"name": name} | teacher


def _data(form: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    kind = form.get("data")
    if kind == PICTURES:
        return {"pictures": str(_picture_folder(str(form.get("pictures") or "").strip()))}, {}
    if kind == SYNTHETIC:
        return {"synthetic": True}, {}
    prompts = [line.strip() for line in str(form.get("prompts") or "").splitlines()]
    if not any(prompts):
        raise FieldError("prompts", "Prompts: write some, one a line; the teachers paint them.")
    return {"prompts": PROMPTS}, {PROMPTS: "\n".join(filter(None, prompts)) + "\n"}


def _picture_folder(path: str) -> Path:
    folder = Path(path).expanduser()
    if not path or not folder.is_absolute():
        raise FieldError(PICTURES, "Folder of pictures: give its whole path.")
    if not folder.is_dir():
        raise FieldError(PICTURES, f"Folder of pictures: there is no folder {folder}.")
    suffixes = Image.registered_extensions()
    if not any(file.suffix.lower() in suffixes for file in folder.rglob("*")):
        raise FieldError(PICTURES, f"Folder of pictures: {folder} holds no pictures.")
    return folder


def _chosen(name: Any, among: Mapping[str, Path], field: str, what: str) -> Path:
    if not name:
        raise FieldError(field, f"Choose a {what}.")
    if name not in among:
        raise FieldError(field, f"There is no {what} {name!r} any more. Refresh the lists.")
    return among[name]


def _side(form: Mapping[str, Any], field: str) -> int:
    side = _number(form.get(field), field)
    if side % 64:
        raise FieldError(field, f"{field.capitalize()}: {side} is not a multiple of 64.")
    return side


def _number(value: Any, field: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        shown = field.rpartition(".")[2].replace("_", " ").capitalize()
        raise FieldError(field, f"{shown}: {value!r} is not a whole number from 1 on.")
    return value


def _more(text: str) -> Iterator[tuple[str, Any]]:
    """Keys with dots, and values, from YAML or from lines of ``key=value``."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    pairs = [_KEY_VALUE.fullmatch(line) for line in lines]
    try:
        if lines and all(pairs):
            said = {pair[1]: yaml.safe_load(pair[2]) for pair in pairs}
        else:
            said = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise FieldError("more", f"More settings: this is not YAML: {error}") from None
    if not isinstance(said, dict):
        raise FieldError("more", "More settings: write YAML, or lines such as train.seed=7.")
    for key, value in _leaves(said):
        is_known = any(key == known or key.startswith(f"{known}.") for known in MORE)
        if not is_known or key.startswith(NOT_MORE):
            raise FieldError(
                "more",
                f"More settings: {key!r} cannot be set here. There are {', '.join(MORE)}.",
            )
        yield key, value


def _leaves(said: Mapping[Any, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in said.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _set(config: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        if not isinstance(config.get(section), dict):
            config[section] = {}
        config = config[section]
    config[last] = value
