"""What our JavaScript asks the server: style names, presets, and pictures of the styles."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from fastapi import Body, Depends, FastAPI, HTTPException, Request
from modules import sd_models

from dmm.errors import DmmError
from dmm.presets import Preset, Presets
from sd_webui_dmm.adapters import styles_in_use
from sd_webui_dmm.checkpoints import chosen_file, controls_in
from sd_webui_dmm.controlnets.preprocessors import told_by
from sd_webui_dmm.controlnets.units import file_of, kinds_of
from sd_webui_dmm.folders import PRESETS_FILE
from sd_webui_dmm.page import previews


def add(_demo: Any, app: FastAPI) -> None:
    def route(method: str, path: str, answer: Any) -> None:
        app.add_api_route(path, answer, methods=[method], dependencies=logged_in(app))

    route("GET", "/dmm/styles", style_names)
    route("GET", "/dmm/controls", control_names)
    route("GET", "/dmm/presets", read_presets)
    route("PUT", "/dmm/presets", save_preset)
    route("DELETE", "/dmm/presets", delete_preset)
    route("POST", "/dmm/preview", paint_preview)


def logged_in(app: FastAPI) -> list[Any]:
    """What gradio asks for, where the host's user has set up a login; else nothing.

    There is no page to log in to where the host serves its API alone.
    """
    checks = (route for route in app.routes if getattr(route, "path", None) == "/login_check")
    return [Depends(route.endpoint) for route in checks][:1]


def style_names(checkpoint: str = "", prompt: str = "") -> dict[str, Any]:
    """The names of a checkpoint's styles, none for a plain one.

    Args:
        checkpoint: its title or name, as the host lists it; empty for the one that is chosen.
        prompt: what will be painted; an adapter's styles go before the checkpoint's.

    Returns:
        ``{"checkpoint": "merged", "styles": ["ink", "anime"]}``, and how to sample a file that
        was made for few steps: ``"sampling": "4 steps, CFG 1, sampler LCM"``.
    """
    file = _file_of(checkpoint) if checkpoint else chosen_file()
    if file is None:
        raise HTTPException(404, f"There is no checkpoint {checkpoint!r}.")
    with _telling_errors():
        styles = styles_in_use(file, [prompt])
    said = {"checkpoint": file.stem, "styles": styles.names if styles else []}
    return said | ({"sampling": str(styles.sampling)} if styles and styles.sampling else {})


def control_names(model: str, preprocessor: str = "", kind: str = "") -> dict[str, Any]:
    """The names of the controls in a ControlNet, none for one that was not merged.

    Args:
        model: as the host lists it.
        preprocessor: of the unit.
        kind: of control that was chosen in the unit, as the host calls it.

    Returns:
        ``{"model": "controls", "controls": ["canny", "depth"], "by_preprocessor": "depth",
        "by_kind": ""}``: which of them each tells, where it does.
    """
    file = file_of(model)
    if file is None:
        raise HTTPException(404, f"There is no ControlNet {model!r}.")
    with _telling_errors():
        controls = controls_in(file)
    names = controls.names if controls else []
    return {
        "model": file.stem,
        "controls": names,
        "by_preprocessor": told_by(names, preprocessor, kinds_of(preprocessor)),
        "by_kind": told_by(names, kind),
    }


def _file_of(checkpoint: str) -> Path | None:
    info = sd_models.get_closet_checkpoint_match(checkpoint)
    return Path(info.filename) if info else None


# The presets' routes are `async`, so that they run one after another, and none overwrites what
# another has just saved.


async def read_presets() -> dict[str, Preset]:
    with _telling_errors():
        return Presets(PRESETS_FILE).read()


async def save_preset(request: Request) -> dict[str, Preset]:
    with _telling_errors():
        try:
            said = await request.json()
        except (ValueError, RecursionError):
            raise DmmError("The preset is not JSON.") from None
        return Presets(PRESETS_FILE).save(said)


async def delete_preset(name: str) -> dict[str, Preset]:
    with _telling_errors():
        return Presets(PRESETS_FILE).delete(name)


def paint_preview(style: str = Body(embed=True)) -> dict[str, str]:
    """Paints the picture of a style of the chosen checkpoint; the answer has its address."""
    with _telling_errors():
        path = previews.paint(style)
    address = urlencode({"filename": path.as_posix(), "mtime": path.stat().st_mtime})
    return {"preview": f"./sd_extra_networks/thumb?{address}"}


@contextmanager
def _telling_errors() -> Iterator[None]:
    """Answers 422 and the message where the user can mend something."""
    try:
        yield
    except DmmError as error:
        raise HTTPException(422, str(error)) from error
