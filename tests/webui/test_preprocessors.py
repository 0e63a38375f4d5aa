"""Which control a preprocessor is for, by the names that hosts and people give them."""

from __future__ import annotations

import pytest

from sd_webui_dmm.controlnets.preprocessors import told_by

SHORT = ("canny", "depth", "pose")
LONG = (
    "control_v11p_sd15_canny",
    "control_v11f1p_sd15_depth",
    "control_v11p_sd15_openpose",
    "control_v11p_sd15_lineart",
    "control_v11p_sd15s2_lineart_anime",
    "control_v11p_sd15_normalbae",
)


@pytest.mark.parametrize(
    ("names", "preprocessor", "kinds", "told"),
    [
        (SHORT, "canny", ["Canny"], "canny"),
        (SHORT, "depth_anything_v2", ["Depth"], "depth"),
        (SHORT, "dw_openpose_full", ["OpenPose"], "pose"),
        (["lineart", "lineart_anime"], "lineart_anime", ["Lineart"], "lineart_anime"),
        (["lineart", "lineart_anime"], "lineart_realistic", ["Lineart"], "lineart"),
        (["Soft edge", "depth"], "softedge_hed", ["SoftEdge"], "Soft edge"),
        (LONG, "canny", ["Canny"], LONG[0]),
        (LONG, "depth_midas", ["Depth"], LONG[1]),
        (LONG, "openpose_full", ["OpenPose"], LONG[2]),
        (LONG, "lineart_anime", ["Lineart"], LONG[4]),
        (LONG, "normal_bae", ["NormalMap"], LONG[5]),
        (["one"], "none", [], "one"),
    ],
)
def test_a_preprocessor_tells_its_control(names, preprocessor, kinds, told) -> None:
    assert told_by(names, preprocessor, kinds) == told


@pytest.mark.parametrize(
    ("names", "preprocessor", "kinds"),
    [
        (SHORT, "none", []),
        (SHORT, "", []),
        (SHORT, "tile_resample", ["Tile"]),
        (SHORT, "invert (from white bg & black line)", ["Canny", "Lineart", "Scribble"]),
        (LONG, "lineart_realistic", ["Lineart"]),
        (["a", "b"], "canny", ["Canny"]),
        ([], "canny", ["Canny"]),
    ],
)
def test_where_nothing_is_plain_nothing_is_told(names, preprocessor, kinds) -> None:
    assert told_by(names, preprocessor, kinds) == ""
