"""Runs the emoji benchmark, or goes on with it: what `results.jsonl` has already is not done again.

    python -m bench.emoji FOLDER [--size laptop] [--styles 4] [--methods dmm paper …] [--seed 0]

FOLDER keeps what is made and painted. Sizes: `tiny` for the tests, `laptop` (the demo's four
teachers as they come with the repository), `gpu` (eight teachers, trained by
`python -m bench.emoji.teachers FOLDER` before).
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import torch
from accelerate import PartialState

from bench.emoji.contest import Contest, Entry
from bench.emoji.judge import Judge, Marks
from bench.emoji.methods import methods
from bench.emoji.results import RESULTS, add_result, read_results, tables, write_table
from bench.emoji.sizes import SIZES
from bench.report import machine
from trainer.evaluate.extractors import LITE0, open_extractor
from trainer.evaluate.features import figure_name
from trainer.fingerprint import fingerprint

DEMO = Path(__file__).parents[2] / "demo"


def main() -> None:
    arguments = _arguments()
    contest = _contest(arguments)
    known = methods(contest)
    unknown = set(arguments.methods or ()) - set(known)
    if unknown:
        raise SystemExit(f"No method {', '.join(unknown)}. There are: {', '.join(known)}.")
    state = PartialState(cpu=not torch.cuda.is_available())
    extractor = open_extractor(arguments.features, state.device)
    judge = Judge(contest, extractor, state.device)
    key = {
        "size": contest.size.name,
        "styles": len(contest.styles),
        "features": figure_name(extractor, contest.size.components),
        "seed": contest.seed,
        "teachers": fingerprint([one.sha256 for one in contest.opened.values()])[:16],
    }
    floor: tuple[Marks, Marks] | None = None
    for name in arguments.methods or known:
        wanted = {"method": name, **key}
        done = read_results(arguments.results)
        if any(wanted.items() <= result.items() for result in done):
            print(f"{name}: done before", flush=True)
            continue
        print(f"{name}: begins", flush=True)
        if floor is None:
            teachers = known["teachers"](contest, contest.folder, judge)
            floor = judge.seen(teachers), judge.unseen(teachers)
        folder = contest.folder / name.replace(", ", "-").replace(" ", "-") / str(contest.seed)
        folder.mkdir(parents=True, exist_ok=True)
        entry = known[name](contest, folder, judge)
        result = wanted | _figures(entry, judge, floor)
        add_result(arguments.results, result)
    results = read_results(arguments.results)
    if arguments.results == RESULTS:
        write_table(results)
    print(tables(results))


def _figures(entry: Entry, judge: Judge, floor: tuple[Marks, Marks]) -> dict:
    seen, unseen = judge.seen(entry), judge.unseen(entry)
    return {
        "fidt": seen.trace,
        "fidt_floor": floor[0].trace,
        "fidt_unseen": unseen.trace,
        "fidt_unseen_floor": floor[1].trace,
        "kid": seen.kernel,
        "unet_evaluations": entry.unet_evaluations,
        "samples": entry.samples,
        "seconds": entry.seconds,
        "bytes": sum(path.stat().st_size for path in entry.files),
        "change_seconds": judge.change_seconds(entry),
        "device": machine(),
        "config": dict(entry.config or {}),
    }


def _contest(arguments: argparse.Namespace) -> Contest:
    size, folder = SIZES[arguments.size], arguments.folder.resolve()
    made = folder / "teachers" if size.name == "gpu" else DEMO / "teachers"
    prompts = folder if size.name == "gpu" else DEMO
    base = made / "base.safetensors"
    if not base.is_file():
        raise SystemExit(f"There is no {base}. Run python -m bench.emoji.teachers {folder} first.")
    files = sorted(path for path in made.glob("*.safetensors") if path != base)
    return Contest(
        size=size,
        base=base,
        teachers={path.stem: path for path in files[: arguments.styles]},
        seen=prompts / "prompts.txt",
        unseen=prompts / "heldout.txt",
        folder=folder / size.name,
        seed=arguments.seed,
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=SIZES, default="laptop")
    parser.add_argument("--styles", type=int, help="the first so many; all if left out")
    parser.add_argument("--methods", nargs="+", help="all if left out")
    parser.add_argument("--features", default=LITE0)
    parser.add_argument("--seed", type=int, default=0, help="of what the methods draw and are measured with")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args()


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message=".*which a LoRA does not hold")
    main()
