"""Any file a user has: opened lazily, loaded exactly, or refused with a reason."""

import hashlib
import itertools
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from dmm.errors import DmmError
from dmm.layouts import CLIP_PREFIX
from dmm.tensors import save_tensors
from tests.nets import (
    file_tensors,
    small_bigg,
    small_clip,
    small_sd1_unet,
    small_sdxl_unet,
    small_vae,
    write_single_file,
)
from trainer.checkpoint import open_checkpoint, refuse_other_architecture

UNET = "model.diffusion_model."
NETS = {
    "sd1": (small_sd1_unet, [small_clip]),
    "sdxl": (small_sdxl_unet, [small_clip, small_bigg]),
}


def styles(mlp, count=3, width=128):
    generator = torch.Generator().manual_seed(5)
    shapes = {"model_embedding.weight": (count, width)}
    for layer in ("linear_1", "linear_2"):
        shapes |= {f"{mlp}.{layer}.weight": (width, width), f"{mlp}.{layer}.bias": (width,)}
    return {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}


def write_folder(path, family, **save):
    """A checkpoint in the diffusers layout, by diffusers and transformers themselves."""
    unet, text_encoders = NETS[family]
    unet().save_pretrained(path / "unet", **save)
    small_vae().save_pretrained(path / "vae", **save)
    for encoder, name in zip(text_encoders, ("text_encoder", "text_encoder_2"), strict=False):
        encoder().save_pretrained(path / name)
    (path / "model_index.json").write_text("{}", encoding="utf-8")
    return path


def read(path):
    """Copies of a file's tensors: Windows replaces no file that is still mapped."""
    return {key: tensor.clone() for key, tensor in load_file(path).items()}


def rewrite(path, change):
    """Apply `change` to the tensors of a single file."""
    tensors = read(path)
    save_tensors(path, change(tensors) or tensors, {}, overwrite=True)
    return path


def assert_same_weights(found, expected):
    assert set(found) == set(expected)
    for key in expected:
        assert torch.equal(found[key], expected[key]), key


@pytest.fixture(params=["sd1", "sdxl"])
def family(request):
    return request.param


@pytest.fixture
def single_file(tmp_path, family):
    unet, text_encoders = NETS[family]
    encoders = [encoder() for encoder in text_encoders]
    return write_single_file(tmp_path / "model.safetensors", unet(), small_vae(), encoders)


def assert_holds_the_nets(checkpoint, family):
    """Every network has the weights of the one that was saved, and computes what it does."""
    make_unet, text_encoders = NETS[family]
    assert checkpoint.family == family
    unet = make_unet()
    assert_same_weights(checkpoint.unet_tensors(), unet.state_dict())
    loaded = checkpoint.load_unet()
    assert_same_weights(loaded.state_dict(), unet.state_dict())
    x, t = torch.randn(2, 4, 8, 8), torch.tensor([10, 700])
    context = torch.randn(2, 5, unet.config.cross_attention_dim)
    sizes = {"text_embeds": torch.randn(2, 64), "time_ids": torch.rand(2, 6)}
    with torch.no_grad():
        expected = unet(x, t, context, added_cond_kwargs=sizes).sample
        assert_close(loaded(x, t, context, added_cond_kwargs=sizes).sample, expected)

    vae = small_vae()
    assert_same_weights(checkpoint.vae_tensors(), vae.state_dict())
    with torch.no_grad():
        latent = torch.randn(1, 4, 4, 4)
        expected = vae.decode(latent).sample
        assert_close(checkpoint.load_vae().decode(latent).sample, expected)

    assert len(checkpoint.text_encoder_configs) == len(text_encoders)
    tokens = torch.tensor([[518, 5, 300, 519, 519]])
    for index, make in enumerate(text_encoders):
        encoder = make()
        assert_same_weights(checkpoint.text_encoder_tensors(index), file_tensors(encoder))
        with torch.no_grad():
            expected = encoder(tokens, output_hidden_states=True)
            found = checkpoint.load_text_encoder(index)(tokens, output_hidden_states=True)
        assert type(found) is type(expected)
        assert_close(found[0], expected[0])
        assert_close(found.hidden_states[-2], expected.hidden_states[-2])


def test_a_single_file(single_file, family):
    checkpoint = open_checkpoint(single_file)
    assert_holds_the_nets(checkpoint, family)
    assert checkpoint.path == single_file
    assert checkpoint.prediction_type == "epsilon"
    assert checkpoint.vae_config["scaling_factor"] == {"sd1": 0.18215, "sdxl": 0.13025}[family]
    assert not checkpoint.styles
    assert checkpoint.sha256 == hashlib.sha256(single_file.read_bytes()).hexdigest()


def test_what_other_tools_leave_in_a_file_is_ignored(single_file, family):
    def add(tensors):
        clip = CLIP_PREFIX[family]
        tensors[clip + "text_model.embeddings.position_ids"] = torch.arange(77.0)[None]
        tensors[clip + "text_projection.weight"] = torch.zeros(64, 64)
        tensors["alphas_cumprod"] = torch.zeros(1000)
        tensors["model_ema.decay"] = torch.zeros(())
        tensors["conditioner.embedders.1.model.logit_scale"] = torch.zeros(())
        tensors["first_stage_model.loss.logvar"] = torch.zeros(())

    assert_holds_the_nets(open_checkpoint(rewrite(single_file, add)), family)


def test_an_old_ckpt(single_file, family):
    path = single_file.with_suffix(".ckpt")
    torch.save({"state_dict": load_file(single_file), "epoch": 1}, path)
    assert_holds_the_nets(open_checkpoint(path), family)


def test_a_half_precision_file_loads_in_the_asked_dtype(tmp_path):
    path = write_single_file(tmp_path / "a.safetensors", small_sd1_unet(), dtype=torch.float16)
    checkpoint = open_checkpoint(path)
    assert checkpoint.unet_tensors()["conv_in.weight"].dtype == torch.float16
    assert checkpoint.load_unet().dtype == torch.float32
    assert checkpoint.load_unet(torch.bfloat16).dtype == torch.bfloat16
    expected = small_sd1_unet().half().float().state_dict()
    assert_same_weights(checkpoint.load_unet().state_dict(), expected)


def test_a_loaded_network_is_a_copy_of_its_own(single_file):
    checkpoint = open_checkpoint(single_file)
    before = single_file.read_bytes()
    unet = checkpoint.load_unet()
    with torch.no_grad():
        unet.conv_in.weight.add_(1)
    assert not torch.equal(checkpoint.unet_tensors()["conv_in.weight"], unet.conv_in.weight)
    assert single_file.read_bytes() == before


def test_a_file_of_a_unet_alone_opens_and_says_what_it_lacks(tmp_path):
    checkpoint = open_checkpoint(write_single_file(tmp_path / "a.safetensors", small_sd1_unet()))
    assert checkpoint.vae_config is None
    assert checkpoint.text_encoder_configs == []
    with pytest.raises(DmmError, match=r"a\.safetensors holds no VAE"):
        checkpoint.load_vae()
    with pytest.raises(DmmError, match="holds no text encoder"):
        checkpoint.text_encoder_tensors(0)
    with pytest.raises(DmmError, match="holds no second text encoder"):
        checkpoint.load_text_encoder(1)


@pytest.mark.parametrize(("family", "mlp"), [("sd1", "add_embedding"), ("sdxl", "add_embedding2")])
def test_style_tensors_of_a_merged_file_stay_out_of_the_unet(tmp_path, family, mlp):
    unet = NETS[family][0]()
    width = unet.time_embedding.linear_2.out_features
    expected = styles(mlp, width=width)
    path = write_single_file(tmp_path / "merged.safetensors", unet, styles=expected)
    checkpoint = open_checkpoint(path)
    assert_same_weights(checkpoint.styles, expected)
    assert_same_weights(checkpoint.unet_tensors(), unet.state_dict())


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, "epsilon"),
        ({"modelspec.prediction_type": "epsilon"}, "epsilon"),
        ({"modelspec.prediction_type": "v"}, "v_prediction"),
        ({"modelspec.prediction_type": "v_prediction"}, "v_prediction"),
    ],
)
def test_prediction_type_by_metadata(tmp_path, metadata, expected):
    path = write_single_file(tmp_path / "a.safetensors", small_sd1_unet(), metadata=metadata)
    checkpoint = open_checkpoint(path)
    assert checkpoint.prediction_type == expected
    assert checkpoint.metadata == metadata


def test_prediction_type_by_the_mark_trainers_leave(single_file):
    rewrite(single_file, lambda tensors: {**tensors, "v_pred": torch.zeros(0)})
    assert open_checkpoint(single_file).prediction_type == "v_prediction"


def test_vae_scaling_factor_by_metadata(tmp_path):
    for said, name in (("0.75", "a.safetensors"), ("much", "b.safetensors")):
        metadata = {"dmm.vae_scaling_factor": said}
        write_single_file(tmp_path / name, small_sd1_unet(), small_vae(), metadata=metadata)
    assert open_checkpoint(tmp_path / "a.safetensors").vae_config["scaling_factor"] == 0.75
    with pytest.raises(DmmError, match="has 'much' for"):
        open_checkpoint(tmp_path / "b.safetensors")


# --- diffusers folders -----------------------------------------------------------------------

WAYS_TO_SAVE = {
    "plain": {},
    "fp16 file names": {"variant": "fp16"},
    "pickled": {"safe_serialization": False},
    "sharded": {"max_shard_size": "200KB"},
    "sharded with fp16 file names": {"max_shard_size": "200KB", "variant": "fp16"},
}


@pytest.mark.parametrize("save", WAYS_TO_SAVE.values(), ids=WAYS_TO_SAVE.keys())
def test_a_diffusers_folder(tmp_path, family, save):
    folder = write_folder(tmp_path / "model", family, **save)
    checkpoint = open_checkpoint(folder)
    assert_holds_the_nets(checkpoint, family)
    digest = hashlib.sha256()
    files = sorted((folder / "unet").glob("*.safetensors")) or [*(folder / "unet").glob("*.bin")]
    for file in files:
        digest.update(file.read_bytes())
    assert checkpoint.sha256 == digest.hexdigest()


def test_a_folders_config_is_believed_where_tensors_do_not_tell(tmp_path):
    folder = write_folder(tmp_path, "sd1")
    small_sd1_unet(attention_head_dim=4, norm_eps=1e-3).save_config(folder / "unet")
    small_vae(scaling_factor=0.4).save_config(folder / "vae")
    checkpoint = open_checkpoint(folder)
    assert checkpoint.load_unet().config.attention_head_dim == 4
    assert checkpoint.load_unet().config.norm_eps == 1e-3
    assert checkpoint.vae_config["scaling_factor"] == 0.4


def test_a_folder_and_a_file_share_an_architecture(tmp_path, single_file, family):
    folder, file = write_folder(tmp_path / "model", family), open_checkpoint(single_file)
    refuse_other_architecture(open_checkpoint(folder), file)
    refuse_other_architecture(file, open_checkpoint(folder))
    NETS[family][0](act_fn="gelu").save_config(folder / "unet")
    with pytest.raises(DmmError, match="`act_fn` is silu where the latter has gelu"):
        refuse_other_architecture(open_checkpoint(folder), file)


def test_a_folder_without_configs_is_read_off_its_tensors(tmp_path, family):
    folder = write_folder(tmp_path, family)
    for config in folder.rglob("config.json"):
        config.unlink()
    assert_holds_the_nets(open_checkpoint(folder), family)


def test_a_folder_whose_config_is_not_that_of_its_tensors(tmp_path):
    folder = write_folder(tmp_path, "sd1")
    small_sd1_unet(layers_per_block=2).save_config(folder / "unet")
    with pytest.raises(DmmError, match=r"lacks \d+ \(down_blocks\.0\.attentions\.1"):
        open_checkpoint(folder)
    small_sd1_unet(cross_attention_dim=32).save_config(folder / "unet")
    with pytest.raises(DmmError, match=r"attn2\.to_k\.weight with shape \[32, 64\]"):
        open_checkpoint(folder)


def test_the_scheduler_tells_a_folders_prediction_type(tmp_path):
    folder = write_folder(tmp_path, "sd1")
    file = folder / "scheduler" / "scheduler_config.json"
    file.parent.mkdir()
    file.write_text('{"prediction_type": "v_prediction"}', encoding="utf-8")
    assert open_checkpoint(folder).prediction_type == "v_prediction"
    file.write_text('{"prediction_type": "sample"}', encoding="utf-8")
    with pytest.raises(DmmError, match="predicts 'sample'"):
        open_checkpoint(folder)
    file.write_text("{", encoding="utf-8")
    with pytest.raises(DmmError, match=r"scheduler_config\.json cannot be read as JSON"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    ("family", "mlp", "kind"),
    [
        ("sd1", "add_embedding", "model_merge"),
        ("sdxl", "add_embedding2", "model_merge_xl"),
    ],
)
def test_the_authors_folder(tmp_path, family, mlp, kind):
    folder = write_folder(tmp_path, family)
    unet = folder / "unet"
    width = NETS[family][0]().time_embedding.linear_2.out_features
    expected = styles(mlp, width=width)
    weights = unet / "diffusion_pytorch_model.safetensors"
    save_file({**read(weights), **expected}, weights)
    config = json.loads((unet / "config.json").read_text(encoding="utf-8"))
    config |= {
        "_class_name": "DMMUNet2DConditionModel",
        "addition_embed_type": kind,
        "num_models": 3,
    }
    (unet / "config.json").write_text(json.dumps(config), encoding="utf-8")
    checkpoint = open_checkpoint(folder)
    assert_holds_the_nets(checkpoint, family)
    assert_same_weights(checkpoint.styles, expected)


# --- what is refused -------------------------------------------------------------------------


def test_missing_tensors_are_named_as_the_file_names_them(single_file, family):
    def cut(tensors):
        return {
            key: tensor
            for key, tensor in tensors.items()
            if not key.startswith(UNET + "output_blocks.0.0.out_layers.")
        }

    with pytest.raises(
        DmmError, match=r"lacks 4 \(model\.diffusion_model\.output_blocks\.0\.0\.out"
    ):
        open_checkpoint(rewrite(single_file, cut))


@pytest.mark.parametrize(
    ("prefix", "network"),
    [
        ("first_stage_model.decoder.up.1.block.0.", "VAE"),
        ("cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc2.", "text encoder"),
    ],
)
def test_missing_tensors_of_the_other_networks(tmp_path, prefix, network):
    path = write_single_file(
        tmp_path / "a.safetensors", small_sd1_unet(), small_vae(), [small_clip()]
    )
    rewrite(path, lambda t: {key: x for key, x in t.items() if not key.startswith(prefix)})
    with pytest.raises(DmmError, match=rf"lacks \d+ \({prefix}.*of its {network}"):
        open_checkpoint(path)


def test_no_file_with_a_missing_or_misshapen_tensor_passes(single_file):
    whole = read(single_file)
    shapes = itertools.cycle([(), (1,), (0, 0), (3, 7), (2, 2, 2, 2, 2)])
    for name in list(whole)[::29]:
        missing = {key: tensor for key, tensor in whole.items() if key != name}
        misshapen = {**whole, name: torch.zeros(next(shapes))}
        for kind, tensors in (("missing", missing), ("misshapen", misshapen)):
            path = single_file.with_name(f"{name} {kind}.safetensors")
            save_tensors(path, tensors, {})
            with pytest.raises(DmmError):
                open_checkpoint(path)


@pytest.mark.parametrize(
    "name",
    [
        "input_blocks.1.0.motion.weight",
        "cap_embedder.weight",
        "input_blocks.99999999999.0.x.weight",
    ],
)
def test_tensors_that_do_not_belong_in_a_unet(single_file, name):
    rewrite(single_file, lambda tensors: {**tensors, UNET + name: torch.zeros(2)})
    with pytest.raises(DmmError, match=rf"1 \({name}\).*not belong"):
        open_checkpoint(single_file)


def unet_with(**config):
    return lambda path: write_single_file(path, small_sd1_unet(**config))


def names(*keys):
    return lambda path: save_tensors(path, {key: torch.zeros(2, 2) for key in keys}, {})


def network_alone(prefix):
    def write(path):
        whole = path.with_name("whole.safetensors")
        write_single_file(whole, small_sd1_unet(), small_vae(), [small_clip()])
        kept = {key: tensor for key, tensor in read(whole).items() if key.startswith(prefix)}
        save_tensors(path, {key.removeprefix(prefix): x for key, x in kept.items()}, {})

    return write


OTHER_FILES = [
    ("a Stable Diffusion 2 UNet", unet_with(cross_attention_dim=1024, use_linear_projection=True)),
    ("an inpainting UNet", unet_with(in_channels=9)),
    ("a LoRA", names("lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight")),
    ("a LoRA", names("unet.down_blocks.0.attentions.0.to_k.lora_A.weight")),
    ("a LoRA", names("unet.down_blocks.0.attentions.0.to_k.lora.up.weight")),
    ("a LoRA", names("base_model.model.down_blocks.0.to_k.lora_B.weight")),
    ("a LoRA", names("lora_te1_text_model_encoder_layers_0_mlp_fc1.hada_w1_a")),
    ("a Flux model", names("double_blocks.0.img_attn.norm.key_norm.scale")),
    ("a Flux model", names("model.diffusion_model.double_blocks.0.img_attn.norm.key_norm.scale")),
    ("a Stable Diffusion 3 model", names("model.diffusion_model.joint_blocks.0.x_block.mlp.fc1")),
    ("a ControlNet", names("control_model.input_blocks.0.0.weight", UNET + "input_blocks.0.0.w")),
    ("a ControlNet", names("controlnet_cond_embedding.conv_in.weight", "down_blocks.0.x")),
    ("a VAE", network_alone("first_stage_model.")),
    ("a VAE", names("encoder.conv_in.weight", "decoder.mid_block.resnets.0.conv1.weight")),
    ("a text encoder", network_alone("cond_stage_model.transformer.")),
    ("a bare UNet", network_alone("model.diffusion_model.")),
    ("a bare UNet", names("conv_in.weight", "down_blocks.0.resnets.0.conv1.weight")),
    ("a textual inversion", names("emb_params")),
    ("a style file", names("model.diffusion_model.model_embedding.weight")),
    ("an upscaler", names("params_ema.conv_first.weight")),
    ("an unknown kind", names("blocks.0.weight", "blocks.1.weight")),
]


@pytest.mark.parametrize(("kind", "write"), OTHER_FILES)
def test_other_files_are_told_what_they_are(tmp_path, kind, write):
    path = tmp_path / "other.safetensors"
    write(path)
    with pytest.raises(DmmError, match=f"other.safetensors is {kind}") as caught:
        open_checkpoint(path)
    assert "is needed here" in str(caught.value)


def test_playground_is_refused(single_file):
    with pytest.raises(DmmError, match="Playground"):
        open_checkpoint(rewrite(single_file, lambda t: {**t, "edm_mean": torch.zeros(4)}))


def test_folders_that_are_no_checkpoint(tmp_path):
    with pytest.raises(DmmError, match="without a unet folder"):
        open_checkpoint(tmp_path)
    (tmp_path / "transformer").mkdir()
    with pytest.raises(DmmError, match="Flux and Stable Diffusion 3"):
        open_checkpoint(tmp_path)
    folder = write_folder(tmp_path / "model", "sd1")
    with pytest.raises(DmmError, match=r"a part of .*model, which is the folder to give"):
        open_checkpoint(folder / "unet")
    shutil.rmtree(folder / "unet")
    (folder / "unet").mkdir()
    with pytest.raises(DmmError, match="unet holds no weights"):
        open_checkpoint(folder)


def test_a_folder_with_a_missing_shard(tmp_path):
    folder = write_folder(tmp_path, "sd1", max_shard_size="200KB")
    next((folder / "unet").glob("*-00002-of-*.safetensors")).unlink()
    with pytest.raises(DmmError, match=r"00002-of-.* does not exist"):
        open_checkpoint(folder)


def test_an_index_that_names_no_files(tmp_path):
    folder = write_folder(tmp_path, "sd1", max_shard_size="200KB")
    index = folder / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text('{"weight_map": {}}', encoding="utf-8")
    with pytest.raises(DmmError, match="names no files of weights"):
        open_checkpoint(folder)
