"""Controls: which of its controls a merged ControlNet follows in a unit.

It is said for each unit in turn, a mix as ``"canny"`` or ``"canny:0.5, depth:0.5"``, or nothing:
then the unit's preprocessor tells, where it can.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gradio as gr

from dmm.errors import DmmError
from dmm.mixes import format_mix, parse_mix
from dmm.regions import Regions, no_style
from dmm.resolving import resolve_regions
from sd_webui_dmm.checkpoints import controls_in
from sd_webui_dmm.controlnets.preprocessors import told_by
from sd_webui_dmm.controlnets.units import Unit, units_of

_ENTRY = "DMM control "  # of the infotext; ControlNet's own numbers follow
_CONTROLNET_ENTRY = "ControlNet "


def controls_of(p: Any, said: Sequence[str], *, by_hand: bool) -> dict[int, Regions]:
    """What each unit with a merged ControlNet follows, by the unit's number.

    The infotext of the job's pictures tells of it.

    Args:
        p: the host's StableDiffusionProcessing.
        said: the mix of each unit in turn; those left out say nothing.
        by_hand: in a request, whose answer has no room for a notice.

    Raises:
        DmmError: a mix that the user has to mend; by hand, one is missing, or is for a unit that
            has no merged ControlNet.
    """
    controls, entries = {}, {}
    for place, unit in enumerate(units_of(p)):
        styles = controls_in(unit.file) if unit.file else None
        if styles is None:
            continue
        text = said[unit.number].strip() if unit.number < len(said) else ""
        name = "" if text else told_by(styles.names, unit.preprocessor, unit.kinds)
        if not text and not name:
            _tell_nothing_is_told(p, unit, styles.names, by_hand)
            controls[unit.number] = no_style(styles.prompts.dim)
            continue
        try:
            mix = parse_mix(text) if text else {name: 1.0}
            controls[unit.number] = resolve_regions(styles, mix)
        except DmmError as error:
            raise DmmError(f"ControlNet unit {unit.number}, {unit.file.name}: {error}") from None
        entries[f"{_ENTRY}{place}"] = _spelled(mix)
    if by_hand:
        _refuse_what_is_for_no_unit(said, controls)
    if entries:
        p.extra_generation_params = p.extra_generation_params | entries
    return controls


def build(elem_id: Callable[[str], str]) -> gr.Textbox:
    """What units follow, a line each, written by `javascript/dmm_controls.js` and seen by nobody.

    The choice itself stands in the units.
    """
    controls = gr.Textbox(
        "",
        label="Controls",
        lines=2,
        elem_id=elem_id("controls"),
        elem_classes=["dmm-unseen"],
    )
    controls.do_not_save_to_config = True
    return controls


def from_infotext(infotext: Mapping[str, Any]) -> str | None:
    """The text of `build`'s component, a line a unit; None where the picture had no ControlNet."""
    if not any(key.startswith((_ENTRY, _CONTROLNET_ENTRY)) for key in infotext):
        return None
    found = {
        int(entry[1]): " ".join(str(mix).split())
        for key, mix in infotext.items()
        if (entry := re.fullmatch(f"{_ENTRY}([0-9]{{1,2}})", key))
    }
    return "\n".join(found.get(number, "") for number in range(max(found, default=-1) + 1))


def _spelled(mix: Mapping[str, float]) -> str:
    """The text of a mix; a single name stands alone."""
    name = next(iter(mix))
    return name if len(mix) == 1 and ":" not in name else format_mix(mix)


def _tell_nothing_is_told(p: Any, unit: Unit, names: Sequence[str], by_hand: bool) -> None:
    notice = (
        f"ControlNet unit {unit.number}: the preprocessor {unit.preprocessor!r} does not tell "
        f"which control of {unit.file.name} to follow. There are: {', '.join(names)}."
    )
    if by_hand:
        raise DmmError(f"{notice} Name one for each unit, as 'controls': ['{names[0]}'].")
    p.comment(f"{notice} It followed the average of them. Choose one under the unit's model.")


def _refuse_what_is_for_no_unit(said: Sequence[str], controls: Mapping[int, Any]) -> None:
    for number, mix in enumerate(said):
        if mix and number not in controls:
            raise DmmError(
                f"controls[{number}] is {_spelled(parse_mix(mix))!r}, but ControlNet unit {number} "
                "is switched off, or its model is no merged ControlNet. Leave it out, or give null."
            )
