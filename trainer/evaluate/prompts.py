"""Any file of prompts: one a line, or the captions of COCO."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from dmm.errors import DmmError
from trainer.data import Prompts
from trainer.prompt_lines import Prompt


class Texts(Prompts):
    """What to paint, and nothing of how: all paint alike, from the evaluation's own noise."""

    def __init__(self, captions: Sequence[str]) -> None:
        self.keys = [str(number) for number in range(1, len(captions) + 1)]
        self.captions = list(captions)
        self.prompts = [Prompt(caption) for caption in captions]


def open_prompts(path: Path) -> Texts:
    """The prompts in a file; `.json` is read as COCO captions, all else as one prompt a line.

    Seeds, sizes and the like that lines give for themselves do not count.

    Raises:
        DmmError: there is no such file, or no prompt in it.
    """
    return Texts(_coco(path) if path.suffix.lower() == ".json" else Prompts(path).captions)


def _coco(path: Path) -> list[str]:
    """From COCO's `captions_*.json`: the first caption of each picture, in the file's order."""
    try:
        annotations = json.loads(path.read_text(encoding="utf-8"))["annotations"]
        captions: dict[str, str] = {}
        for annotation in annotations:
            text = " ".join(annotation["caption"].split())
            captions.setdefault(str(annotation["image_id"]), text)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DmmError(
            f"{path} is not a file of COCO captions ({type(error).__name__}: {error}). It should "
            'hold {"annotations": [{"image_id": …, "caption": …}, …]}; prompts one a line belong '
            "in a .txt file."
        ) from None
    if not captions:
        raise DmmError(f"{path} holds no captions: its list of annotations is empty.")
    return list(captions.values())
