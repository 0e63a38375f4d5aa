"""Every option of a merge, each in a whole merge of small real networks."""

from __future__ import annotations

import io
import shutil
import tarfile
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.models.resnet import ResnetBlock2D
from PIL import Image
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor
from torch.nn.modules.module import register_module_forward_pre_hook
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from dmm.errors import DmmError
from dmm.merged import read_styles
from dmm.tensors import open_tensors
from tests.trainer.merging import (
    assert_same_tensors,
    run_merge,
    saved_student,
    statistics,
    write_models,
)
from trainer.checkpoint import open_checkpoint

STEPS = 3
NAMES = ["ink", "Anime", "oil"]


class Models:
    """A folder of models and pictures, and merges of them that share one cache."""

    def __init__(self, folder: Path, family: str) -> None:
        self.folder, self.config = folder, write_models(folder, family)
        write_pictures(folder / "pictures")

    def merge(self, name: str, *overrides: str) -> Path:
        return run_merge(
            self.config,
            f"output={self.folder / name / 'merged.safetensors'}",
            f"data.cache={self.folder / 'cache'}",
            "data.prompts=null",
            f"data.pictures={self.folder / 'pictures'}",
            f"train.steps={STEPS}",
            "train.save_every=1",
            "train.keep_last=9",
            "train.feature_weight=0.1",
            *overrides,
        )


def write_pictures(folder: Path) -> None:
    folder.mkdir()
    for number in range(5):
        picture = folder / f"{number}.png"
        Image.effect_noise((16, 16), 20 * (number + 1)).save(picture)
        picture.with_suffix(".txt").write_text(f"picture {number}", encoding="utf-8")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("sd1"), "sd1")


@pytest.fixture(scope="module")
def sdxl_models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("sdxl"), "sdxl")


@pytest.fixture(scope="module")
def plain(models: Models) -> Path:
    """The merge that the options are compared with."""
    return models.merge("plain")


@pytest.fixture(scope="module")
def sdxl(sdxl_models: Models) -> Path:
    return sdxl_models.merge("sdxl", "export.diffusers_folder=true")


def scores(merged: Path) -> list[float]:
    return [line["score"] for line in statistics(merged)]


# --- training ------------------------------------------------------------------------------------


def test_a_single_teacher_in_memory_changes_no_bit(models: Models, plain: Path) -> None:
    one = models.merge("one-slot", "train.teacher_slots=1")
    assert_same_tensors(one, plain)
    assert statistics(one) == statistics(plain)


def test_gradient_checkpointing_computes_twice_and_changes_no_bit(models: Models) -> None:
    def merge_and_count(name: str, *overrides: str) -> tuple[Path, int]:
        calls = 0

        def count(module: torch.nn.Module, _inputs: tuple) -> None:
            nonlocal calls
            calls += isinstance(module, ResnetBlock2D) and torch.is_grad_enabled()

        hook = register_module_forward_pre_hook(count)
        merged = models.merge(name, *overrides)
        hook.remove()
        return merged, calls

    stored, calls = merge_and_count("stored")
    recomputed, more_calls = merge_and_count("recomputed", "train.gradient_checkpointing=true")
    assert more_calls > calls
    assert_same_tensors(recomputed, stored)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_close_and_not_the_same(
    models: Models, plain: Path, precision: str
) -> None:
    half = models.merge(precision, f"train.precision={precision}")
    assert scores(half) == pytest.approx(scores(plain), rel=0.02)
    assert scores(half) != scores(plain)
    assert all(tensor.dtype == torch.float32 for tensor in saved_student(half, STEPS).values())


def test_the_moving_average_is_what_is_written(models: Models, plain: Path) -> None:
    merged = models.merge("ema", "train.ema_decay=0.5")
    assert scores(merged) == scores(plain)  # the training itself does not look at the average
    weights = [saved_student(merged, step) for step in range(1, STEPS + 1)]
    written = {f"unet.{name}": t for name, t in open_checkpoint(merged).unet_tensors().items()}
    start = open_checkpoint(models.folder / "base.safetensors").unet_tensors()
    for name, tensor in written.items():
        average = start[name.removeprefix("unet.")].double()
        # diffusers' warm-up of the decay: (1 + n) / (10 + n) after n updates, from the second on.
        for update, decay in enumerate((0.0, 2 / 11, 3 / 12)):
            average = decay * average + (1 - decay) * weights[update][name].double()
        torch.testing.assert_close(tensor.double(), average, rtol=1e-5, atol=1e-7)
    last = weights[-1]
    assert any(not torch.allclose(tensor, last[name]) for name, tensor in written.items())


def test_training_starts_from_the_base_or_from_the_teachers_mean(models: Models) -> None:
    unets = {
        name: open_checkpoint(models.folder / f"{name}.safetensors").unet_tensors()
        for name in ("base", "ink", "anime", "oil")
    }
    for start_from, names in {"base": ["base"], "average": ["ink", "anime", "oil"]}.items():
        still = ["train.steps=1", "train.learning_rate=1e-12"]
        merged = models.merge(start_from, f"train.start_from={start_from}", *still)
        written = open_checkpoint(merged).unet_tensors()
        for key, tensor in written.items():
            mean = torch.stack([unets[name][key] for name in names]).mean(0)
            torch.testing.assert_close(tensor, mean, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["cosine", "relative"])
def test_other_features_are_trained_on(models: Models, plain: Path, kind: str) -> None:
    other = models.merge(kind, f"train.feature_loss={kind}")
    ours, theirs = statistics(other), statistics(plain)
    assert ours[0]["score"] == theirs[0]["score"]
    # Networks that have nothing in common: about 1, and about 2.
    assert 0 < ours[0]["feature"] < 4 and ours[0]["feature"] != theirs[0]["feature"]
    assert ours[-1]["feature"] < ours[0]["feature"]
    assert ours[-1]["score"] != theirs[-1]["score"]


def test_each_teacher_is_read_as_it_says(models: Models, plain: Path) -> None:
    """What another prediction type and another layer of the text encoder change, and what not."""
    merged = models.merge(
        "kinds", "teachers.0.prediction_type=v_prediction", "teachers.1.clip_skip=2"
    )
    (ours, *_), (theirs, *_) = statistics(merged), statistics(plain)
    different = [name for name in NAMES if ours["teachers"][name] != theirs["teachers"][name]]
    assert different == ["ink", "Anime"]


def test_muon_moves_matrices_by_orthogonal_steps_and_the_rest_as_adamw(models: Models) -> None:
    rate = 1e-3
    first = ["train.steps=1", f"train.learning_rate={rate}", "train.weight_decay=0"]
    ours = saved_student(models.merge("muon-1", "train.optimizer=muon", *first), 1)
    theirs = saved_student(models.merge("adamw-1", *first), 1)
    start = open_checkpoint(models.folder / "base.safetensors").unet_tensors()
    for name, tensor in ours.items():
        key = name.removeprefix("unet.")
        if tensor.ndim < 2 or key == name:
            torch.testing.assert_close(tensor, theirs[name])
            continue
        step = ((tensor - start[key]) / rate).flatten(1).double()
        length = 0.2 * max(step.shape) ** 0.5
        largest = torch.linalg.matrix_norm(step, 2)
        # Newton and Schulz's five rounds bring singular values near 1, the small ones not quite.
        assert 0.6 * length < largest < 1.3 * length, name
        assert not torch.allclose(tensor, theirs[name])


def test_muon_goes_on_where_it_stopped(models: Models) -> None:
    words = ["train.optimizer=muon", "train.learning_rate=1e-3", "export.style_file=false"]
    whole = models.merge("muon-whole", *words)
    models.merge("muon-resumed", *words, "train.steps=2").unlink()
    resumed = models.merge("muon-resumed", *words)
    assert_same_tensors(resumed, whole)
    assert statistics(resumed) == statistics(whole)


@pytest.mark.skipif(find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_eight_bit_moments_need_a_package(models: Models) -> None:
    with pytest.raises(DmmError, match=r"adamw8bit` needs .*bitsandbytes, .* or use `adamw`"):
        models.merge("8bit", "train.optimizer=adamw8bit")
    assert not (models.folder / "8bit").exists()


# --- data ----------------------------------------------------------------------------------------


def test_shards_train_as_the_folder_of_the_same_pictures(models: Models, plain: Path) -> None:
    shards = models.folder / "shards"
    shards.mkdir()
    for number, picture in enumerate(sorted((models.folder / "pictures").glob("*.png"))):
        with tarfile.open(shards / f"{number // 3}.tar", "a") as tar:
            for file in (picture, picture.with_suffix(".txt")):
                member = tarfile.TarInfo(file.name)
                member.size = file.stat().st_size
                tar.addfile(member, io.BytesIO(file.read_bytes()))
    merged = models.merge("shards", "data.pictures=null", f"data.shards={shards}/{{0..1}}.tar")
    assert statistics(merged) == statistics(plain)
    ours, theirs = open_tensors(merged), open_tensors(plain)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert str(models.folder) not in str(ours.metadata)
    moved = shards.rename(models.folder / "moved")
    again = models.merge("shards", "data.pictures=null", f"data.shards={moved}/{{0..1}}.tar")
    assert again == merged  # not taken for another merge


def test_a_picture_that_cannot_be_read_is_named_and_left_out(models: Models, plain: Path) -> None:
    folder = models.folder / "one-is-broken"
    shutil.copytree(models.folder / "pictures", folder)
    (folder / "2-broken.png").write_bytes(b"not found")
    (folder / "2-broken.txt").write_text("picture 2", encoding="utf-8")
    with pytest.warns(UserWarning, match=r"1 of 6 pictures are left out: .*2-broken\.png"):
        merged = models.merge("broken", f"data.pictures={folder}")
    assert scores(merged) == pytest.approx(scores(plain), rel=1e-3)


def test_captions_that_are_too_long_are_counted(models: Models) -> None:
    folder = models.folder / "long"
    shutil.copytree(models.folder / "pictures", folder)
    for name, words in (("0", 75), ("1", 76), ("2", 500)):
        (folder / f"{name}.txt").write_text("a " * words, encoding="utf-8")
    # With the three captions, another two, the grid's and the empty negative prompt.
    with pytest.warns(UserWarning, match="2 of 7 captions are longer than the 75 tokens"):
        models.merge("long", f"data.pictures={folder}", "train.steps=1")


# --- along the way -------------------------------------------------------------------------------


def test_grids_on_the_way_and_only_the_last_states(models: Models) -> None:
    merged = models.merge("way", "samples.every=1", "train.keep_last=2")
    run = merged.with_suffix("")
    grids = sorted(path.name for path in (run / "samples").iterdir())
    assert grids == ["step-00000001.png", "step-00000002.png"]
    assert Image.open(run / "samples" / grids[0]).size == Image.open(run / "grid.png").size
    assert sorted(path.name for path in (run / "states").iterdir()) == [
        "step-00000002",
        "step-00000003",
    ]


def test_tensorboard_reads_the_curves(plain: Path) -> None:
    events = EventAccumulator(str(plain.with_suffix("") / "logs")).Reload()
    for tag, expected in {
        "train/score": scores(plain),
        "score/Anime": [line["teachers"]["Anime"] for line in statistics(plain)],
    }.items():
        curve = events.Scalars(tag)
        assert [point.step for point in curve] == [1, 2, 3]
        assert [point.value for point in curve] == pytest.approx(expected)


@pytest.mark.skipif(find_spec("wandb") is not None, reason="wandb is installed")
def test_wandb_is_asked_for_and_is_not_there(models: Models) -> None:
    with pytest.raises(DmmError, match=r"log_with: \[wandb\]` needs .*wandb, .* or leave it out"):
        models.merge("wandb", "log_with=[wandb]")
    assert not (models.folder / "wandb").exists()


# --- what is written -----------------------------------------------------------------------------


def test_a_finished_merge_is_written_again_in_another_precision(
    models: Models, plain: Path
) -> None:
    shutil.copytree(plain.parent, models.folder / "precisions")
    trained = statistics(plain)
    for dtype, stored in (("fp16", torch.float16), ("bf16", torch.bfloat16)):
        merged = models.merge("precisions", f"export.dtype={dtype}")
        for path in (merged, merged.with_name("merged.styles.safetensors")):
            ours, full = open_tensors(path), open_tensors(plain.parent / path.name)
            assert set(ours) == set(full)
            for key in full:
                assert full[key].dtype == torch.float32
                assert torch.equal(ours[key], full[key].to(stored))
        assert statistics(merged) == trained


def same_tensors(network: torch.nn.Module, expected: dict[str, Tensor]) -> bool:
    ours = network.state_dict()
    return set(ours) == set(expected) and all(torch.equal(ours[k], expected[k]) for k in expected)


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_diffusers_loads_the_folder_as_the_file_says(request, models: Models, family: str) -> None:
    if family == "sd1":
        merged = models.merge("folder", "export.diffusers_folder=true")
    else:
        merged = request.getfixturevalue("sdxl")
    folder, file = merged.with_name("merged-diffusers"), open_checkpoint(merged)
    plain_embedding = {"sd1": None, "sdxl": "text_time"}[family]  # the authors' class has its own
    unet = UNet2DConditionModel.from_pretrained(
        folder, subfolder="unet", addition_embed_type=plain_embedding
    )
    assert same_tensors(unet, file.load_unet().state_dict())
    assert same_tensors(
        AutoencoderKL.from_pretrained(folder, subfolder="vae"), file.load_vae().state_dict()
    )
    encoders = [CLIPTextModel, CLIPTextModelWithProjection][: 1 if family == "sd1" else 2]
    for index, encoder in enumerate(encoders):
        loaded = encoder.from_pretrained(folder / ("text_encoder", "text_encoder_2")[index])
        assert same_tensors(loaded, file.load_text_encoder(index).state_dict())
    assert DDIMScheduler.from_pretrained(folder, subfolder="scheduler").config.prediction_type == (
        "epsilon"
    )
    assert read_styles(folder).names == NAMES
    styles = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    assert torch.equal(styles["model_embedding.weight"], read_styles(merged).prompts.codebook)


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_the_file_is_a_plain_checkpoint_to_diffusers(request, tmp_path: Path, family: str) -> None:
    merged = request.getfixturevalue({"sd1": "plain", "sdxl": "sdxl"}[family])
    ours = open_checkpoint(merged)
    for name, network, kind in (
        ("unet", ours.load_unet(), UNet2DConditionModel),
        ("vae", ours.load_vae(), AutoencoderKL),
    ):
        network.save_config(tmp_path / name)
        loaded = kind.from_single_file(
            str(merged), config=str(tmp_path), subfolder=name, local_files_only=True
        )
        assert same_tensors(loaded, network.state_dict())


def test_sdxl_has_two_text_encoders_and_its_own_style_names(
    sdxl: Path, sdxl_models: Models
) -> None:
    ours = open_tensors(sdxl)
    base = open_tensors(sdxl_models.folder / "base.safetensors")
    kept = [key for key in base if not key.startswith("model.diffusion_model.")]
    assert any(key.startswith("conditioner.embedders.1.model.") for key in kept)
    assert all(torch.equal(ours[key], base[key]) for key in kept)
    added = {key.removeprefix("model.diffusion_model.") for key in set(ours) - set(base)}
    assert added == {
        "model_embedding.weight",
        *(f"add_embedding2.linear_{n}.{kind}" for n in (1, 2) for kind in ("weight", "bias")),
    }
    assert scores(sdxl)[-1] < scores(sdxl)[0]
