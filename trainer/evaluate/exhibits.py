"""Pictures for the eye alone: mixes of styles, from one style to another, and no style at all."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from diffusers import UNet2DConditionModel
from PIL import Image
from torch import Tensor

from dmm.injection import styled
from dmm.mixes import format_mix
from dmm.resolving import resolve
from trainer.cache import Examples, refuse_not_finite
from trainer.evaluate.contestants import Contestants
from trainer.evaluate.painting import Commission, PictureSet
from trainer.sampling import sample_latents, sdxl_time_ids
from trainer.shards import Batch, Shards, batched, compute
from trainer.text import TextEncoders

SHARES = [step / 10 for step in range(11)]  # of the second style in a strip (paper, figure 10)
MOST_STRIPS = 8
MOST_IN_PAIRS = 8  # styles in the grid of pairs, which has a picture for every two
NO_STYLE = ""


class Wish(NamedTuple):
    """A picture that is wanted: a mix as text, and the prompt's number, which gives the noise."""

    mix: str
    prompt: int


@dataclass(frozen=True)
class Strip:
    """One style becoming another, a picture for each of `SHARES`."""

    one: str
    other: str
    pictures: list[Image.Image]


@dataclass(frozen=True)
class Exhibits:
    """Pictures of a prompt are from the same noise, whoever painted them in whichever style.

    Attributes:
        prompts: of the columns of the first three.
        teachers, students: a row a style.
        no_style: one row.
        strips, pairs: of the first prompt; pairs by two names, both at 0.5, or one name alone.
    """

    prompts: list[str]
    teachers: list[list[Image.Image]]
    students: list[list[Image.Image]]
    no_style: list[Image.Image]
    strips: list[Strip]
    pairs: dict[tuple[str, str], Image.Image]


def collect(
    contestants: Contestants, commission: Commission, teachers: Sequence[PictureSet], columns: int
) -> Exhibits:
    """Paints the merged checkpoint's exhibits; the teachers' are the first of their first set.

    Args:
        columns: how many prompts are shown, from all over the file.
    """
    names = contestants.names
    different = min(len(commission.prompts), commission.pictures)
    columns = min(columns, different)
    numbers = [column * different // columns for column in range(columns)]
    styles = [[Wish(_blend(name), number) for number in numbers] for name in names]
    no_style = [Wish(NO_STYLE, number) for number in numbers]
    journeys = _journeys(names)
    strips = [[Wish(_blend(one, other, s), numbers[0]) for s in SHARES] for one, other in journeys]
    couples = list(itertools.combinations_with_replacement(names[:MOST_IN_PAIRS], 2))
    pairs = [Wish(_blend(one, other, 0.5), numbers[0]) for one, other in couples]

    wishes = list(dict.fromkeys([*itertools.chain(*styles, no_style, *strips, pairs)]))
    painted = PictureSet(
        Examples([_paint(contestants, commission, wishes)]),
        contestants.checkpoint,
        commission.device,
    )
    pictures = dict(zip(wishes, painted.pictures(range(len(wishes))), strict=True))
    exhibits = Exhibits(
        prompts=[commission.prompts.captions[number] for number in numbers],
        teachers=[list(one.pictures(numbers)) for one in teachers],
        students=[[pictures[wish] for wish in row] for row in styles],
        no_style=[pictures[wish] for wish in no_style],
        strips=[
            Strip(one, other, [pictures[wish] for wish in row])
            for (one, other), row in zip(journeys, strips, strict=True)
        ],
        pairs={couple: pictures[wish] for couple, wish in zip(couples, pairs, strict=True)},
    )
    for one in (painted, *teachers):
        one.release()
    return exhibits


def _blend(one: str, other: str | None = None, share: float = 0.0) -> str:
    """The mix of two styles as text; the second one's share."""
    mix = {one: 1.0} if other in (None, one) else {one: round(1 - share, 9), other: share}
    return format_mix({name: weight for name, weight in mix.items() if weight})


def _journeys(names: Sequence[str]) -> list[tuple[str, str]]:
    """From each style to the next, and from the last to the first."""
    journeys = list(itertools.pairwise(names))
    if len(names) > 2:
        journeys.append((names[-1], names[0]))
    return journeys[:MOST_STRIPS]


def _paint(contestants: Contestants, commission: Commission, wishes: Sequence[Wish]) -> Shards:
    checkpoint, settings = contestants.checkpoint, commission.settings
    text = TextEncoders(checkpoint, None, commission.device)

    @functools.cache
    def unet() -> UNet2DConditionModel:
        return checkpoint.load_unet(commission.dtype).to(commission.device)

    def paint(rows: range) -> Iterator[Batch]:
        for batch in batched(rows, commission.batch_size):
            some = [wishes[row] for row in batch]
            vectors = torch.stack([_vector(contestants, wish.mix) for wish in some])
            prompts = [commission.prompts.captions[wish.prompt] for wish in some]
            with styled(unet(), vectors) as painting:
                latents = sample_latents(
                    painting,
                    text.encode(prompts).to(commission.device, commission.dtype),
                    text.encode([settings.negative]).to(commission.device, commission.dtype),
                    shape=settings.shape,
                    seeds=[settings.seed + wish.prompt for wish in some],
                    steps=settings.steps,
                    guidance=settings.guidance,
                    prediction_type=checkpoint.prediction_type,
                    time_ids=sdxl_time_ids(*settings.resolution),
                )
            refuse_not_finite(latents, [wish.mix or "no style" for wish in some])
            yield {"latents": latents}

    made_from = {
        "unet": checkpoint.sha256,
        "wishes": [[mix, commission.prompts.captions[number], number] for mix, number in wishes],
        "settings": vars(settings),
        "dtype": str(commission.dtype),
    }
    shards = compute(
        commission.folder,
        "exhibits",
        made_from,
        count=len(wishes),
        line=lambda row: {"caption": commission.prompts.captions[wishes[row].prompt]},
        batches=paint,
        rows_per_shard=32,
    )
    text.release()
    return shards


def _vector(contestants: Contestants, mix: str) -> Tensor:
    """[d]; zeros for no style, which adds nothing."""
    styles = contestants.styles
    vector = resolve(styles, mix) if mix else None
    return torch.zeros(styles.prompts.dim) if vector is None else vector
