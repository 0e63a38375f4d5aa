"""Scores of single pictures by networks from a hub: CLIP score, PickScore, aesthetic score."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from statistics import fmean
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPModel, CLIPProcessor, CLIPVisionModelWithProjection

from dmm.errors import DmmError

Score = Callable[[Sequence[Image.Image], Sequence[str]], list[float]]
"""Pictures and their prompts to a score each."""

BATCH = 16


class Kind(NamedTuple):
    """A score by networks of CLIP's kind.

    Attributes:
        title: in reports.
        weights: of the network, on the hub or in a folder.
        processor: what prepares its input; "" = comes with the weights.
    """

    title: str
    weights: str
    processor: str = ""


# CLIP score: 100 · max(cos, 0) (Hessel et al. 2021) with the network that torchmetrics takes.
# PickScore: 100 · cos of a CLIP fine-tuned on people's choices (Kirstain et al. 2023), as the
# paper's table 3 has it.
KINDS = {
    "clip": Kind("CLIP score", "openai/clip-vit-large-patch14"),
    "pick": Kind(
        "PickScore", "yuvalkirstain/PickScore_v1", "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
    ),
    "aesthetic": Kind("Aesthetic score", "shunk031/aesthetics-predictor-v1-vit-large-patch14"),
}


def open_scores(
    names: Sequence[str], device: torch.device | str, weights: dict[str, str] | None = None
) -> dict[str, Score]:
    """The scores whose weights are at hand, by title; a warning names the others.

    Args:
        names: keys of `KINDS`.
        weights: other networks by name: a folder, or what the hub calls it.

    Raises:
        DmmError: there is no score of that name.
    """
    scores = {}
    for name in names:
        if name not in KINDS:
            raise DmmError(f"There is no score {name!r}. There are: {', '.join(KINDS)}.")
        kind = KINDS[name]
        where = (weights or {}).get(name, kind.weights)
        try:
            load = _aesthetic if name == "aesthetic" else _likeness
            processor = where if name in (weights or {}) else kind.processor or where
            scores[kind.title] = load(where, processor, torch.device(device))
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            warnings.warn(
                f"The {kind.title} is left out, because {where} is not at hand: {reason} Go "
                "online once, or leave it out of --scores.",
                stacklevel=2,
            )
    return scores


@torch.no_grad()
def mean_score(score: Score, pictures: Iterable[Image.Image], prompts: Iterable[str]) -> float:
    """The mean over pictures, of which a batch at a time is held."""
    pairs = zip(pictures, prompts, strict=True)
    values: list[float] = []
    while batch := list(islice(pairs, BATCH)):
        values += score(*zip(*batch, strict=True))
    return fmean(values)


def _likeness(weights: str, processor: str, device: torch.device) -> Score:
    """100 times the cosine between a picture and its prompt."""
    model = CLIPModel.from_pretrained(weights).eval().to(device)
    prepare = CLIPProcessor.from_pretrained(processor)

    def score(pictures: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
        inputs = prepare(
            text=list(prompts),
            images=list(pictures),
            return_tensors="pt",
            padding=True,
            truncation=True,
        ).to(device)
        output = model(**inputs)
        likeness = torch.cosine_similarity(output.image_embeds, output.text_embeds)
        return (100 * likeness.clamp(min=0)).tolist()

    return score


class AestheticPredictor(CLIPVisionModelWithProjection):
    """LAION's linear predictor on CLIP's embedding of a picture, as its checkpoints name it."""

    def __init__(self, config) -> None:
        super().__init__(config)
        self.predictor = nn.Linear(config.projection_dim, 1)
        self.post_init()

    def predict(self, pixel_values: Tensor) -> Tensor:
        """Scores [B], some 1 to 10, of prepared pictures [B, 3, h, w]."""
        embeds = self(pixel_values=pixel_values).image_embeds
        return self.predictor(nn.functional.normalize(embeds)).flatten()


def _aesthetic(weights: str, processor: str, device: torch.device) -> Score:
    model = AestheticPredictor.from_pretrained(weights).eval().to(device)
    prepare = CLIPProcessor.from_pretrained(processor).image_processor

    def score(pictures: Sequence[Image.Image], _prompts: Sequence[str]) -> list[float]:
        inputs = prepare(images=list(pictures), return_tensors="pt")
        return model.predict(inputs["pixel_values"].to(device)).tolist()

    return score
