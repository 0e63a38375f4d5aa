"""A checkpoint with tensors missing, strange or misshapen is loaded, or refused in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dmm.tensors import open_tensors, save_tensors
from tests import nets
from tests.fuzz.test_files import json_values, read_or_refused
from trainer.checkpoint import Checkpoint, open_checkpoint
from trainer.controlnet import is_controlnet, open_controlnet
from trainer.inspect_file import describe

shapes = st.lists(st.integers(0, 40), max_size=4).map(tuple)
dtypes = st.sampled_from([torch.float16, torch.float32, torch.int64, torch.bool])
metadata = st.dictionaries(
    st.sampled_from(["modelspec.prediction_type", "modelspec.resolution", "dmm", "dmm.sampling"])
    | st.text(max_size=10),
    st.text(max_size=20) | json_values.map(json.dumps) | st.sampled_from(["v", "epsilon", "0x0"]),
    max_size=3,
)


@pytest.fixture(scope="module", params=["sd1", "sdxl"])
def whole(request: pytest.FixtureRequest, folder: Path) -> dict[str, Tensor]:
    if request.param == "sd1":
        networks = nets.small_sd1_unet(), nets.small_vae(), [nets.small_clip()]
    else:
        encoders = [nets.small_clip(), nets.small_bigg()]
        networks = nets.small_sdxl_unet(), nets.small_vae(), encoders
    path = nets.write_single_file(folder / f"{request.param}.safetensors", *networks)
    return dict(open_tensors(path))


@settings(max_examples=settings().max_examples // 10)  # each loads three or four networks
@given(data=st.data(), said=metadata)
def test_odd_checkpoints(folder: Path, whole: dict[str, Tensor], data, said) -> None:
    names = st.sampled_from(sorted(whole))
    tensors = dict(whole)
    for name in data.draw(st.lists(names, max_size=2), "missing"):
        tensors.pop(name, None)
    part = data.draw(st.none() | names.map(lambda name: name.rpartition(".")[0]), "missing part")
    tensors = {name: tensor for name, tensor in tensors.items() if not part or part not in name}
    odd = st.tuples(names | st.text(max_size=30), shapes, dtypes)
    for name, shape, dtype in data.draw(st.lists(odd, max_size=2), "odd"):
        tensors[name] = torch.zeros(shape, dtype=dtype)
    path = folder / "odd.safetensors"
    save_tensors(path, tensors, said, overwrite=True)
    read_or_refused(describe, path)
    if is_controlnet(path):
        read_or_refused(open_controlnet, path)
    checkpoint = read_or_refused(open_checkpoint, path)
    if checkpoint is not None:
        read_or_refused(load, checkpoint)


def load(checkpoint: Checkpoint) -> None:
    checkpoint.load_unet()
    if checkpoint.vae_config:
        checkpoint.load_vae()
    for index in range(len(checkpoint.text_encoder_configs)):
        checkpoint.load_text_encoder(index)
