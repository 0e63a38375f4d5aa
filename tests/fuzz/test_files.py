"""A stranger's file is read, or refused in words; nothing else ever comes of it."""

from __future__ import annotations

import json
import struct
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dmm.errors import DmmError
from dmm.merged import Styles, read_styles, side_file, write_style_file
from dmm.metadata import default_styles
from dmm.mixes import format_mix, parse_mix
from dmm.style_prompts import StylePrompts
from dmm.tensors import open_tensors, save_tensors

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=12), inner),
    max_leaves=12,
)

# What a header of the format is made of, so that made-up ones get past the first checks.
tensor_entries = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "F16", "BF16", "F64", "I64", "BOOL", "F8_E4M3", "X", ""]),
        "shape": st.lists(st.integers(-1, 2**63) | st.integers(0, 4), max_size=4),
        "data_offsets": st.lists(st.integers(-1, 2**64) | st.integers(0, 64), max_size=3),
    },
)
headers = st.dictionaries(
    st.text(max_size=30) | st.sampled_from(["model_embedding.weight", "__metadata__"]),
    tensor_entries | json_values,
    max_size=5,
)


@pytest.fixture(scope="module")
def style_file(folder) -> bytes:
    path = folder / "whole.safetensors"
    write_style_file(path, two_styles(), {"dmm": "{}"})
    return path.read_bytes()


def two_styles() -> Styles:
    return Styles(StylePrompts(2, 4), default_styles(2), "sd1")


def read_all(path: Path) -> None:
    file = open_tensors(path)
    for key in file:
        assert tuple(file[key].shape) == file.shape(key)


@given(header=headers, body=st.binary(max_size=80), length=st.integers(-1, 2**64 - 1) | st.none())
def test_made_up_headers(folder, header, body, length):
    text = json.dumps(header).encode()
    size = len(text) if length is None or length < 0 else length
    path = folder / "header.safetensors"
    path.write_bytes(struct.pack("<Q", size) + text + body)
    read_or_refused(read_all, path)


@given(
    cuts=st.lists(
        st.tuples(st.integers(0, 10_000), st.integers(0, 12), st.binary(max_size=12)), max_size=4
    ),
    end=st.integers(0, 10_000) | st.none(),
)
def test_damaged_files(folder, style_file, cuts, end):
    damaged = bytearray(style_file)
    for start, length, bytes_ in cuts:
        start %= len(damaged) + 1
        damaged[start : start + length] = bytes_
    path = folder / "damaged.safetensors"
    path.write_bytes(bytes(damaged[:end]))
    read_or_refused(read_all, path)
    read_or_refused(read_styles, path)


@given(content=st.binary(max_size=200), start=st.sampled_from([b"PK\x03\x04", b"\x80\x02", b""]))
@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors", ".pt"])
def test_made_up_bytes(folder, suffix, content, start):
    path = folder / f"bytes{suffix}"
    path.write_bytes(start + content)
    read_or_refused(read_all, path)


@given(entry=json_values | st.text(), side=json_values | st.binary(max_size=40) | st.none())
def test_metadata_and_side_files(folder, entry, side):
    path = folder / "named.safetensors"
    said = entry if isinstance(entry, str) else json.dumps({"format": 1, "styles": entry})
    styles = two_styles()
    write_style_file(path, styles, {"dmm": said}, overwrite=True)
    beside = side_file(path)
    beside.unlink(missing_ok=True)
    if side is not None:
        beside.write_bytes(side if isinstance(side, bytes) else json.dumps(side).encode())
    try:
        read = read_or_refused(read_styles, path)
    finally:
        beside.unlink(missing_ok=True)
    if read is not None:
        # Every name can be said in a mix, and means one style.
        assert len(set(read.names)) == 2
        assert parse_mix(format_mix(dict.fromkeys(read.names, 0.5))).keys() == set(read.names)


@given(
    codebook=st.lists(st.integers(0, 5), max_size=3),
    shapes=st.lists(st.lists(st.integers(0, 5), max_size=3), min_size=4, max_size=4),
    value=st.sampled_from([0.0, 1.0, float("nan"), float("inf")]),
    mlp=st.sampled_from(["add_embedding", "add_embedding2"]),
)
def test_style_tensors_of_any_shape(folder, codebook, shapes, value, mlp):
    names = [f"{mlp}.linear_{n}.{kind}" for n in (1, 2) for kind in ("weight", "bias")]
    tensors = {name: torch.full(shape, value) for name, shape in zip(names, shapes, strict=True)}
    path = folder / "shapes.safetensors"
    tensors["model_embedding.weight"] = torch.full(codebook, value)
    save_tensors(path, tensors, {}, overwrite=True)
    read_or_refused(read_styles, path)


@given(text=st.text() | st.text(alphabet="ab:,. -0123456789einf", max_size=40))
def test_mixes(text):
    mix = read_or_refused(parse_mix, text)
    if mix is not None:
        assert str(parse_mix(format_mix(mix))) == str(mix)  # as text, where nan equals nan


def read_or_refused(read, argument):
    """What was read, or None where it was refused, which takes a message."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read(argument)
    except DmmError as error:
        assert str(error).strip()
        return None
