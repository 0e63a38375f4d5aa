"""Two styles in one picture, left and right: how pure each stays, how they join, what it costs.

    python -m bench.emoji.regions FOLDER [--size laptop] [--seed 0]

Every two styles, a few prompts, the same noise for all ways of painting:

- **pasted**: each teacher paints the picture, and halves are put together: the styles could not be
  purer, nor the seam worse.
- **weight switching**: each step asks one teacher after the other, and joins what they predict.
- **a pass a region**: the same with one merged file, its style changed in between.
- **one pass**: a merged file, the styles blended by the masks inside the UNet.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from PIL import Image
from torch import Tensor

from bench.emoji.contest import Artist, Contest
from bench.emoji.intervals import Estimate
from bench.emoji.judge import FIRST_SEED, RESOLUTION
from bench.emoji.merges import RECIPES, merge
from bench.emoji.opening import open_contest, open_judge, parser
from bench.emoji.probes import StyleProbe, style_accuracy
from bench.emoji.results import (
    Result,
    add_result,
    read_results,
    table_of_methods,
    write_section,
)
from bench.report import machine
from dmm.injection import styled
from dmm.regions import Regions
from trainer.checkpoint import Checkpoint
from trainer.evaluate.extractors import Extractor
from trainer.evaluate.painting import latent_shape
from trainer.evaluate.prompts import open_prompts
from trainer.sampling import decode, sample_latents, unet_passes
from trainer.text import TextEmbedding, TextEncoders

RESULTS = Path(__file__).parent / "regions.jsonl"
PROMPTS = 24  # at the most
WAYS = ("pasted", "weight switching", "dmm, a pass a region", "dmm, one pass")


@dataclass(frozen=True)
class Painted:
    """Pictures [P, 64, 64, 3] from 0 to 1, and the seconds that each took."""

    pixels: Tensor
    seconds: float


class Easel:
    """Paints the same prompts from the same noise, by whatever is called as a UNet."""

    def __init__(self, contest: Contest, prompts: Sequence[str]) -> None:
        self._contest, self._prompts = contest, prompts
        self._base = contest.opened_base
        self._vae = self._base.load_vae()

    def paint(self, checkpoint: Checkpoint, unet: Callable) -> Painted:
        """Paints with a checkpoint's text encoder."""
        size, text = self._contest.size, TextEncoders(checkpoint)
        first = FIRST_SEED + (self._contest.seed + 1) * size.seen
        began = time.perf_counter()
        latents = sample_latents(
            unet,
            text.encode(self._prompts),
            text.encode([""]),
            shape=latent_shape(self._base, RESOLUTION),
            seeds=[first + row for row in range(len(self._prompts))],
            steps=size.sampling_steps,
            guidance=size.guidance,
            prediction_type=self._base.prediction_type,
        )
        seconds = (time.perf_counter() - began) / len(self._prompts)
        pictures = [np.asarray(picture) for picture in decode(self._vae, latents)]
        return Painted(torch.from_numpy(np.stack(pictures)).float() / 255, seconds)

    def told(self, checkpoint: Checkpoint) -> Tensor:
        """What a guided UNet of that checkpoint hears, [2P, L, C]: without prompts, then with."""
        text = TextEncoders(checkpoint)
        without: TextEmbedding = text.encode([""]).expand(len(self._prompts))
        return torch.cat([without.hidden, text.encode(self._prompts).hidden])


def halves(height: int, width: int) -> Tensor:
    """The masks of the left and the right half, [1, 2, height, width]."""
    left = (torch.arange(width) < width // 2).float().expand(height, width)
    return torch.stack([left, 1 - left])[None]


Painter = Callable[[Tensor, Tensor], Tensor]
"""Predicts the whole of some pictures x_t [B, c, h, w] at a timestep."""


class Switching:
    """Called as a UNet: asks two painters one after the other, and joins their predictions."""

    def __init__(self, left: Painter, right: Painter) -> None:
        self._left, self._right = left, right

    def __call__(self, sample: Tensor, t: Tensor, **_told: Any) -> tuple[Tensor]:
        left, right = halves(*sample.shape[-2:]).unbind(1)
        return (left * self._left(sample, t) + right * self._right(sample, t),)


def painter(unet: UNet2DConditionModel, told: Tensor, style: Tensor | None = None) -> Painter:
    """A UNet that is told `told`, in a style where it has several."""

    def predict(sample: Tensor, t: Tensor) -> Tensor:
        with styled(unet, style):
            return unet(sample, t, encoder_hidden_states=told, return_dict=False)[0]

    return predict


class Halves:
    """Tells how much halves of pictures look like their styles, and how well they join.

    Args:
        alone: what each teacher paints of the same prompts and noise.
    """

    def __init__(self, alone: Sequence[Tensor], extractor: Extractor) -> None:
        self._alone, self._extractor = alone, extractor
        self._probes = [
            StyleProbe([self._features(pixels, side) for pixels in alone]) for side in (0, 1)
        ]

    def figures(self, pixels: Tensor, styles: tuple[int, int]) -> dict[str, float]:
        """Of pictures that are to be in one style on the left, in another on the right."""
        named, own, other = [], [], []
        for side, style in enumerate(styles):
            features = self._features(pixels, side)
            named.append(float((self._probes[side](features) == style).double().mean()))
            own.append(self._apart(pixels, self._alone[style], side))
            other.append(self._apart(pixels, self._alone[styles[1 - side]], side))
        return {
            "style": fmean(named),
            "distance": fmean(own),
            "distance_other": fmean(other),
            "seam": seam(pixels),
        }

    def ceiling(self, again: Sequence[Tensor]) -> float:
        """How well the probes name halves of other pictures by the teachers."""
        return fmean(
            style_accuracy(probe, [self._features(pixels, side) for pixels in again])
            for side, probe in enumerate(self._probes)
        )

    def _features(self, pixels: Tensor, side: int) -> Tensor:
        """Of one half and its mirror image, which make a picture of the usual shape."""
        half = _half(pixels, side)
        whole = torch.cat([half, half.flip(2)] if side == 0 else [half.flip(2), half], dim=2)
        return self._extractor(
            [Image.fromarray((picture.numpy() * 255).round().astype("uint8")) for picture in whole]
        )

    @staticmethod
    def _apart(ours: Tensor, theirs: Tensor, side: int) -> float:
        """The root of the mean squared difference of pixels."""
        return float((_half(ours, side) - _half(theirs, side)).square().mean().sqrt())


def seam(pixels: Tensor) -> float:
    """The step across the middle, in units of the steps two columns away; 1 = none to be seen."""
    middle = pixels.shape[2] // 2
    steps = pixels.diff(dim=2).abs().mean(dim=(0, 1, 3))  # step i lies right of column i
    nearby = steps[[middle - 4, middle - 3, middle + 1, middle + 2]].mean()
    return float(steps[middle - 1] / nearby)


def _half(pixels: Tensor, side: int) -> Tensor:
    middle = pixels.shape[2] // 2
    return pixels[:, :, :middle] if side == 0 else pixels[:, :, middle:]


def paint_all(
    contest: Contest, easel: Easel, artists: Sequence[Artist], alone: Sequence[Painted]
) -> Iterator[tuple[str, tuple[int, int], Painted]]:
    """Each way and pair of styles, and what comes of it."""
    teachers = list(contest.opened.values())
    switched = [painter(one.load_unet(), easel.told(one)) for one in teachers]
    student = artists[0].teacher
    unet, told = student.checkpoint.load_unet(), easel.told(student.checkpoint)
    vectors = student.vectors(torch.tensor([artist.style for artist in artists]))
    height, width = latent_shape(contest.opened_base, RESOLUTION)[1:]
    for pair in combinations(range(len(artists)), 2):
        one, other = (alone[style] for style in pair)
        together = torch.cat([_half(one.pixels, 0), _half(other.pixels, 1)], dim=2)
        yield WAYS[0], pair, Painted(together, one.seconds + other.seconds)
        switching = Switching(*(switched[style] for style in pair))
        yield WAYS[1], pair, easel.paint(contest.opened_base, switching)
        passes = Switching(*(painter(unet, told, vectors[style]) for style in pair))
        yield WAYS[2], pair, easel.paint(student.checkpoint, passes)
        regions = Regions(vectors[list(pair)][None], halves(height, width))
        with styled(unet, regions):
            yield WAYS[3], pair, easel.paint(student.checkpoint, unet)


def tables(results: Sequence[Result]) -> str:
    """Markdown, a table a contest."""
    columns = (
        *("way", "runs", "style", "to its teacher", "to the other", "seam"),
        *("UNet evaluations a picture", "ms a picture", "files, MB"),
    )
    return table_of_methods(results, "every two of", columns, _row)


def _row(method: str, runs: Sequence[Result]) -> list[str]:
    def mean(key: str) -> float:
        return fmean(run[key] for run in runs)

    return [
        method,
        str(len(runs)),
        f"{mean('style'):.2f} of {mean('style_ceiling'):.2f}",
        f"{mean('distance'):.3f}",
        f"{mean('distance_other'):.3f}",
        f"{Estimate([run['seam'] for run in runs]):.2f}",
        f"{mean('unet_evaluations'):.0f}",
        f"{1000 * mean('seconds'):.0f}",
        f"{mean('bytes') / 1e6:.1f}",
    ]


def main() -> None:
    arguments = parser(__doc__, RESULTS).parse_args()
    contest = open_contest(arguments)
    judge, key = open_judge(arguments, contest)
    wanted = [{"method": way, **key} for way in WAYS]
    done = read_results(arguments.results)
    if not all(any(one.items() <= result.items() for result in done) for one in wanted):
        for result in _measured(contest, judge.extractor, wanted):
            add_result(arguments.results, result)
    results = read_results(arguments.results)
    if arguments.results == RESULTS:
        write_section(tables(results), "regions")
    print(tables(results))


def _measured(
    contest: Contest, extractor: Extractor, wanted: Sequence[dict[str, Any]]
) -> Iterator[Result]:
    """A result for each way."""
    entry = merge(contest, contest.work("dmm"), RECIPES["dmm"])
    prompts = list(dict.fromkeys(open_prompts(contest.seen).captions))
    count = min(PROMPTS, contest.size.seen // 2)
    chosen = [prompts[row * len(prompts) // count] for row in range(count)]
    others = [prompts[row * len(prompts) // count + 1] for row in range(count)]
    easel, second = Easel(contest, chosen), Easel(contest, others)
    teachers = list(contest.opened.values())
    alone = [easel.paint(checkpoint, checkpoint.load_unet()) for checkpoint in teachers]
    again = [second.paint(checkpoint, checkpoint.load_unet()) for checkpoint in teachers]
    judged = Halves([painted.pixels for painted in alone], extractor)
    ceiling = judged.ceiling([painted.pixels for painted in again])
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for way, pair, painted in paint_all(contest, easel, entry.artists, alone):
        figures = judged.figures(painted.pixels, pair)
        found[way].append(figures | {"seconds": painted.seconds})
    for key in wanted:
        way = key["method"]
        one_pass = contest.size.sampling_steps * unet_passes(contest.size.guidance)
        files = entry.files if way.startswith("dmm") else contest.teachers.values()
        yield key | {
            **{name: fmean(one[name] for one in found[way]) for name in found[way][0]},
            "style_ceiling": ceiling,
            "unet_evaluations": one_pass * (1 if way == WAYS[3] else 2),
            "bytes": sum(path.stat().st_size for path in files),
            "device": machine(),
        }


if __name__ == "__main__":
    main()
