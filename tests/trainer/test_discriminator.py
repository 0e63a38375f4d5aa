"""The adversarial loss against float64 numpy, and what the discriminator looks at."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.nets import POOLED_WIDTH, TEXT_WIDTH, small_sd1_unet, small_sdxl_unet
from trainer.diffusion import Diffusion
from trainer.discriminator import (
    Discriminator,
    discriminator_loss,
    look,
    student_loss,
)
from trainer.student import predict
from trainer.text import TextEmbedding

PAIRS, STYLES = 3, 4
TEACHERS = torch.tensor([0, 3, 1])


def sd1():
    return small_sd1_unet(), TextEmbedding(torch.randn(PAIRS, 7, TEXT_WIDTH)), None


def sdxl():
    hidden, pooled = torch.randn(PAIRS, 7, 2 * TEXT_WIDTH), torch.randn(PAIRS, POOLED_WIDTH)
    return small_sdxl_unet(), TextEmbedding(hidden, pooled), torch.full((PAIRS, 6), 64.0)


def cross_entropy(logits, classes):
    values = logits.detach().double().numpy()
    values = values - values.max(axis=1, keepdims=True)
    log_probabilities = values - np.log(np.exp(values).sum(axis=1, keepdims=True))
    return -log_probabilities[np.arange(len(values)), classes.numpy()]


def test_losses_are_cross_entropies_over_twice_the_styles():
    student, teacher = torch.randn(2, PAIRS, 2 * STYLES)
    np.testing.assert_allclose(
        student_loss(student, TEACHERS), cross_entropy(student, TEACHERS), rtol=1e-5
    )
    expected = cross_entropy(student, TEACHERS + STYLES) + cross_entropy(teacher, TEACHERS)
    np.testing.assert_allclose(discriminator_loss(student, teacher, TEACHERS), expected, rtol=1e-5)


@pytest.mark.parametrize("family", [sd1, sdxl])
def test_look_is_the_middle_of_a_whole_forward(family):
    unet, text, time_ids = family()
    noisy, timesteps = torch.randn(PAIRS, 4, 8, 8), torch.tensor([1, 500, 999])
    seen = []
    handle = unet.mid_block.register_forward_hook(lambda _m, _i, output: seen.append(output))
    with torch.no_grad():
        predict(unet, noisy, timesteps, text, time_ids)
        handle.remove()
        assert torch.equal(look(unet, noisy, timesteps, text, time_ids), seen[0])


def test_it_learns_to_tell_styles_and_fakes_apart():
    unet, text, _ = sd1()
    discriminator = Discriminator(64, STYLES)
    optimizer = torch.optim.AdamW(discriminator.parameters(), lr=1e-3)
    means = torch.randn(2, STYLES, 4, 1, 1)  # the fakes' and the teachers' colours

    def logits(side):
        noisy = means[side][TEACHERS] + 0.1 * torch.randn(PAIRS, 4, 8, 8)
        return discriminator(look(unet, noisy, torch.randint(300, (PAIRS,)), text))

    for _ in range(60):
        loss = discriminator_loss(logits(0), logits(1), TEACHERS).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        assert torch.equal(logits(1).argmax(1), TEACHERS)
        assert torch.equal(logits(0).argmax(1), TEACHERS + STYLES)


def test_predicted_latents_are_clean_in_either_parametrisation():
    diffusion, timesteps = Diffusion(), torch.tensor([10, 500, 900])
    x0, noise = torch.randn(2, PAIRS, 4, 8, 8)
    x_t = diffusion.add_noise(x0, noise, timesteps)
    velocity = diffusion.convert(noise, x_t, timesteps, "epsilon", "v_prediction")
    for output, spoken in ((noise, "epsilon"), (velocity, "v_prediction")):
        predicted = diffusion.predicted_x0(output, x_t, timesteps, spoken)
        torch.testing.assert_close(predicted, x0, rtol=1e-3, atol=1e-3)
