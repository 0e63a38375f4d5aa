"""LoRAs on a checkpoint: any spelling and stack, the same as computed apart and by diffusers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dmm.errors import DmmError
from dmm.tensors import open_tensors, save_tensors
from tests import nets
from tests.trainer.loras import assert_changed, layers, write_lora
from trainer.checkpoint import Checkpoint, open_checkpoint
from trainer.lora import LoraCheckpoint, open_lora, with_loras
from trainer.text import TextEncoders, clip_tokenizer

PEFT = ("lora_A.weight", "lora_B.weight")
OLD = ("lora.down.weight", "lora.up.weight")
LINEAR_LAYER = ("lora_linear_layer.down.weight", "lora_linear_layer.up.weight")


def flat(prefix: str) -> Callable[[str], str]:
    return lambda weight: prefix + weight.removesuffix(".weight").replace(".", "_")


def dotted(prefix: str) -> Callable[[str], str]:
    return lambda weight: prefix + weight.removesuffix(".weight")


def networks(family: str) -> tuple[nn.Module, list[nn.Module]]:
    if family == "sd1":
        return nets.small_sd1_unet(), [nets.small_clip()]
    return nets.small_sdxl_unet(), [nets.small_clip(), nets.small_bigg()]


@pytest.fixture(params=["sd1", "sdxl"])
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def checkpoint(family: str, tmp_path: Path) -> Checkpoint:
    unet, encoders = networks(family)
    path = tmp_path / "base.safetensors"
    return open_checkpoint(nets.write_single_file(path, unet, nets.small_vae(), encoders))


def applied(checkpoint: Checkpoint, *loras: Path | tuple[Path, float]) -> LoraCheckpoint:
    pairs = [lora if isinstance(lora, tuple) else (lora, 1.0) for lora in loras]
    return with_loras(checkpoint, [open_lora(path, weight) for path, weight in pairs])


def single_file_names(checkpoint: Checkpoint) -> dict[str, str]:
    """The UNet's weights in diffusers -> in the single file, found by their values."""
    by_value = {
        tensor.numpy().tobytes(): key.removeprefix("model.diffusion_model.")
        for key, tensor in open_tensors(checkpoint.path).items()
        if key.startswith("model.diffusion_model.")
    }
    tensors = checkpoint.unet_tensors()
    return {key: by_value[tensors[key].numpy().tobytes()] for key in tensors if "weight" in key}


@pytest.mark.parametrize("spelling", ["kohya", "ldm", "comfyui", "peft", "old", "bare"])
@pytest.mark.parametrize("alpha", [None, 1.5])
def test_every_layer_of_the_unet(
    checkpoint: Checkpoint, tmp_path: Path, family: str, spelling: str, alpha: float | None
) -> None:
    weights = layers(networks(family)[0])
    assert any("time_emb" in name for name in weights) and any("conv1" in name for name in weights)
    in_file = single_file_names(checkpoint)
    spell, ends = {
        "kohya": (flat("lora_unet_"), ("lora_down.weight", "lora_up.weight")),
        "ldm": (
            lambda key: flat("lora_unet_")(in_file[key]),
            ("lora_down.weight", "lora_up.weight"),
        ),
        "comfyui": (
            lambda key: dotted("diffusion_model.")(in_file[key]),
            ("lora_down.weight", "lora_up.weight"),
        ),
        "peft": (dotted("unet."), PEFT),
        "old": (dotted("unet."), OLD),
        "bare": (dotted(""), OLD),
    }[spelling]
    names = {weight: spell(weight) for weight in weights}
    before = checkpoint.unet_tensors()
    added = write_lora(tmp_path / "a.safetensors", names, before, ends=ends, alpha=alpha)
    changed = applied(checkpoint, tmp_path / "a.safetensors")
    assert_changed(changed.unet_tensors(), before, [added])
    assert changed.vae_tensors() is checkpoint.vae_tensors()


TEXT = ("text_encoder.", "text_encoder_2.")


@pytest.mark.parametrize(
    ("spell", "prefixes", "ends", "left_out"),
    [
        (flat, ("lora_te1_", "lora_te2_"), ("lora_down.weight", "lora_up.weight"), ""),
        (dotted, TEXT, PEFT, ""),
        (dotted, TEXT, PEFT, "text_model."),  # as transformers 5 names them in memory
        (dotted, TEXT, LINEAR_LAYER, ""),
    ],
)
def test_text_encoders(
    checkpoint: Checkpoint, tmp_path: Path, spell, prefixes, ends, left_out: str
) -> None:
    loras, changes = [], []
    for index in range(len(checkpoint.text_encoder_configs)):
        before = checkpoint.text_encoder_tensors(index)
        weights = [name for name in before if re.search(r"layers.*(proj|fc\d)\.weight$", name)]
        assert len(weights) == 12
        names = {name: spell(prefixes[index])(name.removeprefix(left_out)) for name in weights}
        loras.append(tmp_path / f"{index}.safetensors")
        changes.append(write_lora(loras[-1], names, before, ends=ends, alpha=2.0, seed=index))
    changed = applied(checkpoint, *loras)
    for index, added in enumerate(changes):
        before = checkpoint.text_encoder_tensors(index)
        assert_changed(changed.text_encoder_tensors(index), before, [added])


def test_attention_processors_of_2023(checkpoint: Checkpoint, tmp_path: Path, family: str) -> None:
    ends = {"to_q": "to_q", "to_k": "to_k", "to_v": "to_v", "to_out.0": "to_out"}
    names = {
        f"{module}.{end}.weight": f"unet.{module}.processor.{old}_lora"
        for module, part in networks(family)[0].named_modules()
        if type(part).__name__ == "Attention"
        for end, old in ends.items()
    }
    before = checkpoint.unet_tensors()
    path = tmp_path / "a.safetensors"
    added = write_lora(path, names, before, ends=("down.weight", "up.weight"))
    assert_changed(applied(checkpoint, path).unet_tensors(), before, [added])


def test_stacked_and_weighted(checkpoint: Checkpoint, tmp_path: Path, family: str) -> None:
    weights = layers(networks(family)[0])
    before = checkpoint.unet_tensors()
    added = []
    for seed, spell in enumerate((flat("lora_unet_"), dotted("unet."))):
        names = {weight: spell(weight) for weight in weights[seed::2] + weights[:5]}
        path = tmp_path / f"{seed}.safetensors"
        added.append(write_lora(path, names, before, alpha=2.0, seed=seed))
    strengths = [0.6, -1.5]
    loras = [(tmp_path / f"{seed}.safetensors", strengths[seed]) for seed in range(2)]
    scaled = [{k: w * v for k, v in a.items()} for a, w in zip(added, strengths, strict=True)]
    changed = applied(checkpoint, *loras)
    assert_changed(changed.unet_tensors(), before, scaled)
    assert changed.source == "base.safetensors + 0.6 × 0.safetensors + -1.5 × 1.safetensors"
    loaded = changed.load_unet().state_dict()
    assert all(torch.equal(loaded[key], changed.unet_tensors()[key]) for key in loaded)


def test_linear_factors_for_a_1x1_convolution(tmp_path: Path) -> None:
    path = nets.write_single_file(tmp_path / "base.safetensors", nets.small_sd1_unet())
    checkpoint = open_checkpoint(path)
    before = checkpoint.unet_tensors()
    key = "down_blocks.0.attentions.0.proj_in.weight"
    assert before[key].ndim == 4
    names = {key: "unet.down_blocks.0.attentions.0.proj_in"}
    added = write_lora(tmp_path / "a.safetensors", names, {key: before[key].flatten(1)}, ends=PEFT)
    assert_changed(applied(checkpoint, tmp_path / "a.safetensors").unet_tensors(), before, [added])


CONV = "down_blocks.0.resnets.0.conv1.weight"
LINEAR = "down_blocks.0.attentions.0.transformer_blocks.0.ff.net.2.weight"


def locon_mid(out: int, channels: int, draw: Callable[..., Tensor]) -> tuple[dict, np.ndarray]:
    up, mid, down = draw(out, 4, 1, 1), draw(4, 3, 3, 3), draw(3, channels, 1, 1)
    parts = {"lora_up.weight": up, "lora_mid.weight": mid, "lora_down.weight": down}
    left, right = up.double().numpy()[:, :, 0, 0], down.double().numpy()[:, :, 0, 0]
    return parts, np.einsum("or,rshw,si->oihw", left, mid.double().numpy(), right)


def loha(out: int, channels: int, draw: Callable[..., Tensor]) -> tuple[dict, np.ndarray]:
    parts = {f"hada_w{n}_a": draw(out, 3) for n in "12"}
    parts |= {f"hada_w{n}_b": draw(3, channels) for n in "12"}
    a = {key: part.double().numpy() for key, part in parts.items()}
    return parts, (a["hada_w1_a"] @ a["hada_w1_b"]) * (a["hada_w2_a"] @ a["hada_w2_b"])


def loha_flat(out: int, channels: int, draw: Callable[..., Tensor]) -> tuple[dict, np.ndarray]:
    parts, change = loha(out, channels * 9, draw)
    return parts, change.reshape(out, channels, 3, 3)


def loha_cores(out: int, channels: int, draw: Callable[..., Tensor]) -> tuple[dict, np.ndarray]:
    parts = {f"hada_w{n}_a": draw(2, out) for n in "12"}
    parts |= {f"hada_w{n}_b": draw(3, channels) for n in "12"}
    parts |= {f"hada_t{n}": draw(2, 3, 3, 3) for n in "12"}
    a = {key: part.double().numpy() for key, part in parts.items()}
    halves = [
        np.einsum("rshw,ro,si->oihw", a[f"hada_t{n}"], a[f"hada_w{n}_a"], a[f"hada_w{n}_b"])
        for n in "12"
    ]
    return parts, halves[0] * halves[1]


@pytest.mark.parametrize(
    ("make", "key"), [(locon_mid, CONV), (loha, LINEAR), (loha_flat, CONV), (loha_cores, CONV)]
)
def test_lycoris(tmp_path: Path, make, key: str) -> None:
    path = nets.write_single_file(tmp_path / "base.safetensors", nets.small_sd1_unet())
    checkpoint = open_checkpoint(path)
    before = checkpoint.unet_tensors()
    generator = torch.Generator().manual_seed(1)
    out, channels = before[key].shape[:2]
    parts, change = make(out, channels, lambda *shape: torch.randn(*shape, generator=generator))
    parts["alpha"] = torch.tensor([1.5])
    module = flat("lora_unet_")(key)
    tensors = {f"{module}.{end}": part for end, part in parts.items()}
    save_tensors(tmp_path / "a.safetensors", tensors, {})
    changed = applied(checkpoint, tmp_path / "a.safetensors").unet_tensors()
    expected = before[key].double().numpy() + 0.5 * change
    np.testing.assert_allclose(changed[key].double().numpy(), expected, rtol=1e-5, atol=1e-5)


def test_strength_said_in_the_metadata(tmp_path: Path) -> None:
    path = nets.write_single_file(tmp_path / "base.safetensors", nets.small_sd1_unet())
    checkpoint = open_checkpoint(path)
    before = checkpoint.unet_tensors()
    keys = [key for key in before if key.endswith("attn1.to_q.weight")][:2]
    special = keys[1].removesuffix(".weight")
    said = {"unet.r": 3, "unet.lora_alpha": 6, "unet.alpha_pattern": {special: 12}}
    names = {key: dotted("unet.")(key) for key in keys}
    added = write_lora(
        tmp_path / "a.safetensors",
        names,
        before,
        ends=PEFT,
        metadata={"lora_adapter_metadata": json.dumps(said)},
    )
    changed = applied(checkpoint, tmp_path / "a.safetensors").unet_tensors()
    assert_changed(changed, before, [{keys[0]: 2 * added[keys[0]], keys[1]: 4 * added[keys[1]]}])


# --- as diffusers does ---------------------------------------------------------------------------


@pytest.mark.parametrize("spelling", ["kohya", "diffusers"])
def test_equals_diffusers(
    checkpoint: Checkpoint, tmp_path: Path, family: str, spelling: str
) -> None:
    pytest.importorskip("peft", reason="diffusers loads LoRAs through peft")
    pipeline = diffusers_pipeline(checkpoint)
    unet_weights = [
        key for key in layers(networks(family)[0]) if re.search(r"attn\d|\.ff\.|proj_(in|out)", key)
    ]
    encoders = range(len(checkpoint.text_encoder_configs))
    tensors: dict[str, Mapping[str, Tensor]] = {"unet": checkpoint.unet_tensors()}
    names = {"unet": dict.fromkeys(unet_weights)}
    for index in encoders:
        network = ("text_encoder", "text_encoder_2")[index]
        tensors[network] = checkpoint.text_encoder_tensors(index)
        names[network] = {k: None for k in tensors[network] if re.search(r"layers.*_proj\.w", k)}
    in_file = single_file_names(checkpoint)
    kohya = {
        "unet": lambda k: flat("lora_unet_")(in_file[k] if family == "sdxl" else k),
        "text_encoder": flat("lora_te1_" if family == "sdxl" else "lora_te_"),
        "text_encoder_2": flat("lora_te2_"),
    }
    content = {}
    for network, keys in names.items():
        spell = kohya[network] if spelling == "kohya" else dotted(f"{network}.")
        part = tmp_path / f"{network}.safetensors"
        ends = ("lora_down.weight", "lora_up.weight") if spelling == "kohya" else PEFT
        alpha = 1.5 if spelling == "kohya" else None
        write_lora(part, {k: spell(k) for k in keys}, tensors[network], ends=ends, alpha=alpha)
        content |= dict(open_tensors(part))
    path = tmp_path / "whole.safetensors"
    save_tensors(path, content, {})

    pipeline.load_lora_weights(str(path), adapter_name="ink")
    pipeline.fuse_lora(components=list(names))
    pipeline.unload_lora_weights()
    changed = applied(checkpoint, path)
    assert_close(changed.unet_tensors(), pipeline.unet.state_dict(), tensors["unet"])
    for index, network in enumerate(list(names)[1:]):
        fused = nets.file_tensors(getattr(pipeline, network))
        assert_close(changed.text_encoder_tensors(index), fused, tensors[network])


def diffusers_pipeline(checkpoint: Checkpoint):
    from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline

    parts = {
        "vae": checkpoint.load_vae(),
        "unet": checkpoint.load_unet(),
        "text_encoder": checkpoint.load_text_encoder(0),
        "tokenizer": clip_tokenizer(520),
        "scheduler": DDIMScheduler(steps_offset=1, clip_sample=False),
    }
    if checkpoint.family == "sdxl":
        second = {
            "text_encoder_2": checkpoint.load_text_encoder(1),
            "tokenizer_2": clip_tokenizer(520),
        }
        return StableDiffusionXLPipeline(**parts, **second)
    return StableDiffusionPipeline(
        **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )


def assert_close(ours, theirs, before) -> None:
    assert set(ours) == set(theirs)
    changed = [key for key in before if not torch.equal(theirs[key], before[key])]
    assert changed
    for key in ours:
        torch.testing.assert_close(ours[key], theirs[key], rtol=0, atol=2e-6, msg=key)


# --- what tells teachers apart -------------------------------------------------------------------


def test_identity(tmp_path: Path) -> None:
    unet, encoders = networks("sd1")
    checkpoint = open_checkpoint(
        nets.write_single_file(tmp_path / "base.safetensors", unet, nets.small_vae(), encoders)
    )
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    for seed, path in enumerate((one, two)):
        names = {LINEAR: flat("lora_unet_")(LINEAR)}
        write_lora(path, names, checkpoint.unet_tensors(), seed=seed)
    stacks = [(one,), (two,), ((one, 0.5),), (one, two), (two, one)]
    hashes = {applied(checkpoint, *stack).sha256 for stack in stacks} | {checkpoint.sha256}
    assert len(hashes) == 6 and all(re.fullmatch(r"[0-9a-f]{64}", sha256) for sha256 in hashes)
    assert applied(checkpoint, one).sha256 == applied(checkpoint, one).sha256

    text = tmp_path / "text.safetensors"
    key = "text_model.encoder.layers.0.mlp.fc1.weight"
    write_lora(text, {key: flat("lora_te_")(key)}, checkpoint.text_encoder_tensors(0))
    plain = TextEncoders(checkpoint)
    assert TextEncoders(applied(checkpoint, one)).fingerprint == plain.fingerprint
    reading = TextEncoders(applied(checkpoint, text))
    assert reading.fingerprint != plain.fingerprint
    assert not torch.equal(reading.encode(["a cat"]).hidden, plain.encode(["a cat"]).hidden)


# --- refusals ------------------------------------------------------------------------------------


MODULE = "lora_unet_down_blocks_0_attentions_0_proj_in"
PAIR = {f"{MODULE}.lora_down.weight": (2, 32, 1, 1), f"{MODULE}.lora_up.weight": (32, 2, 1, 1)}
DEEP = "lora_unet_input_blocks_8_1_transformer_blocks_9_attn2_to_k"


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        (PAIR | {f"{MODULE}.dora_scale": (32,)}, r"is a DoRA.*1 \(.*dora_scale\)"),
        ({f"{MODULE}.lokr_w1": (2, 2)}, r"is a LoKr"),
        ({f"{MODULE}.oft_blocks": (2, 2, 2)}, r"is an OFT"),
        ({f"{MODULE}.diff": (2, 2)}, r"difference of whole weights"),
        ({"base_model.model.x.lora_A.weight": (2, 2)}, r"peft's own"),
        (PAIR | {"emb_params": (2, 2)}, r"besides its LoRA.*1 \(emb_params\)"),
        ({"first_stage_model.encoder.conv_in.weight": (2, 2)}, r"is a VAE; a LoRA is needed"),
        ({f"{MODULE}.lora_down.weight": (2, 32, 1, 1)}, r"only a part of a change"),
        (PAIR | {f"{MODULE}.lora_up.weight": (32, 3, 1, 1)}, r"make no change.*\[32, 3, 1, 1\]"),
        (PAIR | {f"{MODULE}.alpha": (2,)}, r"make no change"),
        (
            PAIR | {f"{MODULE}.lora_down.weight": (2, 64, 1, 1)},
            r"does not fit .*shape \[32, 64, 1, 1\], the weight there \[32, 32, 1, 1\]",
        ),
        (
            PAIR | {f"{DEEP}.lora_down.weight": (4, 2048), f"{DEEP}.lora_up.weight": (64, 4)},
            rf"does not fit .*1 \({DEEP}\) of the 2 modules.* made for SDXL",
        ),
        (
            {
                "transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight": (2, 2),
                "transformer.single_transformer_blocks.0.attn.to_q.lora_B.weight": (2, 2),
            },
            r"does not fit .*made for Flux",
        ),
    ],
)
def test_refused(tmp_path: Path, shapes: dict[str, tuple[int, ...]], says: str) -> None:
    path = nets.write_single_file(tmp_path / "base.safetensors", nets.small_sd1_unet())
    lora = tmp_path / "bad.safetensors"
    save_tensors(lora, {key: torch.zeros(shape) for key, shape in shapes.items()}, {})
    with pytest.raises(DmmError, match=re.compile(says, re.DOTALL)) as refusal:
        applied(open_checkpoint(path), lora)
    assert str(lora) in str(refusal.value)


def test_of_another_family(checkpoint: Checkpoint, tmp_path: Path, family: str) -> None:
    """Each family's LoRA, whole, on the other: some names are in both."""
    other = "sdxl" if family == "sd1" else "sd1"
    unet = networks(other)[0]
    names = {weight: flat("lora_unet_")(weight) for weight in layers(unet)}
    write_lora(tmp_path / "a.safetensors", names, unet.state_dict())
    with pytest.raises(DmmError, match="does not fit"):
        applied(checkpoint, tmp_path / "a.safetensors")


def test_unreadable_strength(tmp_path: Path) -> None:
    path = nets.write_single_file(tmp_path / "base.safetensors", nets.small_sd1_unet())
    checkpoint = open_checkpoint(path)
    names = {LINEAR: dotted("unet.")(LINEAR)}
    for number, said in enumerate(
        ("[", "[1]", '{"unet.alpha_pattern": 3}', '{"unet.lora_alpha": NaN}')
    ):
        lora = tmp_path / f"{number}.safetensors"
        metadata = {"lora_adapter_metadata": said}
        write_lora(lora, names, checkpoint.unet_tensors(), ends=PEFT, metadata=metadata)
        with pytest.raises(DmmError, match="metadata"):
            applied(checkpoint, lora)


def test_a_factor_without_a_rank_beside_a_strength_in_the_metadata(tmp_path: Path) -> None:
    path = nets.write_single_file(tmp_path / "base.safetensors", nets.small_sd1_unet())
    lora = tmp_path / "bad.safetensors"
    tensors = {
        f"{MODULE}.lora_down.weight": torch.zeros(()),
        f"{MODULE}.lora_up.weight": torch.ones(4, 4),
    }
    save_tensors(lora, tensors, {"lora_adapter_metadata": '{"unet.lora_alpha": 1}'})
    with pytest.raises(DmmError, match="make no change"):
        applied(open_checkpoint(path), lora)


@pytest.mark.parametrize("alpha", [float("nan"), float("inf")])
def test_a_strength_that_is_no_number(tmp_path: Path, alpha: float) -> None:
    path = nets.write_single_file(tmp_path / "base.safetensors", nets.small_sd1_unet())
    tensors = {key: torch.zeros(shape) for key, shape in PAIR.items()}
    lora = tmp_path / "bad.safetensors"
    save_tensors(lora, tensors | {f"{MODULE}.alpha": torch.tensor(alpha)}, {})
    with pytest.raises(DmmError, match=f"has no strength: {MODULE}.alpha is {alpha}"):
        applied(open_checkpoint(path), lora)
