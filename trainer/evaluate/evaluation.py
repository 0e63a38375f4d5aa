"""A whole evaluation, from opened files to the report."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor
from tqdm import tqdm

from dmm.merged import Styles
from trainer.evaluate.contestants import Contestants, open_contestants
from trainer.evaluate.cost import Cost, cost_of
from trainer.evaluate.exhibits import Exhibits, collect
from trainer.evaluate.extractors import INCEPTION, Extractor, open_extractor
from trainer.evaluate.features import check_counts, extract, figure_name
from trainer.evaluate.measure import Distances, Matrix, measure
from trainer.evaluate.painting import Commission, Painting, Paintings, PictureSet, latent_shape
from trainer.evaluate.prompts import open_prompts
from trainer.evaluate.scores import Score, mean_score, open_scores
from trainer.painting import PaintSettings
from trainer.precision import DTYPES
from trainer.studio import picture_size, trained_size


@dataclass(frozen=True)
class Settings:
    """How to evaluate; the sampler's defaults are the paper's.

    Attributes:
        prompts: a text file with one a line, or COCO's captions in JSON.
        pictures: of each set. None = every prompt once.
        size: width and height in pixels; None = as the file was trained.
        seed: of the first picture's noise.
        features: see `open_extractor`.
        weights: of the features' network, where they are not to be downloaded.
        components: principal components to compare; None = all features as they are.
        scores: names in `scores.KINDS`.
        columns: prompts that the report shows.
        cache: what is painted and extracted.
    """

    prompts: Path
    cache: Path
    pictures: int | None = None
    size: tuple[int | None, int | None] = (None, None)
    steps: int = 25
    guidance: float = 7.0
    negative: str = ""
    seed: int = 0
    batch_size: int = 8
    precision: str = "fp32"
    features: str = INCEPTION
    weights: Path | None = None
    components: int | None = None
    scores: Sequence[str] = ()
    columns: int = 8


@dataclass(frozen=True)
class Vectors:
    """The styles' vectors V(e_i), all of them: lengths, and cosines between them."""

    codebook_norms: list[float]
    norms: list[float]
    similarity: Matrix

    @classmethod
    @torch.no_grad()
    def of(cls, styles: Styles) -> Vectors:
        vectors = styles.prompts(torch.eye(styles.prompts.num_styles))
        directions = torch.nn.functional.normalize(vectors)
        return cls(
            styles.prompts.codebook.norm(dim=1).tolist(),
            vectors.norm(dim=1).tolist(),
            (directions @ directions.T).tolist(),
        )


@dataclass(frozen=True)
class Evaluation:
    """What was found; JSON holds all of it.

    Attributes:
        figure: what the Frechet distance is called, "FID" or "FD-lite0".
        teachers: for each style measured: its teacher's file and SHA-256, and what the recipe says.
        scores: by title: the student's and the teachers' mean of each style.
        how: sampler, prompts, pictures, machine and versions.
    """

    checkpoint: str
    sha256: str
    styles: list[str]
    teachers: list[dict[str, str]]
    figure: str
    distances: Distances
    scores: dict[str, dict[str, list[float]]]
    all_styles: list[str]
    vectors: Vectors
    cost: Cost
    recipe: dict[str, Any]
    how: dict[str, Any]

    def as_json(self) -> str:
        found = asdict(self)
        totals = ("trace", "floor", "excess", "nearest")
        found["distances"] |= {name: getattr(self.distances, name) for name in totals}
        return json.dumps(found, indent=2, ensure_ascii=False)


def evaluate(
    merged: Path, teachers: Sequence[str], settings: Settings, config: Path | None = None
) -> tuple[Evaluation, Exhibits] | None:
    """Paints, measures, and gives what the report shows; None on processes that only help.

    Killed and run again it goes on: pictures and features are kept in the cache, keyed by all
    that they depend on. Under `accelerate launch` all processes paint.

    Raises:
        DmmError: bad input, before anything is painted.
    """
    state = PartialState(cpu=not torch.cuda.is_available())
    contestants = open_contestants(merged, teachers, config)
    commission = _commission(contestants, settings, state.device)
    extractor = open_extractor(settings.features, state.device, settings.weights)
    check_counts([commission.pictures], extractor, settings.components)
    scores = open_scores(settings.scores, state.device) if state.is_main_process else {}

    began = time.monotonic()
    paintings = _paint(contestants, commission, state.is_main_process)
    exhibits = collect(contestants, commission, paintings.teachers, settings.columns)
    features = _features(paintings, extractor, commission.folder, state.is_main_process)
    if not state.is_main_process:
        return None
    evaluation = Evaluation(
        checkpoint=merged.name,
        sha256=contestants.checkpoint.sha256,
        styles=contestants.names,
        teachers=_teachers(contestants),
        figure=figure_name(extractor, settings.components),
        distances=measure(
            *features, prompts=paintings.students[0].captions, components=settings.components
        ),
        scores=_scores(scores, paintings),
        all_styles=contestants.styles.names,
        vectors=Vectors.of(contestants.styles),
        cost=cost_of(
            contestants.styles.recipe,
            merged,
            list(contestants.checkpoint.weight_files),
            [file for one in contestants.teachers for file in one.checkpoint.weight_files],
        ),
        recipe=contestants.styles.recipe,
        how={
            "prompts": settings.prompts.name,
            "different prompts": len(commission.prompts),
            "pictures a set": commission.pictures,
            "size": list(commission.settings.resolution),
            "sampler": "DPM-Solver++ 2M",
            "steps": settings.steps,
            "guidance": settings.guidance,
            "negative prompt": settings.negative,
            "seed": settings.seed,
            "precision": settings.precision,
            "features": f"{extractor.name}, {extractor.size} numbers a picture",
            "device": _device(state.device),
            "torch": torch.__version__,
            "seconds": round(time.monotonic() - began, 1),
        },
    )
    return evaluation, exhibits


def _commission(contestants: Contestants, settings: Settings, device: torch.device) -> Commission:
    checkpoint = contestants.checkpoint
    prompts = open_prompts(settings.prompts)
    size = picture_size(settings.size, trained_size(checkpoint))
    return Commission(
        prompts=prompts,
        pictures=settings.pictures or len(prompts),
        settings=PaintSettings(
            shape=latent_shape(checkpoint, size),
            resolution=size,
            steps=settings.steps,
            guidance=settings.guidance,
            negative=settings.negative,
            seed=settings.seed,
        ),
        folder=settings.cache,
        device=device,
        dtype=DTYPES[settings.precision],
        batch_size=settings.batch_size,
    )


def _paint(contestants: Contestants, commission: Commission, show: bool) -> Paintings:
    painting = Painting(contestants, commission)
    with tqdm(total=painting.count, desc="Painting", unit="set", disable=not show) as bar:
        for number, what in enumerate(painting.steps()):
            bar.update(number - bar.n)
            bar.set_postfix_str(what)
        bar.update(painting.count - bar.n)
        bar.set_postfix_str("")
    return painting.paintings


def _features(
    paintings: Paintings, extractor: Extractor, folder: Path, show: bool
) -> list[list[Tensor]]:
    """Of the students' sets, the teachers' second and their first, in this order."""
    lists = (paintings.students, paintings.again, paintings.teachers)
    sets = [one for some in lists for one in some]
    with tqdm(sets, desc=f"Features {extractor.name}", unit="set", disable=not show) as bar:
        features = [extract(one, extractor, folder) for one in bar]
    count = len(paintings.students)
    return [features[start : start + count] for start in range(0, len(features), count)]


def _scores(scores: dict[str, Score], paintings: Paintings) -> dict[str, dict[str, list[float]]]:
    def means(score: Score, sets: list[PictureSet]) -> list[float]:
        with tqdm(sets, desc="Scores", leave=False) as bar:
            return [_mean_score(score, one) for one in bar]

    return {
        title: {
            "student": means(score, paintings.students),
            "teachers": means(score, paintings.again),
        }
        for title, score in scores.items()
    }


def _mean_score(score: Score, pictures: PictureSet) -> float:
    mean = mean_score(score, pictures.pictures(range(len(pictures.examples))), pictures.captions)
    pictures.release()
    return mean


def _teachers(contestants: Contestants) -> list[dict[str, str]]:
    return [
        {
            "style": contestants.styles.names[row],
            "file": teacher.checkpoint.source,
            "sha256": teacher.checkpoint.sha256,
            "learned from": contestants.styles.styles[row].sha256,
        }
        for row, teacher in zip(contestants.rows, contestants.teachers, strict=True)
    ]


def _device(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{platform.machine()} CPU, {threads} thread{'s' if threads > 1 else ''}"
