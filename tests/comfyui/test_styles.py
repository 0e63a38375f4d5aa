"""Styles in the real ComfyUI: what must be equal is equal bit for bit, what must differ differs."""

from __future__ import annotations

import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from dmm.layouts import UNET_PREFIX
from dmm.merged import read_styles
from dmm.resolving import resolve
from tests.comfyui.checkpoints import SD1_UNET
from tests.comfyui.server import NodeError
from tests.comfyui.studio import Studio, all_differ, nearly
from tests.nets import small_sd1_unet, write_single_file

LEFT, RIGHT, EVERYWHERE = (0, 0, 0.5, 1), (0.5, 0, 1, 1), (0, 0, 1, 1)
QUARTERS = [(x, y, x + 0.5, y + 0.5) for y in (0, 0.5) for x in (0, 0.5)]

NAMES = {"sd1": ("ink", "anime", "photo"), "sdxl": ("oil", "clay", "pixel")}
STYLE_BIAS = {"sd1": "time_embed.2.bias", "sdxl": "label_emb.0.2.bias"}


@pytest.fixture
def sd1(comfyui, sd1_file):
    return Studio(comfyui, sd1_file, "sd1")


@pytest.fixture
def sdxl(comfyui, sdxl_file):
    return Studio(comfyui, sdxl_file, "sdxl")


@pytest.fixture(params=["sd1", "sdxl"])
def studio(request):
    return request.getfixturevalue(request.param)


# One style, and mixes


def test_switched_off_it_paints_as_without_the_pack(sd1, comfyui):
    stock = comfyui.graph()
    loader = stock.add("CheckpointLoaderSimple", ckpt_name="sd1.safetensors")
    without = comfyui.latent(stock, stock.sample(loader))
    assert torch.equal(sd1.paint(sd1.loader), without)
    assert torch.equal(sd1.paint(sd1.apply(sd1.style("ink", strength=0))), without)
    assert not torch.equal(sd1.paint(sd1.apply(sd1.style("ink"))), without)


def test_a_style_is_its_vector_added_to_the_embedding(studio, comfyui):
    """A checkpoint whose embedding has the vector in its last bias knows nothing of the pack."""
    mix = ":0.5, ".join(NAMES[studio.family][:2]) + ":1.5"
    file = comfyui.checkpoints / f"{studio.family}.safetensors"
    tensors = {name: tensor.float() for name, tensor in load_file(file).items()}
    vector = resolve(read_styles(file), mix, strength=0.7)
    tensors[UNET_PREFIX + STYLE_BIAS[studio.family]] += vector
    shifted = f"shifted {studio.family}.safetensors"
    save_file(tensors, comfyui.checkpoints / shifted)

    stock = comfyui.graph()
    loader = stock.add("CheckpointLoaderSimple", ckpt_name=shifted)
    expected = comfyui.latent(stock, stock.sample(loader, family=studio.family))
    nearly(studio.paint(studio.apply(studio.mix(mix, strength=0.7))), expected)


def test_a_mix_of_one_is_that_style_and_mixes_differ(sd1):
    ink = sd1.paint(sd1.apply(sd1.style("ink")))
    assert torch.equal(sd1.paint(sd1.apply(sd1.mix("INK:3, anime:0"))), ink)
    mixes = [
        sd1.mix("ink:1, anime:1"),
        sd1.mix("ink:1, anime:1", mixing="after MLP"),
        sd1.mix("ink:1, anime:1", normalise=False),
        sd1.mix("ink:1, anime:1", strength=0.5),
    ]
    painted = [ink, *(sd1.paint(sd1.apply(mix)) for mix in mixes)]
    assert all_differ(painted)


def test_the_last_style_applied_replaces_the_one_before(sd1):
    ink = sd1.apply(sd1.style("ink"))
    again = sd1.apply(sd1.style("anime"), ink)
    assert torch.equal(sd1.paint(again), sd1.paint(sd1.apply(sd1.style("anime"))))


# Conditionings


def test_a_style_on_the_negative_prompt_alone(studio):
    name = NAMES[studio.family][0]
    negative = studio.on(studio.prompt(2), studio.style(name))
    both = studio.paint(studio.loader, negative=negative, cfg=4.0, steps=1)
    conditional = studio.paint(studio.loader, cfg=1.0, steps=1)
    unconditional = studio.paint(studio.loader, positive=negative, cfg=1.0, steps=1)
    nearly(both, unconditional + (conditional - unconditional) * 4)
    assert not torch.equal(both, studio.paint(studio.loader, cfg=4.0, steps=1))


def test_a_prompts_style_goes_before_the_models(sd1):
    model = sd1.apply(sd1.style("anime"))
    prompts = [sd1.on(sd1.prompt(seed), sd1.style("ink")) for seed in (1, 2)]
    ink = sd1.paint(sd1.apply(sd1.style("ink")))
    assert torch.equal(sd1.paint(model, positive=prompts[0], negative=prompts[1]), ink)
    none = [sd1.on(sd1.prompt(seed), sd1.style("ink", strength=0)) for seed in (1, 2)]
    plain = sd1.paint(sd1.loader)
    assert torch.equal(sd1.paint(model, positive=none[0], negative=none[1]), plain)


def test_prompts_of_different_styles_are_painted_in_one_call(sd1):
    quarter = sd1.regional((sd1.box(*LEFT), sd1.style("anime")))
    negatives = [sd1.prompt(2), sd1.on(sd1.prompt(2), sd1.style("photo"))]
    negatives.append(sd1.on(sd1.prompt(2), quarter))
    for negative in negatives:
        counted = sd1.add("TEST_CountCalls", model=sd1.apply(sd1.style("ink")))
        sampled = sd1.sample(counted, negative=negative, steps=3)
        assert sd1.noted(counted[1], sampled) == ["2", "2", "2"]


def test_masked_and_area_prompts_each_in_their_own_style(sd1):
    """One step, each half covered by one prompt alone, so that a half is what it would be alone."""
    painted = {
        name: sd1.paint(
            sd1.apply(sd1.style(name)), steps=1, negative=sd1.on(sd1.prompt(2), sd1.style("photo"))
        )
        for name in ("ink", "anime")
    }
    masked = [
        sd1.add(
            "ConditioningSetMask",
            conditioning=sd1.on(sd1.prompt(1), sd1.style(name)),
            mask=sd1.box(*box),
            strength=1.0,
            set_cond_area="default",
        )
        for name, box in (("ink", LEFT), ("anime", RIGHT))
    ]
    positive = sd1.add("ConditioningCombine", conditioning_1=masked[0], conditioning_2=masked[1])
    negative = sd1.on(sd1.prompt(2), sd1.style("photo"))
    halves = sd1.paint(sd1.loader, positive=positive, negative=negative, steps=1)
    nearly(halves[..., :4], painted["ink"][..., :4])
    nearly(halves[..., 4:], painted["anime"][..., 4:])

    area = sd1.add(
        "ConditioningSetAreaPercentage",
        conditioning=sd1.on(sd1.prompt(3), sd1.style("anime")),
        **{"width": 0.5, "height": 1.0, "x": 0.5, "y": 0.0, "strength": 1.0},
    )
    for style in ("ink", "anime"):
        model = sd1.apply(sd1.style(style))
        positive = sd1.add("ConditioningCombine", conditioning_1=sd1.prompt(1), conditioning_2=area)
        painted[style] = sd1.paint(model, positive=positive)
    assert not torch.equal(painted["ink"], painted["anime"])


def test_a_prompts_style_on_a_model_that_knows_none_is_refused(sd1, plain_file):
    plain = sd1.add("CheckpointLoaderSimple", ckpt_name=plain_file.name)
    prompt = sd1.on(sd1.prompt(1), sd1.style("ink"))
    sd1.paint(sd1.apply(sd1.style("anime"), plain), positive=prompt)
    with pytest.raises(NodeError, match="the MODEL knows nothing of styles"):
        sd1.paint(plain, positive=prompt)


# Regions


@pytest.mark.parametrize("method", ["one pass", "per-region latents"])
@pytest.mark.parametrize("feather", [0, 7])
def test_one_region_over_all_is_the_style_of_the_whole_picture(studio, method, feather):
    style = studio.style(NAMES[studio.family][0])
    region = studio.region(studio.box(*EVERYWHERE), style, feather=feather)
    uniform = studio.add("DMM_RegionalStyles", regions=region, method=method)
    expected = studio.paint(studio.apply(style))
    assert torch.equal(studio.paint(studio.apply(uniform)), expected)


def test_four_regions_are_in_the_picture_and_it_is_one_picture(studio):
    one, two, three = NAMES[studio.family]
    names = [one, two, three, two]
    regions = [
        (studio.box(*box), studio.style(name)) for box, name in zip(QUARTERS, names, strict=True)
    ]
    painted = studio.paint(studio.apply(studio.regional(*regions)))
    whole = {name: studio.paint(studio.apply(studio.style(name))) for name in set(names)}
    assert painted.isfinite().all()
    assert all_differ([painted, *whole.values()])
    for box, name in zip(QUARTERS, names, strict=True):
        columns = slice(int(8 * box[0]), int(8 * box[2]))
        rows = slice(int(8 * box[1]), int(8 * box[3]))
        distances = {
            style: (painted - other)[..., rows, columns].norm() for style, other in whole.items()
        }
        assert min(distances, key=distances.get) == name


def test_regions_follow_their_masks_to_any_size(sd1):
    """The same regions painted at two sizes of mask, and in a second pass at a larger size."""
    styles = sd1.style("ink"), sd1.style("anime")
    small, large = (
        sd1.regional((sd1.box(*LEFT, width=size, height=size), styles[0]), base=styles[1])
        for size in (64, 512)
    )
    assert torch.equal(sd1.paint(sd1.apply(small)), sd1.paint(sd1.apply(large)))
    model = sd1.apply(small)
    first = sd1.sample(model)
    upscaled = sd1.add(
        "LatentUpscaleBy", samples=first, upscale_method="nearest-exact", scale_by=1.5
    )
    second = sd1.paint(model, latent=upscaled, denoise=0.5)
    assert second.shape[-2:] == (12, 12)
    plain = sd1.paint(sd1.apply(styles[1]), latent=upscaled, denoise=0.5)
    assert not torch.equal(second, plain)


def test_regions_in_latents_of_their_own_are_strictly_apart(sd1):
    styles = {LEFT: sd1.style("ink"), RIGHT: sd1.style("anime")}
    regions = [(sd1.box(*box), style) for box, style in styles.items()]
    apart = sd1.paint(sd1.apply(sd1.regional(*regions, method="per-region latents")), steps=1)
    left, right = (sd1.paint(sd1.apply(style), steps=1) for style in styles.values())
    nearly(apart[..., :4], left[..., :4])
    nearly(apart[..., 4:], right[..., 4:])
    one_pass = sd1.paint(sd1.apply(sd1.regional(*regions)), steps=1)
    assert (one_pass - apart).abs().max() > 1e-3


def test_what_no_region_covers_is_painted_in_the_base_style(sd1):
    styles = sd1.style("ink"), sd1.style("anime")
    left, right = sd1.box(*LEFT), sd1.box(*RIGHT)
    both = sd1.paint(sd1.apply(sd1.regional((left, styles[0]), (right, styles[1]))))
    base = sd1.paint(sd1.apply(sd1.regional((left, styles[0]), base=styles[1])))
    nearly(base, both)
    none = sd1.paint(sd1.apply(sd1.regional((left, styles[0]))))
    assert not torch.equal(none, base)


# Batches and schedules


def test_each_picture_of_a_batch_in_its_own_style(studio):
    batch = studio.batch()
    latent = studio.add("EmptyLatentImage", width=64, height=64, batch_size=batch[1])
    sampled = studio.sample(studio.apply(batch), latent=latent)
    saved = studio.add("SaveLatent", samples=sampled, filename_prefix="grid")
    shown = studio.add("PreviewAny", source=batch[2])
    outputs = studio.comfyui.run(studio.graph)
    grid, names = outputs.latent(saved), outputs.text(shown).splitlines()
    assert names[:3] == list(NAMES[studio.family])
    for number, name in enumerate(names[:2]):
        one = studio.picture(latent, number)
        nearly(grid[number], studio.paint(studio.apply(studio.style(name)), latent=one)[0])


def test_each_picture_of_a_batch_with_its_own_mask(sd1):
    both = sd1.box(*RIGHT, after=sd1.box(*LEFT))
    ink, anime, latent = sd1.style("ink"), sd1.style("anime"), sd1.latent(batch=4)
    pictures = sd1.paint(sd1.apply(sd1.regional((both, ink), base=anime)), latent=latent)
    for number, box in ((0, LEFT), (1, RIGHT), (2, LEFT)):
        alone = sd1.apply(sd1.regional((sd1.box(*box), ink), base=anime))
        nearly(pictures[number], sd1.paint(alone, latent=sd1.picture(latent, number))[0])


def test_a_schedule_switches_where_the_hosts_percents_do(sd1):
    """Four steps at 0, 1/3, 2/3 and 1 of the way: two in one style, two in the other."""
    ink, anime = sd1.style("ink"), sd1.style("anime")
    latent = sd1.latent()
    schedule = sd1.apply(sd1.scheduled(anime, 0.5, 1.0, otherwise=ink))
    settings = {"cfg": 4.0, "sampler_name": "euler", "scheduler": "normal", "noise_seed": 0}
    prompts = {"positive": sd1.prompt(1), "negative": sd1.prompt(2)}
    for style, span, noise, leftover in (
        (ink, (0, 2), "enable", "enable"),
        (anime, (2, 4), "disable", "disable"),
    ):
        latent = sd1.add(
            "KSamplerAdvanced",
            model=sd1.apply(style),
            add_noise=noise,
            steps=4,
            latent_image=latent,
            start_at_step=span[0],
            end_at_step=span[1],
            return_with_leftover_noise=leftover,
            **settings,
            **prompts,
        )
    nearly(sd1.paint(schedule, steps=4), sd1.comfyui.latent(sd1.graph, latent))


def test_schedules_within_regions_and_fades(sd1):
    ink, anime = sd1.style("ink"), sd1.style("anime")
    late = sd1.scheduled(anime, 0.5, 1.0, otherwise=ink)
    everywhere = sd1.regional((sd1.box(*EVERYWHERE), late))
    scheduled = sd1.paint(sd1.apply(late), steps=4)
    assert torch.equal(sd1.paint(sd1.apply(everywhere), steps=4), scheduled)
    half = sd1.regional((sd1.box(*LEFT), late), base=ink)
    fading = sd1.scheduled(anime, 0.1, 1.0, fade=0.9, otherwise=ink)
    painted = [sd1.paint(sd1.apply(style), steps=4) for style in (half, fading, ink, anime)]
    assert all_differ([scheduled, *painted])


def test_a_fading_style_keeps_no_more_from_step_to_step(sd1):
    fading = sd1.scheduled(sd1.style("ink"), 0.0, 0.99, fade=0.99, otherwise=sd1.style("anime"))
    counted = sd1.add("TEST_CountStyles", model=sd1.apply(fading))
    alive = list(map(int, sd1.noted(counted[1], sd1.sample(counted, steps=30))))
    assert len(alive) == 30
    assert alive[-1] < alive[9] + 10


def test_the_steps_of_the_picture_before_are_found_at_once(sd1):
    def asked(pictures):
        counted = sd1.add("TEST_CountPercents", model=sd1.loader)
        late = sd1.apply(sd1.scheduled(sd1.style("ink"), 0.5, 1.0), counted)
        latent = sd1.latent()
        for seed in range(pictures):
            latent = sd1.sample(late, latent=latent, seed=seed, steps=3)
        return len(sd1.noted(counted[1], latent))

    assert asked(pictures=3) == asked(pictures=1) > 0


# Nothing leaks


def test_branches_prompts_and_samplers_do_not_disturb_one_another(sd1, sdxl):
    ink, anime = sd1.apply(sd1.style("ink")), sd1.apply(sd1.style("anime"))
    first = sd1.paint(ink)
    plain = sd1.paint(sd1.loader)
    halves = sd1.apply(sd1.regional((sd1.box(*LEFT), sd1.style("photo"))))
    branches = [sd1.sample(model) for model in (halves, ink, anime, ink, sd1.loader)]
    saved = [sd1.add("SaveLatent", samples=branch, filename_prefix="branch") for branch in branches]
    sdxl.paint(sdxl.apply(sdxl.style("oil")))
    outputs = sd1.comfyui.run(sd1.graph)
    painted = [outputs.latent(node) for node in saved]
    assert torch.equal(painted[1], first)
    assert torch.equal(painted[3], first)
    assert torch.equal(painted[4], plain)
    assert all_differ([painted[0], painted[1], painted[2], painted[4]])


def test_an_interrupted_run_leaves_nothing_behind(sd1, comfyui, sd1_file):
    def both(studio):
        latent = studio.latent()
        halves = studio.regional((studio.box(*LEFT), studio.style("photo")))
        models = (studio.loader, studio.apply(halves))
        return [studio.paint(model, seed=5, latent=latent) for model in models]

    before = both(sd1)
    endless = Studio(comfyui, sd1_file, "sd1")
    ink = endless.apply(endless.regional((endless.box(*LEFT), endless.style("ink"))))
    endless.add("SaveLatent", samples=endless.sample(ink, steps=2000), filename_prefix="never")
    running = comfyui.queue(endless.graph)
    wait_until(lambda: "/2000" in comfyui.log())
    comfyui.post("/interrupt", {})
    with pytest.raises(NodeError, match="interrupted"):
        comfyui.finish(running)

    comfyui.post("/free", {"free_memory": True})  # or the pictures come out of the host's cache
    after = both(Studio(comfyui, sd1_file, "sd1"))
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))


def wait_until(happened, seconds=60):
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# Refusals


def one_region(studio, **mask):
    box = mask.pop("box", LEFT)
    return studio.regional((studio.box(*box, **mask), studio.style("ink")))


REFUSED = {
    "no style chosen": (lambda s: s.style(""), "No style is chosen. The file has: ink, anime"),
    "unknown style": (lambda s: s.style("ikn"), "no style 'ikn' in this file. Did you mean 'ink'"),
    "empty mix": (lambda s: s.mix(""), "The mix is empty"),
    "all weights 0": (lambda s: s.mix("ink:0, anime:0"), "All style weights are 0"),
    "free weights 0": (lambda s: s.mix("ink:0", normalise=False), "All style weights are 0"),
    "unknown mixing": (lambda s: s.mix("ink", mixing="after"), "no mixing 'after'. Choose one of"),
    "unknown method": (
        lambda s: s.regional((s.box(*LEFT), s.style("ink")), method="two passes"),
        "no method 'two passes'. Choose one of: one pass, per-region latents",
    ),
    "unknown in a batch": (lambda s: s.batch("ink\nanme"), "no style 'anme'"),
    "wrong batch": (lambda s: s.batch("ink\nanime"), "styles for 2 pictures, but the batch has 1"),
    "empty mask": (lambda s: one_region(s, box=(0, 0, 0, 0)), "mask of region 1 is empty"),
    "mask of another shape": (lambda s: one_region(s, width=96), "masks are 96×64, .* 64×64"),
    "mask of another batch": (
        lambda s: one_region(s, after=s.box(*RIGHT)),
        "masks for 2 pictures, but the batch has 1",
    ),
    "masks of two sizes": (
        lambda s: s.regional(
            (s.box(*LEFT), s.style("ink")), (s.box(*LEFT, width=128), s.style("ink"))
        ),
        "region 1 is 64×64, that of region 2 is 128×64",
    ),
    "no span": (lambda s: s.scheduled(s.style("ink"), 0.5, 0.5), "is no span"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_a_message_on_the_node(sd1, case):
    make, message = REFUSED[case]
    with pytest.raises(NodeError, match=message):
        sd1.paint(sd1.apply(make(sd1)))


FOREIGN = {
    "applied": lambda s, oil: s.sample(s.apply(oil)),
    "on a prompt": lambda s, oil: s.sample(s.loader, negative=s.on(s.prompt(2), oil)),
    "in a region": lambda s, oil: s.sample(s.apply(s.regional((s.box(*LEFT), oil)))),
    "beside a fitting one": lambda s, oil: s.sample(
        s.apply(s.regional((s.box(*LEFT), oil), base=s.style("ink")))
    ),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_a_style_of_another_kind_of_model_is_refused(sd1, sdxl_file, case):
    loader = sd1.add("DMM_StylesLoader", styles_name=sdxl_file.name)
    oil = sd1.add("DMM_Style", styles=loader, style="oil", strength=1.0)
    painted = FOREIGN[case](sd1, oil)
    message = r"is for SDXL \(width 1280\), but the model is SD 1.5|for different models"
    with pytest.raises(NodeError, match=message):
        sd1.comfyui.latent(sd1.graph, painted)


def test_a_style_on_a_model_that_only_looks_alike_is_refused(sd1, comfyui):
    kind = {"cross_attention_dim": 1024, "use_linear_projection": True}
    path = comfyui.checkpoints / "sd2.safetensors"
    write_single_file(path, small_sd1_unet(**(SD1_UNET | kind)), dtype=torch.float16)
    sd2 = sd1.add("CheckpointLoaderSimple", ckpt_name=path.name)
    with pytest.raises(NodeError, match=r"for SD 1.5 \(width 1280\), but the model is SD 2"):
        sd1.paint(sd1.apply(sd1.style("ink"), sd2))


def test_a_style_that_would_be_ignored_is_refused(sd1):
    around = sd1.add("TEST_GoAround", model=sd1.apply(sd1.style("ink")))
    with pytest.raises(NodeError, match="another node on this MODEL goes around its UNet"):
        sd1.paint(around)
