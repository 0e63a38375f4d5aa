"""Axes for the host's X/Y/Z plot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from modules import scripts

from dmm.mixes import format_mix, parse_mix
from sd_webui_dmm import changes
from sd_webui_dmm.checkpoints import chosen_file, styles_of
from sd_webui_dmm.request import Request


def register() -> None:
    """Adds the axes to the X/Y/Z plot, unless it is switched off or has them already."""
    files = {Path(data.path).name: data.module for data in scripts.scripts_data}
    plot = files.get("xyz_grid.py")
    if plot is None or any(option.label.startswith("[DMM]") for option in plot.axis_options):
        return
    plot.axis_options += [
        plot.AxisOption("[DMM] style", str, _apply(_style, instead_of_tags=True), choices=_names),
        plot.AxisOption("[DMM] style weight", str, _apply(_style_weight, instead_of_tags=True)),
        plot.AxisOption("[DMM] mix", str, _apply(_mix, instead_of_tags=True)),
        plot.AxisOption("[DMM] strength", float, _apply(_strength)),
    ]


def _apply(
    change: Callable[[Request, Any], Request], *, instead_of_tags: bool = False
) -> Callable[..., None]:
    def apply(p: Any, value: Any, _values: list[Any]) -> None:
        changes.add(p, lambda request: change(request, value), instead_of_tags=instead_of_tags)

    return apply


def _style(request: Request, name: str) -> Request:
    return replace(request, mix=format_mix({name: 1.0}))


def _style_weight(request: Request, part: str) -> Request:
    """Changes the weight of a style, ``"ink:0.5"``, and leaves the rest of the mix."""
    mix = parse_mix(request.mix) if request.mix else {}
    return replace(request, mix=format_mix(mix | parse_mix(part)))


def _mix(request: Request, mix: str) -> Request:
    return replace(request, mix=mix)


def _strength(request: Request, strength: float) -> Request:
    return replace(request, strength=strength)


def _names() -> list[str]:
    file = chosen_file()
    styles = styles_of(file) if file else None
    return styles.names if styles else []
