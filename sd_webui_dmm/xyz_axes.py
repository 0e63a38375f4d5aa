"""Axes for the host's X/Y/Z plot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from modules import scripts, sd_models

from dmm.mixes import format_mix, parse_mix
from sd_webui_dmm.checkpoints import styles_of
from sd_webui_dmm.request import Request

Change = Callable[[Request], Request]


def register() -> None:
    """Adds the axes to the X/Y/Z plot, unless it is switched off or has them already."""
    files = {Path(data.path).name: data.module for data in scripts.scripts_data}
    plot = files.get("xyz_grid.py")
    if plot is None or any(option.label.startswith("[DMM]") for option in plot.axis_options):
        return
    plot.axis_options += [
        plot.AxisOption("[DMM] style", str, _apply(_style), choices=_names),
        plot.AxisOption("[DMM] style weight", str, _apply(_style_weight)),
        plot.AxisOption("[DMM] mix", str, _apply(_mix)),
        plot.AxisOption("[DMM] strength", float, _apply(_strength)),
    ]


def changes(p: Any) -> tuple[Change, ...]:
    """What the plot wants otherwise in the job `p`, in its order; empty without a plot."""
    return getattr(p, "dmm_changes", ())


def _apply(change: Callable[[Request, Any], Request]) -> Callable[..., None]:
    def apply(p: Any, value: Any, _values: list[Any]) -> None:
        p.dmm_changes = (*changes(p), lambda request: change(request, value))

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
    styles = styles_of(Path(sd_models.select_checkpoint().filename))
    return styles.names if styles else []
