"""The tab "DMM merge": the page that `dmm_merge_tab.js` draws, and what that asks for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import Any

import gradio as gr
import yaml
from fastapi import Body, FastAPI
from fastapi.responses import FileResponse, JSONResponse, Response
from modules import sd_models, shared
from modules.paths_internal import models_path

from dmm.errors import DmmError
from sd_webui_dmm import settings
from sd_webui_dmm.checkpoints import unload
from sd_webui_dmm.folders import MERGES_FOLDER
from sd_webui_dmm.merging import trainer_process
from sd_webui_dmm.merging.form import ADAPTER, PRESETS, FieldError, Models, read_form, read_name
from sd_webui_dmm.merging.trainer_process import HOW_TO_INSTALL, OWN_PYTHON, TRAINER, MergeRun
from sd_webui_dmm.page.routes import logged_in

MODEL_SUFFIXES = (".safetensors", ".ckpt")

_starting = threading.Lock()  # and removing: what is started in a folder needs it


def build() -> list[tuple[gr.Blocks, str, str]]:
    """The tab, as the host wants it."""
    with gr.Blocks(analytics_enabled=False) as page:
        gr.HTML(elem_id="dmm_merge")
    return [(page, "DMM merge", "dmm_merge_tab")]


def add_routes(_demo: Any, app: FastAPI) -> None:
    """Adds what the page asks for, under ``/dmm/merge/``, for whom `--gradio-auth` lets in."""
    asks = [choices, runs, status, picture]
    does = [plan, start, resume, stop, remove]
    for endpoint in (*asks, *does):
        app.add_api_route(
            f"/dmm/merge/{endpoint.__name__}",
            _answering(endpoint),
            methods=["GET" if endpoint in asks else "POST"],
            dependencies=logged_in(app),
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
        "presets": {name: _preset(name, models) for name in PRESETS},
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
        That, with the name of the "output" file, and how to paint with it: the "checkpoint" to
        choose, empty where the host's page cannot choose it by its name, and the "lora" to name in
        the prompt, if it is one.
    """
    run = _known(name)
    said, is_adapter = run.status(), run.config.get("preset") == ADAPTER
    checkpoint = Path(run.config["base"]) if is_adapter else run.output
    if said.state == "finished" and not _is_listed(checkpoint):
        sd_models.list_models()
    return asdict(said) | {
        "output": run.output.name,
        "checkpoint": checkpoint.name if _is_found_by_name(checkpoint) else "",
        "lora": run.output.stem if is_adapter else "",
    }


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
    output = Path(merge.config["output"])
    with _starting:
        _refuse_second()
        if output.exists():
            raise FieldError(
                "name", f"Name: there is a {output.name} already. Choose another name."
            )
        if run.has_saved_steps:
            raise FieldError(
                "name",
                f"Name: a merge called {merge.name!r} has been begun. Choose it on the right, and "
                "resume or remove it; or choose another name.",
            )
        if form.get("unload"):
            unload()
        run.write(merge.config, merge.files)
        run.start(python)
    return {"name": merge.name}


def resume(name: str = Body(..., embed=True)) -> dict[str, str]:
    """Has a merge go on from its last saved step."""
    python = _installed()
    with _starting:
        run = _known(name)
        _refuse_second()
        run.start(python)
    return {"name": name}


def stop(name: str = Body(..., embed=True)) -> dict[str, str]:
    """Asks a merge to save its state and end."""
    _known(name).stop()
    return {"name": name}


def remove(name: str = Body(..., embed=True)) -> dict[str, str]:
    """Removes a run with its states; the merged file stays."""
    with _starting:
        run = _known(name)
        if run.is_running:
            raise DmmError(f"{name} is at work. Stop it first.")
        run.remove()
    return {"name": name}


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
    return MergeRun(MERGES_FOLDER / name)


def _begun(folder: Path) -> float:
    return (folder / trainer_process.CONFIG).stat().st_mtime


def _models() -> Models:
    checkpoints = {
        info.name: Path(info.filename)
        for info in sd_models.checkpoints_list.values()
        if info.filename.endswith(MODEL_SUFFIXES)
    }
    # The folders where the host's own merger puts checkpoints, and its own extension finds LoRAs.
    checkpoint_folder = Path(shared.cmd_opts.ckpt_dir or sd_models.model_path).resolve()
    lora_folder = Path(getattr(shared.cmd_opts, "lora_dir", Path(models_path, "Lora"))).resolve()
    files = map(Path, shared.walk_files(str(lora_folder), allowed_extensions=MODEL_SUFFIXES))
    loras = {file.relative_to(lora_folder).as_posix(): file for file in files}
    return Models(checkpoints, loras, checkpoint_folder, lora_folder, MERGES_FOLDER)


def _is_listed(checkpoint: Path) -> bool:
    files = [info.filename for info in sd_models.checkpoints_list.values()]
    return checkpoint.name in {Path(file).name for file in files}


def _is_found_by_name(checkpoint: Path) -> bool:
    # Forge takes the first name that holds the wanted one: "my ink.safetensors" for "ink…".
    matched = getattr(sd_models, "match_checkpoint_to_name", str)(checkpoint.name)
    info = sd_models.get_closet_checkpoint_match(matched)
    return info is not None and Path(info.filename).name == checkpoint.name


def _preset(name: str, models: Models) -> dict[str, Any]:
    """What a preset says, and the "folder" of what it makes."""
    file = TRAINER.parent / "presets" / f"{name}.yaml"
    said = yaml.safe_load(file.read_text(encoding="utf-8"))
    return said | {"folder": str(models.output_folder(name))}
