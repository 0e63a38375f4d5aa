"""Runs the emoji benchmark, or goes on with it: what `results.jsonl` has already is not done again.

    python -m bench.emoji FOLDER [--size laptop] [--styles 4] [--methods dmm paper …] [--seed 0]

FOLDER keeps what is made and painted. Sizes: `tiny` for the tests; `laptop`, the demo's four
teachers as they come with the repository; `evening`, the same with merges four and a half times as
long; `gpu`, eight teachers, trained by `python -m bench.emoji.teachers FOLDER` before.
"""

from __future__ import annotations

import argparse
import warnings
from typing import Any

from bench.emoji.contest import Contest, Entry
from bench.emoji.judge import Judge, Marks
from bench.emoji.methods import methods, usual
from bench.emoji.opening import open_contest, open_judge, parser
from bench.emoji.results import RESULTS, add_result, read_results, tables, write_section
from bench.report import machine


def main() -> None:
    arguments = _arguments()
    contest = open_contest(arguments)
    known = methods(contest)
    unknown = set(arguments.methods or ()) - set(known)
    if unknown:
        raise SystemExit(f"No method {', '.join(unknown)}. There are: {', '.join(known)}.")
    judge, key = open_judge(arguments, contest)
    floor: tuple[Marks, Marks] | None = None
    for name in arguments.methods or usual(contest):
        wanted = {"method": name, **key}
        done = read_results(arguments.results)
        if any(wanted.items() <= result.items() for result in done):
            print(f"{name}: done before", flush=True)
            continue
        print(f"{name}: begins", flush=True)
        if floor is None:
            teachers = known["teachers"](contest, contest.folder, judge)
            floor = judge.seen(teachers), judge.unseen(teachers)
        entry = known[name](contest, contest.work(name), judge)
        result = wanted | _figures(entry, contest, judge, floor)
        add_result(arguments.results, result)
    results = read_results(arguments.results)
    if arguments.results == RESULTS:
        write_section(tables(results))
    print(tables(results))


def _figures(
    entry: Entry, contest: Contest, judge: Judge, floor: tuple[Marks, Marks]
) -> dict[str, Any]:
    seen, unseen = judge.seen(entry), judge.unseen(entry)
    return {
        "fidt": seen.trace,
        "fidt_floor": floor[0].trace,
        "fidt_unseen": unseen.trace,
        "fidt_unseen_floor": floor[1].trace,
        "fidt_styles": dict(zip(contest.styles, seen.distances, strict=True)),
        "kid": seen.kernel,
        "style": seen.style,
        "style_ceiling": floor[0].style,
        "concept": seen.concept,
        "concept_ceiling": floor[0].concept,
        "unet_evaluations": entry.unet_evaluations,
        "painting_evaluations": entry.painting_evaluations,
        "samples": entry.samples,
        "seconds": entry.seconds,
        "peak_bytes": entry.peak_bytes,
        "bytes": sum(path.stat().st_size for path in entry.files),
        "change_seconds": judge.change_seconds(entry),
        "device": machine(),
        "config": dict(entry.config or {}),
    }


def _arguments() -> argparse.Namespace:
    made = parser(__doc__, RESULTS)
    made.add_argument("--methods", nargs="+", help="what belongs to the size if left out")
    return made.parse_args()


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message=".*which a LoRA does not hold")
    main()
