"""The tab "DMM merge": the page that `javascript/dmm_merge.js` draws, and what that asks for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import Any

import gradio as gr
import yaml
from fastapi import Body, Depends, FastAPI
from fastapi.responses import FileResponse, JSONResponse, Response
from modules import sd_models, shared
from modules.call_queue import queue_lock

from dmm.errors import DmmError
from sd_webui_dmm import settings, trainer_process
from sd_webui_dmm.folders import MERGES_FOLDER
from sd_webui_dmm.merge_form import FieldError, Models, read_form, read_name
from sd_webui_dmm.trainer_process import HOW_TO_INSTALL, OWN_PYTHON, TRAINER, MergeRun

MODEL_SUFFIXES = (".safetensors", ".ckpt")
OTHER_PRESETS = ("adapter", "controlnet", "few-steps")  # make no checkpoint of checkpoints

_starting = threading.Lock()
_unloaded = False  # whether the host's checkpoint made room for a merge


def build() -> list[tuple[gr.Blocks, str, str]]:
    """The tab, as the host wants it."""
    with gr.Blocks(analytics_enabled=False) as page:
        gr.HTML(elem_id="dmm_merge")
    return [(page, "DMM merge", "dmm_merge_tab")]


def add_routes(_demo: Any, app: FastAPI) -> None:
    """Adds what the page asks for, under ``/dmm/merge/``, for whom `--gradio-auth` lets in."""
    asks = [choices, runs, status, picture]
    does = [plan, start, resume, stop, remove]
    login_check = next(
        route.endpoint for route in app.routes if getattr(route, "path", None) == "/login_check"
    )
    for endpoint in (*asks, *does):
        app.add_api_route(
            f"/dmm/merge/{endpoint.__name__}",
            _answering(endpoint),
            methods=["GET" if endpoint in asks else "POST"],
            dependencies=[Depends(login_check)],
        )


def _answering(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """Makes what the user has to mend an answer, with the field of the page it is about."""

    @wraps(endpoint)
    def answer(*args: Any, **kwargs: Any) -> Any:
        try:
            return endpoint(*args, **kwargs)
        except DmmError as error:
            said = {"message": str(error), "field": getattr(error, "field", None)}
            return JSONResponse(said, status_code=422)

    return answer


def choices(refresh: bool = False) -> dict[str, Any]:
    """What the page's lists hold."""
    if refresh:
        sd_models.list_models()
    models = _models()
    return {
        "checkpoints": [*models.checkpoints],
        "loras": [*models.loras],
        "presets": _presets(),
        "output": str(models.output),
        "folders": not shared.cmd_opts.hide_ui_dir_config,
        "install": "" if _python().is_file() else HOW_TO_INSTALL,
    }


def runs() -> list[str]:
    """The names of all runs, the last begun first."""
    folders = [folder for folder in MERGES_FOLDER.glob("*") if _run(folder.name).exists]
    return [folder.name for folder in sorted(folders, key=_begun, reverse=True)]


def status(name: str) -> dict[str, Any]:
    """How a run stands; see `trainer_process.Status`.

    Returns:
        That, with the "output" file's name, and whether the host's page can choose it by it.
    """
    run = _known(name)
    said = run.status()
    if said.state == "finished" and not _is_listed(run.output):
        sd_models.list_models()
    return asdict(said) | {"output": run.output.name, "selectable": _is_found_by_name(run.output)}


def picture(name: str, file: str) -> Response:
    """A sample grid of a run."""
    path = _known(name).picture(file)
    if path is None:
        raise DmmError(f"There is no picture {file!r}.")
    return FileResponse(path, headers={"Cache-Control": "no-cache"})


def plan(form: dict[str, Any]) -> list[list[str]]:
    """What a merge will take; see `trainer_process.plan`."""
    merge = read_form(form, _models())
    return trainer_process.plan(_installed(), merge.config, merge.files)


def start(form: dict[str, Any]) -> dict[str, str]:
    """Starts a merge; the answer has its name."""
    merge = read_form(form, _models())
    run, python = _run(merge.name), _installed()
    with _starting:
        _refuse_second()
        if run.output.exists():
            raise FieldError(
                "name", f"Name: there is a {run.output.name} already. Choose another name."
            )
        if run.has_saved_steps:
            raise FieldError(
                "name",
                f"Name: a merge called {merge.name!r} has been begun. Choose it on the right, and "
                "resume or remove it; or choose another name.",
            )
        if form.get("unload"):
            _unload_checkpoint()
        run.write(merge.config, merge.files)
        run.start(python)
    return {"name": merge.name}


def resume(name: str = Body(..., embed=True)) -> dict[str, str]:
    """Has a merge go on from its last saved step."""
    run, python = _known(name), _installed()
    with _starting:
        _refuse_second()
        run.start(python)
    return {"name": name}


def stop(name: str = Body(..., embed=True)) -> dict[str, str]:
    """Asks a merge to save its state and end."""
    _known(name).stop()
    return {"name": name}


def remove(name: str = Body(..., embed=True)) -> dict[str, str]:
    """Removes a run with its states; the merged checkpoint stays."""
    run = _known(name)
    if run.is_running:
        raise DmmError(f"{name} is at work. Stop it first.")
    run.remove()
    return {"name": name}


def bring_back_checkpoint() -> None:
    """Puts what `_unload_checkpoint` took away back to its place; called before a picture."""
    global _unloaded
    if _unloaded:
        _unloaded = False
        sd_models.send_model_to_device(shared.sd_model)


def _unload_checkpoint() -> None:
    global _unloaded
    with queue_lock:  # not in the middle of a picture
        if sd_models.model_data.sd_model is not None:
            sd_models.unload_model_weights()
            _unloaded = True


def _refuse_second() -> None:
    for name in runs():
        if _run(name).is_running:
            raise DmmError(
                f"The merge {name!r} is at work. Wait for its end, or stop it: two at once would "
                "slow each other and need twice the memory."
            )


def _python() -> Path:
    chosen = settings.trainer_python()
    return Path(chosen).expanduser() if chosen else OWN_PYTHON


def _installed() -> Path:
    if not _python().is_file():
        raise DmmError(HOW_TO_INSTALL)
    return _python()


def _known(name: str) -> MergeRun:
    run = _run(read_name(name))
    if not run.exists:
        raise DmmError(f"There is no merge {name!r}.")
    return run


def _run(name: str) -> MergeRun:
    return MergeRun(MERGES_FOLDER / name, _output_folder() / f"{name}.safetensors")


def _begun(folder: Path) -> float:
    return (folder / trainer_process.CONFIG).stat().st_mtime


def _output_folder() -> Path:
    """Where the host's own merger puts its checkpoints."""
    return Path(shared.cmd_opts.ckpt_dir or sd_models.model_path).resolve()


def _models() -> Models:
    checkpoints = {
        info.name: Path(info.filename)
        for info in sd_models.checkpoints_list.values()
        if info.filename.endswith(MODEL_SUFFIXES)
    }
    folder = getattr(shared.cmd_opts, "lora_dir", "")  # the builtin extension's
    files = shared.walk_files(folder, allowed_extensions=MODEL_SUFFIXES)
    loras = {Path(file).relative_to(folder).as_posix(): Path(file) for file in files}
    return Models(checkpoints, loras, _output_folder(), MERGES_FOLDER)


def _is_listed(checkpoint: Path) -> bool:
    files = [info.filename for info in sd_models.checkpoints_list.values()]
    return checkpoint.name in {Path(file).name for file in files}


def _is_found_by_name(checkpoint: Path) -> bool:
    # Forge takes the first name that holds the wanted one: "my ink.safetensors" for "ink…".
    matched = getattr(sd_models, "match_checkpoint_to_name", str)(checkpoint.name)
    info = sd_models.get_closet_checkpoint_match(matched)
    return info is not None and Path(info.filename).name == checkpoint.name


def _presets() -> dict[str, Any]:
    files = sorted(TRAINER.parent.glob("presets/*.yaml"))
    return {
        file.stem: yaml.safe_load(file.read_text(encoding="utf-8"))
        for file in files
        if file.stem not in OTHER_PRESETS
    }
