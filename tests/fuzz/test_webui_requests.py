"""What comes to the WebUI from strangers: API requests, infotexts, tags in prompts, regions."""

from __future__ import annotations

import base64
import io
import math
import sys
import types
import zlib
from dataclasses import fields

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dmm.errors import DmmError
from dmm.merged import Styles
from dmm.metadata import Style
from dmm.schedules import Plan
from dmm.style_prompts import StylePrompts
from dmm.words import METHODS, MIXINGS
from sd_webui_dmm import api
from sd_webui_dmm.regions.lines import parse_region
from sd_webui_dmm.regions.places import Mask
from sd_webui_dmm.regions.windows import Window
from sd_webui_dmm.request import Request, from_infotext, said_in
from tests.fuzz.test_files import json_values, read_or_refused
from tests.fuzz.test_texts import any_text

NAMES = ["ink", "anime", "oil > wash"]
STYLES = Styles(StylePrompts(3, 8), [Style(name) for name in NAMES], "sd1")
WINDOW = Window((64, 96))


def png(width: int, height: int, colour: str) -> str:
    file = io.BytesIO()
    Image.new("L", (width, height), colour).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def png_that_unfolds(side: int) -> str:
    """A small file that says it is a picture of side × side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        length, check = len(data).to_bytes(4, "big"), zlib.crc32(kind + data).to_bytes(4, "big")
        return length + kind + data + check

    header = side.to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    rows = zlib.compress(bytes(100_000), 9)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", rows), chunk(b"IEND", b"")]
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(parts)).decode()


def png_with(places: list[tuple[int, int]]) -> str:
    """A sound file but for some of its bytes."""
    data = bytearray(base64.b64decode(png(8, 8, "white")))
    for place, value in places:
        data[place % len(data)] = value
    return base64.b64encode(data).decode()


damaged = st.lists(st.tuples(st.integers(0, 999), st.integers(0, 255)), max_size=3).map(png_with)
masks = damaged | st.sampled_from(
    [
        png(8, 8, "white"),
        png(1, 300, "white"),
        png(8, 8, "black"),
        png_that_unfolds(60000),
        png_that_unfolds(8000),
        "data:image/png;base64," + png(2, 2, "white"),
        "data:",
        "iVBORw0KGgo",
    ]
)
odd_numbers = st.sampled_from([0, 1, -1, 0.5, 1e308, 10**400, math.nan, math.inf, True])
mixes = st.sampled_from(["ink", "ink:0.7, anime:0.3", "INK:1e999", "ink:nan", ":", "a:b:c", ""])
mix_values = (
    mixes
    | any_text
    | json_values
    | st.dictionaries(st.sampled_from(NAMES) | any_text, odd_numbers, max_size=4)
    | st.lists(odd_numbers, min_size=3, max_size=3)
)
region_values = mix_values | st.fixed_dictionaries(
    {},
    optional={
        "styles": mix_values,
        "rectangle": st.lists(odd_numbers, max_size=5) | json_values,
        "mask": masks | any_text | json_values,
        "feather": odd_numbers | json_values,
        "colour": json_values,
    },
)
ratios = st.lists(odd_numbers, max_size=5) | st.just([1] * 1000) | any_text | json_values
api_requests = st.fixed_dictionaries(
    {},
    optional={
        "styles": mix_values,
        "enabled": st.booleans() | json_values,
        "normalise": st.booleans() | json_values,
        "strength": odd_numbers | json_values,
        "mixing": st.sampled_from(MIXINGS) | json_values,
        "method": st.sampled_from(METHODS) | json_values,
        "columns": ratios,
        "rows": ratios,
        "regions": st.lists(region_values, max_size=5) | json_values,
        "feather": odd_numbers | json_values,
        "start": odd_numbers,
        "end": odd_numbers,
        "fade": odd_numbers,
        "otherwise": mix_values,
        "controls": st.lists(mix_values, max_size=3) | json_values,
        "stiles": json_values,
    },
)


def plan(request: Request) -> Plan:
    return request.plan_of(STYLES, WINDOW)


def assert_paintable(plan: Plan | None) -> None:
    """What is planned can be added to a UNet's embedding."""
    if plan is None:
        return
    for progress in (0.0, 0.5, 1.0):
        regions = plan.at(progress)
        assert torch.isfinite(regions.vectors).all()


@given(said=api_requests)
def test_api_requests(said):
    read_or_refused(api.read_controls, said)
    request = read_or_refused(lambda said: api.read_request(said, NAMES, Request()), said)
    if request is not None:
        assert_paintable(read_or_refused(plan, request))
        read_or_refused(Request.infotext, request)


region_lines = st.lists(
    st.sampled_from(
        [
            "ink",
            "anime:0.5",
            "@",
            " @ ",
            "0, 0, 1, 1",
            "0.1,0.2,0.5,0.4",
            "nan",
            "mask",
            "feather",
            "16",
            "99999",
            "², 1, 1, 1",
            ",",
            "\t",
            "\x0b",
            "inf,0,1,1",
            "-0.1",
        ]
    )
    | masks
    | any_text,
    max_size=8,
).map(" ".join)


@given(line=region_lines)
def test_lines_of_regions(line):
    region = read_or_refused(parse_region, line)
    if region is not None:
        assert parse_region(str(region)) == parse_region(str(parse_region(str(region))))


entries = st.sampled_from(["DMM " + field.name for field in fields(Request)]) | any_text
spelled = (
    any_text | mixes | region_lines | st.sampled_from(["True", "nan", "inf", "1e999", "0.5", "7"])
)
infotexts = st.dictionaries(entries, spelled, max_size=8)


@given(infotext=infotexts)
def test_infotexts(infotext):
    restored = {field.name: from_infotext(infotext, field.name) for field in fields(Request)}
    if not said_in(infotext):
        assert set(restored.values()) == {None}
        return
    for field in fields(Request):
        assert type(restored[field.name]) is type(field.default)
    assert_paintable(read_or_refused(plan, Request(**restored)))


@given(text=st.text(), number=st.floats(allow_nan=False, allow_infinity=False))
def test_an_infotext_gives_back_what_was_asked_for(text, number):
    said = Request(mix=text, strength=number, columns=text, otherwise=text)
    infotext = said.infotext()
    if infotext:
        assert Request(**{f.name: from_infotext(infotext, f.name) for f in fields(Request)}) == said


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("side", "said"), [(60_000, "no picture"), (10_000, "10000×10000")])
def test_a_mask_that_unfolds_to_gigabytes(side, said):
    with pytest.raises(DmmError, match=said):
        Mask.parse(png_that_unfolds(side))


@pytest.mark.parametrize(
    "said",
    [
        {"columns": [1] * 1000, "rows": [1] * 1000},
        {"regions": [{"styles": "ink", "rectangle": [0, 0, 1, 1]}] * 100_000},
    ],
)
def test_regions_that_would_fill_the_memory(said):
    with pytest.raises(DmmError, match=r"up to 16|256 is the most"):
        plan(api.read_request(said, NAMES, Request()))


@pytest.fixture(scope="module")
def tags():
    """The tags, without a host: all they want of it is a class to stand under."""
    host = types.ModuleType("modules")
    host.extra_networks = types.ModuleType("modules.extra_networks")
    host.extra_networks.ExtraNetwork = object
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "modules", host)
        patch.setitem(sys.modules, "modules.extra_networks", host.extra_networks)
        patch.delitem(sys.modules, "sd_webui_dmm.tags", raising=False)
        from sd_webui_dmm import tags

        yield tags
        sys.modules.pop("sd_webui_dmm.tags")


sayable = st.text(min_size=1, max_size=20).map(
    lambda name: " ".join(name.replace(",", " ").split())
)


@given(name=sayable.filter(bool), around=st.tuples(any_text, any_text))
def test_tags_of_any_name(tags, name, around):
    prompt = around[0].replace("<", "") + tags.tag(name) + around[1].replace("<", "")
    assert tags.mix_in(prompt) == f"{name}:1"
    assert tags.without_tags(prompt) == around[0].replace("<", "") + around[1].replace("<", "")


@given(
    prompt=st.lists(st.sampled_from(["<dmm:", ">", "%3E", "ink", ":", "<", "<lora:x:1>"])).map(
        "".join
    )
)
def test_prompts_with_bits_of_tags(tags, prompt):
    mix = tags.mix_in(prompt)
    if mix:
        read_or_refused(plan, Request(mix=mix))
    assert "<dmm:ink>" not in tags.without_tags(prompt)
