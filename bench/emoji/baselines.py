"""What people do today: weights averaged or added up, LoRAs, and words in the prompt."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from peft.utils.merge_utils import dare_linear, dare_ties, task_arithmetic, ties
from torch import Tensor

from bench.emoji.contest import Artist, Contest, Entry, as_teacher
from dmm.layouts import single_file_tensors
from dmm.tensors import save_tensors
from trainer.average import average
from trainer.checkpoint import Checkpoint, open_checkpoint
from trainer.extract import extract
from trainer.lora import open_lora, with_loras

Combine = Callable[[list[Tensor], Tensor], Tensor]
"""Task vectors (what each teacher changed in a tensor) and their weights to one change."""

# Weights and densities as their authors recommend for merging without a search: Ilharco et al.
# 2023, Yadav et al. 2023, Yu et al. 2024.
TASK_WEIGHT = 0.4
TIES = {"density": 0.2, "weight": 1.0}
DARE = {"density": 0.5, "weight": 0.4}


def teachers(contest: Contest, _folder: Path) -> Entry:
    """The teachers themselves: the floor, at N times the size and a file to load for each style."""
    opened = list(contest.opened.values())
    return Entry(
        [Artist(as_teacher(checkpoint)) for checkpoint in opened],
        list(contest.teachers.values()),
        change=lambda style: opened[style].load_unet(),
    )


def style_words(contest: Contest, _folder: Path) -> Entry:
    """The base, told the style's name."""
    base = as_teacher(contest.opened_base)
    words = [f", {style.replace('-', ' ')} style" for style in contest.styles]
    return Entry(
        [Artist(base, words=said) for said in words],
        [contest.base],
        change=lambda _style: None,
        config={"words": words},
    )


def uniform(contest: Contest, folder: Path) -> Entry:
    """Weighted merging with all weights alike: one file that paints one blend for every style."""
    return weighted(contest, folder / "average.safetensors", [1.0] * len(contest.styles))


def weighted(contest: Contest, path: Path, weights: Sequence[float]) -> Entry:
    began = time.perf_counter()
    if not path.exists():
        average(list(contest.teachers.values()), path, list(weights))
    return _one_file(contest, path, time.perf_counter() - began, {"weights": list(weights)})


def arithmetic(contest: Contest, folder: Path) -> Entry:
    return _combined(contest, folder / "task-arithmetic.safetensors", task_arithmetic, TASK_WEIGHT)


def trimmed(contest: Contest, folder: Path) -> Entry:
    combine = partial(ties, density=TIES["density"])
    return _combined(contest, folder / "ties.safetensors", combine, TIES["weight"])


def dropped(contest: Contest, folder: Path, with_ties: bool) -> Entry:
    combine = partial(dare_ties if with_ties else dare_linear, density=DARE["density"])
    name = "dare-ties" if with_ties else "dare"
    return _combined(contest, folder / f"{name}.safetensors", combine, DARE["weight"])


def loras(contest: Contest, folder: Path, rank: int) -> Entry:
    """The base and a LoRA a style, extracted from its teacher."""
    began = time.perf_counter()
    files = []
    for style, teacher in contest.teachers.items():
        files.append(folder / f"{style}-rank-{rank}.safetensors")
        if not files[-1].exists():
            extract(teacher, contest.base, rank, files[-1])
    patched = [with_loras(contest.opened_base, [open_lora(file, 1.0)]) for file in files]
    return Entry(
        [Artist(as_teacher(checkpoint)) for checkpoint in patched],
        [contest.base, *files],
        change=lambda style: patched[style].load_unet(),
        seconds=time.perf_counter() - began,
        config={"rank": rank},
    )


class _Combined(Mapping[str, Tensor]):
    """The base's tensors, each with a combination of what the teachers changed in it."""

    def __init__(
        self,
        base: Mapping[str, Tensor],
        tuned: Sequence[Mapping[str, Tensor]],
        combine: Combine,
        weight: float,
    ) -> None:
        self._base, self._tuned, self._combine = base, tuned, combine
        self._weights = torch.full((len(tuned),), weight)

    def __getitem__(self, key: str) -> Tensor:
        base = self._base[key].float()
        changes = [tensors[key].float() - base for tensors in self._tuned]
        if not any(change.any() for change in changes):
            return base
        return base + self._combine(changes, self._weights)

    def __iter__(self) -> Iterator[str]:
        return iter(self._base)

    def __len__(self) -> int:
        return len(self._base)


def _combined(contest: Contest, path: Path, combine: Combine, weight: float) -> Entry:
    began = time.perf_counter()
    if not path.exists():
        torch.manual_seed(contest.seed)  # DARE drops by chance
        base, tuned = contest.opened_base, list(contest.opened.values())

        def both(read: Callable[[Checkpoint], Mapping[str, Tensor]]) -> dict[str, Tensor]:
            return dict(_Combined(read(base), [read(one) for one in tuned], combine, weight))

        tensors = single_file_tensors(
            base.family,
            both(lambda one: one.unet_tensors()),
            base.vae_tensors(),
            [
                both(lambda one, index=index: one.text_encoder_tensors(index))
                for index in range(len(base.text_encoder_configs))
            ],
        )
        half = {name: tensor.half() for name, tensor in tensors.items()}
        save_tensors(path, half, base.metadata)
    options = getattr(combine, "keywords", {})
    return _one_file(contest, path, time.perf_counter() - began, {"weight": weight, **options})


def _one_file(contest: Contest, path: Path, seconds: float, config: dict) -> Entry:
    """A plain checkpoint, which paints alike whatever style is wanted."""
    artist = Artist(as_teacher(open_checkpoint(path)))
    return Entry([artist] * len(contest.styles), [path], seconds=seconds, config=config)
