"""Losses and the diffusion process against float64 numpy."""

import numpy as np
import pytest
import torch

from trainer.diffusion import TIMESTEPS, Diffusion, alphas_cumprod
from trainer.losses import feature_loss, score_loss

SHAPES = [(2, 3, 4, 4), (2, 6, 2, 2), (2, 5, 1, 1)]  # of block outputs
STEPS = torch.tensor([0, 500])


def random_pair(shape):
    return torch.randn(shape), torch.randn(shape)


def signal_and_noise(timesteps):
    """√ᾱ and √(1−ᾱ) at `timesteps`, shaped [B, 1, 1, 1], from the betas' definition."""
    betas = [
        (0.00085**0.5 + (0.012**0.5 - 0.00085**0.5) * t / (TIMESTEPS - 1)) ** 2
        for t in range(TIMESTEPS)
    ]
    signal = np.cumprod(1 - np.array(betas))[timesteps.numpy()].reshape(-1, 1, 1, 1)
    return np.sqrt(signal), np.sqrt(1 - signal)


def l2(ours, theirs):
    return ((ours.double().numpy() - theirs.double().numpy()) ** 2).reshape(len(ours), -1).mean(1)


def relative(ours, theirs):
    return l2(ours, theirs) / theirs.double().numpy().reshape(len(theirs), -1).var(1)


def cosine(ours, theirs):
    ours, theirs = ours.double().numpy(), theirs.double().numpy()
    lengths = np.sqrt((ours**2).sum(1) * (theirs**2).sum(1))
    return 1 - ((ours * theirs).sum(1) / lengths).mean((1, 2))


KINDS = [("l2", l2), ("relative", relative), ("cosine", cosine)]


def test_score_loss():
    ours, theirs = random_pair((3, 4, 5, 6))
    np.testing.assert_allclose(score_loss(ours, theirs), l2(ours, theirs), rtol=1e-6)
    half = score_loss(ours.half(), theirs.half())
    assert half.dtype == torch.float32
    np.testing.assert_allclose(half, l2(ours.half(), theirs.half()), rtol=1e-6)


@pytest.mark.parametrize(("kind", "expected"), KINDS)
def test_feature_loss_is_the_mean_over_the_blocks(kind, expected):
    ours, theirs = zip(*map(random_pair, SHAPES), strict=True)
    wanted = np.mean([expected(a, b) for a, b in zip(ours, theirs, strict=True)], axis=0)
    np.testing.assert_allclose(feature_loss(ours, theirs, kind), wanted, rtol=1e-5)
    np.testing.assert_allclose(feature_loss(ours, ours, kind), [0, 0], atol=1e-6)


def test_a_block_that_says_nothing_is_no_division_by_zero():
    blank = torch.zeros(SHAPES[0])
    assert feature_loss([blank], [blank], "relative").tolist() == [0, 0]
    assert feature_loss([blank + 1], [blank], "relative").isfinite().all()


def test_feature_loss_wants_as_many_blocks_on_both_sides():
    ours, theirs = random_pair(SHAPES[0])
    with pytest.raises(ValueError):
        feature_loss([ours, ours], [theirs])


def test_the_gradient_of_the_score_loss():
    ours, theirs = random_pair((3, 4, 5, 6))
    ours.requires_grad_()
    score_loss(ours, theirs).sum().backward()
    torch.testing.assert_close(ours.grad, 2 * (ours - theirs).detach() / (4 * 5 * 6))


@pytest.mark.parametrize(("kind", "expected"), KINDS)
def test_the_gradient_of_the_feature_loss_is_its_slope(kind, expected):
    ours, theirs = random_pair(SHAPES[0])
    ours.requires_grad_()
    feature_loss([ours], [theirs], kind).sum().backward()
    point, direction = ours.detach().double(), torch.randn(SHAPES[0], dtype=torch.float64)
    step = 1e-5
    ahead, behind = (expected(point + side * step * direction, theirs) for side in (1, -1))
    slope = ((ahead - behind) / (2 * step)).sum()
    assert (ours.grad.double() * direction).sum().item() == pytest.approx(slope, rel=1e-4)


def test_add_noise():
    x0, noise = random_pair(SHAPES[0])
    signal, sigma = signal_and_noise(STEPS)
    expected = signal * x0.double().numpy() + sigma * noise.double().numpy()
    np.testing.assert_allclose(Diffusion().add_noise(x0, noise, STEPS), expected, atol=1e-6)


def test_alphas_fall_from_nearly_all_signal_to_nearly_none():
    signal = alphas_cumprod()
    assert signal.shape == (TIMESTEPS,)
    assert (signal.diff() < 0).all()
    assert signal[0].item() == pytest.approx(1 - 0.00085)


def test_predictions_are_converted_both_ways():
    x0, noise = random_pair(SHAPES[0])
    signal, sigma = signal_and_noise(STEPS)
    velocity = torch.tensor(signal) * noise - torch.tensor(sigma) * x0  # float64
    diffusion = Diffusion()
    x_t = diffusion.add_noise(x0, noise, STEPS)

    epsilon = diffusion.convert(velocity.float(), x_t, STEPS, "v_prediction", "epsilon")
    torch.testing.assert_close(epsilon, noise, rtol=1e-5, atol=1e-5)
    spoken = diffusion.convert(noise, x_t, STEPS, "epsilon", "v_prediction")
    torch.testing.assert_close(spoken, velocity.float(), rtol=1e-5, atol=1e-5)
    for kind in ("epsilon", "v_prediction"):
        assert diffusion.convert(noise, x_t, STEPS, kind, kind) is noise
