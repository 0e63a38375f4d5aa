"""Which models take which styles. The injection itself is tested on the hosts' real UNets."""

import pytest

from dmm.errors import DmmError
from dmm.ldm import check_fits
from tests.nets import small_sd1_unet


def test_a_model_of_another_kind_is_refused():
    message = r"for SDXL \(width 1280\), but the model is a UNet2DConditionModel. Choose"
    with pytest.raises(DmmError, match=message):
        check_fits(small_sd1_unet(), "sdxl", 1280)
