"""A LoRA out of a fine-tune: whole at full rank, and the best there is below."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dmm.errors import DmmError
from dmm.tensors import open_tensors, save_tensors
from tests import nets
from tests.trainer.loras import layers
from tests.trainer.merging import command
from trainer.checkpoint import Checkpoint, open_checkpoint
from trainer.extract import extract, low_rank
from trainer.lora import open_lora, with_loras

FULL = 10_000


def networks(family: str) -> tuple[nn.Module, list[nn.Module]]:
    if family == "sd1":
        return nets.small_sd1_unet(), [nets.small_clip()]
    return nets.small_sdxl_unet(), [nets.small_clip(), nets.small_bigg()]


def tuned_from(network: nn.Module, seed: int) -> nn.Module:
    """Changes all layers by a little, some by a matrix of rank 2 alone, and no norm and bias."""
    generator = torch.Generator().manual_seed(seed)
    for number, weight in enumerate(weights(network)):
        shape = weight.flatten(1).shape
        if number % 3:
            change = torch.randn(shape, generator=generator) * 0.01
        else:
            left = torch.randn(shape[0], 2, generator=generator)
            change = left @ torch.randn(2, shape[1], generator=generator) * 0.01
        weight.data += change.reshape(weight.shape)
    return network


def weights(network: nn.Module) -> list[nn.Parameter]:
    parameters = dict(network.named_parameters())
    return [parameters[name] for name in layers(network)]


@pytest.fixture(scope="module", params=["sd1", "sdxl"])
def files(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """A fine-tune and its base."""
    folder = tmp_path_factory.mktemp(request.param)
    unet, encoders = networks(request.param)
    base = nets.write_single_file(folder / "base.safetensors", unet, nets.small_vae(), encoders)
    tuned_unet = tuned_from(unet, 1)
    tuned_encoders = [tuned_from(encoder, 2) for encoder in encoders]
    tuned = nets.write_single_file(
        folder / "tuned.safetensors", tuned_unet, nets.small_vae(7), tuned_encoders
    )
    return tuned, base


def learned(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """The UNet's and the text encoders' tensors."""
    return {
        f"{name} {key}": tensor
        for name, network in checkpoint.networks.items()
        if name != "vae"
        for key, tensor in network.tensors.items()
    }


@pytest.mark.parametrize(("dtype", "atol"), [("fp32", 1e-6), ("fp16", 2e-4)])
def test_full_rank_is_the_fine_tune(
    files: tuple[Path, Path], tmp_path: Path, dtype: str, atol: float
) -> None:
    tuned, base = map(open_checkpoint, files)
    output = tmp_path / "lora.safetensors"
    extract(*files, FULL, output, dtype=dtype)
    found, wanted = learned(with_loras(base, [open_lora(output)])), learned(tuned)
    before = learned(base)
    assert found.keys() == wanted.keys()
    assert sum(not torch.equal(before[key], wanted[key]) for key in wanted) > 60
    for key in wanted:
        torch.testing.assert_close(found[key], wanted[key], rtol=0, atol=atol, msg=key)


def test_error_of_a_lower_rank_is_the_tail_of_the_singular_values(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    tuned, base = map(open_checkpoint, files)
    output = tmp_path / "lora.safetensors"
    extract(*files, 5, output, dtype="fp32")
    found, wanted = learned(with_loras(base, [open_lora(output)])), learned(tuned)
    before = learned(base)
    cut = 0
    for key in wanted:
        change = (wanted[key].double() - before[key].double()).numpy()
        if not change.any():
            continue
        values = np.linalg.svd(change.reshape(len(change), -1), compute_uv=False)
        error = np.linalg.norm((wanted[key].double() - found[key].double()).numpy())
        assert error == pytest.approx(np.linalg.norm(values[5:]), rel=1e-3, abs=2e-5), key
        cut += values[5:].sum() > 0.01
    assert cut > 40


@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (8, 4, 3, 3), (40, 2, 3, 3), (5, 7, 1, 1)])
def test_factors(shape: tuple[int, ...]) -> None:
    change = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    down, up = low_rank(change, 4)
    assert down.shape == (4, *shape[1:]) and up.shape == (shape[0], 4, *(1 for _ in shape[2:]))
    left, values, right = np.linalg.svd(change.flatten(1).double().numpy(), full_matrices=False)
    best = left[:, :4] * values[:4] @ right[:4]
    np.testing.assert_allclose(up.flatten(1) @ down.flatten(1), best, atol=1e-5)
    norms = up.flatten(1).norm(dim=0), down.flatten(1).norm(dim=1)
    np.testing.assert_allclose(norms[0], norms[1], rtol=1e-4)
    assert all(factor.isfinite().all() for factor in low_rank(torch.zeros(shape), 4))


def test_kohya_names_and_sizes(files: tuple[Path, Path], tmp_path: Path) -> None:
    output = tmp_path / "lora.safetensors"
    extract(*files, 4, output)
    lora = open_tensors(output)
    sdxl = open_checkpoint(files[1]).family == "sdxl"
    expected = {
        "sd1": {
            "lora_unet_time_embedding_linear_1": (128, 32),
            "lora_unet_down_blocks_0_resnets_0_time_emb_proj": (32, 128),
            "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k": (32, 64),
            "lora_unet_mid_block_resnets_0_conv1": (64, 64, 3, 3),
            "lora_te_text_model_encoder_layers_0_mlp_fc1": (128, 64),
        },
        "sdxl": {
            "lora_unet_label_emb_0_0": (256, 1600),
            "lora_unet_input_blocks_1_0_emb_layers_1": (64, 256),
            "lora_unet_input_blocks_3_1_transformer_blocks_1_attn2_to_k": (128, 128),
            "lora_unet_input_blocks_2_0_op": (64, 64, 3, 3),
            "lora_te1_text_model_encoder_layers_0_mlp_fc1": (128, 64),
            "lora_te2_text_model_encoder_layers_1_self_attn_q_proj": (64, 64),
        },
    }["sdxl" if sdxl else "sd1"]
    for module, shape in expected.items():
        assert lora.shape(f"{module}.lora_down.weight") == (4, *shape[1:])
        assert lora.shape(f"{module}.lora_up.weight") == (shape[0], 4, *(1 for _ in shape[2:]))
        assert lora[f"{module}.alpha"] == 4
    assert {tensor.dtype for tensor in lora.values()} == {torch.float16}
    assert not [key for key in lora if "embeddings" in key or "norm" in key]
    assert output.stat().st_size < files[1].stat().st_size / 2


def test_the_command(files: tuple[Path, Path], tmp_path: Path, capsys) -> None:
    output = tmp_path / "lora.safetensors"
    words = ["--base", files[1], "--rank", "2", "--output", output]
    assert command("extract", files[0], *words) == 0
    assert capsys.readouterr().out.strip() == str(output.resolve())
    assert command("extract", files[0], *words) == 2
    assert "exists already" in capsys.readouterr().err
    assert command("inspect", output) == 0
    assert "tuned.safetensors changes in base.safetensors" in capsys.readouterr().out


def test_what_a_lora_does_not_hold_is_said(files: tuple[Path, Path], tmp_path: Path) -> None:
    tensors = dict(open_tensors(files[0]))
    tensors["model.diffusion_model.out.0.bias"] = tensors["model.diffusion_model.out.0.bias"] + 1
    save_tensors(tmp_path / "tuned.safetensors", tensors, {})
    with pytest.warns(UserWarning, match=r"differs .* in 1 \(conv_norm_out\.bias\)"):
        extract(tmp_path / "tuned.safetensors", files[1], 2, tmp_path / "lora.safetensors")


def test_mistakes(files: tuple[Path, Path], tmp_path: Path) -> None:
    tuned, base = files
    output = tmp_path / "lora.safetensors"
    family = open_checkpoint(base).family
    unet, encoders = networks("sdxl" if family == "sd1" else "sd1")
    other = nets.write_single_file(tmp_path / "other.safetensors", unet, None, encoders)
    tensors = dict(open_tensors(tuned))
    key = "model.diffusion_model.out.2.weight"
    tensors[key] = torch.full_like(tensors[key], float("nan"))
    save_tensors(tmp_path / "broken.safetensors", tensors, {})
    unet, encoders = networks(family)
    encoders[0] = nets.small_clip(0, vocab_size=530)
    longer = nets.write_single_file(tmp_path / "longer.safetensors", unet, None, encoders)
    cases = [
        (longer, base, "another text encoder than"),
        (base, base, "nothing to extract"),
        (other, base, "must share one architecture"),
        (tmp_path / "broken.safetensors", base, r"conv_out\.weight holds"),
        (tmp_path / "none.safetensors", base, "does not exist"),
    ]
    for one, two, message in cases:
        with pytest.raises(DmmError, match=message):
            extract(one, two, 2, output)
    assert not output.exists()
