"""ControlNets merged into one (rebuttal, Q.24), on small nets that follow what they are shown."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import ControlNetModel
from PIL import Image
from torch import Tensor

from dmm.errors import DmmError
from dmm.injection import styled
from dmm.layouts import CONTROLNET_PREFIX
from dmm.merged import styles_in
from dmm.tensors import open_tensors, save_tensors
from tests import nets
from tests.trainer.controlnets import (
    BASE,
    EMBEDDING,
    SIZE,
    train_controlnet,
    write_controlnet,
    write_pictures,
)
from tests.trainer.merging import (
    assert_same_tensors,
    command,
    networks,
    run_merge,
    saved_student,
    statistics,
    write_models,
)
from trainer.architecture import controlnet_config
from trainer.cache import cache_latents
from trainer.checkpoint import open_checkpoint
from trainer.config import CONDITIONS
from trainer.controlnet import MADE, Conditions, ControlledUNet, open_controlnet
from trainer.controlnet.conditions import edges, grey
from trainer.data import PictureFolder
from trainer.diffusion import Diffusion
from trainer.student import predict
from trainer.text import TextEncoders

CONTROLS = ("edges", "grey", "blur")
CONFIG = """
preset: controlnet
base: {base}
teachers:
- {{path: edges.safetensors, condition: edges}}
- {{path: grey, condition: grey}}
- {{path: blur.safetensors, condition: pictures-blur}}
output: out/merged.safetensors
data: {{pictures: pictures, resolution: {size}, workers: 0}}
train:
  steps: 60
  batch_size: 24
  teachers_per_sample: null
  learning_rate: 3.0e-3
  style_learning_rate: 1.0e-2
  schedule: cosine
  caption_dropout: 1
  save_every: 30
samples: {{steps: 4, guidance: 2, negative: "", count: 3}}
export: {{dtype: fp32}}
log_with: []
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three ControlNets trained on 32 pictures, one of them in a diffusers folder, and a merge.

    They begin alike, as those that are fine-tuned from one another: others take longer to merge.
    """
    folder = tmp_path_factory.mktemp("controls")
    write_pictures(folder / "pictures", 32)
    conditions = {"edges": "edges", "grey": "grey", "blur": folder / "pictures-blur"}
    for name, condition in conditions.items():
        net = train_controlnet(folder / "pictures", Path(condition), steps=50, seed=1)
        write_controlnet(folder / (name if name == "grey" else f"{name}.safetensors"), net)
    path = folder / "merge.yaml"
    path.write_text(CONFIG.format(base=BASE.as_posix(), size=SIZE), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def merged(config: Path) -> Path:
    return run_merge(config)


class Shown:
    """Noisy latents and what every control is shown with them."""

    def __init__(self, folder: Path) -> None:
        source, self.base = PictureFolder(folder / "pictures"), open_checkpoint(BASE)
        examples = cache_latents(source, self.base, [(SIZE, SIZE)], folder / "cache")
        latents = torch.stack([examples.latent(index) for index in range(len(examples))]).float()
        generator = torch.Generator().manual_seed(5)
        self.timesteps = torch.randint(500, 1000, (len(latents),), generator=generator)
        noise = torch.randn(latents.shape, generator=generator)
        diffusion, kind = Diffusion(), self.base.prediction_type
        self.noisy = diffusion.add_noise(latents, noise, self.timesteps)
        self.wanted = diffusion.convert(noise, self.noisy, self.timesteps, "epsilon", kind)
        self.text = TextEncoders(self.base).encode([""] * len(latents))
        self.unet = self.base.load_unet()
        self.conditions = {}
        for name in CONTROLS:
            said = folder / "pictures-blur" if name == "blur" else Path(name)
            found = Conditions(source, said)
            self.conditions[name] = torch.stack(
                [found.picture(key, (SIZE, SIZE)) for key in source.keys]
            )

    @torch.no_grad()
    def predict(self, net: ControlNetModel, control: str, vector: Tensor | None) -> Tensor:
        controlled = ControlledUNet(net, self.unet)
        condition = self.conditions[control]
        with styled(controlled, vector):
            return predict(controlled, self.noisy, self.timesteps, self.text, None, condition)


def load_merged(path: Path) -> tuple[ControlNetModel, list[Tensor]]:
    """The ControlNet without its styles, as a plain one, and the vector of each control."""
    file = open_tensors(path)
    controls = styles_in(file, path, (CONTROLNET_PREFIX,))
    its_own = controls.tensors(CONTROLNET_PREFIX)
    plain = path.with_name("plain.safetensors")
    save_tensors(plain, {k: file[k] for k in file if k not in its_own}, {}, overwrite=True)
    with torch.no_grad():
        return open_controlnet(plain).network.load(torch.float32), list(
            controls.prompts(torch.eye(len(controls.names)))
        )


def test_the_teachers_follow_what_they_are_shown(config: Path) -> None:
    """Or there would be nothing to merge: what belongs to another picture leads them astray."""
    shown = Shown(config.parent)
    for name in CONTROLS:
        path = config.parent / (name if name == "grey" else f"{name}.safetensors")
        net = open_controlnet(path).network.load(torch.float32)
        own = (shown.predict(net, name, None) - shown.wanted).square().mean()
        shown.conditions[name] = shown.conditions[name].roll(1, 0)
        astray = (shown.predict(net, name, None) - shown.wanted).square().mean()
        assert own < 0.95 * astray, name


def test_in_each_control_it_follows_the_teacher_of_that_control(config: Path, merged: Path) -> None:
    shown, (net, vectors) = Shown(config.parent), load_merged(merged)
    for number, name in enumerate(CONTROLS):
        path = config.parent / (name if name == "grey" else f"{name}.safetensors")
        wanted = shown.predict(open_controlnet(path).network.load(torch.float32), name, None)

        def error(vector: Tensor | None, wanted: Tensor = wanted, name: str = name) -> float:
            return (shown.predict(net, name, vector) - wanted).square().mean().item()

        own = error(vectors[number])
        others = [error(vector) for other, vector in enumerate(vectors) if other != number]
        assert own < 0.6 * min(others), (name, own, others)
        assert own < 0.9 * error(None), (name, own, error(None))


def test_the_file_has_the_layout_and_the_metadata_that_hosts_read(merged: Path) -> None:
    file = open_tensors(merged)
    assert all(key.startswith(CONTROLNET_PREFIX) for key in file)
    assert f"{CONTROLNET_PREFIX}zero_convs.0.0.weight" in file
    assert f"{CONTROLNET_PREFIX}model_embedding.weight" in file
    assert file.metadata["modelspec.architecture"] == "stable-diffusion-v1/controlnet"
    controls = styles_in(file, merged, (CONTROLNET_PREFIX,))
    assert controls.names == list(CONTROLS)
    assert {style.kind for style in controls.styles} == {"controlnet"}
    assert [teacher["condition"] for teacher in controls.recipe["teachers"]] == [
        "edges",
        "grey",
        "pictures-blur",
    ]


def test_states_hold_the_controlnet_and_not_the_base(merged: Path) -> None:
    state = saved_student(merged, 60)
    assert {name.split(".")[1] for name in state if name.startswith("unet.")} == {"controlnet"}
    assert not list(merged.parent.glob("*.styles.safetensors"))


def test_stopped_and_resumed_it_ends_with_the_same_bits(config: Path, merged: Path) -> None:
    output = config.parent / "resumed" / "merged.safetensors"
    words = [f"output={output}", "train.schedule=constant", "train.save_every=2"]
    run_merge(config, *words, "train.steps=2")
    output.unlink()
    run_merge(config, *words, "train.steps=4")
    through = config.parent / "through" / "merged.safetensors"
    run_merge(config, f"output={through}", *words[1:], "train.steps=4")
    assert_same_tensors(output, through)


def test_half_precision_checkpointing_and_a_discriminator(config: Path, merged: Path) -> None:
    output = config.parent / "half" / "merged.safetensors"
    words = ["train.precision=bf16", "train.gradient_checkpointing=true"]
    words += ["train.adversarial_weight=0.01", "train.steps=2", f"output={output}"]
    run_merge(config, *words)
    for ours, theirs in zip(statistics(output), statistics(merged), strict=False):
        assert ours["score"] == pytest.approx(theirs["score"], rel=0.1)
        assert ours["adversarial"] > 0


def test_plan_and_inspect(config: Path, merged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("plan", config, "output=elsewhere.safetensors") == 0
    assert "edges.safetensors" in capsys.readouterr().out
    assert command("inspect", merged) == 0
    said = capsys.readouterr().out
    assert "ControlNet" in said
    assert "pictures-blur" in said or "blur.safetensors" in said


def test_sdxl_reads_and_writes_both_layouts(tmp_path: Path) -> None:
    net = ControlNetModel.from_unet(
        nets.small_sdxl_unet(0), conditioning_embedding_out_channels=(16, 32)
    ).eval()
    for path in (tmp_path / "single.safetensors", tmp_path / "folder"):
        write_controlnet(path, net)
        file = open_controlnet(path)
        assert file.family == "sdxl"
        assert file.network.config == controlnet_config(
            {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
        )
        loaded = file.network.load(torch.float32).state_dict()
        assert set(loaded) == set(net.state_dict())
        assert all(torch.equal(loaded[name], t) for name, t in net.state_dict().items())


def test_sdxl_is_merged_too(tmp_path: Path) -> None:
    config = write_models(tmp_path, "sdxl")
    (tmp_path / "pictures").mkdir()
    for number in range(2):
        picture = tmp_path / "pictures" / f"{number}.png"
        Image.effect_noise((16, 16), 60).save(picture)
        picture.with_suffix(".txt").write_text("a cat", encoding="utf-8")
    unet, words = open_checkpoint(tmp_path / "base.safetensors").load_unet(), []
    for name in ("edges", "grey"):
        net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(16, 32))
        write_controlnet(tmp_path / f"{name}.safetensors", net)
        words.append(f"{{path: {tmp_path / name}.safetensors, condition: {name}}}")
    pictures = ["data.prompts=null", f"data.pictures={tmp_path / 'pictures'}"]
    merged = run_merge(config, f"teachers=[{', '.join(words)}]", *pictures, "train.steps=2")
    controls = styles_in(open_tensors(merged), merged, (CONTROLNET_PREFIX,))
    assert (controls.family, controls.names) == ("sdxl", ["edges", "grey"])
    assert f"{CONTROLNET_PREFIX}label_emb.0.0.weight" in open_tensors(merged)


def test_made_conditions() -> None:
    assert set(MADE) == set(CONDITIONS)
    picture = torch.zeros(3, 16, 16)
    picture[0, :, 8:] = 1  # black, and red on the right
    found = edges(picture)
    assert found.shape == (3, 16, 16)
    assert torch.all(found[:, :, 7:9] == 1)
    assert found[:, :, :6].max() < 1e-6 > found[:, :, 10:].max()
    assert grey(picture)[:, 0, 8:].unique().tolist() == pytest.approx([0.299])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["teachers.1={path: BASE}"], "is a ControlNet, but the teacher"),
        (["teachers.0.condition=null"], "say by the teacher's `condition`"),
        (["teachers=[{path: BASE, condition: edges}]"], "has a `condition`, but is no ControlNet"),
        (["teachers.0.condition=nowhere"], "There is no folder"),
        (["teachers.0.condition=out"], "have no condition picture"),
        (["data.pictures=null", "data.prompts=merge.yaml"], "a `condition` belongs to a picture"),
        (["train.adapter={rank: 4}"], "without `adapter`"),
        (["synthesised={}"], "without `synthesised`"),
        (["few_steps={}"], "without `few_steps`"),
        (["base=XL"], "another UNet than that of"),
        (["teachers.0.path=MERGED"], "a merged ControlNet, which cannot be a teacher"),
    ],
)
def test_mistakes(
    config: Path,
    merged: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(config.parent)
    if "base=XL" in words:
        nets.write_single_file(tmp_path / "xl.safetensors", *networks("sdxl", 0))
    paths = {"BASE": BASE, "XL": tmp_path / "xl.safetensors", "MERGED": merged}
    for name, path in paths.items():
        words = [word.replace(name, str(path)) for word in words]
    output = tmp_path / "out" / "merged.safetensors"
    assert command("merge", config, f"output={output}", *words) == 2
    assert says in capsys.readouterr().err
    assert not output.parent.exists()


def test_controlnets_that_do_not_fit(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unet, good = open_checkpoint(BASE).load_unet(), config.parent / "edges.safetensors"
    tensors = dict(open_tensors(good))
    key = f"{CONTROLNET_PREFIX}zero_convs.0.0.bias"
    files = {
        "smaller": "sees condition pictures 4 times the latents' size",
        "wider": "is built otherwise than",
        "lacking": "lacks 1",
        "strange": "has 1 (unknown.weight) tensors that do not belong to a ControlNet",
    }
    for name, embedding in (("smaller", EMBEDDING[1:]), ("wider", (*EMBEDDING[:3], 64))):
        net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=embedding)
        write_controlnet(tmp_path / f"{name}.safetensors", net)
    lacking = {name: tensor for name, tensor in tensors.items() if name != key}
    save_tensors(tmp_path / "lacking.safetensors", lacking, {})
    strange = tensors | {f"{CONTROLNET_PREFIX}unknown.weight": torch.zeros(1)}
    save_tensors(tmp_path / "strange.safetensors", strange, {})
    for name, message in files.items():
        path = tmp_path / f"{name}.safetensors"
        words = [f"teachers.1.path={path}", f"output={tmp_path / 'out' / 'merged.safetensors'}"]
        assert command("merge", config, *words) == 2
        said = capsys.readouterr().err
        assert str(path) in said and message in said
        assert not (tmp_path / "out").exists()
    with pytest.raises(DmmError, match="a ControlNet is needed here"):
        open_controlnet(BASE)
    with pytest.raises(DmmError, match="Give the folder that holds it"):
        open_controlnet(tmp_path)
