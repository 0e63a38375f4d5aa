"""Styles in the company of other nodes and packs: each keeps its effect, and styles keep theirs."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from dmm.layouts import UNET_PREFIX
from tests.comfyui.checkpoints import (
    SD1_UNET,
    small_styles,
    style_tensors,
    styles_metadata,
    write_lora,
)
from tests.comfyui.server import NodeError
from tests.comfyui.studio import Studio, all_differ, nearly
from tests.nets import small_sd1_unet, write_single_file

LEFT, RIGHT, EVERYWHERE = (0, 0, 0.5, 1), (0.5, 0, 1, 1), (0, 0, 1, 1)
LORA = "embeddings.safetensors"


@pytest.fixture
def sd1(comfyui, sd1_file):
    return Studio(comfyui, sd1_file, "sd1")


@pytest.fixture(scope="module")
def wide_file(comfyui):
    """With 640 channels in the second level, since FreeU leaves levels of 320 as they are."""
    styles = small_styles(["ink", "anime"])
    unet = small_sd1_unet(**(SD1_UNET | {"block_out_channels": (320, 640)}))
    said = {"metadata": styles_metadata(styles), "styles": style_tensors(styles)}
    path = comfyui.checkpoints / "wide.safetensors"
    return write_single_file(path, unet, **said, dtype=torch.float16)


# What other nodes do to a MODEL, or to the settings of a sampler


def lora(studio, model):
    """On the layers through which a style comes in: the embedding's and the blocks' own."""
    file = studio.comfyui.base / "models" / "loras" / LORA
    if not file.exists():
        checkpoint = studio.comfyui.checkpoints / "sd1.safetensors"
        write_lora(file, checkpoint, layers=r".*(time_embed|emb_layers).*")
    return studio.add("LoraLoaderModelOnly", model=model, lora_name=LORA, strength_model=1.0), {}


def freeu(studio, model):
    return studio.add("FreeU_V2", model=model, b1=1.3, b2=1.4, s1=0.9, s2=0.2), {}


def ip_adapter(studio, model):
    if not studio.comfyui.has_pack("ComfyUI_IPAdapter_plus"):
        pytest.skip("ComfyUI_IPAdapter_plus is not in the host's folder of packs")
    adapter = studio.add("TEST_IPAdapter")
    embeds = {"pos_embed": adapter[1], "neg_embed": adapter[2]}
    span = {"weight": 1.0, "weight_type": "linear", "start_at": 0.0, "end_at": 1.0}
    span["embeds_scaling"] = "V only"
    return studio.add("IPAdapterEmbeds", model=model, ipadapter=adapter, **embeds, **span), {}


def controlnet(studio, model):
    hint = studio.add("TEST_Picture", width=64, height=64, seed=0)
    positive, negative = with_controlnet(studio, studio.prompt(1), hint)
    return model, {"positive": positive, "negative": negative}


def with_controlnet(studio, positive, hint):
    prompts = studio.add(
        "ControlNetApplyAdvanced",
        positive=positive,
        negative=studio.prompt(2),
        control_net=studio.add("TEST_ControlNet", model=studio.loader),
        image=hint,
        strength=1.0,
        start_percent=0.0,
        end_percent=1.0,
    )
    return prompts[0], prompts[1]


def inpainting(studio, model):
    first = studio.sample(studio.loader)
    mask = studio.box(*RIGHT)
    return model, {"latent": studio.add("SetLatentNoiseMask", samples=first, mask=mask)}


def masked_prompts(studio, model):
    masked = studio.add(
        "ConditioningSetMask",
        conditioning=studio.prompt(3),
        mask=studio.box(*LEFT),
        strength=0.8,
        set_cond_area="mask bounds",
    )
    return model, {"positive": combine(studio, studio.prompt(1), masked)}


def area_prompts(studio, model):
    box = {"width": 0.5, "height": 0.5, "x": 0.5, "y": 0.25, "strength": 1.0}
    area = studio.add("ConditioningSetAreaPercentage", conditioning=studio.prompt(3), **box)
    return model, {"positive": combine(studio, studio.prompt(1), area)}


def combine(studio, one, other):
    return studio.add("ConditioningCombine", conditioning_1=one, conditioning_2=other)


def pack_tiles(method):
    def tiles(studio, model, overlap=32):
        if not studio.comfyui.has_pack("ComfyUI-TiledDiffusion"):
            pytest.skip("ComfyUI-TiledDiffusion is not in the host's folder of packs")
        size = {"tile_width": 64, "tile_height": 64, "tile_overlap": overlap}
        how = {"method": method, "tile_batch_size": 2}
        return studio.add("TiledDiffusion", model=model, **size, **how), wide_latent(studio)

    return tiles


def our_tiles(weights, wrap=False):
    def tiles(studio, model, overlap=32):
        size = {"tile_width": 64, "tile_height": 64, "overlap": overlap}
        how = {"weights": weights, "wrap": wrap}
        model = studio.add("DMM_MixtureOfDiffusers", model=model, **size, **how)
        return model, wide_latent(studio)

    return tiles


def wide_latent(studio):
    return {"latent": studio.latent(width=128, height=64)}


TILES = {
    "our Mixture of Diffusers": our_tiles("gaussian"),
    "our MultiDiffusion": our_tiles("uniform"),
    "TiledDiffusion, Mixture of Diffusers": pack_tiles("Mixture of Diffusers"),
    "TiledDiffusion, MultiDiffusion": pack_tiles("MultiDiffusion"),
}
COMPANY = {
    "LoRA": lora,
    "ControlNet": controlnet,
    "IP-Adapter": ip_adapter,
    "FreeU": freeu,
    "inpainting": inpainting,
    "masked prompts": masked_prompts,
    "area prompts": area_prompts,
    "our panorama": our_tiles("gaussian", wrap=True),
    **TILES,
}


@pytest.mark.parametrize("case", COMPANY)
def test_in_company(request, comfyui, case):
    file = request.getfixturevalue("wide_file" if case == "FreeU" else "sd1_file")

    def paint(studio, style=None, *, first=False):
        """With the style applied before or after the other node had its turn."""
        model = studio.apply(style) if style and first else studio.loader
        model, settings = COMPANY[case](studio, model)
        if style and not first:
            model = studio.apply(style, model)
        return studio.paint(model, **settings)

    bare = paint(Studio(comfyui, file, "sd1", loader="CheckpointLoaderSimple"))
    studio = Studio(comfyui, file, "sd1")
    ink, anime = studio.style("ink"), studio.style("anime")
    size = {"width": 8 * bare.shape[-1], "height": 8 * bare.shape[-2]}
    left, right, all_of_it = (studio.box(*box, **size) for box in (LEFT, RIGHT, EVERYWHERE))
    everywhere = studio.regional((all_of_it, ink))
    halves = studio.regional((left, ink), (right, anime))

    assert torch.equal(paint(studio), bare)
    whole, both = paint(studio, ink), paint(studio, halves)
    assert torch.equal(paint(studio, ink, first=True), whole)
    assert torch.equal(paint(studio, everywhere), whole)
    assert torch.equal(paint(studio, halves, first=True), both)
    alone = studio.paint(studio.apply(ink), latent=studio.latent(**size))
    painted = [bare, whole, both, paint(studio, anime), alone]
    assert all(latent.isfinite().all() for latent in painted)
    assert all_differ(painted)


def test_compiled_it_paints_the_same(sd1):
    """And so in turn: nothing that was compiled for one style is taken for another."""
    halves = sd1.regional((sd1.box(*LEFT), sd1.style("photo")), base=sd1.style("ink"))
    compiled = sd1.add("TEST_Compile", model=sd1.loader)
    for style in (sd1.style("ink"), None, halves, sd1.style("anime")):
        models = [sd1.apply(style, model) if style else model for model in (compiled, sd1.loader)]
        painted = [sd1.paint(model, seed=3) for model in models]
        assert torch.equal(*painted)


def test_a_model_that_was_unloaded_paints_the_same(sd1, comfyui, sd1_file):
    def both(studio):
        halves = studio.regional((studio.box(*LEFT), studio.style("ink")))
        styles = (halves, studio.style("anime"))
        return [studio.paint(studio.apply(style)) for style in styles]

    before = both(sd1)
    comfyui.post("/free", {"unload_models": True, "free_memory": True})
    after = both(Studio(comfyui, sd1_file, "sd1"))
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))


def test_a_lora_that_is_loaded_is_the_lora_that_was_merged_in(sd1, comfyui, sd1_file):
    halves = sd1.regional((sd1.box(*LEFT), sd1.style("ink")), base=sd1.style("anime"))
    loaded = sd1.paint(sd1.apply(halves, lora(sd1, sd1.loader)[0]))
    factors = load_file(comfyui.base / "models" / "loras" / LORA)
    tensors = {name: tensor.float() for name, tensor in load_file(sd1_file).items()}
    for name in tensors:
        layer = name.removeprefix(UNET_PREFIX).removesuffix(".weight").replace(".", "_")
        if (up := factors.get(f"lora_unet_{layer}.lora_up.weight")) is not None:
            tensors[name] += up @ factors[f"lora_unet_{layer}.lora_down.weight"]
    save_file(tensors, comfyui.checkpoints / "with lora.safetensors")
    merged = sd1.add("CheckpointLoaderSimple", ckpt_name="with lora.safetensors")
    nearly(loaded, sd1.paint(sd1.apply(halves, merged)))


# Parts of a picture that are painted by themselves: areas, and our own tiles


def first_step(studio, model, latent, *, cfg=4.0, **prompts):
    """The first of two steps from noise that is given, so that parts cannot have met."""
    settings = {"cfg": cfg, "sampler_name": "euler", "scheduler": "normal", "noise_seed": 0}
    settings |= {"add_noise": "disable", "return_with_leftover_noise": "enable"}
    sampled = studio.add(
        "KSamplerAdvanced",
        model=model,
        latent_image=latent,
        steps=2,
        start_at_step=0,
        end_at_step=1,
        **settings,
        **prompts,
    )
    return studio.comfyui.latent(studio.graph, sampled)


def test_an_area_is_painted_with_its_part_of_the_regions(sd1):
    styles = sd1.style("ink"), sd1.style("anime")
    negative = sd1.prompt(2)

    def paint(latent, mask, positive):
        model = sd1.apply(sd1.regional((mask, styles[0]), base=styles[1]))
        return first_step(sd1, model, latent, cfg=1.0, positive=positive, negative=negative)

    noise = sd1.add("TEST_Noise", width=128, height=64, seed=1, roll=0)
    mask = sd1.box(0.25, 0, 0.75, 0.5, width=128)
    box = {"width": 64, "height": 64, "x": 64, "y": 0}
    area = sd1.add("ConditioningSetArea", conditioning=sd1.prompt(1), **box, strength=1.0)
    painted = paint(noise, mask, area)
    latent_part = sd1.add("LatentCrop", samples=noise, **box)
    alone = paint(latent_part, sd1.add("CropMask", mask=mask, **box), sd1.prompt(1))
    nearly(painted[..., 8:], alone)


@pytest.mark.parametrize("case", TILES)
def test_tiles_that_do_not_overlap_are_pictures_of_their_own(sd1, case):
    """Masks, regions and the hint of a ControlNet are cropped with the latents."""
    styles = sd1.style("ink"), sd1.style("anime")

    def paint(model, latent, hint, mask):
        model = sd1.apply(sd1.regional((mask, styles[0]), base=styles[1]), model)
        masked = {"mask": mask, "strength": 0.7, "set_cond_area": "default"}
        prompt = sd1.add("ConditioningSetMask", conditioning=sd1.prompt(3), **masked)
        prompts = with_controlnet(sd1, combine(sd1, sd1.prompt(1), prompt), hint)
        return first_step(sd1, model, latent, positive=prompts[0], negative=prompts[1])

    tiles, _ = TILES[case](sd1, sd1.loader, overlap=0)
    noise = sd1.add("TEST_Noise", width=128, height=64, seed=1, roll=0)
    hint = sd1.add("TEST_Picture", width=128, height=64, seed=1)
    mask = sd1.box(0.25, 0, 0.75, 0.5, width=128)
    painted = paint(tiles, noise, hint, mask)
    for x in (0, 64):
        part = {"width": 64, "height": 64, "x": x, "y": 0}
        alone = paint(
            sd1.loader,
            sd1.add("LatentCrop", samples=noise, **part),
            sd1.add("ImageCrop", image=hint, **part),
            sd1.add("CropMask", mask=mask, **part),
        )
        nearly(painted[..., x // 8 : x // 8 + 8], alone)


def test_a_panorama_has_no_edge(sd1):
    """Noise rolled by a tile's step gives the rolled picture; without wrapping it does not."""
    prompts = {"positive": sd1.prompt(1), "negative": sd1.prompt(2)}
    size = {"tile_width": 64, "tile_height": 64, "overlap": 32, "weights": "gaussian"}

    def paint(wrap, roll):
        model = sd1.add("DMM_MixtureOfDiffusers", model=sd1.loader, wrap=wrap, **size)
        noise = sd1.add("TEST_Noise", width=128, height=64, seed=1, roll=roll)
        return first_step(sd1, sd1.apply(sd1.style("ink"), model), noise, **prompts)

    nearly(paint(True, 32), paint(True, 0).roll(4, -1))
    assert not torch.allclose(paint(False, 32), paint(False, 0).roll(4, -1))


def test_one_tile_is_the_plain_picture(sd1):
    halves = sd1.apply(sd1.regional((sd1.box(*LEFT), sd1.style("ink"))))
    size = {"tile_width": 512, "tile_height": 512, "overlap": 64, "wrap": False}
    tile = sd1.add("DMM_MixtureOfDiffusers", model=halves, weights="uniform", **size)
    assert torch.equal(sd1.paint(tile), sd1.paint(halves))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"overlap": 64}, "overlap of 64 pixels is as large as a tile, 64×64"),
        ({"weights": "linear"}, "no weights 'linear'. Choose one of: gaussian, uniform"),
    ],
)
def test_tiles_that_make_no_sense_are_refused(sd1, settings, message):
    usual = {"tile_width": 64, "tile_height": 64, "overlap": 32, "weights": "uniform"}
    tiles = sd1.add("DMM_MixtureOfDiffusers", model=sd1.loader, wrap=False, **(usual | settings))
    with pytest.raises(NodeError, match=message):
        sd1.paint(tiles)
