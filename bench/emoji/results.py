"""The figures that were obtained, one JSON object a line, and the tables made of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from bench.emoji.intervals import Estimate
from dmm.atomic import written_whole
from trainer.evaluate.report import over_floor

RESULTS = Path(__file__).parent / "results.jsonl"
README = Path(__file__).parent / "README.md"
NUMBERED = ("dmm", "paper")
"""Methods that are compared by the number of styles."""

Result = dict[str, Any]
Row = Sequence[str]


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
    with written_whole(path) as partial:
        partial.write_text("".join(lines), encoding="utf-8", newline="\n")


def write_section(text: str, name: str = "results", path: Path = README) -> None:
    """Puts Markdown between the marks of that name in the README."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, _, rest = path.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(end)
    path.write_text(f"{before}{begin}\n\n{text}\n{end}{after}", encoding="utf-8", newline="\n")


def tables(results: Sequence[Result]) -> str:
    """Markdown: what each method reached and cost, style by style, and by the number of styles."""
    contests = grouped(results, "size", "styles", "features", "device")
    parts = [_contest(*key, some) for key, some in contests.items()]
    return "\n".join([*parts, *_by_number(results)])


def grouped(results: Iterable[Result], *keys: str) -> dict[tuple, list[Result]]:
    """Results that agree in some keys, in the order in which they first come."""
    groups: dict[tuple, list[Result]] = {}
    for result in results:
        groups.setdefault(tuple(result[key] for key in keys), []).append(result)
    return groups


def markdown(columns: Sequence[str], rows: Iterable[Row]) -> str:
    """A table, its first column to the left and the others to the right."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def table_of_methods(
    results: Sequence[Result],
    what: str,
    columns: Sequence[str],
    row: Callable[[str, Sequence[Result]], Row],
) -> str:
    """Markdown, a table a contest with a row a method.

    Args:
        what: of the styles is compared: "mixes of".
        row: of a method's name and its runs.
    """
    parts = []
    contests = grouped(results, "size", "styles", "features", "device")
    for (size, styles, features, device), some in contests.items():
        rows = [row(method, runs) for (method,), runs in grouped(some, "method").items()]
        parts += [f"**{size}**: {what} {styles} styles, {features}, on {device}", ""]
        parts.append(markdown(columns, rows))
    return "\n".join(parts)


def _contest(size: str, styles: int, features: str, device: str, results: list[Result]) -> str:
    by_trace = sorted(
        grouped(results, "method").items(), key=lambda item: fmean(one["fidt"] for one in item[1])
    )
    methods = {method: some for (method,), some in by_trace}
    names = list(results[0]["fidt_styles"])
    title = f"**{size}**: {styles} styles, {features}, on {device}"
    reached = markdown(
        ("method", "runs", "trace", "to the floor", "unseen", "style", "concept", "KID × 1000"),
        [_reached(method, some) for method, some in methods.items()],
    )
    cost = markdown(
        (
            *("method", "samples", "UNet evaluations", "of them painting", "seconds"),
            *("memory, MiB", "file, MB", "change of style"),
        ),
        [_cost(method, some) for method, some in methods.items()],
    )
    apart = markdown(
        ("method", *names),
        [
            (method, *(str(_estimate(some, lambda one, n=n: one["fidt_styles"][n])) for n in names))
            for method, some in methods.items()
        ],
    )
    return "\n".join(
        [title, "", reached, "What it cost:", "", cost, "The distance of each style:", "", apart]
    )


def _reached(method: str, results: list[Result]) -> Row:
    return (
        method,
        str(len(results)),
        str(_estimate(results, lambda one: one["fidt"])),
        over_floor(fmean(one["fidt"] / one["fidt_floor"] for one in results) - 1),
        str(_estimate(results, lambda one: one["fidt_unseen"])),
        *_shares(results),
        f"{1000 * fmean(one['kid'] for one in results):.2f}",
    )


def _cost(method: str, results: list[Result]) -> Row:
    peaks = [one["peak_bytes"] for one in results if one["peak_bytes"]]
    changes = [one["change_seconds"] for one in results if one["change_seconds"] is not None]
    return (
        method,
        f"{fmean(one['samples'] for one in results):,.0f}",
        f"{fmean(one['unet_evaluations'] for one in results):,.0f}",
        f"{fmean(one['painting_evaluations'] for one in results):,.0f}",
        f"{fmean(one['seconds'] for one in results):,.0f}",
        f"{max(peaks) / 2**20:,.0f}" if peaks else "",
        f"{fmean(one['bytes'] for one in results) / 1e6:,.1f}",
        f"{1000 * fmean(changes):.2f} ms" if changes else "none",
    )


def _by_number(results: Sequence[Result]) -> list[str]:
    """How the distance of a style grows with their number (paper's rebuttal, table 2)."""
    tables = []
    for (size, features, _), some in grouped(results, "size", "features", "device").items():
        counts = grouped((one for one in some if one["method"] in NUMBERED), "method", "styles")
        if len({styles for _, styles in counts}) < 2:
            continue
        columns = ("method", "styles", "runs", "distance of a style", "floor", "style", "concept")
        rows = [_number(*key, counts[key]) for key in sorted(counts)]
        tables += [f"**{size}**: by the number of styles, {features}", "", markdown(columns, rows)]
    return tables


def _number(method: str, styles: int, results: list[Result]) -> Row:
    return (
        method,
        str(styles),
        str(len(results)),
        str(_estimate(results, lambda one: one["fidt"] / styles)),
        str(_estimate(results, lambda one: one["fidt_floor"] / styles)),
        *_shares(results),
    )


def _shares(results: list[Result]) -> Row:
    """Style and concept, each of what the teachers reach."""
    return [
        f"{fmean(one[key] for one in results):.2f} of "
        f"{fmean(one[f'{key}_ceiling'] for one in results):.2f}"
        for key in ("style", "concept")
    ]


def _estimate(results: Sequence[Mapping[str, Any]], figure) -> Estimate:
    return Estimate([figure(one) for one in results])
