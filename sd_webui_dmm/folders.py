"""Where the extension keeps what belongs to the user: the host's data folder, never the clone."""

from __future__ import annotations

from pathlib import Path

from modules.paths_internal import data_path

PRESETS_FILE = Path(data_path) / "dmm_presets.json"
PREVIEWS_FOLDER = Path(data_path) / "dmm_previews"
MERGES_FOLDER = Path(data_path).resolve() / "dmm_merges"
