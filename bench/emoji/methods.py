"""Every method of the benchmark by name, in the order of the table."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from bench.emoji import baselines
from bench.emoji.contest import Contest, Entry
from bench.emoji.judge import Judge
from bench.emoji.merges import RECIPES, extended, merge

Method = Callable[[Contest, Path, Judge], Entry]
"""Makes an entry in a folder of its own; run again after a stop it goes on there."""


def methods(contest: Contest) -> dict[str, Method]:
    """All that there are."""
    return {
        "teachers": _alone(baselines.teachers),
        "style words": _alone(baselines.style_words),
        "average": _alone(baselines.uniform),
        "best average": best_average,
        "task arithmetic": _alone(baselines.arithmetic),
        "TIES": _alone(baselines.trimmed),
        "DARE": _alone(partial(baselines.dropped, with_ties=False)),
        "DARE-TIES": _alone(partial(baselines.dropped, with_ties=True)),
        **{
            f"LoRA, rank {rank}": _alone(partial(baselines.loras, rank=rank))
            for rank in contest.size.ranks
        },
        **{name: _alone(partial(merge, recipe=recipe)) for name, recipe in RECIPES.items()},
        "dmm, extended": _alone(partial(extended, regularization=True)),
        "dmm, extended freely": _alone(partial(extended, regularization=False)),
    }


def usual(contest: Contest) -> list[str]:
    """The names of those that are compared where nobody says which."""
    fifths = {name for name, recipe in RECIPES.items() if recipe.evaluations}
    return [name for name in methods(contest) if contest.size.fifths or name not in fifths]


def _alone(method: Callable[[Contest, Path], Entry]) -> Method:
    """A method that needs no judge."""
    return lambda contest, folder, _judge: method(contest, folder)


def best_average(contest: Contest, folder: Path, judge: Judge) -> Entry:
    """The weighted average with the smallest trace among some drawn at random."""
    torch.manual_seed(contest.seed)
    draws = torch.distributions.Dirichlet(torch.ones(len(contest.styles)))
    entries = [
        baselines.weighted(
            contest, folder / f"average-{number}.safetensors", draws.sample().tolist()
        )
        for number in range(contest.size.search)
    ]
    return min(entries, key=lambda entry: judge.seen(entry).trace)
