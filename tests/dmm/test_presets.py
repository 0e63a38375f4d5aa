"""Presets in their file; the hosts' routes to it are tested with the hosts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dmm.errors import DmmError
from dmm.presets import Presets

INK = {"mix": "ink:0.7, anime:0.3", "normalise": False, "strength": 0.5, "mixing": "after MLP"}


@pytest.fixture
def presets(tmp_path: Path) -> Presets:
    return Presets(tmp_path / "user" / "presets.json")


def test_presets_are_saved_replaced_and_deleted(presets: Presets) -> None:
    assert presets.read() == {}
    presets.save({"name": " “墨” ", **INK})
    presets.save({"name": "other", "mix": "ink"})
    assert presets.save({"name": "other", **INK}) == {"“墨”": INK, "other": INK}
    assert presets.read() == json.loads(presets.path.read_text(encoding="utf-8"))
    assert presets.delete("other") == presets.read() == {"“墨”": INK}
    assert list(presets.path.parent.iterdir()) == [presets.path]


@pytest.mark.parametrize(
    "fields",
    [
        None,
        INK,
        INK | {"name": " "},
        INK | {"name": "x" * 101},
        INK | {"name": "x", "mix": "ink:much"},
        INK | {"name": "x", "strength": float("nan")},
        INK | {"name": "x", "strength": True},
        INK | {"name": "x", "mixing": "never"},
    ],
)
def test_odd_presets_are_refused(presets: Presets, fields: object) -> None:
    with pytest.raises(DmmError):
        presets.save(fields)
    assert not presets.path.exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": {"mix": ""}}', "[" * 100_000])
def test_a_damaged_file_is_left_alone(presets: Presets, content: str) -> None:
    presets.path.parent.mkdir()
    presets.path.write_text(content, encoding="utf-8")
    for ask in (presets.read, lambda: presets.save({"name": "x", **INK})):
        with pytest.raises(DmmError, match=presets.path.name):
            ask()
    assert presets.path.read_text(encoding="utf-8") == content


def test_deleting_what_is_not_there(presets: Presets) -> None:
    with pytest.raises(DmmError, match="There is no preset 'x'"):
        presets.delete("x")
