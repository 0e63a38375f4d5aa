"""Styles in ComfyUI's real UNet, against the same worked out plainly in float64."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.hosts import find_host, why_skipped

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("unet_in_float64.py")
# ComfyUI takes a process for a program that uses a GPU unless it is told before anything else.
START = """
import comfy.options, runpy
comfy.options.enable_args_parsing()
runpy.run_path({!r}, run_name="__main__")
"""


@pytest.fixture(scope="module")
def measured():
    host = find_host("comfyui")
    if host is None:
        pytest.skip(why_skipped("comfyui"))
    paths = os.pathsep.join([str(host.path), str(ROOT)])
    run = subprocess.run(
        [host.python, "-c", START.format(str(SCRIPT)), "--cpu"],
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        encoding="utf-8",
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def test_every_place_of_every_picture_has_its_style(measured):
    limits = {"float32": 2e-5, "float64": 1e-12}
    off = measured["off"]
    assert len(off) == 36
    assert {case: far for case, far in off.items() if far > limits[case.split(", ")[-1]]} == {}
    assert measured["style"] > 0.01  # against the UNet without styles


def test_nothing_is_left_on_the_model(measured):
    assert measured["left"] == 0
