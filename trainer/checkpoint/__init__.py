"""Any checkpoint a user has, behind one interface: a single file or a diffusers folder."""

from __future__ import annotations

from pathlib import Path

from dmm.errors import DmmError
from trainer.architecture import Misfit
from trainer.checkpoint.checkpoint import Checkpoint, refuse_other_architecture
from trainer.checkpoint.folder import open_folder
from trainer.checkpoint.single_file import open_single_file

__all__ = ["Checkpoint", "open_checkpoint", "refuse_other_architecture"]


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a single file in the LDM / sgm layout or a diffusers folder, the authors' included.

    Reads headers only, and checks that every tensor of every network is there.

    Raises:
        DmmError: the file is broken, is something else, lacks tensors, or is of another family.
    """
    path = Path(path)
    try:
        return open_folder(path) if path.is_dir() else open_single_file(path)
    except Misfit as misfit:
        raise DmmError(
            f"{path} {misfit}. A checkpoint of Stable Diffusion 1.x or SDXL, or a relative of "
            "theirs with fewer layers, is needed here."
        ) from misfit
