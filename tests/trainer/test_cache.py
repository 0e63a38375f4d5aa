"""What the cache gives equals what the networks give, whatever happened on the way."""

from __future__ import annotations

import json
import os
import pickle
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.image_processor import VaeImageProcessor
from PIL import Image

from dmm.errors import DmmError
from tests import nets
from trainer.cache import cache_latents, cache_text
from trainer.checkpoint import open_checkpoint
from trainer.data import PictureFolder
from trainer.text import TextEncoders

REPOSITORY = Path(__file__).parents[2]
MODULE = "tests.trainer.cache_pictures"


def write_checkpoint(path, seed=0, **kwargs):
    encoders = [nets.small_clip(seed)]
    unet, vae = nets.small_sd1_unet(), nets.small_vae(seed)
    return nets.write_single_file(path, unet, vae, encoders, **kwargs)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return open_checkpoint(write_checkpoint(tmp_path_factory.mktemp("model") / "a.safetensors"))


def write_pictures(folder, count, side=16):
    folder.mkdir()
    for number, levels in enumerate(
        np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    ):
        Image.fromarray(levels).save(folder / f"{number:04d}.png")
        (folder / f"{number:04d}.txt").write_text(f"picture {number}", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Two shards and a part of a third."""
    return write_pictures(tmp_path_factory.mktemp("data") / "many", 600)


def content(cache):
    """Every file that counts, by its path."""
    files = {path.relative_to(cache).as_posix(): path for path in sorted(cache.rglob("*.*"))}
    return {name: path.read_bytes() for name, path in files.items() if path.suffix != ".partial"}


# --- latents -------------------------------------------------------------------------------------


def test_latents_equal_diffusers_own_encoding(tmp_path, checkpoint):
    folder = write_pictures(tmp_path / "pictures", 5, side=24)
    examples = cache_latents(PictureFolder(folder), checkpoint, [(16, 24)], tmp_path, batch_size=2)
    vae, processor = checkpoint.load_vae(), VaeImageProcessor(do_resize=False)
    assert len(examples) == 5
    for index in range(5):
        picture = Image.open(folder / f"{index:04d}.png").crop((4, 0, 20, 24))
        with torch.no_grad():
            expected = vae.encode(processor.preprocess(picture)).latent_dist.mean[0] * 0.18215
        latent = examples.latent(index)
        assert latent.shape == (4, 12, 8)
        torch.testing.assert_close(latent.float(), expected, atol=1e-3, rtol=1e-3)
        assert examples.caption(index) == f"picture {index}"
    with pytest.raises(IndexError):
        examples.latent(5)


def test_examples_in_any_order_and_unpickled(tmp_path, checkpoint, many):
    examples = cache_latents(PictureFolder(many), checkpoint, [(16, 16)], tmp_path)
    again = pickle.loads(pickle.dumps(examples))
    for index in (599, 0, 256, 255):
        assert again.caption(index) == f"picture {index}"
        assert torch.equal(again.latent(index), examples.latent(index))


def test_nothing_is_computed_twice(tmp_path, checkpoint):
    folder = write_pictures(tmp_path / "pictures", 3)
    source = PictureFolder(folder)
    cache_latents(source, checkpoint, [(16, 16)], tmp_path / "cache")
    before = content(tmp_path / "cache")
    source.picture = None  # whoever asks for a picture now, fails
    assert len(cache_latents(source, checkpoint, [(16, 16)], tmp_path / "cache")) == 3
    assert content(tmp_path / "cache") == before


def test_key_changes_with_all_that_goes_in(tmp_path, checkpoint):
    folder, cache = write_pictures(tmp_path / "pictures", 2), tmp_path / "cache"

    def count(checkpoint, resolution=(16, 16), **kwargs):
        cache_latents(PictureFolder(folder), checkpoint, [resolution], cache, **kwargs)
        return len(list(cache.iterdir()))

    assert count(checkpoint) == 1
    assert count(checkpoint, (16, 24)) == 2
    assert count(checkpoint, dtype=torch.bfloat16) == 3
    other = open_checkpoint(write_checkpoint(tmp_path / "b.safetensors", seed=1))
    assert count(other) == 4
    metadata = {"dmm.vae_scaling_factor": "0.5"}
    scaled = open_checkpoint(write_checkpoint(tmp_path / "c.safetensors", metadata=metadata))
    assert count(scaled) == 5
    (folder / "0001.txt").write_text("another caption", encoding="utf-8")
    assert count(checkpoint) == 6
    Image.new("RGB", (9, 9)).save(folder / "0000.png")
    assert count(checkpoint) == 7
    assert count(checkpoint) == 7


def test_made_from_is_written_down(tmp_path, checkpoint):
    folder = write_pictures(tmp_path / "pictures", 2)
    cache_latents(PictureFolder(folder), checkpoint, [(16, 16)], tmp_path / "cache")
    (index,) = (tmp_path / "cache").glob("latents-*/index.json")
    index = json.loads(index.read_text(encoding="utf-8"))
    assert (index["count"], index["made_from"]["size"]) == (2, [16, 16])


def test_pictures_that_cannot_be_read_are_left_out(tmp_path, checkpoint):
    folder = write_pictures(tmp_path / "pictures", 6)
    whole = cache_latents(PictureFolder(folder), checkpoint, [(16, 16)], tmp_path / "whole")
    (folder / "0001.png").write_bytes(b"broken")
    (folder / "0004.png").write_bytes((folder / "0004.png").read_bytes()[:100])
    for _ in range(2):  # the second time it is the cache that knows
        with pytest.warns(UserWarning, match=r"2 of 6 .* left out: .*0001\.png .*0004\.png .*"):
            left = cache_latents(PictureFolder(folder), checkpoint, [(16, 16)], tmp_path / "cache")
        assert len(left) == 4
        for index, kept in enumerate((0, 2, 3, 5)):
            assert left.caption(index) == f"picture {kept}"
            assert torch.equal(left.latent(index), whole.latent(kept))
        with pytest.raises(IndexError):
            left.latent(4)


def test_no_picture_can_be_read(tmp_path, checkpoint):
    folder = write_pictures(tmp_path / "pictures", 2)
    for name in ("0000.png", "0001.png"):
        (folder / name).write_bytes(b"broken")
    with pytest.raises(DmmError, match=r"None of the 2 pictures .*0000\.png .* Remove or replace"):
        cache_latents(PictureFolder(folder), checkpoint, [(16, 16)], tmp_path / "cache")


def test_overflow_is_named(tmp_path):
    folder = write_pictures(tmp_path / "pictures", 1)
    metadata = {"dmm.vae_scaling_factor": "1e9"}
    path = write_checkpoint(tmp_path / "hot.safetensors", metadata=metadata)
    with pytest.raises(DmmError, match=r"'0000\.png' gave NaN or infinite"):
        cache_latents(PictureFolder(folder), open_checkpoint(path), [(16, 16)], tmp_path)


def test_checkpoint_without_vae(tmp_path):
    folder = write_pictures(tmp_path / "pictures", 1)
    path = nets.write_single_file(tmp_path / "bare.safetensors", nets.small_sd1_unet())
    with pytest.raises(DmmError, match=r"bare\.safetensors"):
        cache_latents(PictureFolder(folder), open_checkpoint(path), [(16, 16)], tmp_path)


# --- kills and processes -------------------------------------------------------------------------


def run(*words, launcher=()):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", *launcher, MODULE, *map(str, words)]
    return subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, checkpoint, many):
    cache = tmp_path_factory.mktemp("cache")
    finished = run(checkpoint.path, many, cache)
    assert finished.returncode == 0, finished.stderr
    return content(cache)


# Renames: each shard's lines and then its tensors (1 to 6), at last the index (7).
@pytest.mark.parametrize("moment", ["picture:300", "rename:4", "rename:7"])
def test_killed_run_goes_on_to_the_same_bytes(tmp_path, checkpoint, many, uninterrupted, moment):
    killed = run(checkpoint.path, many, tmp_path, moment)
    assert killed.returncode != 0
    left = content(tmp_path)
    assert len(left) < len(uninterrupted)
    assert left.items() <= uninterrupted.items()
    shards = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    finished = run(checkpoint.path, many, tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert content(tmp_path) == uninterrupted
    assert all(path.stat().st_mtime_ns == time for path, time in shards.items())


def test_two_processes_write_the_same_bytes_as_one(tmp_path, checkpoint, many, uninterrupted):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = ("torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}", "-m")
    finished = run(checkpoint.path, many, tmp_path, launcher=launcher)
    assert finished.returncode == 0, finished.stderr
    # Two processes may print into one line.
    assert sorted(re.findall("process . of 2", finished.stdout)) == [
        "process 0 of 2",
        "process 1 of 2",
    ]
    assert content(tmp_path) == uninterrupted


# --- text ----------------------------------------------------------------------------------------

CAPTIONS = ["a cat", "a dog", "a cat", "", "einhörnchen"]


def test_text_equals_the_encoders(tmp_path, checkpoint):
    encoders = TextEncoders(checkpoint)
    text = cache_text(encoders, CAPTIONS, tmp_path)
    asked = ["a dog", "", "a dog", "einhörnchen"]
    embedding, expected = text.lookup(asked), encoders.encode(asked)
    assert embedding.hidden.dtype == torch.float16
    assert embedding.pooled is None
    torch.testing.assert_close(embedding.hidden.float(), expected.hidden, atol=2e-3, rtol=2e-3)
    with pytest.raises(KeyError):
        text.lookup(["a mouse"])


def test_text_of_sdxl(tmp_path):
    path = nets.write_single_file(
        tmp_path / "xl.safetensors",
        nets.small_sdxl_unet(),
        nets.small_vae(),
        [nets.small_clip(), nets.small_bigg()],
    )
    encoders = TextEncoders(open_checkpoint(path))
    embedding, expected = (
        cache_text(encoders, CAPTIONS, tmp_path).lookup(["a dog", "a cat"]),
        encoders.encode(["a dog", "a cat"]),
    )
    torch.testing.assert_close(embedding.hidden.float(), expected.hidden, atol=2e-3, rtol=2e-3)
    torch.testing.assert_close(embedding.pooled.float(), expected.pooled, atol=2e-3, rtol=2e-3)


def test_text_is_shared_and_keyed(tmp_path, checkpoint):
    def count(captions, checkpoint, clip_skip=None):
        cache_text(TextEncoders(checkpoint, clip_skip), captions, tmp_path / "cache")
        return len(list((tmp_path / "cache").iterdir()))

    same = open_checkpoint(write_checkpoint(tmp_path / "same.safetensors"))
    other = open_checkpoint(write_checkpoint(tmp_path / "other.safetensors", seed=1))
    assert count(CAPTIONS, checkpoint) == 1
    assert count(CAPTIONS[::-1], same) == 1
    assert count(CAPTIONS, other) == 2
    assert count(CAPTIONS, checkpoint, clip_skip=2) == 3
    assert count([*CAPTIONS, "a mouse"], checkpoint) == 4
