"""What a file is, for people: kind, networks, styles, and what it was made of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dmm.errors import DmmError
from dmm.layouts import CONTROLNET_PREFIX
from dmm.merged import UNET_PREFIXES, Styles, find_styles, read_styles, styles_in
from dmm.metadata import Style, read_dmm_entry
from dmm.tensors import TensorFile, open_tensors
from trainer.architecture import NETWORKS, Config, Misfit
from trainer.checkpoint import Checkpoint, open_checkpoint
from trainer.lora import made_for, open_lora

FAMILIES = {"sd1": "SD1", "sdxl": "SDXL"}
MODELSPEC = ("title", "author", "date", "license")

# A stranger's metadata can be of any length.
LONGEST_VALUE = 200
MOST_LINES = 100

Line = tuple[str, str]
"""A key and its value; an empty key goes on with the line before."""


def describe(path: Path) -> str:
    """Say what a file is, in lines of `key  value`, the values in one column.

    Reads headers, metadata and style tensors only. A file of tensors that is no checkpoint of the
    SD1 or SDXL family (a LoRA, a VAE) is described as what it is.

    Raises:
        DmmError: the file cannot be read, or is a folder that is no checkpoint.
    """
    path = Path(path)
    file = None if path.is_dir() else open_tensors(path)
    try:
        checkpoint = open_checkpoint(path)
    except DmmError as error:
        misfit = error.__cause__
        if file is None or not isinstance(misfit, Misfit):
            raise
        lines, metadata = _other_file(file, str(misfit)), file.metadata
        prefixes = (*UNET_PREFIXES, CONTROLNET_PREFIX)
        styles = styles_in(file, path, prefixes) if find_styles(file, prefixes) else None
    else:
        lines, metadata = _checkpoint(checkpoint), checkpoint.metadata
        styles = read_styles(path) if checkpoint.styles else None
    lines = [
        ("file", _text(str(path))),
        ("size", _size(path)),
        *lines,
        *(_styles(styles) if styles else ()),
        *_made_of(metadata),
        *((key, _text(metadata[f"modelspec.{key}"])) for key in _said(metadata)),
    ]
    width = max(len(key) for key, _ in lines)
    return "\n".join(f"{key:<{width}}  {value}".rstrip() for key, value in lines)


def _checkpoint(checkpoint: Checkpoint) -> list[Line]:
    kind = "merged checkpoint" if checkpoint.styles else "checkpoint"
    unet = checkpoint.unet_config
    return [
        ("kind", f"{kind} of the {FAMILIES[checkpoint.family]} family"),
        (NETWORKS["unet"], _contents(checkpoint.unet_tensors().values())),
        ("channels", _listed(unet["block_out_channels"])),
        ("layers", f"{_listed(unet['layers_per_block'])} a level"),
        ("attention", _attention(unet)),
        ("context", f"{_listed(unet['cross_attention_dim'])} numbers a token"),
        ("prediction", checkpoint.prediction_type),
        *(
            (title, _network(checkpoint, name))
            for name, title in NETWORKS.items()
            if name != "unet" and not (name == "text_encoder_2" and checkpoint.family == "sd1")
        ),
    ]


def _network(checkpoint: Checkpoint, name: str) -> str:
    """The VAE or a text encoder."""
    if name not in checkpoint.networks:
        return f"none in this {'folder' if checkpoint.path.is_dir() else 'file'}"
    network = checkpoint.networks[name]
    config = network.config
    if name == "vae":
        shape = (
            f"channels {_listed(config['block_out_channels'])}; "
            f"{config['latent_channels']} latent channels, scaled by {config['scaling_factor']}"
        )
    else:
        shape = (
            f"{config['num_hidden_layers']} layers, {config['hidden_size']} wide, "
            f"{config['vocab_size']:,} tokens"
        )
    return f"{_contents(network.tensors.values())}; {_text(shape)}"


def _attention(unet: Config) -> str:
    """Which levels of the UNet see the caption, counted from 1, the finest."""
    types = unet["down_block_types"]
    levels = [level for level, name in enumerate(types, 1) if name.startswith("CrossAttn")]
    places = []
    if levels:
        places.append(
            f"{'levels' if len(levels) > 1 else 'level'} {_listed(levels)} of {len(types)}"
        )
    if unet["mid_block_type"] == "UNetMidBlock2DCrossAttn":
        places.append("the middle")
    depth = _listed(unet["transformer_layers_per_block"])
    return f"{' and '.join(places) or 'none'}; transformer layers {depth}"


def _other_file(file: TensorFile, misfit: str) -> list[Line]:
    """A file that is no checkpoint, or not one that can be used here."""
    kind = misfit.removeprefix("is ")
    if kind == misfit:
        kind = f"a checkpoint that cannot be used: it {misfit}"
    parameters = sum(prod(file.shape(key)) for key in file)
    dtypes = {file.dtype(key) for key in file}
    return [
        ("kind", _text(kind)),
        ("tensors", f"{len(file):,}; {_amount(parameters)}, {_dtypes(dtypes)}"),
        *_lora(file),
    ]


def _lora(file: TensorFile) -> list[Line]:
    """What a LoRA changes; nothing for a file that is none."""
    try:
        lora = open_lora(file.path, besides=find_styles(file).values())
    except DmmError:
        return []
    ranks = lora.ranks
    said = f"{ranks[0]} to {ranks[-1]}" if len(ranks) > 1 else _listed(ranks)
    description = file.metadata.get("modelspec.description")
    return [
        ("changes", f"{len(lora.modules):,} layers, rank {said}"),
        ("made for", made_for(file) or "unknown"),
        *([("description", _text(description))] if description else ()),
    ]


def _styles(styles: Styles) -> list[Line]:
    known = _columns([_style(number, style) for number, style in enumerate(styles.styles, 1)])
    prompts = f"{len(known)}, vectors of {styles.prompts.dim} numbers"
    sampling = [("sampling", str(styles.sampling))] if styles.sampling else []
    return [("styles", prompts), *_rows("", known), *sampling]


def _style(number: int, style: Style) -> list[str]:
    return [str(number), _text(style.name), _text(style.source), _short(style.sha256)]


def _made_of(metadata: Mapping[str, str]) -> list[Line]:
    """Recipe and ancestors, as our own merges and those of other mergers tell them."""
    recipe = read_dmm_entry(metadata).get("recipe")
    if isinstance(recipe, dict):
        base, teachers = recipe.get("base"), recipe.get("teachers")
        settings = _settings(recipe.get("config"))
        return [
            *_rows("base", _columns([_ancestor(base)] if base else [])),
            *_rows("teachers", _columns(map(_ancestor, _as_list(teachers)))),
            *_rows("recipe", _columns([_text(key), _text(value)] for key, value in settings)),
        ]
    said = metadata.get("sd_merge_recipe")
    lines = [("recipe", _text(said))] if said else []
    models = _json(metadata.get("sd_merge_models", "{}"))
    if isinstance(models, dict):
        ancestors = [
            [_text(model.get("name", "") if isinstance(model, dict) else model), _short(sha256)]
            for sha256, model in models.items()
        ]
        return [*lines, *_rows("merged from", _columns(ancestors))]
    return [*lines, ("merged from", _text(metadata["sd_merge_models"]))]


def _settings(config: object) -> list[tuple[str, object]]:
    """A config's sections spread out, `train.steps`; what is null is left out."""
    settings: list[tuple[str, object]] = []
    for key, value in config.items() if isinstance(config, dict) else ():
        spread = {key: value}
        if isinstance(value, dict):
            spread = {f"{key}.{name}": said for name, said in value.items()}
        settings += [(name, said) for name, said in spread.items() if said is not None]
    return settings


def _ancestor(entry: object) -> list[str]:
    """Columns of a teacher or base: its style's name where it has one, file, short hash."""
    if not isinstance(entry, dict):
        return [_text(entry)]
    shown = [_text(entry[key]) for key in ("name", "source", "path") if key in entry]
    return [*shown, _short(entry.get("sha256", ""))]


def _as_list(value: object) -> list[object]:
    return value if isinstance(value, list) else [value] if value else []


def _said(metadata: Mapping[str, str]) -> list[str]:
    return [key for key in MODELSPEC if f"modelspec.{key}" in metadata]


def _contents(tensors: Iterable[Tensor]) -> str:
    """How many parameters, and in which dtypes. Tensors are memory-mapped, so none is read."""
    parameters, dtypes = 0, set()
    for tensor in tensors:
        parameters += tensor.numel()
        dtypes.add(tensor.dtype)
    return f"{_amount(parameters)}, {_dtypes(dtypes)}"


def _amount(parameters: int) -> str:
    if parameters >= 1_000_000:
        return f"{parameters / 1e6:,.1f} M parameters"
    return f"{parameters:,} parameters"


def _dtypes(dtypes: Iterable[torch.dtype]) -> str:
    return " and ".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes))


def _size(path: Path) -> str:
    files = path.rglob("*") if path.is_dir() else [path]
    size = sum(file.stat().st_size for file in files if file.is_file())
    return f"{size / 1e6:,.1f} MB" if size >= 100_000 else f"{size:,} bytes"


def _listed(values: object) -> str:
    return ", ".join(map(str, values)) if isinstance(values, (list, tuple)) else str(values)


def _rows(key: str, values: list[str]) -> list[Line]:
    """One line a value, the key before the first."""
    shown = values[:MOST_LINES]
    if len(values) > MOST_LINES:
        shown.append(f"… and {len(values) - MOST_LINES:,} more")
    return [("" if index else key, value) for index, value in enumerate(shown)]


def _columns(rows: Iterable[list[str]]) -> list[str]:
    """Each row in one text, its cells below those of the row before."""
    rows = list(rows)
    count = max(map(len, rows), default=0)
    rows = [row + [""] * (count - len(row)) for row in rows]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _short(sha256: object) -> str:
    """The first ten digits, as the WebUI shows hashes."""
    return _text(str(sha256)[:10])


def _text(value: object) -> str:
    """A stranger's value, fit for a terminal: control characters escaped, cut where it is long."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    shown = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text[:LONGEST_VALUE]
    )
    return shown if len(text) <= LONGEST_VALUE else f"{shown}… ({len(text):,} characters)"
