"""Any file of prompts: one a line, or the captions of COCO."""

from __future__ import annotations

import json
from pathlib import Path

from dmm.errors import DmmError
from trainer.data import Prompts


class CocoCaptions(Prompts):
    """Captions from COCO's `captions_*.json`: the first of each picture, in the file's order."""

    def __init__(self, path: Path) -> None:
        try:
            annotations = json.loads(path.read_text(encoding="utf-8"))["annotations"]
            captions: dict[str, str] = {}
            for annotation in annotations:
                text = " ".join(annotation["caption"].split())
                captions.setdefault(str(annotation["image_id"]), text)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DmmError(
                f"{path} is not a file of COCO captions ({type(error).__name__}: {error}). It "
                'should hold {"annotations": [{"image_id": …, "caption": …}, …]}; prompts one a '
                "line belong in a .txt file."
            ) from None
        if not captions:
            raise DmmError(f"{path} holds no captions: its list of annotations is empty.")
        self.keys, self.captions = list(captions), list(captions.values())


def open_prompts(path: Path) -> Prompts:
    """The prompts in a file; `.json` is read as COCO captions, all else as one prompt a line.

    Raises:
        DmmError: there is no such file, or no prompt in it.
    """
    return CocoCaptions(path) if path.suffix.lower() == ".json" else Prompts(path)
