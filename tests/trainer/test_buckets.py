"""Pictures of several shapes: who goes where, when, and what the training makes of them."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from PIL import ExifTags, Image

from dmm.errors import DmmError
from tests import nets
from tests.trainer.merging import (
    command,
    networks,
    on_pictures,
    options,
    run_merge,
    statistics,
    write_models,
)
from trainer.batches import TrainingBatches
from trainer.buckets import Turns, nearest, sizes_like
from trainer.cache import Examples, cache_latents, cache_text
from trainer.checkpoint import open_checkpoint
from trainer.config_file import load_config
from trainer.data import PictureFolder
from trainer.pairs import PairPlan
from trainer.shards import Shards
from trainer.text import TextEncoders

SIZES = [(16, 16), (16, 32), (32, 16)]
SHAPES = {(40, 40): 5, (30, 60): 3, (48, 20): 4}  # of the pictures, and how many have it


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models and a merge of them on twelve pictures of three shapes; gives the config."""
    config = write_models(tmp_path_factory.mktemp("models"))
    write_pictures(config.parent / "pictures")
    return config


def write_pictures(folder: Path) -> None:
    folder.mkdir()
    shapes = [shape for shape, count in SHAPES.items() for _ in range(count)]
    for number in torch.randperm(len(shapes)).tolist():
        path = folder / f"{number:02d}.png"
        Image.effect_noise(shapes[number], 60).save(path)
        path.with_suffix(".txt").write_text(f"picture {number}", encoding="utf-8")


def cached(models: Path) -> Examples:
    folder = models.parent
    checkpoint = open_checkpoint(folder / "base.safetensors")
    return cache_latents(PictureFolder(folder / "pictures"), checkpoint, SIZES, folder / "cache")


# --- which size ----------------------------------------------------------------------------------


def test_sizes_like_have_about_as_many_pixels_and_sides_in_steps_of_64() -> None:
    for resolution in ((512, 512), (768, 512), (1024, 1024)):
        pixels = resolution[0] * resolution[1]
        sizes = sizes_like(resolution)
        assert resolution not in sizes
        for width, height in sizes:
            assert width % 64 == height % 64 == 0 and 0.5 <= width / height <= 2
            assert 0.8 * pixels < width * height <= pixels
    assert {(832, 1216), (1216, 832), (768, 1344)} <= {*sizes_like((1024, 1024))}


@pytest.mark.parametrize(
    ("picture", "bucket"),
    [
        ((512, 512), (512, 512)),
        ((4000, 3990), (1024, 1024)),  # the largest that needs no enlarging
        ((700, 700), (512, 512)),
        ((90, 90), (512, 512)),  # enlarged as little as may be
        ((600, 900), (512, 768)),
        ((3000, 500), (768, 512)),
        ((0, 0), (512, 512)),
    ],
)
def test_a_picture_goes_to_the_bucket_nearest_in_shape(picture, bucket) -> None:
    buckets = [(512, 512), (512, 768), (768, 512), (1024, 1024)]
    (index,) = nearest(torch.tensor([picture]), buckets).tolist()
    assert buckets[index] == bucket


def test_the_config_says_them(models: Path, tmp_path: Path) -> None:
    plain = load_config(models)
    assert plain.data.sizes == [(16, 16)]
    assert load_config(models, ["data.buckets=[[16,32],[16,16]]"]).data.sizes == [
        (16, 16),
        (16, 32),
    ]
    larger = load_config(models, ["data.resolution=512", "data.buckets=true"]).data.sizes
    assert larger == [(512, 512), *sizes_like((512, 512))]
    with pytest.raises(DmmError, match=r"`buckets`: \[512, 770\] is not a multiple of 8"):
        load_config(models, ["data.resolution=512", "data.buckets=[[512,770]]"])
    unet = nets.small_sd1_unet(
        block_out_channels=(32,) * 4,
        down_block_types=("DownBlock2D",) * 4,
        up_block_types=("UpBlock2D",) * 4,
    )
    deep = nets.write_single_file(tmp_path / "deep.safetensors", unet, *networks("sd1", 0)[1:])
    words = [f"base={deep}", f"teachers=[{deep}]", "data.buckets=[[16,24]]"]
    with pytest.raises(DmmError, match=r"`data\.buckets` \[16, 24\] .* multiples of 64"):
        run_merge(models, *words, f"output={tmp_path / 'merged.safetensors'}")


# --- what is cached ------------------------------------------------------------------------------


def test_each_picture_is_encoded_at_its_size_and_sdxl_is_told(models: Path) -> None:
    examples, source = cached(models), PictureFolder(models.parent / "pictures")
    assert [len(bucket) for bucket in examples.buckets] == [5, 3, 4]
    assert sorted(torch.cat([torch.tensor(b) for b in examples.buckets]).tolist()) == [*range(12)]
    checkpoint = open_checkpoint(models.parent / "base.safetensors")
    # (16, 32): 30 x 60 fits it whole. (32, 16): 48 x 20 is scaled to 38.4 x 16, 3 cut off left.
    time_ids = [[40, 40, 0, 0, 16, 16], [60, 30, 0, 0, 32, 16], [20, 48, 0, 3, 16, 32]]
    for bucket, size, told in zip(examples.buckets, SIZES, time_ids, strict=True):
        alone = cache_latents(source, checkpoint, [size], models.parent / "alone")
        for index in bucket:
            row = source.captions.index(examples.caption(index))
            assert torch.equal(examples.latent(index), alone.latent(row))
            assert examples.time_ids(index).tolist() == told


def test_a_picture_on_its_side_is_measured_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    for suffix in ("jpg", "png"):
        Image.new("RGB", (60, 30)).save(tmp_path / f"{suffix}.{suffix}", exif=exif)
        (tmp_path / f"{suffix}.txt").write_text("", encoding="utf-8")
    source = PictureFolder(tmp_path)
    for index in range(2):
        assert source.size(index) == source.picture(index).size == (30, 60)


def test_a_picture_that_cannot_be_read_is_left_out(models: Path, tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures")
    (tmp_path / "pictures" / "07.png").write_bytes(b"broken")
    checkpoint = open_checkpoint(models.parent / "base.safetensors")
    with pytest.warns(UserWarning, match=r"1 of 12 pictures are left out: .*07\.png"):
        examples = cache_latents(
            PictureFolder(tmp_path / "pictures"), checkpoint, SIZES, tmp_path / "cache"
        )
    assert [len(bucket) for bucket in examples.buckets] == [5, 2, 4]
    captions = {examples.caption(index) for index in range(len(examples))}
    assert captions == {f"picture {number}" for number in range(12)} - {"picture 7"}


# --- when ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [1, 4, 7])
def test_after_each_epoch_every_bucket_had_its_turns(samples: int) -> None:
    counts = [31, 1, 12]
    turns = Turns(counts, samples, seed=0)
    order = [turns.at(step) for step in range(200)]
    had = Counter()
    for bucket, before in order:
        assert before == had[bucket]
        had[bucket] += 1
    for epoch in range(1, 5):
        needed = [-(-epoch * count // samples) for count in counts]
        had = Counter(bucket for bucket, _ in order[: sum(needed)])
        assert [had[bucket] for bucket in range(3)] == needed
    assert [turns.at(step) for step in (150, 3, 77)] == [order[step] for step in (150, 3, 77)]
    assert [Turns(counts, samples, seed=1).at(step) for step in range(200)] != order


def test_one_size_is_always_at_its_turn() -> None:
    turns = Turns([5], 3, seed=0)
    assert [turns.at(step) for step in range(50)] == [(0, step) for step in range(50)]


def training_batches(models: Path, process: int = 0, processes: int = 1) -> TrainingBatches:
    folder, examples = models.parent, cached(models)
    text = TextEncoders(open_checkpoint(folder / "base.safetensors"))
    cache = cache_text(text, PictureFolder(folder / "pictures").captions, folder / "cache")
    return TrainingBatches(
        examples,
        cache,
        [cache] * 3,
        PairPlan(3, 4, teachers_per_sample=2, teachers_per_step=2),
        caption_dropout=0,
        seed=0,
        process=process,
        processes=processes,
    )


def test_steps_are_of_one_size_and_each_picture_comes_once_an_epoch(models: Path) -> None:
    batches = training_batches(models)
    steps = [batch for step in range(300) for batch in batches[step]]
    seen, teachers = Counter(), Counter()
    for batch in steps:
        (shape,) = {tuple(ids) for ids in batch.time_ids[:, 4:].tolist()}
        assert batch.latents.shape[2:] == (shape[0] // 2, shape[1] // 2)
        teachers[shape] += 1
        teachers.update((shape, teacher) for teacher in batch.teachers.tolist())
    # Two samples a step: an epoch is at most 3 + 2 + 2 steps, and the next ones may be shorter.
    for first, last in pairwise(range(0, 300, 60)):
        count = Counter(
            latent.numpy().tobytes()
            for batch in steps[first:last]
            for latent in batch.latents[: len(batch.latents) // 2]
        )
        seen.update(count)
    assert len(seen) == 12
    # 480 samples over 12 pictures; each bucket is at most one step ahead of the others.
    assert max(seen.values()) - min(seen.values()) <= 2
    for shape in ((16, 16), (32, 16), (16, 32)):  # no teacher misses a shape
        shares = [teachers[shape, teacher] for teacher in range(3)]
        assert min(shares) > 0.6 * max(shares)


def test_processes_share_the_same_pairs(models: Path) -> None:
    whole = training_batches(models)
    parts = [training_batches(models, process, 2) for process in range(2)]
    for step in (17, 3):
        (expected,) = whole[step]
        ours = [batch for part in parts for batch in part[step]]
        for name in ("latents", "noise", "timesteps", "teachers", "time_ids"):
            assert torch.equal(
                torch.cat([getattr(batch, name) for batch in ours]), getattr(expected, name)
            )


# --- whole merges --------------------------------------------------------------------------------


def test_teachers_paint_in_all_sizes(models: Path) -> None:
    folder = models.parent
    merged = run_merge(
        models,
        f"output={folder / 'painted' / 'merged.safetensors'}",
        f"data.cache={folder / 'painted-cache'}",
        "data.buckets=[[16,32],[32,16]]",
        "data.painting.pictures_per_teacher=4",
        "train.steps=2",
    )
    sizes = Counter()
    for index in (folder / "painted-cache").glob("painted-*/index.json"):
        examples = Examples([Shards(index.parent)])
        sizes[tuple(examples.latent(0).shape[1:])] += len(examples)
        assert examples.time_ids(0).tolist()[:4] == [*examples.time_ids(0).tolist()[4:], 0, 0]
    # Four pictures of each of three teachers, in three sizes in turn.
    assert sizes == {(8, 8): 6, (16, 8): 3, (8, 16): 3}
    assert len(statistics(merged)) == 2


def test_the_plan_names_the_sizes(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("plan", models, *options(models, "planned", *on_pictures(models))) == 0
    assert "16 x 16, 16 x 32, 32 x 16" in capsys.readouterr().out
