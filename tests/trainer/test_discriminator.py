"""The adversarial loss against float64 numpy, and what the discriminator looks at."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from tests.nets import POOLED_WIDTH, TEXT_WIDTH, small_sd1_unet, small_sdxl_unet
from tests.trainer.test_losses import signal_and_noise
from trainer.adversary import Adversary
from trainer.batches import Batch
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


def probabilities(logits):
    values = np.exp(logits.detach().double().numpy())
    return values / values.sum(axis=1, keepdims=True)


def test_the_gradients_of_the_losses():
    """A cross-entropy's is the probabilities, less one in the place of the class."""
    student, teacher = (torch.randn(PAIRS, 2 * STYLES, requires_grad=True) for _ in range(2))
    student_loss(student, TEACHERS).sum().backward()
    own = np.eye(2 * STYLES)[TEACHERS]
    np.testing.assert_allclose(student.grad, probabilities(student) - own, rtol=1e-5, atol=1e-7)
    student.grad = None
    discriminator_loss(student, teacher, TEACHERS).sum().backward()
    fake = np.eye(2 * STYLES)[TEACHERS + STYLES]
    np.testing.assert_allclose(student.grad, probabilities(student) - fake, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(teacher.grad, probabilities(teacher) - own, rtol=1e-5, atol=1e-7)


def test_the_adversarial_loss_reaches_what_the_student_predicts():
    """L_adv of a prediction and its slope, against float64 and equations 11 and 12 as they stand.

    On the way: x̂_0 from the predicted noise, noised anew, a UNet to its middle, convolutions.
    """
    unet, text, _ = sd1()
    noisy, predicted, direction, discriminator_noise = torch.randn(4, PAIRS, 4, 8, 8)
    timesteps, discriminator_timesteps = torch.tensor([10, 400, 700]), torch.tensor([600, 30, 200])
    batch = Batch(
        latents=noisy,
        noise=noisy,
        timesteps=timesteps,
        teachers=TEACHERS,
        styles=TEACHERS,
        text=text,
        teacher_text=[],
        conditions=None,
        time_ids=torch.zeros(PAIRS, 6),
        places=torch.ones(PAIRS),
        key=(0, 0),
        discriminator_noise=discriminator_noise,
        discriminator_timesteps=discriminator_timesteps,
    )
    adversary = Adversary(Accelerator(cpu=True), deepcopy(unet), STYLES, 1e-5)
    predicted.requires_grad_()
    clean = Diffusion().predicted_x0(predicted, noisy, timesteps, "epsilon")
    losses = adversary.student_loss(adversary.look(clean, batch), TEACHERS)
    losses.sum().backward()

    unet, head = unet.double(), deepcopy(adversary.discriminator.head).double()
    middle = []
    unet.mid_block.register_forward_hook(lambda _m, _i, output: middle.append(output))
    signal, sigma = map(torch.tensor, signal_and_noise(timesteps))
    discriminator_signal, discriminator_sigma = map(
        torch.tensor, signal_and_noise(discriminator_timesteps)
    )

    @torch.no_grad()
    def expected(point):
        clean = (noisy.double() - sigma * point) / signal
        noised = discriminator_signal * clean + discriminator_sigma * discriminator_noise.double()
        double = TextEmbedding(text.hidden.double())
        predict(unet, noised, discriminator_timesteps, double)
        return cross_entropy(head(middle.pop()).mean(dim=(2, 3)), TEACHERS)

    point, way = predicted.detach().double(), direction.double()
    np.testing.assert_allclose(losses.detach(), expected(point), rtol=1e-4)
    slope = (expected(point + 1e-4 * way) - expected(point - 1e-4 * way)).sum() / 2e-4
    assert (predicted.grad.double() * way).sum().item() == pytest.approx(slope, rel=1e-3)


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
