"""What the front end asks the server: its files, a file's style names, and the presets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aiohttp import web
from nodes import EXTENSION_WEB_DIRS

from comfyui_dmm.folders import model_file
from dmm.errors import DmmError
from dmm.layouts import CONTROLNET_PREFIX
from dmm.merged import UNET_PREFIXES, styles_in
from dmm.presets import Presets
from dmm.tensors import open_tensors

WEB_FOLDER = Path(__file__).parent / "web"

Handler = Callable[[web.Request], Awaitable[web.Response]]


def add_routes(server: Any) -> None:
    """Adds `/dmm/styles` and `/dmm/presets` to ComfyUI's `PromptServer`."""
    _mend_web_folder_name()

    def presets(request: web.Request) -> Presets:
        # The host's own rule for whose folder it is, with and without --multi-user.
        path = server.user_manager.get_request_user_filepath(request, "dmm_presets.json")
        return Presets(Path(path))

    @server.routes.get("/dmm/styles")
    @_telling_errors
    async def get_styles(request: web.Request) -> web.Response:
        path = model_file(
            request.query.get("name", ""), *request.query.getall("folder", ["checkpoints"])
        )
        return web.json_response(await asyncio.to_thread(_describe, path))

    @server.routes.get("/dmm/presets")
    @_telling_errors
    async def get_presets(request: web.Request) -> web.Response:
        return web.json_response(presets(request).read())

    @server.routes.put("/dmm/presets")
    @_telling_errors
    async def put_preset(request: web.Request) -> web.Response:
        try:
            body = await request.json()
        except (ValueError, RecursionError, LookupError):  # LookupError: an unknown charset
            raise DmmError("The preset is not JSON.") from None
        return web.json_response(presets(request).save(body))

    @server.routes.delete("/dmm/presets")
    @_telling_errors
    async def delete_preset(request: web.Request) -> web.Response:
        return web.json_response(presets(request).delete(request.query.get("name", "")))


def _mend_web_folder_name() -> None:
    """Serves our JavaScript from a clone of any name.

    ComfyUI serves a pack's files under the name of its folder, but finds none of them where that
    name needs quoting in an address ("my nodes", "节点").
    """
    for name, folder in list(EXTENSION_WEB_DIRS.items()):
        if Path(folder) == WEB_FOLDER and quote(name) != name:
            EXTENSION_WEB_DIRS["dmm"] = EXTENSION_WEB_DIRS.pop(name)


def _describe(path: Path) -> dict[str, Any]:
    """The styles of a file; for a plain or a broken one, none and the reason."""
    try:
        styles = styles_in(open_tensors(path), path, (*UNET_PREFIXES, CONTROLNET_PREFIX))
    except DmmError as error:  # name the file, not where this computer keeps it
        return {"styles": [], "problem": str(error).replace(str(path), path.name)}
    said = {"styles": styles.names, "family": styles.family, "dim": styles.prompts.dim}
    return said | ({"sampling": str(styles.sampling)} if styles.sampling else {})


def _telling_errors(handler: Handler) -> Handler:
    """Answers 400 and `{"error": message}` where the user can mend something."""

    async def answer(request: web.Request) -> web.Response:
        try:
            return await handler(request)
        except DmmError as error:
            return web.json_response({"error": str(error)}, status=400)

    return answer
