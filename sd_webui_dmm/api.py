"""Requests written by hand, for `/sdapi/v1/txt2img` and its like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from difflib import get_close_matches
from typing import Any

from dmm.errors import DmmError
from dmm.mixes import format_mix, parse_mix
from dmm.words import MAX_FEATHER, METHODS, MIXINGS
from sd_webui_dmm.regions.lines import Region
from sd_webui_dmm.regions.places import Mask, Rectangle
from sd_webui_dmm.request import Request

CONTROLS = "controls"
FIELDS = (
    "enabled",
    "styles",
    *(field.name for field in fields(Request) if field.name != "mix"),
    CONTROLS,
)
PLACES = ("rectangle", "mask")
REGION_FIELDS = ("styles", *PLACES, "feather")

_A_CONTROL = "the name of a control, or weights, as {'canny': 1, 'depth': 1}"
_A_CONTROL_FOR_EACH_UNIT = "a list with a control for each ControlNet unit, as ['canny', null]"


def asks_for_styles(values: Mapping[str, Any]) -> bool:
    """Whether a request is for styles, and not for the controls of ControlNets alone."""
    return bool(values.get("enabled", True)) and values.keys() - {"enabled"} != {CONTROLS}


def read_controls(values: Mapping[str, Any]) -> list[str]:
    """The mix of each ControlNet unit: ``{"controls": ["canny", null, {"canny": 1, "depth": 1}]}``.

    Raises:
        DmmError: it makes no sense.
    """
    controls = _typed(values.get(CONTROLS, []), CONTROLS, list, _A_CONTROL_FOR_EACH_UNIT)
    for number, mix in enumerate(controls):
        if not isinstance(mix, (str, Mapping, type(None))):
            raise DmmError(f"{CONTROLS}[{number}] is {mix!r}. Give {_A_CONTROL}, or null.")
    return [_mix(mix or "", f"{CONTROLS}[{number}]", []) for number, mix in enumerate(controls)]


def read_request(values: Mapping[str, Any], names: Sequence[str], default: Request) -> Request:
    """Reads ``{"styles": {"ink": 0.7, "anime": 0.3}, "strength": 0.9, …}``.

    Every field may be left out. A mix is an object of weights, a text as ``"ink:0.7, anime:0.3"``,
    or a list with a weight for each style of the file. `styles` is the mix of the picture,
    `columns` and `rows` are ratios as ``[1, 2, 1]`` or ``"1,2,1"``. `regions` is a list of mixes
    for the cells of this layout, and of objects with a mix under "styles", which may have a place
    of their own and a feather: ``{"styles": {"ink": 1}, "rectangle": [0.1, 0.2, 0.5, 0.4]}`` in
    fractions of the picture, or a "mask", a picture in base64. `start`, `end` and `fade` are shares
    of the steps, and `otherwise` is the mix before and after.

    Args:
        names: the file's style names, in its order.
        default: says what `values` do not.

    Raises:
        DmmError: a field makes no sense; the message names it.
    """
    _known(values, FIELDS)
    request: dict[str, Any] = {"mix": _mix(values.get("styles", ""), "styles", names)}
    for field, value in values.items():
        if field == "enabled":
            _typed(value, field, bool, "true or false")
        elif field == "normalise":
            request[field] = _typed(value, field, bool, "true or false")
        elif field == "strength":
            request[field] = _number(value, field, "a number")
        elif field in ("start", "end", "fade"):
            request[field] = _number(value, field, "a number from 0 to 1")
        elif field == "otherwise":
            request[field] = _mix(value, field, names)
        elif field == "mixing":
            request[field] = _one_of(value, field, MIXINGS)
        elif field == "method":
            request[field] = _one_of(value, field, METHODS)
        elif field == "feather":
            request[field] = _pixels(value, field)
        elif field in ("columns", "rows"):
            request[field] = value if isinstance(value, str) else _ratios(value, field)
        elif field == "regions":
            regions = enumerate(_typed(value, field, list, "a list of mixes"))
            lines = [_region(region, f"{field}[{index}]", names) for index, region in regions]
            request[field] = "\n".join(lines)
    return replace(default, **request)


def _region(value: object, field: str, names: Sequence[str]) -> str:
    if not (isinstance(value, Mapping) and value.keys() & set(REGION_FIELDS)):
        return _mix(value, field, names)
    _known(value, REGION_FIELDS, f" in {field}")
    mix = _mix(value.get("styles", ""), f"{field}.styles", names)
    places = [_place(value[kind], f"{field}.{kind}") for kind in PLACES if kind in value]
    if len(places) > 1:
        raise DmmError(f"{field} has a rectangle and a mask. Give one of them.")
    if "feather" not in value:
        return str(Region(mix, *places))
    if not places:
        raise DmmError(f"{field}.feather needs a rectangle or a mask: a layout has one for all.")
    return str(Region(mix, *places, feather=_pixels(value["feather"], f"{field}.feather")))


def _place(value: Any, field: str) -> Rectangle | Mask:
    try:
        if field.endswith(".mask"):
            return Mask.parse(_typed(value, field, str, "a picture in base64"))
        sides = _typed(value, field, list, "[x, y, width, height], as [0, 0, 0.5, 1]")
        for side in sides:
            _number(side, field, "four numbers")
        return Rectangle.parse(", ".join(map(str, sides)))
    except DmmError as error:
        message = str(error)
        raise DmmError(message if message.startswith(field) else f"{field}: {message}") from None


def _mix(value: object, field: str, names: Sequence[str]) -> str:
    if isinstance(value, str):
        return format_mix(parse_mix(value)) if value.strip() else ""
    if isinstance(value, list):
        if len(value) != len(names):
            raise DmmError(
                f"{field} has {len(value)} weights, but the file has {len(names)} styles: "
                f"{', '.join(names)}. Give a weight for each, or name them: {{'{names[0]}': 1}}."
            )
        value = dict(zip(names, value, strict=True))
    mix = _typed(value, field, Mapping, "an object of weights, as {'ink': 0.7, 'anime': 0.3}")
    for name, weight in mix.items():
        _number(weight, f"{field}.{name}", "a number")
    return format_mix(mix)


def _known(values: Mapping[str, Any], fields: Sequence[str], where: str = "") -> None:
    for field in values:
        if field not in fields:
            close = get_close_matches(field, fields, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise DmmError(
                f"There is no field {field!r}{where}.{hint} There are: {', '.join(fields)}."
            )


def _pixels(value: object, field: str) -> int:
    pixels = _typed(value, field, int, "a whole number of pixels")
    if not 0 <= pixels <= MAX_FEATHER:
        raise DmmError(f"{field} is {pixels}. Give 0 to {MAX_FEATHER} pixels.")
    return pixels


def _ratios(value: object, field: str) -> str:
    return ",".join(str(ratio) for ratio in _typed(value, field, list, "ratios, as [1, 2, 1]"))


def _one_of(value: object, field: str, choices: Sequence[str]) -> str:
    if value not in choices:
        raise DmmError(f"{field} is {value!r}. Give one of: {', '.join(map(repr, choices))}.")
    return value


def _number(value: object, field: str, wanted: str) -> float:
    try:
        return float(_typed(value, field, (int, float), wanted))
    except OverflowError:
        raise DmmError(f"{field} is a number of {len(str(value))} digits. Give {wanted}.") from None


def _typed(value: Any, field: str, kind: type | tuple[type, ...], wanted: str) -> Any:
    # To Python, True is a number; to the person who wrote it, it is not.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise DmmError(f"{field} is {value!r}. Give {wanted}.")
    return value
