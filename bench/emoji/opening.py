"""What every command of the benchmark is told, and what it opens."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from bench.emoji.contest import Contest
from bench.emoji.judge import Judge
from bench.emoji.sizes import SIZES
from trainer.evaluate.extractors import LITE0, open_extractor
from trainer.evaluate.features import figure_name
from trainer.fingerprint import fingerprint

DEMO = Path(__file__).parents[2] / "demo"


def parser(description: str | None, results: Path) -> argparse.ArgumentParser:
    """Arguments that all commands share; `results` is where their figures are kept."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("folder", type=Path)
    made.add_argument("--size", choices=SIZES, default="laptop")
    made.add_argument("--styles", type=int, help="the first so many; all if left out")
    made.add_argument("--home", type=Path, help="where bench.emoji.teachers made the teachers")
    made.add_argument("--features", default=LITE0)
    made.add_argument("--seed", type=int, default=0, help="of what is drawn and measured")
    made.add_argument("--results", type=Path, default=results)
    return made


def open_contest(arguments: argparse.Namespace) -> Contest:
    """Ends with a message where the teachers are missing."""
    size, folder = SIZES[arguments.size], arguments.folder.resolve()
    home = arguments.home or (folder if size.name == "gpu" else DEMO)
    base = home / "teachers" / "base.safetensors"
    if not base.is_file():
        raise SystemExit(f"There is no {base}. Run python -m bench.emoji.teachers {home} first.")
    files = [path for path in base.parent.glob("*.safetensors") if path != base]
    files.sort(key=lambda path: path.stem)  # so that the restyled come after what they restyle
    return Contest(
        size=size,
        base=base,
        teachers={path.stem: path for path in files[: arguments.styles]},
        seen=home / "prompts.txt",
        unseen=home / "heldout.txt",
        folder=folder / size.name,
        seed=arguments.seed,
    )


def open_judge(arguments: argparse.Namespace, contest: Contest) -> tuple[Judge, dict[str, Any]]:
    """Who measures, and the keys that tell this contest's results from others'."""
    state = PartialState(cpu=not torch.cuda.is_available())
    extractor = open_extractor(arguments.features, state.device)
    key = {
        "size": contest.size.name,
        "styles": len(contest.styles),
        "features": figure_name(extractor, contest.size.components),
        "seed": contest.seed,
        "teachers": fingerprint([one.sha256 for one in contest.opened.values()])[:16],
    }
    return Judge(contest, extractor, state.device), key
