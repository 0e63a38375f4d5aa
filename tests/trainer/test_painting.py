"""Teachers paint each prompt as they would alone, once, and from noise of its own."""

from __future__ import annotations

import weakref
from dataclasses import replace

import pytest
import torch

from tests import nets
from trainer.checkpoint import Checkpoint, open_checkpoint
from trainer.data import Prompts
from trainer.painting import Painter, PaintSettings, paint_latents
from trainer.sampling import sample_latents, sdxl_time_ids
from trainer.teachers import Teacher
from trainer.text import TextEncoders

SETTINGS = PaintSettings(
    shape=(4, 8, 8), resolution=(16, 16), steps=3, guidance=4, negative="bad", seed=7
)


def painter(path, seed, prediction_type="epsilon"):
    unet, vae = nets.small_sd1_unet(seed), nets.small_vae()
    nets.write_single_file(path, unet, vae, [nets.small_clip(seed)])
    checkpoint = open_checkpoint(path)
    teacher = Teacher(checkpoint, prediction_type, None, (0,))
    return Painter(teacher, 0, TextEncoders(checkpoint))


@pytest.fixture
def painters(tmp_path):
    return [
        painter(tmp_path / "a.safetensors", 0),
        painter(tmp_path / "b.safetensors", 1, "v_prediction"),
    ]


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("\n".join(["a cat", "a dog", "a ship", "a house", "a tree"]), encoding="utf-8")
    return Prompts(path)


def painted(painter, prompt, seed):
    return sample_latents(
        painter.teacher.checkpoint.load_unet(),
        painter.text.encode([prompt]),
        painter.text.encode([SETTINGS.negative]),
        shape=SETTINGS.shape,
        seeds=[seed],
        steps=SETTINGS.steps,
        guidance=SETTINGS.guidance,
        prediction_type=painter.teacher.prediction_type,
    )[0]


def test_prompts_are_dealt_out(tmp_path, painters, prompts):
    examples = paint_latents(painters, prompts, [SETTINGS], tmp_path / "cache", batch_size=2)
    captions = [examples.caption(index) for index in range(len(examples))]
    assert captions == ["a cat", "a ship", "a tree", "a dog", "a house"]
    for index, (who, seed) in enumerate([(0, 7), (0, 8), (0, 9), (1, 7), (1, 8)]):
        expected = painted(painters[who], captions[index], seed)
        latent = examples.latent(index).float()
        torch.testing.assert_close(latent, expected, atol=2e-3, rtol=2e-3)


def test_pictures_per_teacher_goes_round_with_new_noise(tmp_path, painters, prompts):
    examples = paint_latents(
        painters, prompts, [SETTINGS], tmp_path / "cache", pictures_per_teacher=7
    )
    captions = [examples.caption(index) for index in range(len(examples))]
    assert captions == 2 * [*prompts.captions, "a cat", "a dog"]
    assert not torch.equal(examples.latent(0), examples.latent(5))


def test_more_teachers_than_prompts(tmp_path, painters, prompts):
    third = painter(tmp_path / "c.safetensors", 2)
    prompts.prompts = prompts.prompts[:2]
    examples = paint_latents([*painters, third], prompts, [SETTINGS], tmp_path / "cache")
    assert len(examples) == 2


def test_a_new_teacher_paints_alone(tmp_path, painters, prompts):
    def folders():
        return {path.name for path in (tmp_path / "cache").iterdir()}

    settings = {"settings": [SETTINGS], "folder": tmp_path / "cache", "pictures_per_teacher": 2}
    paint_latents(painters, prompts, **settings)
    before = folders()
    third = painter(tmp_path / "c.safetensors", 2)
    assert len(paint_latents([*painters, third], prompts, **settings)) == 6
    assert len(before) == 2
    assert len(folders() - before) == 1
    assert before < folders()


def test_sdxl_is_told_the_size(tmp_path, prompts):
    encoders = [nets.small_clip(), nets.small_bigg()]
    path = nets.write_single_file(
        tmp_path / "xl.safetensors", nets.small_sdxl_unet(), nets.small_vae(), encoders
    )
    checkpoint = open_checkpoint(path)
    text = TextEncoders(checkpoint)
    artist = Painter(Teacher(checkpoint, "epsilon", None, (0,)), 0, text)
    examples = paint_latents([artist], prompts, [SETTINGS], tmp_path / "cache")
    expected = sample_latents(
        checkpoint.load_unet(),
        text.encode(["a cat"]),
        text.encode(["bad"]),
        shape=(4, 8, 8),
        seeds=[7],
        steps=3,
        guidance=4,
        time_ids=sdxl_time_ids(16, 16),
    )[0]
    torch.testing.assert_close(examples.latent(0).float(), expected, atol=2e-3, rtol=2e-3)


def test_a_line_says_how_it_is_painted(tmp_path, painters):
    path = tmp_path / "lines.txt"
    path.write_text("a cat --n rain --d 99 --s 2 --l 1\na dog\na cat --d 5\n", encoding="utf-8")
    artist = painters[0]
    examples = paint_latents([artist], Prompts(path), [SETTINGS], tmp_path / "cache")
    for index, (negative, seed, steps, guidance) in enumerate(
        [("rain", 99, 2, 1), ("bad", 8, 3, 4), ("bad", 5, 3, 4)]
    ):
        expected = sample_latents(
            artist.teacher.checkpoint.load_unet(),
            artist.text.encode([examples.caption(index)]),
            artist.text.encode([negative]),
            shape=SETTINGS.shape,
            seeds=[seed],
            steps=steps,
            guidance=guidance,
        )[0]
        latent = examples.latent(index).float()
        torch.testing.assert_close(latent, expected, atol=2e-3, rtol=2e-3)


def test_a_line_says_at_which_size_it_is_painted(tmp_path, painters):
    path = tmp_path / "lines.txt"
    path.write_text("a cat --w 32\na dog\na ship --w 16 --h 16\na tree\n", encoding="utf-8")
    wide = replace(SETTINGS, shape=(4, 8, 16), resolution=(32, 16))
    prompts = Prompts(path, [(16, 16), (32, 16)])
    examples = paint_latents([painters[0]], prompts, [SETTINGS, wide], tmp_path / "cache")
    sizes = {examples.caption(row): tuple(examples.latent(row).shape) for row in range(4)}
    assert sizes == {
        "a cat": (4, 8, 16),  # as its line says
        "a dog": (4, 8, 16),  # the second line takes the second size
        "a ship": (4, 8, 8),
        "a tree": (4, 8, 16),
    }


def test_a_painter_is_loaded_once_for_all_sizes_and_alone(tmp_path, painters, prompts, monkeypatch):
    load, loaded = Checkpoint.load_unet, []

    def watched(checkpoint, *args):
        assert not any(unet() for _, unet in loaded)  # the one before is gone
        unet = load(checkpoint, *args)
        loaded.append((checkpoint.path.name, weakref.ref(unet)))
        return unet

    monkeypatch.setattr(Checkpoint, "load_unet", watched)
    sizes = [replace(SETTINGS, shape=(4, 8, 8 * n), resolution=(16 * n, 16)) for n in (1, 2, 3)]
    options = {"folder": tmp_path / "cache", "pictures_per_teacher": 3}
    examples = paint_latents(painters, prompts, sizes, **options)
    assert sorted(map(len, examples.buckets)) == [2, 2, 2]
    assert [name for name, _ in loaded] == ["a.safetensors", "b.safetensors"]
    paint_latents(painters, prompts, sizes, **options)
    assert len(loaded) == 2  # what was painted before needs no painter


def test_a_seed_of_its_own_goes_round_with_new_noise(tmp_path, painters):
    path = tmp_path / "lines.txt"
    path.write_text("a cat --d 5", encoding="utf-8")
    examples = paint_latents(
        [painters[0]], Prompts(path), [SETTINGS], tmp_path / "cache", pictures_per_teacher=2
    )
    for index, seed in enumerate([5, 6]):
        latent = examples.latent(index).float()
        torch.testing.assert_close(
            latent, painted(painters[0], "a cat", seed), atol=2e-3, rtol=2e-3
        )
