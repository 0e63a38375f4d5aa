"""The pictures on the styles' cards: painted when asked for, and kept in the user's folder."""

from __future__ import annotations

import hashlib
import re
from contextlib import closing
from pathlib import Path
from typing import Any

from modules import call_queue, processing, scripts, shared
from modules.images import save_image_with_geninfo

from dmm.atomic import written_whole
from dmm.errors import DmmError
from dmm.merged import Styles
from dmm.mixes import format_mix
from sd_webui_dmm import settings
from sd_webui_dmm.checkpoints import bring_back, chosen_styles
from sd_webui_dmm.folders import PREVIEWS_FOLDER
from sd_webui_dmm.painting.job import begin_job
from sd_webui_dmm.request import Request

# As the paper paints (see DESIGN, section 2), with one seed, so that the cards can be compared.
_SETTINGS: dict[str, Any] = {"seed": 1, "sampler_name": "DPM++ 2M", "steps": 20, "cfg_scale": 7.0}
_SIZES = {"sd1": (512, 512), "sdxl": (1024, 1024)}
_LARGEST = 1536  # what a stranger's file can ask this computer to paint


def preview_files(styles: Styles) -> dict[str, Path]:
    """Where the picture of each style is kept, whether or not it has been painted.

    It is named after the style prompt itself: it stays with a checkpoint that is moved or renamed,
    and not with one that was trained further.
    """
    prompts = styles.prompts.state_dict()
    codebook = prompts.pop("codebook")
    mlp = hashlib.sha256()
    for tensor in prompts.values():
        mlp.update(tensor.numpy().tobytes())
    files = {}
    for name, row in zip(styles.names, codebook, strict=True):
        style = mlp.copy()
        style.update(row.numpy().tobytes())
        files[name] = PREVIEWS_FOLDER / f"{style.hexdigest()[:24]}.png"
    return files


def paint(name: str) -> Path:
    """Paints and keeps the picture of a style of the chosen checkpoint.

    Raises:
        DmmError: the checkpoint has no such style, or the host was told to stop.
    """
    with call_queue.queue_lock:
        shared.state.begin(job="dmm_preview")
        try:
            return _paint(name)
        finally:
            shared.state.end()
            shared.total_tqdm.clear()


def _paint(name: str) -> Path:
    _ = shared.sd_model  # waits for AUTOMATIC1111's first load, beside which a second one fails
    bring_back()  # this job is without scripts, so nobody else does
    styles = chosen_styles()
    if name not in styles.names:
        raise DmmError(f"There is no style {name!r} in this file. Refresh the cards.")
    width, height = _size(styles)
    job = processing.StableDiffusionProcessingTxt2Img(
        prompt=settings.preview_prompt(),
        width=width,
        height=height,
        do_not_save_samples=True,
        do_not_save_grid=True,
        **_SETTINGS,
    )
    job.scripts = scripts.ScriptRunner()  # of no scripts, among which reForge looks for one
    with closing(job):
        begin_job(job, Request(mix=format_mix({name: 1.0})))
        processed = processing.process_images(job)
    if shared.state.interrupted or not processed.images:
        raise DmmError("The painting was interrupted.")
    path = preview_files(styles)[name]
    with written_whole(path) as partial:
        # The host's own saver, which knows whether its user wants the infotext in the file.
        save_image_with_geninfo(processed.images[0], processed.infotexts[0], str(partial), ".png")
    return path


def _size(styles: Styles) -> tuple[int, int]:
    """Width and height that the styles were learned at, as far as the file tells."""
    said = re.fullmatch(r"(\d{2,4})x(\d{2,4})", styles.metadata.get("modelspec.resolution", ""))
    if said is None or max(int(said[1]), int(said[2])) > _LARGEST:
        return _SIZES[styles.family]
    return int(said[1]), int(said[2])
