"""Pictures of the same prompts from the same noise, by the teachers and by what was made of them.

    python -m bench.emoji.gallery FOLDER [--size laptop] [--methods average paper dmm]

writes `pictures/<size>.webp` beside this file, after the methods were run.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image

from bench.emoji.methods import methods
from bench.emoji.opening import open_contest, open_judge, parser
from bench.emoji.results import RESULTS
from trainer.grid import save_grid

PICTURES = Path(__file__).parent / "pictures"
COLUMNS = 10


def main() -> None:
    made = parser(__doc__, RESULTS)
    made.add_argument("--methods", nargs="+", default=["average", "paper", "dmm"])
    made.add_argument("--pictures", type=Path, default=PICTURES)
    arguments = made.parse_args()
    contest = open_contest(arguments)
    judge, _ = open_judge(arguments, contest)
    commission = judge.again(judge.panel.commission)
    different = min(len(commission.prompts), commission.pictures)
    columns = min(COLUMNS, different)
    numbers = [column * different // columns for column in range(columns)]
    known = methods(contest)
    names = ["teachers", *arguments.methods]
    entries = {name: known[name](contest, contest.work(name), judge) for name in names}
    rows = []
    for row, style in enumerate(contest.styles):
        for name, entry in entries.items():
            painted = judge.painted(entry.artists[row], commission)
            who = "teacher" if name == "teachers" else name
            rows.append((f"{style} · {who}", list(painted.pictures(numbers))))
    arguments.pictures.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        grid = Path(folder) / "grid.png"
        save_grid(grid, rows)
        with Image.open(grid) as sheet:
            sheet.save(arguments.pictures / f"{contest.size.name}.webp", quality=80, method=6)


if __name__ == "__main__":
    main()
