"""A stranger's LoRA on a checkpoint changes weights within their shapes, or is refused in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dmm.tensors import save_tensors
from tests import nets
from tests.fuzz.test_files import json_values, read_or_refused
from trainer.checkpoint import Checkpoint, open_checkpoint
from trainer.lora import LoraCheckpoint, open_lora, with_loras
from trainer.lora.factors import SUFFIXES
from trainer.lora.file import ADAPTER_METADATA

LINEAR = [  # [32, 32], as files spell it
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q",
    "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
]
CONVOLUTION = [  # [32, 32, 3, 3]
    "lora_unet_down_blocks_0_resnets_0_conv1",
    "diffusion_model.input_blocks.1.0.in_layers.2",
]
CHANGES = [
    (LINEAR, {".lora_down.weight": (4, 32), ".lora_up.weight": (32, 4)}),
    (LINEAR, {".lora_A.weight": (40, 32), ".lora_B.weight": (32, 40)}),
    (CONVOLUTION, {".lora_down.weight": (4, 32, 3, 3), ".lora_up.weight": (32, 4, 1, 1)}),
    (
        CONVOLUTION,
        {
            ".lora_down.weight": (4, 32, 1, 1),
            ".lora_mid.weight": (4, 4, 3, 3),
            ".lora_up.weight": (32, 4, 1, 1),
        },
    ),
    (
        CONVOLUTION,
        {
            ".hada_w1_a": (32, 4),
            ".hada_w1_b": (4, 288),
            ".hada_w2_a": (32, 4),
            ".hada_w2_b": (4, 288),
        },
    ),
]
"""What makes a whole change: modules, and the shapes of its factors."""

numbers = st.sampled_from([0.0, 1.0, -2.5, float("inf"), float("nan")])
whole_changes = st.sampled_from(CHANGES).flatmap(
    lambda change: st.tuples(st.sampled_from(change[0]), st.just(change[1]), numbers)
)
odd_tensors = st.tuples(
    st.sampled_from([*LINEAR, *CONVOLUTION, "lora_unet_mid_block"]) | st.text(max_size=20),
    st.sampled_from([*SUFFIXES, ".alpha", ".alpha", ".dora_scale", ".lokr_w1", ".weight", ""]),
    st.sampled_from([(), (1,), (4, 32), (32, 4), (0, 32)])
    | st.lists(st.integers(0, 40), max_size=4).map(tuple),
    st.sampled_from([torch.float16, torch.float32, torch.bfloat16, torch.int64, torch.bool]),
    numbers,
)
said_strengths = (
    st.none()
    | st.text(max_size=20)
    | json_values.map(json.dumps)
    | st.fixed_dictionaries(
        {}, optional={"unet.lora_alpha": json_values, "unet.alpha_pattern": json_values}
    ).map(json.dumps)
)


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Checkpoint:
    path = folder / "base.safetensors"
    networks = nets.small_sd1_unet(), nets.small_vae(), [nets.small_clip()]
    return open_checkpoint(nets.write_single_file(path, *networks))


@given(
    changes=st.lists(whole_changes, max_size=3),
    odd=st.lists(odd_tensors, max_size=2),
    strength=said_strengths,
    weight=st.floats(allow_nan=False, allow_infinity=False, width=32),
)
def test_loras_of_any_names_and_shapes(
    folder: Path, checkpoint: Checkpoint, changes, odd, strength, weight
) -> None:
    tensors = {}
    for module, factors, number in changes:
        tensors |= {module + end: torch.full(shape, number) for end, shape in factors.items()}
    for module, end, shape, dtype, number in odd:
        whole = dtype in (torch.int64, torch.bool)
        tensors[module + end] = torch.full(shape, 1 if whole else number, dtype=dtype)
    path = folder / "lora.safetensors"
    save_tensors(path, tensors, {ADAPTER_METADATA: strength} if strength else {}, overwrite=True)

    def put_on(path: Path) -> LoraCheckpoint:
        return with_loras(checkpoint, [open_lora(path, weight)])

    changed = read_or_refused(put_on, path)
    if changed is None:
        return
    for name, network in changed.networks.items():
        before = checkpoint.networks[name]
        for key in network.tensors if network is not before else ():
            assert network.tensors[key].shape == before.tensors[key].shape, key
