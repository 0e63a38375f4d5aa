"""What the accordion's JavaScript asks the server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException
from modules import sd_models

from dmm.errors import DmmError
from sd_webui_dmm.checkpoints import styles_of


def add(_demo: Any, app: FastAPI) -> None:
    app.add_api_route("/dmm/styles", style_names, methods=["GET"])


def style_names(checkpoint: str) -> dict[str, Any]:
    """The names of a checkpoint's styles, none for a plain one.

    Args:
        checkpoint: its title or name, as the host lists it.

    Returns:
        ``{"checkpoint": "merged", "styles": ["ink", "anime"]}``
    """
    info = sd_models.get_closet_checkpoint_match(checkpoint)
    if info is None:
        raise HTTPException(404, f"There is no checkpoint {checkpoint!r}.")
    try:
        styles = styles_of(Path(info.filename))
    except DmmError as error:
        raise HTTPException(422, str(error)) from error
    return {"checkpoint": info.name_for_extra, "styles": styles.names if styles else []}
