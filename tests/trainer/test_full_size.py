"""SD1.5 at its full size, with random weights: does a training step fit where it should?"""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel

from dmm.layouts import single_file_tensors
from dmm.tensors import save_tensors
from tests.nets import file_tensors, small_vae
from trainer.architecture import empty_network

GIB = 2**30
MEMORY = 20 * GIB
DISK = 6 * GIB
PARAMETERS = 859_520_964

CONFIG = """
base: ink.safetensors
teachers: [ink.safetensors, anime.safetensors, oil.safetensors]
output: merged.safetensors
data: {pictures: pictures, resolution: 16, workers: 0}
train: {steps: 1, batch_size: 3, teachers_per_sample: null, teacher_slots: 1}
log_with: []
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Three teachers of 860 million parameters in fp16, four pictures and a config."""
    if psutil.virtual_memory().available < MEMORY:
        pytest.skip(f"less than {MEMORY // GIB} GiB of memory are free")
    if shutil.disk_usage(tmp_path).free < DISK:
        pytest.skip(f"less than {DISK // GIB} GiB of disk are free")
    for seed, name in enumerate(("ink", "anime", "oil")):
        write_checkpoint(tmp_path / f"{name}.safetensors", seed)
    (tmp_path / "pictures").mkdir()
    for number in range(4):
        picture = tmp_path / "pictures" / f"{number}.png"
        Image.effect_noise((16, 16), 60).save(picture)
        picture.with_suffix(".txt").write_text("a cat", encoding="utf-8")
    (tmp_path / "merge.yaml").write_text(CONFIG, encoding="utf-8")
    yield tmp_path
    shutil.rmtree(tmp_path)  # pytest would keep the gigabytes of the last three runs


def write_checkpoint(path: Path, seed: int) -> None:
    """SD1.5's own UNet; the text encoder has its width but one layer, the VAE two levels."""
    shapes = {
        name: tensor.shape
        for name, tensor in empty_network("unet", {"cross_attention_dim": 768}).state_dict().items()
    }
    largest = max(math.prod(shape) for shape in shapes.values())
    # All tensors are cut from one strip of noise, each at a place of its own: drawing 860 million
    # numbers for each teacher would take longer than the step.
    torch.manual_seed(seed)
    noise = torch.randn(largest + 1000 * len(shapes)).mul_(0.02).half()
    unet = {
        name: noise[1000 * index :][: math.prod(shape)].view(shape)
        for index, (name, shape) in enumerate(shapes.items())
    }
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=520,
            hidden_size=768,
            intermediate_size=768,
            num_hidden_layers=1,
            num_attention_heads=12,
            bos_token_id=518,
            eos_token_id=519,
        )
    )
    save_tensors(
        path,
        single_file_tensors("sd1", unet, small_vae().state_dict(), [file_tensors(text)]),
        {},
    )


@pytest.mark.full_size
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells mapped files from memory")
def test_a_step_of_full_size_sd15_takes_less_than_20_gib(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.trainer.measure_step", str(MEMORY), folder / "merge.yaml"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    if done.returncode == -signal.SIGKILL:
        pytest.skip("other processes took the memory that was free")
    assert done.returncode == 0, done.stderr
    peak = int(done.stdout.split()[-1])
    # Weights, gradients and the optimizer's two moments are there at the least: a peak below them
    # would be no training step.
    assert 4 * PARAMETERS * 4 < peak < MEMORY, f"{peak / GIB:.1f} GiB"
