"""The model folders whose files can carry styles."""

from __future__ import annotations

from pathlib import Path

import folder_paths

from dmm.errors import DmmError
from dmm.merged import side_file

CHECKPOINTS = "checkpoints"
STYLES = "dmm_styles"
STYLE_FOLDERS = (STYLES, CHECKPOINTS)
LORAS = "loras"
CONTROL_NETS = "controlnet"
FOLDERS = (*STYLE_FOLDERS, LORAS, CONTROL_NETS)


def add_style_folders() -> None:
    """Makes `models/dmm_styles` a model folder, and the place *Save DMM Styles* writes to."""
    for parent in (folder_paths.models_dir, folder_paths.get_output_directory()):
        folder_paths.add_model_folder_path(STYLES, str(Path(parent, STYLES)))
    _, suffixes = folder_paths.folder_names_and_paths[STYLES]
    suffixes.update(folder_paths.supported_pt_extensions)


def style_files() -> list[str]:
    """Every file that may carry styles, style files first."""
    styles, checkpoints = map(folder_paths.get_filename_list, STYLE_FOLDERS)
    return styles + [name for name in checkpoints if name not in styles]


def model_file(name: str, *folders: str) -> Path:
    """The file behind a name that a loader offers, from the first of `folders` that has it.

    Only names that ComfyUI itself lists are taken, so no spelling leads out of its model folders,
    and a link inside them is followed exactly where the host follows it.

    Raises:
        DmmError: no such file there, or a folder whose files carry no styles.
    """
    for folder in folders:
        if folder not in FOLDERS:
            raise DmmError(f"{folder!r} is no folder of style files: {', '.join(FOLDERS)}.")
        if name in folder_paths.get_filename_list(folder):
            path = folder_paths.get_full_path(folder, name)
            if path is not None:
                return Path(path)
    raise DmmError(
        f"There is no file {name!r} among the {' or '.join(folders)}. "
        "Press R to refresh the lists, or choose another."
    )


def is_offered(name: str | None, *folders: str) -> bool | str:
    """For `validate_inputs`, since ComfyUI checks no combo of the V3 schema: True, or the reason.

    A name that comes over a wire is None there, and is looked up when the node runs.
    """
    try:
        return name is None or bool(model_file(name, *folders))
    except DmmError as error:
        return str(error)


def fingerprint(name: str | None, *folders: str) -> str:
    """For `fingerprint_inputs`: changes when the file does, or the side file that names its styles.

    It goes into the metadata of every picture, so it tells nothing of this computer. A name that
    comes over a wire is None there; whatever is behind it then is taken as unchanged.
    """
    if name is None:
        return ""
    path = model_file(name, *folders)
    stats = [file.stat() for file in (path, side_file(path)) if file.is_file()]
    return " ".join(f"{stat.st_mtime_ns}-{stat.st_size}" for stat in stats)
