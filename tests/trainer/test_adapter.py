"""The student as an adapter: trained, resumed, exported, folded, through the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from dmm.injection import styled
from dmm.merged import is_adapter, read_styles
from dmm.tensors import open_tensors
from tests import nets
from tests.trainer.merging import (
    assert_same_tensors,
    command,
    networks,
    run_merge,
    saved_student,
    statistics,
    write_models,
)
from trainer.checkpoint import Checkpoint, open_checkpoint
from trainer.fold import fold, open_adapter
from trainer.lora import open_lora
from trainer.student import predict
from trainer.text import TextEmbedding

DEMO = Path(__file__).parents[2] / "demo" / "merge.yaml"
STYLES = ["ink", "Anime", "oil"]
RANK = 4
ADAPTER = f"train.adapter={{rank: {RANK}}}"


@pytest.fixture(scope="module", params=["sd1", "sdxl"])
def config(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def adapter(config: Path) -> Path:
    return run_merge(config, ADAPTER)


@pytest.fixture(scope="module")
def folded(config: Path, adapter: Path) -> Path:
    output = config.parent / "folded.safetensors"
    fold(adapter, base_of(config), output, dtype="fp32")
    return output


def base_of(config: Path) -> Path:
    return config.parent / "base.safetensors"


@torch.no_grad()
def painted(checkpoint: Checkpoint, style: str) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    noisy = torch.randn(4, 4, 8, 8, generator=generator)
    width = checkpoint.unet_config["cross_attention_dim"]
    hidden, pooled = (torch.randn(4, *shape, generator=generator) for shape in ((77, width), (64,)))
    text = TextEmbedding(hidden, pooled)
    styles = read_styles(checkpoint.path)
    vector = styles.prompts(torch.eye(len(styles.names))[styles.names.index(style)])
    with styled(checkpoint.load_unet(), vector) as unet:
        time_ids = torch.full((4, 6), 16.0)
        return predict(unet, noisy, torch.arange(100, 1000, 250), text, time_ids)


def test_one_small_file_is_a_lora_and_holds_the_styles(config: Path, adapter: Path) -> None:
    file = open_tensors(adapter)
    assert is_adapter(file)
    assert [path.name for path in adapter.parent.glob("*.safetensors")] == [adapter.name]
    styles = read_styles(adapter)
    assert styles.names == STYLES
    assert styles.recipe["base"]["sha256"] == open_checkpoint(base_of(config)).sha256
    lora = open_lora(adapter, besides=styles.tensors())
    assert lora.ranks == [RANK]
    unet = networks("sdxl" if styles.family == "sdxl" else "sd1", 0)[0].state_dict()
    matrices = [tensor for tensor in unet.values() if tensor.ndim > 1]
    assert len(lora.modules) == len(matrices)
    factors = {key: file[key] for key in file if key not in styles.tensors()}
    numbers = sum(t.numel() for key, t in factors.items() if not key.endswith("alpha"))
    assert numbers == sum(RANK * (len(m) + m[0].numel()) for m in matrices)
    assert all(tensor.isfinite().all() for tensor in factors.values())
    assert any(factors[key].any() for key in factors if "lora_up" in key)


def test_attention_alone(config: Path) -> None:
    output = config.parent / "attention" / "merged.safetensors"
    words = ["train.adapter={rank: 2, layers: attention}", f"output={output}", "train.steps=1"]
    lora = open_lora(run_merge(config, *words), besides=read_styles(output).tensors())
    assert lora.ranks == [2]
    assert not [module for module in lora.modules if "resnets" in module or "time_emb" in module]
    assert any("attn2_to_k" in module for module in lora.modules)


def test_states_hold_what_learns_and_nothing_else(adapter: Path) -> None:
    state = saved_student(adapter, 6)
    assert {name.partition(".")[0] for name in state} == {"style_prompts", "unet"}
    assert all(".lora." in name for name in state if name.startswith("unet."))


def test_stopped_and_resumed_it_ends_with_the_same_bits(config: Path, adapter: Path) -> None:
    output = config.parent / "resumed" / "merged.safetensors"
    run_merge(config, ADAPTER, f"output={output}", "train.steps=4")
    output.unlink()
    run_merge(config, ADAPTER, f"output={output}")
    assert_same_tensors(output, adapter)


def test_moving_average_and_gradient_checkpointing(config: Path, adapter: Path) -> None:
    output = config.parent / "averaged" / "merged.safetensors"
    words = ["train.ema_decay=0.5", "train.gradient_checkpointing=true", f"output={output}"]
    run_merge(config, ADAPTER, *words)
    for ours, theirs in zip(statistics(output), statistics(adapter), strict=True):
        assert ours["score"] == pytest.approx(theirs["score"], rel=1e-5)
    assert any(
        not torch.equal(tensor, open_tensors(adapter)[key])
        for key, tensor in open_tensors(output).items()
    )


def test_on_a_base_in_half_precision(config: Path, adapter: Path) -> None:
    output = config.parent / "half" / "merged.safetensors"
    run_merge(config, ADAPTER, "train.precision=bf16", f"output={output}")
    for ours, theirs in zip(statistics(output), statistics(adapter), strict=True):
        assert ours["score"] == pytest.approx(theirs["score"], rel=0.1)


@pytest.mark.parametrize("style", STYLES)
def test_folded_it_paints_as_on_its_base(
    config: Path, adapter: Path, folded: Path, style: str
) -> None:
    base, together = open_checkpoint(base_of(config)), open_adapter(adapter, base_of(config))
    whole = open_checkpoint(folded)
    for name, tensor in whole.unet_tensors().items():
        assert torch.equal(tensor, together.unet_tensors()[name])
        if tensor.ndim > 1:
            assert not torch.equal(tensor, base.unet_tensors()[name])
    # The same weights, whose place in memory some CPUs' convolutions make a last bit of.
    torch.testing.assert_close(painted(together, style), painted(whole, style))


def test_folded_it_is_a_whole_merged_checkpoint(folded: Path, adapter: Path, config: Path) -> None:
    whole, styles = open_checkpoint(folded), read_styles(folded)
    assert styles.names == STYLES
    assert styles.recipe == read_styles(adapter).recipe
    assert whole.metadata["modelspec.resolution"] == "16x16"
    assert "lora" not in whole.metadata["modelspec.architecture"]
    base = open_checkpoint(base_of(config))
    for name, tensor in base.text_encoder_tensors(0).items():
        assert torch.equal(whole.text_encoder_tensors(0)[name], tensor)


def test_inspect_plan_sample_rename_and_the_commands(
    config: Path, adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("inspect", adapter) == 0
    said = capsys.readouterr().out
    assert "an adapter" in said and f"rank {RANK}" in said and "Anime" in said
    assert command("plan", config, ADAPTER, "output=elsewhere.safetensors") == 0
    assert f"rank {RANK}, layers all" in capsys.readouterr().out
    picture, output = tmp_path / "sample.png", tmp_path / "folded.safetensors"
    words = ["--prompt", "a cat", "--steps", "1", "--output", picture]
    assert command("sample", adapter, "--base", base_of(config), *words) == 0
    assert picture.exists()
    assert command("sample", adapter, *words) == 2
    assert "run.py fold" in capsys.readouterr().err
    assert command("fold", adapter, "--base", base_of(config), "--output", output) == 0
    assert read_styles(output).names == STYLES
    renamed = tmp_path / "renamed.safetensors"
    assert command("rename", adapter, "ink=Ink", "--output", renamed) == 0
    assert read_styles(renamed).names == ["Ink", "Anime", "oil"]
    assert is_adapter(open_tensors(renamed))


def test_another_base_is_warned_of_or_refused(
    config: Path, adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "folded.safetensors"
    with pytest.warns(UserWarning, match="was trained on base.safetensors"):
        fold(adapter, config.parent / "ink.safetensors", output)
    other = "sdxl" if read_styles(adapter).family == "sd1" else "sd1"
    nets.write_single_file(tmp_path / "other.safetensors", *networks(other, 0))
    words = ["--base", tmp_path / "other.safetensors", "--output", tmp_path / "none.safetensors"]
    assert command("fold", adapter, *words) == 2
    assert "does not fit" in capsys.readouterr().err
    assert command("fold", config.parent / "ink.safetensors", *words) == 2
    assert "is no adapter" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["train.adapter={rank: 0}"], "greater than or equal to 1"),
        (["train.adapter={rnak: 4}"], "did you mean `rank`"),
        ([ADAPTER, "train.start_from=average"], "run.py average"),
        ([ADAPTER, "export.diffusers_folder=true"], "leave one of them out"),
        (["train.adapter={rank: 8}"], "made by another merge"),
        (["teachers.1={{loras: [{adapter}]}}"], "an adapter of a merge"),
        (["base={adapter}"], "run.py fold"),
    ],
)
def test_mistakes(
    config: Path,
    adapter: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    says: str,
) -> None:
    words = [word.format(adapter=adapter) if "adapter}" in word else word for word in words]
    assert command("merge", config, *words) == 2
    assert says in capsys.readouterr().err


def test_it_learns_nearly_as_well_as_the_whole_unet(tmp_path: Path) -> None:
    """Training loss on the demo's teachers, which paint emoji; one draw, few steps.

    `bench.adapter` measures it on held-out captions, from several draws, after more of them.
    """

    def train(name: str, *words: str) -> tuple[float, int]:
        few = ["train.steps=60", "train.batch_size=16", "train.start_from=base"]
        painting = "data.painting={pictures_per_teacher: 16, steps: 8, guidance: 2, negative: ''}"
        output = tmp_path / name / "merged.safetensors"
        words = (*few, painting, f"data.cache={tmp_path / 'cache'}", *words)
        merged = run_merge(DEMO, f"output={output}", "samples.steps=1", *words)
        scores = [line["score"] for line in statistics(merged)]
        return sum(scores[-20:]) / 20, merged.stat().st_size

    whole, whole_size = train("whole")
    adapter, size = train("adapter", "train.adapter={rank: 16}", "train.learning_rate=3e-3")
    assert adapter < 1.1 * whole
    assert size < whole_size / 4
