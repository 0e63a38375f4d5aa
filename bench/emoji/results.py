"""The figures that were obtained, one JSON object a line, and the table made of them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.evaluate.report import over_floor

RESULTS = Path(__file__).parent / "results.jsonl"
README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- results -->", "<!-- end of results -->"

Result = dict[str, Any]

COLUMNS = {
    "method": "---",
    "trace": "---:",
    "to the floor": "---:",
    "unseen": "---:",
    "KID × 1000": "---:",
    "UNet evaluations": "---:",
    "seconds": "---:",
    "MB": "---:",
    "change of style": "---:",
}


def read_results(path: Path) -> list[Result]:
    """All whole lines; a run that was killed may have left half of one."""
    if not path.exists():
        return []
    results = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            results.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return results


def add_result(path: Path, result: Result) -> None:
    """Writes the file anew with one more line, whole or not at all."""
    lines = [json.dumps(one, ensure_ascii=False) + "\n" for one in [*read_results(path), result]]
    partial = path.with_name(f"{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial.write_text("".join(lines), encoding="utf-8", newline="\n")
    os.replace(partial, path)


def tables(results: Sequence[Result]) -> str:
    """A Markdown table for each contest: size, number of styles, features and machine."""
    contests: dict[tuple, list[Result]] = {}
    for result in results:
        key = (result["size"], result["styles"], result["features"], result["device"])
        contests.setdefault(key, []).append(result)
    return "\n".join(_table(*key, some) for key, some in contests.items())


def write_table(results: Sequence[Result], path: Path = README) -> None:
    """Puts the tables between the marks in the README."""
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    text = f"{before}{BEGIN}\n\n{tables(results)}\n{END}{after}"
    path.write_text(text, encoding="utf-8", newline="\n")


def _table(size: str, styles: int, features: str, device: str, results: Sequence[Result]) -> str:
    rows = [COLUMNS, COLUMNS.values(), *(_row(result) for result in results)]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    title = f"**{size}**: {styles} styles, {features}, on {device}"
    return "\n".join([title, "", *lines, ""])


def _row(result: Mapping[str, Any]) -> list[str]:
    interval, change = result["fidt_interval"], result["change_seconds"]
    return [
        result["method"],
        f"{result['fidt']:.1f}" + ("" if interval is None else f" ± {interval:.1f}"),
        over_floor(result["fidt"] / result["fidt_floor"] - 1),
        f"{result['fidt_unseen']:.1f}",
        f"{1000 * result['kid']:.2f}",
        f"{result['unet_evaluations']:,}",
        f"{result['seconds']:,.0f}",
        f"{result['bytes'] / 1e6:,.1f}",
        "none" if change is None else f"{1000 * change:.2f} ms",
    ]
