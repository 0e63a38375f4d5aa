"""Checkpoints: what the host has loaded, and the styles in its file."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from modules import sd_models, sd_unet, shared
from modules.call_queue import queue_lock
from torch import nn

from dmm.errors import DmmError
from dmm.layouts import CONTROLNET_PREFIX
from dmm.merged import UNET_PREFIXES, Styles, find_styles, side_file, styles_in
from dmm.tensors import open_tensors

_CHOICE = "sd_model_checkpoint"  # the host's setting

_unloaded = False  # whether the loaded checkpoint made room for something else


def loaded_file() -> Path:
    """The file of the checkpoint that paints now.

    Asked whenever work begins: hires fix and the refiner change it in the middle of a picture, and
    the host tells nobody when it switches to a checkpoint that it has kept in memory.
    """
    return Path(shared.sd_model.sd_checkpoint_info.filename)


def chosen_file(p: Any = None) -> Path | None:
    """The file of the checkpoint that will paint, loaded or not; None where there is none.

    Args:
        p: the host's StableDiffusionProcessing, whose settings may override the user's choice.
    """
    overridden = p and sd_models.checkpoint_aliases.get(p.override_settings.get(_CHOICE))
    try:
        info = overridden or sd_models.select_checkpoint()
    except FileNotFoundError:
        return None
    return Path(info.filename) if info else None


def chosen_styles(p: Any = None) -> Styles:
    """The styles of the checkpoint that will paint.

    Args:
        p: as in `chosen_file`.

    Raises:
        DmmError: it has none, or there is no checkpoint.
    """
    file = chosen_file(p)
    if file is None:
        raise DmmError("There is no checkpoint. Put a merged one into the host's models folder.")
    styles = styles_of(file)
    if styles is None:
        raise DmmError(f"{file.name} is a plain checkpoint without styles. Choose a merged one.")
    return styles


def unload() -> None:
    """Has the loaded checkpoint make room in the GPU's memory, until `bring_back`."""
    global _unloaded
    with queue_lock:  # not in the middle of a picture
        if sd_models.model_data.sd_model is not None:
            sd_models.unload_model_weights()
            _unloaded = True


def bring_back() -> None:
    """Puts what `unload` took away back to its place; called before whatever we see painted.

    AUTOMATIC1111 does not: it would paint with weights that are not where the work is done.
    """
    global _unloaded
    if _unloaded:
        _unloaded = False
        sd_models.send_model_to_device(shared.sd_model)


def diffusion_model() -> nn.Module:
    """The loaded UNet.

    Raises:
        DmmError: the host paints with a compiled one, which has no place for a style.
    """
    if getattr(sd_unet, "current_unet", None) is not None:
        raise DmmError(
            f"The SD Unet {sd_unet.current_unet.option.label!r} is a compiled UNet, which styles "
            "cannot reach. Set 'SD Unet' to 'None' in the settings."
        )
    model = shared.sd_model
    if hasattr(model, "forge_objects"):
        return model.forge_objects.unet.model.diffusion_model
    return model.model.diffusion_model


def styles_of(path: Path) -> Styles | None:
    """The styles of a checkpoint file, or None for a plain one.

    Raises:
        DmmError: the file has style tensors that do not fit together.
    """
    return _styles(path, UNET_PREFIXES, _age(path), _age(side_file(path)))


def controls_in(path: Path) -> Styles | None:
    """The controls of a ControlNet's file, or None for one that was not merged.

    Raises:
        DmmError: the file has style tensors that do not fit together.
    """
    return _styles(path, (CONTROLNET_PREFIX,), _age(path), _age(side_file(path)))


def _age(path: Path) -> tuple[int, int] | None:
    """Changes when the file does; None where there is none."""
    if not path.is_file():
        return None
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size


@lru_cache(maxsize=8)
def _styles(path: Path, prefixes: tuple[str, ...], *_ages: object) -> Styles | None:
    try:
        file = open_tensors(path)
    except DmmError:
        return None  # a format of the host's own, such as GGUF
    found = find_styles(file, prefixes)
    return styles_in(file, path, prefixes) if found else None
