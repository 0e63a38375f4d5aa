"""The tokenizer against CLIP's known ids; the text encoders against diffusers' own pipelines."""

from __future__ import annotations

import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from transformers import CLIPTextModel

from dmm.errors import DmmError
from tests import nets
from trainer.checkpoint import open_checkpoint
from trainer.text import TextEncoders, clip_tokenizer, token_ids

CAPTIONS = ["a photo of a cat", "", "the ship, at sea", "many words " * 60]

# Ids of OpenAI's own tokenizer.
KNOWN = {
    "": [],
    "a photo of a cat": [320, 1125, 539, 320, 2368],
    "It's 2026: naïve café — 日本語 🎉!!": [
        *(585, 568, 273, 271, 273, 277, 281, 1097, 35689, 563, 15304, 2005),
        *(39121, 44353, 34002, 508, 4310, 748),
    ],
    "masterpiece, best quality, 1girl <lora:x:1>": [
        *(12066, 267, 949, 3027, 267, 272, 1611, 283, 2179, 320, 281, 343, 281, 272, 285),
    ],
    "  Two   SPACES\nand a line ": [1237, 9006, 537, 320, 1148],
}


@pytest.mark.parametrize("caption", KNOWN)
def test_ids_are_clips(caption):
    assert clip_tokenizer()(caption).input_ids == [49406, *KNOWN[caption], 49407]


def test_full_vocabulary():
    vocabulary = clip_tokenizer().get_vocab()
    assert sorted(vocabulary.values()) == list(range(49408))
    assert (vocabulary["!"], vocabulary["!</w>"], vocabulary["in"]) == (0, 256, 512)
    assert (vocabulary["jekyll</w>"], vocabulary["<|startoftext|>"]) == (49405, 49406)
    assert clip_tokenizer(49410).get_vocab() == vocabulary  # two added tokens


@pytest.mark.parametrize("rows", [514, 2000, 8192])
def test_cut_vocabulary_spells_the_same_text_with_the_first_merges(rows):
    full, cut = clip_tokenizer(), clip_tokenizer(rows)
    kept = {token: index for token, index in full.get_vocab().items() if index < rows - 2}
    ends = {"<|startoftext|>": rows - 2, "<|endoftext|>": rows - 1}
    assert cut.get_vocab() == kept | ends
    ids = cut("a grinning cat, 日本").input_ids
    assert max(ids) < rows
    assert cut.decode(ids, skip_special_tokens=True) == "a grinning cat , 日本"


def test_cut_vocabulary_too_small():
    with pytest.raises(DmmError, match="513 rows"):
        clip_tokenizer(513)


def test_padding_and_truncation():
    tokenizer = clip_tokenizer(max_length=8)
    ids = token_ids(tokenizer, ["a cat!", "a " * 20], pad_id=0)
    assert ids.tolist() == [
        [49406, 320, 2368, 256, 49407, 0, 0, 0],  # "!" (256) is no padding (0)
        [49406, 320, 320, 320, 320, 320, 320, 49407],
    ]


@pytest.fixture
def sd1(tmp_path):
    encoder = nets.small_clip()
    unet, vae = nets.small_sd1_unet(), nets.small_vae()
    path = nets.write_single_file(tmp_path / "sd1.safetensors", unet, vae, [encoder])
    return open_checkpoint(path), encoder


@pytest.fixture
def sdxl(tmp_path):
    encoders = [nets.small_clip(), nets.small_bigg(seed=1)]
    unet, vae = nets.small_sdxl_unet(), nets.small_vae()
    path = nets.write_single_file(tmp_path / "sdxl.safetensors", unet, vae, encoders)
    return open_checkpoint(path), encoders


def test_sd1_equals_diffusers(sd1):
    checkpoint, encoder = sd1
    pipeline = StableDiffusionPipeline(
        vae=checkpoint.load_vae(),
        text_encoder=encoder,
        tokenizer=clip_tokenizer(520),
        unet=checkpoint.load_unet(),
        scheduler=DPMSolverMultistepScheduler(steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
    )
    with torch.no_grad():
        expected, _ = pipeline.encode_prompt(CAPTIONS, "cpu", 1, False)
    embedding = TextEncoders(checkpoint).encode(CAPTIONS)
    assert embedding.pooled is None
    torch.testing.assert_close(embedding.hidden, expected)


def test_clip_skip_is_the_model_without_its_last_layer(sd1):
    checkpoint, encoder = sd1
    config = type(encoder.config)(**(encoder.config.to_dict() | {"num_hidden_layers": 1}))
    shorter = CLIPTextModel(config).eval()
    shorter.load_state_dict(encoder.state_dict(), strict=False)
    ids = token_ids(clip_tokenizer(520), CAPTIONS, pad_id=519)
    with torch.no_grad():
        expected = shorter(ids).last_hidden_state
    hidden = TextEncoders(checkpoint, clip_skip=2).encode(CAPTIONS).hidden
    torch.testing.assert_close(hidden, expected)


def test_sdxl_equals_diffusers(sdxl):
    checkpoint, encoders = sdxl
    second = clip_tokenizer(520)
    second.pad_token = "!"
    pipeline = StableDiffusionXLPipeline(
        vae=checkpoint.load_vae(),
        text_encoder=encoders[0],
        text_encoder_2=encoders[1],
        tokenizer=clip_tokenizer(520),
        tokenizer_2=second,
        unet=checkpoint.load_unet(),
        scheduler=DPMSolverMultistepScheduler(steps_offset=1),
    )
    with torch.no_grad():
        expected, _, pooled, _ = pipeline.encode_prompt(
            CAPTIONS, device="cpu", do_classifier_free_guidance=False
        )
    embedding = TextEncoders(checkpoint).encode(CAPTIONS)
    torch.testing.assert_close(embedding.hidden, expected)
    torch.testing.assert_close(embedding.pooled, pooled)


def test_fingerprint_tells_weights_and_layer_but_not_files(sd1, tmp_path):
    checkpoint, encoder = sd1
    other_unet = nets.small_sd1_unet(seed=1)
    vae = nets.small_vae()
    same = nets.write_single_file(tmp_path / "same.safetensors", other_unet, vae, [encoder])
    other = nets.write_single_file(
        tmp_path / "other.safetensors", other_unet, vae, [nets.small_clip(seed=1)]
    )
    fingerprint = TextEncoders(checkpoint).fingerprint
    assert TextEncoders(open_checkpoint(same)).fingerprint == fingerprint
    assert TextEncoders(open_checkpoint(other)).fingerprint != fingerprint
    assert TextEncoders(checkpoint, clip_skip=2).fingerprint != fingerprint


def test_release_changes_nothing(sd1):
    encoders = TextEncoders(sd1[0])
    before = encoders.encode(CAPTIONS).hidden
    encoders.release()
    assert torch.equal(encoders.encode(CAPTIONS).hidden, before)


@pytest.mark.parametrize("clip_skip", [0, 3])
def test_clip_skip_past_the_layers(sd1, clip_skip):
    with pytest.raises(DmmError, match="2 layers"):
        TextEncoders(sd1[0], clip_skip=clip_skip)


def test_clip_skip_of_sdxl(sdxl):
    with pytest.raises(DmmError, match="layer before the last"):
        TextEncoders(sdxl[0], clip_skip=1)


def test_checkpoint_without_text_encoder(tmp_path):
    unet, vae = nets.small_sd1_unet(), nets.small_vae()
    path = nets.write_single_file(tmp_path / "bare.safetensors", unet, vae)
    with pytest.raises(DmmError, match=r"bare\.safetensors"):
        TextEncoders(open_checkpoint(path))
