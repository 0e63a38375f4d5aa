"""Styles mixed in one file against weights averaged into a file a mix (the paper's table 3).

    python -m bench.emoji.mixing FOLDER [--size laptop] [--seed 0]

Every two styles half and half, and all styles alike. A good mix still shows what the prompt says,
lies near what its styles paint, and is not one of them alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from bench.emoji.contest import Artist, Contest, as_teacher
from bench.emoji.intervals import Estimate
from bench.emoji.judge import Judge
from bench.emoji.merges import RECIPES, merge
from bench.emoji.opening import open_contest, open_judge, parser
from bench.emoji.probes import StyleProbe, concept_accuracy
from bench.emoji.results import (
    Result,
    add_result,
    read_results,
    table_of_methods,
    write_section,
)
from bench.report import machine
from dmm.style_prompts import StylePrompts
from trainer.average import average
from trainer.checkpoint import open_checkpoint
from trainer.evaluate.frechet import frechet_distance
from trainer.teachers import Teacher

RESULTS = Path(__file__).parent / "mixing.jsonl"

Mix = tuple[int, ...]
"""The numbers of the styles that have equal parts in it."""


def mixes(styles: int) -> list[Mix]:
    """All pairs, and everything."""
    pairs = list(combinations(range(styles), 2))
    return [*pairs, tuple(range(styles))] if styles > 2 else pairs


def by_weights(contest: Contest, folder: Path) -> Iterator[tuple[Mix, Artist, float]]:
    """Weighted merging: each mix with who paints it and the seconds of making its file."""
    paths = list(contest.teachers.values())
    for mix in mixes(len(paths)):
        path = folder / f"{'-'.join(map(str, mix))}.safetensors"
        began = time.perf_counter()
        average([paths[style] for style in mix], path, overwrite=True)
        seconds = time.perf_counter() - began
        yield mix, Artist(as_teacher(open_checkpoint(path))), seconds


def by_prompts(contest: Contest, teacher: Teacher) -> Iterator[tuple[Mix, Artist, float]]:
    """A merged checkpoint: each mix is a row of a codebook, and costs a sum."""
    wanted = mixes(len(contest.styles))
    began = time.perf_counter()
    prompts = mixed_prompts(teacher, wanted)
    seconds = (time.perf_counter() - began) / len(wanted)
    painter = replace(teacher, styles=tuple(range(len(wanted))), prompts=prompts)
    for row, mix in enumerate(wanted):
        yield mix, Artist(painter, row), seconds


@torch.no_grad()
def mixed_prompts(teacher: Teacher, wanted: Sequence[Mix]) -> StylePrompts:
    """Style prompts with a row a mix, as V(w) has it: mixed before the MLP."""
    own = teacher.prompts
    assert own is not None
    prompts = StylePrompts(len(wanted), own.dim)
    rows = torch.stack([own.codebook[[teacher.styles[s] for s in mix]].mean(0) for mix in wanted])
    prompts.load_state_dict(own.state_dict() | {"codebook": rows})
    return prompts


def measure(
    judge: Judge, painted: Iterator[tuple[Mix, Artist, float]], folder: Path
) -> dict[str, float]:
    """Means over the pairs, and the mix of all where there is one."""
    panel = judge.panel
    commission = replace(judge.again(panel.commission), folder=folder / "cache")
    pairs, everything, seconds = [], {}, []
    for mix, artist, made_in in painted:
        features = judge.features(artist, commission)
        known = [panel.features[style] for style in mix]
        figures = _figures(features, known, panel.texts)
        figures["distance"] = frechet_distance(
            panel.gaussian(features), panel.gaussian(torch.cat(known))
        )
        seconds.append(made_in)
        if len(mix) == 2:
            pairs.append(figures)
        else:
            everything = {f"all_{key}": value for key, value in figures.items()}
    means = {key: fmean(figures[key] for figures in pairs) for key in pairs[0]}
    return {**means, **everything, "mix_seconds": fmean(seconds)}


def _figures(features: Tensor, known: Sequence[Tensor], prompts: list[str]) -> dict[str, float]:
    shares = torch.bincount(StyleProbe(known)(features), minlength=len(known)) / len(features)
    return {
        "concept": concept_accuracy(features, torch.cat(list(known)), prompts * len(known)),
        "largest_share": float(shares.max()),
    }


def tables(results: Sequence[Result]) -> str:
    """Markdown, a table a contest."""
    columns = (
        *("method", "runs", "distance of pairs", "concept", "largest share"),
        *("distance of all", "concept of all", "a new mix"),
    )
    return table_of_methods(results, "mixes of", columns, _row)


def _row(method: str, runs: Sequence[Result]) -> list[str]:
    return [
        method,
        str(len(runs)),
        str(Estimate([run["distance"] for run in runs])),
        f"{fmean(run['concept'] for run in runs):.2f}",
        f"{fmean(run['largest_share'] for run in runs):.2f}",
        str(Estimate([run["all_distance"] for run in runs])) if "all_distance" in runs[0] else "",
        f"{fmean(run['all_concept'] for run in runs):.2f}" if "all_concept" in runs[0] else "",
        f"{1000 * fmean(run['mix_seconds'] for run in runs):.1f} ms",
    ]


def main() -> None:
    arguments = parser(__doc__, RESULTS).parse_args()
    contest = open_contest(arguments)
    judge, key = open_judge(arguments, contest)
    folder = contest.work("mixing")
    merged = merge(contest, contest.work("dmm"), RECIPES["dmm"])
    student = merged.artists[0].teacher
    ways: dict[str, Any] = {
        "weighted merging": by_weights(contest, folder),
        "dmm": by_prompts(contest, student),
    }
    for method, painted in ways.items():
        wanted = {"method": method, **key}
        if any(wanted.items() <= one.items() for one in read_results(arguments.results)):
            print(f"{method}: done before", flush=True)
            continue
        figures = measure(judge, painted, folder / method.replace(" ", "-"))
        add_result(arguments.results, wanted | figures | {"device": machine()})
    results = read_results(arguments.results)
    if arguments.results == RESULTS:
        write_section(tables(results), "mixing")
    print(tables(results))


if __name__ == "__main__":
    main()
