"""V(w) against the paper's formula in float64 numpy, and tensors under the authors' names."""

import numpy as np
import pytest
import torch

from dmm.errors import DmmError
from dmm.style_prompts import StylePrompts, mlp_name, style_tensor_names

N, D = 3, 16


def mlp(x, tensors):
    """Linear → SiLU → Linear, in float64."""
    w1, b1, w2, b2 = (
        tensors[f"add_embedding.linear_{i}.{kind}"].double().numpy()
        for i in (1, 2)
        for kind in ("weight", "bias")
    )
    hidden = x @ w1.T + b1
    return (hidden / (1 + np.exp(-hidden))) @ w2.T + b2


@torch.no_grad()
def test_a_mix_is_made_before_or_after_the_mlp():
    prompts = StylePrompts(N, D)
    tensors = prompts.to_tensors("add_embedding")
    codebook = tensors["model_embedding.weight"].double().numpy()
    weights = torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [-0.5, 2.0, 0.0]])
    w = weights.double().numpy()

    before, after = mlp(w @ codebook, tensors), w @ mlp(codebook, tensors)
    np.testing.assert_allclose(prompts(weights).numpy(), before, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(prompts.mixed_after(weights).numpy(), after, rtol=1e-5, atol=1e-5)
    assert abs(before[0] - after[0]).max() > 1e-2
    np.testing.assert_allclose(before[1], after[1], atol=1e-12)

    assert prompts(weights[0]).shape == (D,)
    torch.testing.assert_close(prompts(weights[0].double()), prompts(weights)[0])


def test_the_codebook_starts_from_the_standard_normal():
    prompts = StylePrompts(8, 1280)
    assert (prompts.num_styles, prompts.dim) == (8, 1280)
    norms = prompts.codebook.detach().norm(dim=1)
    assert norms == pytest.approx([1280**0.5] * 8, rel=0.1)


@pytest.mark.parametrize("name", ["add_embedding", "add_embedding2"])
def test_tensors_come_back_bit_for_bit(name):
    tensors = StylePrompts(N, D).to_tensors(name)
    assert list(tensors) == style_tensor_names(name)
    assert mlp_name(tensors) == name
    again = StylePrompts.from_tensors(tensors).to_tensors(name)
    assert set(again) == set(tensors)
    assert all(torch.equal(again[key], tensors[key]) for key in tensors)


def test_half_precision_becomes_float32():
    tensors = {k: t.half() for k, t in StylePrompts(N, D).to_tensors("add_embedding").items()}
    prompts = StylePrompts.from_tensors(tensors)
    assert {parameter.dtype for parameter in prompts.parameters()} == {torch.float32}
    assert torch.equal(prompts.codebook, tensors["model_embedding.weight"].float())


@pytest.mark.parametrize(
    ("key", "broken", "said"),
    [
        ("model_embedding.weight", None, "model_embedding.weight is missing"),
        ("add_embedding.linear_2.bias", None, "add_embedding.linear_2.bias is missing"),
        ("model_embedding.weight", torch.zeros(D), r"shape \[16\], not \[N, d\]"),
        ("model_embedding.weight", torch.zeros(0, D), r"shape \[0, 16\], not \[N, d\]"),
        ("add_embedding.linear_1.weight", torch.zeros(D, D + 1), r"\[16, 17\] where \[16, 16\]"),
        ("add_embedding.linear_1.bias", torch.full([D], torch.nan), "NaN or infinity"),
        ("model_embedding.weight", torch.full([N, D], torch.inf), "NaN or infinity"),
    ],
)
def test_tensors_that_make_no_prompts_are_refused(key, broken, said):
    tensors = StylePrompts(N, D).to_tensors("add_embedding")
    del tensors[key]
    if broken is not None:
        tensors[key] = broken
    with pytest.raises(DmmError, match=said):
        StylePrompts.from_tensors(tensors)


def test_reading_while_a_host_reads_a_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """AUTOMATIC1111 does so in another thread, with a `load_state_dict` of its own for all."""

    def host_s_own(module: torch.nn.Module, state_dict: dict, strict: bool = True) -> None:
        raise AssertionError("these are not the host's weights")

    tensors = StylePrompts(3, 8).to_tensors("add_embedding")
    monkeypatch.setattr(torch.nn.Module, "load_state_dict", host_s_own)
    read = StylePrompts.from_tensors(tensors)
    assert all(
        torch.equal(t, tensors[name]) for name, t in read.to_tensors("add_embedding").items()
    )
    assert all(parameter.requires_grad for parameter in read.parameters())
