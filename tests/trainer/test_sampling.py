"""Sampling against diffusers' own pipelines, run on the same networks and the same noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)

from tests import nets
from trainer.sampling import decode, sample_latents, sdxl_time_ids
from trainer.text import TextEmbedding, clip_tokenizer

SHAPE = (4, 8, 8)
SEEDS = [3, 1]
PIXELS = 64  # the pipelines reckon with 8 pixels a latent


def embedding(count, width=nets.TEXT_WIDTH, pooled=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(count, 77, width, generator=generator)
    if pooled is None:
        return TextEmbedding(hidden)
    return TextEmbedding(hidden, torch.randn(count, pooled, generator=generator))


def noise(shape, seeds):
    """What a picture of each seed starts from."""
    return torch.stack([torch.randn(shape, generator=torch.manual_seed(seed)) for seed in seeds])


def scheduler(prediction_type="epsilon"):
    return DPMSolverMultistepScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=prediction_type,
        steps_offset=1,
    )


def sd1_pipeline(unet, prediction_type="epsilon"):
    pipeline = StableDiffusionPipeline(
        vae=nets.small_vae(),
        text_encoder=nets.small_clip(),
        tokenizer=clip_tokenizer(520),
        unet=unet,
        scheduler=scheduler(prediction_type),
        safety_checker=None,
        feature_extractor=None,
    )
    pipeline.vae_scale_factor = 8
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize("guidance", [1, 7])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_sd1_equals_diffusers(guidance, prediction_type):
    unet, prompt, negative = nets.small_sd1_unet(), embedding(2), embedding(2, seed=1)
    latents = sample_latents(
        unet,
        prompt,
        negative,
        shape=SHAPE,
        seeds=SEEDS,
        steps=6,
        guidance=guidance,
        prediction_type=prediction_type,
    )
    expected = sd1_pipeline(unet, prediction_type)(
        prompt_embeds=prompt.hidden,
        negative_prompt_embeds=negative.hidden,
        latents=noise(SHAPE, SEEDS),
        height=PIXELS,
        width=PIXELS,
        num_inference_steps=6,
        guidance_scale=guidance,
        output_type="latent",
    ).images
    torch.testing.assert_close(latents, expected, atol=1e-4, rtol=1e-4)


def test_sdxl_equals_diffusers():
    unet = nets.small_sdxl_unet()
    prompt = embedding(2, 2 * nets.TEXT_WIDTH, nets.POOLED_WIDTH)
    negative = embedding(1, 2 * nets.TEXT_WIDTH, nets.POOLED_WIDTH, seed=1)
    latents = sample_latents(
        unet,
        prompt,
        negative,
        shape=(4, 8, 12),
        seeds=SEEDS,
        steps=6,
        time_ids=sdxl_time_ids(96, 64),
    )
    pipeline = StableDiffusionXLPipeline(
        vae=nets.small_vae(),
        text_encoder=nets.small_clip(),
        text_encoder_2=nets.small_bigg(),
        tokenizer=clip_tokenizer(520),
        tokenizer_2=clip_tokenizer(520),
        unet=unet,
        scheduler=scheduler(),
        add_watermarker=False,
    )
    pipeline.vae_scale_factor = 8
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        prompt_embeds=prompt.hidden,
        pooled_prompt_embeds=prompt.pooled,
        negative_prompt_embeds=negative.hidden.expand(2, -1, -1),
        negative_pooled_prompt_embeds=negative.pooled.expand(2, -1),
        latents=noise((4, 8, 12), SEEDS),
        height=64,
        width=96,
        num_inference_steps=6,
        guidance_scale=7,
        output_type="latent",
    ).images
    torch.testing.assert_close(latents, expected, atol=1e-4, rtol=1e-4)


def test_a_picture_does_not_depend_on_its_batch():
    unet, prompt, negative = nets.small_sd1_unet(), embedding(3), embedding(1, seed=1)
    settings = {"shape": SHAPE, "steps": 4}
    together = sample_latents(unet, prompt, negative, seeds=[5, 6, 7], **settings)
    for row, seed in enumerate([5, 6, 7]):
        one = TextEmbedding(prompt.hidden[row : row + 1])
        alone = sample_latents(unet, one, negative, seeds=[seed], **settings)
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-4, rtol=1e-4)


def test_decode_equals_diffusers():
    latents = torch.randn(2, *SHAPE)
    pipeline = sd1_pipeline(nets.small_sd1_unet())
    expected = pipeline(
        prompt_embeds=embedding(2).hidden,
        latents=latents,
        height=PIXELS,
        width=PIXELS,
        num_inference_steps=1,
        guidance_scale=1,
        callback_on_step_end=lambda *_: {"latents": latents},
    ).images
    pictures = decode(pipeline.vae, latents)
    assert [picture.size for picture in pictures] == [(16, 16)] * 2
    for picture, reference in zip(pictures, expected, strict=True):
        assert np.abs(np.asarray(picture, int) - np.asarray(reference, int)).max() <= 1
