"""FID, KID, resizing and scores, against the libraries that people compare figures with."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchmetrics.image.kid import KernelInceptionDistance
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

from dmm.errors import DmmError
from tests.trainer.merging import command
from trainer.evaluate.cost import cost_of
from trainer.evaluate.extractors import Lite0, TorchFidelity, open_extractor
from trainer.evaluate.folders import compare
from trainer.evaluate.frechet import Gaussian, frechet_distance
from trainer.evaluate.kernel import kernel_distance
from trainer.evaluate.report import figure
from trainer.evaluate.resize import clean_resize
from trainer.evaluate.scores import AestheticPredictor, mean_score, open_scores
from trainer.text import clip_tokenizer


def features(count: int, size: int, seed: int, shift: float = 0.0) -> Tensor:
    """Correlated, of unequal variances, and above 0 as a network's are."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(size, size, generator=torch.Generator().manual_seed(99)) / size**0.5
    return (torch.randn(count, size, generator=generator) @ mixing + shift).relu()


def drawings(folder: Path, count: int, seed: int) -> Path:
    """A folder of pictures of coloured rectangles, in sizes of their own."""
    random = np.random.default_rng(seed)
    folder.mkdir()
    for number in range(count):
        picture = Image.new("RGB", (48 + seed, 40), tuple(random.integers(0, 255, 3).tolist()))
        left, top = random.integers(0, 20, 2).tolist()
        picture.paste(tuple(random.integers(0, 255, 3).tolist()), (left, top, left + 20, top + 15))
        picture.save(folder / f"{number:03d}.png")
    return folder


@pytest.fixture
def torch_fidelity():
    try:
        import torch_fidelity
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision for another torch
        pytest.skip(f"torch-fidelity cannot be used here: {error}")
    return torch_fidelity


@pytest.mark.parametrize("count", [300, 40], ids=["enough", "fewer than features"])
def test_frechet_distance_is_torch_fidelitys(torch_fidelity, count: int) -> None:
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    one, other = features(count, 64, 0), features(count + 5, 64, 1, shift=0.1)
    theirs = fid_statistics_to_metric(
        fid_features_to_statistics(one), fid_features_to_statistics(other), False
    )
    ours = frechet_distance(Gaussian.of(one), Gaussian.of(other))
    assert ours == pytest.approx(theirs["frechet_inception_distance"], rel=1e-3)


def test_kernel_distance_is_torch_fidelitys(torch_fidelity) -> None:
    from torch_fidelity.metric_kid import kid_features_to_metric

    one, other = features(80, 64, 0), features(80, 64, 1, shift=0.1)
    whole = {"kid_subsets": 1, "kid_subset_size": 80, "verbose": False}
    theirs = kid_features_to_metric(one, other, **whole)["kernel_inception_distance_mean"]
    assert kernel_distance(one, other) == pytest.approx(theirs, rel=1e-3)


def test_folders_are_as_far_apart_as_torch_fidelity_says(torch_fidelity, tmp_path: Path) -> None:
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase

    class Registered(FeatureExtractorBase):
        def __init__(self, name: str, features_list: list[str], **_settings) -> None:
            super().__init__(name, features_list)
            self.lite0 = Lite0("cpu")

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return ("1280",)

        @staticmethod
        def get_default_feature_layer_for_metric(_metric: str) -> str:
            return "1280"

        def forward(self, levels: Tensor) -> tuple[Tensor]:
            pictures = [Image.fromarray(one.permute(1, 2, 0).numpy()) for one in levels]
            return (self.lite0(pictures),)

    torch_fidelity.register_feature_extractor("lite0", Registered)
    one, other = drawings(tmp_path / "one", 12, 0), drawings(tmp_path / "other", 12, 1)
    theirs = torch_fidelity.calculate_metrics(
        input1=str(one),
        input2=str(other),
        feature_extractor="lite0",
        fid=True,
        kid=True,
        kid_subsets=1,
        kid_subset_size=12,
        cuda=False,
        cache=False,
        verbose=False,
        save_cpu_ram=True,
    )
    with pytest.warns(UserWarning, match="fewer than the 1280"):
        (ours,) = compare([one, other], Lite0("cpu"))
    assert ours.frechet == pytest.approx(theirs["frechet_inception_distance"], rel=1e-3)
    assert ours.kernel == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-3)


def test_inception_is_torch_fidelitys(torch_fidelity, tmp_path: Path, monkeypatch) -> None:
    """Its network, with random weights since the real ones are a download, on resized pictures."""
    from torch_fidelity import feature_extractor_inceptionv3 as theirs

    random: dict[str, Tensor] = {}
    with monkeypatch.context() as patched:  # to get at the names and shapes of its weights
        keep = lambda self, _state: random.update(nn.Module.state_dict(self))  # noqa: E731
        patched.setattr(theirs.FeatureExtractorInceptionV3, "load_state_dict", keep)
        patched.setattr(theirs, "load_state_dict_from_url", lambda *_args, **_named: {})
        theirs.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    weights = tmp_path / "weights.pth"
    torch.save(random, weights)
    extractor = open_extractor("inception", weights=weights)
    assert isinstance(extractor, TorchFidelity)
    assert (extractor.figure, extractor.size) == ("FID", 2048)
    picture = Image.open(drawings(tmp_path / "one", 1, 0) / "000.png")
    resized = torch.from_numpy(clean_resize(picture, 299).round().astype(np.uint8))
    network = theirs.FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(weights)
    )
    expected = network(resized.permute(2, 0, 1)[None])[0]
    torch.testing.assert_close(extractor([picture]), expected)


def test_frechet_distance_of_known_gaussians() -> None:
    one = Gaussian(torch.zeros(3).double(), torch.diag(torch.tensor([1.0, 4.0, 9.0])).double())
    other = Gaussian(torch.ones(3).double(), torch.diag(torch.tensor([4.0, 4.0, 1.0])).double())
    assert frechet_distance(one, other) == pytest.approx(3 + (1 - 2) ** 2 + 0 + (3 - 1) ** 2)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-9)


def test_kernel_distance_is_torchmetrics() -> None:
    one, other = features(60, 48, 0), features(60, 48, 1, shift=0.1)

    class AsTheyAre(nn.Module):
        def forward(self, pictures: Tensor) -> Tensor:
            return pictures.flatten(1)

    metric = KernelInceptionDistance(feature=AsTheyAre(), subsets=1, subset_size=60)
    metric.update(one.reshape(60, 3, 4, 4), real=True)
    metric.update(other.reshape(60, 3, 4, 4), real=False)
    assert kernel_distance(one, other) == pytest.approx(float(metric.compute()[0]), rel=1e-3)


def test_kernel_distance_leaves_out_pairs_of_one_prompt() -> None:
    one, other = features(6, 5, 0), features(6, 5, 1)
    prompts = ["a", "b", "c", "a", "b", "c"]
    pairs = [(i, j) for i, j in itertools.product(range(6), repeat=2) if prompts[i] != prompts[j]]

    def mean(rows: Tensor, columns: Tensor) -> float:
        kernels = [(rows[i] @ columns[j] / 5 + 1) ** 3 for i, j in pairs]
        return float(torch.stack(kernels).mean())

    expected = mean(one, one) + mean(other, other) - 2 * mean(one, other)
    assert kernel_distance(one, other, prompts) == pytest.approx(expected, rel=1e-5)
    # Sets that share their prompts and nothing else do not come out nearer than they are.
    of_prompts = 5 * features(3, 5, 2).repeat(200, 1)
    drawn = [of_prompts + features(600, 5, seed) for seed in (3, 4)]
    assert abs(kernel_distance(*drawn, prompts * 100)) < abs(kernel_distance(*drawn[::-1], None))


@pytest.mark.parametrize("size", [(64, 64), (512, 300), (299, 299)])
def test_resizing_is_clean_fids(size: tuple[int, int]) -> None:
    reason = "clean-fid is not installed"
    resize = pytest.importorskip("cleanfid.resize", reason=reason).build_resizer("clean")
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    ours = clean_resize(Image.fromarray(pixels), 299)
    np.testing.assert_array_equal(ours, resize(pixels))


def test_folders_by_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [drawings(tmp_path / name, 5, seed) for seed, name in enumerate(("a", "b", "c"))]
    said = ("--features", "lite0", "--components", "3")
    assert command("compare", *folders, *said) == 0
    first, *_, last = capsys.readouterr().out.splitlines()
    found = compare(folders, Lite0("cpu"), components=3)
    assert first.startswith(f"{folders[0]} | {folders[1]}: FD-lite0 (3 components) ")
    assert last.endswith(f" {found[2].frechet:.4f}, KID {found[2].kernel:.6f}")
    assert command("compare", folders[0], *said) == 2
    assert "give two or more" in capsys.readouterr().err


def test_folders_of_unequal_size_and_broken_pictures(tmp_path: Path) -> None:
    one, other = drawings(tmp_path / "one", 5, 0), drawings(tmp_path / "other", 7, 1)
    with pytest.warns(UserWarning, match=r"5 in .*one, 7 in .*other"):
        (found,) = compare([one, other], Lite0("cpu"), components=3)
    assert found.frechet > 0
    (other / "003.png").write_bytes((other / "003.png").read_bytes()[:60])
    with pytest.warns(UserWarning), pytest.raises(DmmError, match=r"other.003\.png"):
        compare([one, other], Lite0("cpu"), components=3)
    with pytest.raises(DmmError, match="holds no pictures"):
        (tmp_path / "empty").mkdir()
        compare([one, tmp_path / "empty"], Lite0("cpu"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole CLIP of random weights with its processor, as a hub has them."""
    folder = tmp_path_factory.mktemp("clip")
    tokenizer = clip_tokenizer(600)
    text = {
        "vocab_size": 600,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "projection_dim": 16,
        "bos_token_id": 598,
        "eos_token_id": 599,
    }
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "projection_dim": 16,
        "image_size": 32,
        "patch_size": 8,
    }
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))
    model.save_pretrained(folder)
    sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    CLIPProcessor(CLIPImageProcessor(**sizes), tokenizer).save_pretrained(folder)
    return folder


@torch.no_grad()
def test_clip_score_is_what_clip_itself_says(clip: Path, tmp_path: Path) -> None:
    pictures = [Image.open(file) for file in sorted(drawings(tmp_path / "one", 20, 0).iterdir())]
    prompts = [f"picture {number}" for number in range(20)]
    model, processor = CLIPModel.from_pretrained(clip), CLIPProcessor.from_pretrained(clip)
    inputs = processor(text=prompts, images=pictures, return_tensors="pt", padding=True)
    logits = model(**inputs).logits_per_image.diagonal() / model.logit_scale.exp()
    (title, score), *none = open_scores(["clip"], "cpu", {"clip": str(clip)}).items()
    assert (title, none) == ("CLIP score", [])
    assert logits.abs().max() > 0.01
    expected = 100 * logits.clamp(min=0).mean()
    assert mean_score(score, pictures, prompts) == pytest.approx(float(expected), rel=1e-4)


@torch.no_grad()
def test_aesthetic_score_is_linear_in_clips_embedding(clip: Path, tmp_path: Path) -> None:
    predictor = AestheticPredictor.from_pretrained(clip)
    nn.init.ones_(predictor.predictor.weight)
    nn.init.constant_(predictor.predictor.bias, 5)
    predictor.save_pretrained(tmp_path / "weights")
    CLIPProcessor.from_pretrained(clip).save_pretrained(tmp_path / "weights")
    picture = Image.open(drawings(tmp_path / "one", 1, 0) / "000.png")
    named = {"aesthetic": str(tmp_path / "weights")}
    score = open_scores(["aesthetic"], "cpu", named)["Aesthetic score"]
    model, processor = CLIPModel.from_pretrained(clip), CLIPProcessor.from_pretrained(clip)
    inputs = processor(text=["a"], images=[picture], return_tensors="pt")
    embedding = model(**inputs).image_embeds[0]
    expected = float((embedding / embedding.norm()).sum() + 5)
    assert mean_score(score, [picture], ["a"]) == pytest.approx(expected, rel=1e-4)


def test_scores_whose_weights_are_not_at_hand_are_left_out() -> None:
    with pytest.warns(UserWarning, match="PickScore is left out"):
        assert open_scores(["pick"], "cpu") == {}
    with pytest.raises(DmmError, match="There are: clip, pick, aesthetic"):
        open_scores(["beauty"], "cpu")


def test_features_whose_package_is_missing(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    monkeypatch.setitem(sys.modules, "torch_fidelity.registry", None)
    with pytest.raises(DmmError, match=r"requirements-evaluate\.txt.*--features lite0"):
        open_extractor("inception")


RECIPE = {
    "config": {
        "train": {"steps": 10, "batch_size": 8, "teachers_per_sample": None},
        "data": {
            "prompts": "prompts.txt",
            "painting": {"pictures_per_teacher": 5, "steps": 3, "guidance": 2.0},
        },
    },
    "teachers": [{}, {}],
}


def test_cost(tmp_path: Path) -> None:
    merged = tmp_path / "merged.safetensors"
    (tmp_path / "merged").mkdir()
    seconds = [1.0, 2.5, 1.0, 3.0]  # it was stopped once and went on
    lines = "".join(f'{{"step": 1, "seconds": {value}}}\n' for value in seconds)
    (tmp_path / "merged" / "stats.jsonl").write_text(lines, encoding="utf-8")
    cost = cost_of(RECIPE, merged, [], [])
    assert (cost.steps, cost.pairs, cost.samples, cost.seconds) == (10, 80, 40, 5.5)
    assert cost.unet_evaluations == 2 * 80 + 2 * 5 * 3 * 2
    painting = RECIPE["config"]["data"]["painting"]
    for prompts, paintings in (("others.txt", 2), ("prompts.txt", 1)):  # the same are painted once
        second = {"steps": 4, "batch_size": 5, "prompts": prompts, "painting": painting}
        both = RECIPE | {"config": RECIPE["config"] | {"synthesised": second}}
        cost = cost_of(both, merged, [], [])
        assert (cost.steps, cost.pairs, cost.samples) == (14, 100, 60)
        assert cost.unet_evaluations == 2 * 100 + paintings * (2 * 5 * 3 * 2)


def changed(recipe: dict, **sections: dict) -> dict:
    """A recipe whose sections have other keys."""
    config = {name: {**recipe["config"].get(name, {}), **said} for name, said in sections.items()}
    return recipe | {"config": recipe["config"] | config}


def test_cost_of_repeats(tmp_path: Path) -> None:
    """Ten steps of eight pairs: 3 new batches, again, 3 more, and one of those again."""
    recipe = changed(RECIPE, train={"repeats": 2, "repeat_among": 25})
    cost = cost_of(recipe, tmp_path / "merged.safetensors", [], [])
    assert (cost.steps, cost.pairs, cost.samples) == (10, 6 * 8, 6 * 4)
    assert cost.painting_evaluations == 2 * 5 * 3 * 2
    assert cost.unet_evaluations == 6 * 8 + 10 * 8 + cost.painting_evaluations


PAINTING = RECIPE["config"]["data"]["painting"]
PAINTED = 5 * 3 * 2  # pictures, steps, with guidance: what painting in one style takes


@pytest.mark.parametrize(
    ("data", "evaluations"),
    [
        ({"prompts": None}, 2 * 80),
        ({"prompts": None, "synthetic": True}, 2 * 80 + 2 * PAINTED),
        ({"painting": PAINTING | {"pictures_per_teacher": None}}, None),
    ],
    ids=["pictures", "synthetic", "every prompt once"],
)
def test_cost_of_the_data(data: dict, evaluations: int | None, tmp_path: Path) -> None:
    cost = cost_of(changed(RECIPE, data=data), tmp_path / "merged.safetensors", [], [])
    assert (cost.pairs, cost.samples, cost.unet_evaluations) == (80, 40, evaluations)


@pytest.mark.parametrize(
    ("said", "counted"),
    [
        # The former self is the one teacher, of both styles.
        ({"accelerates": RECIPE, "teachers": []}, (80, 80, 4 * 80 + 2 * PAINTED)),
        ({"accelerates": RECIPE, "teachers": [{}]}, (80, 40, 4 * 80 + 2 * PAINTED)),
        ({"accelerates": RECIPE, "teachers": [{}, {}]}, (80, 40, 4 * 80 + 2 * PAINTED)),
        ({"accelerates": {}, "teachers": []}, (80, 80, None)),  # the authors' file
    ],
    ids=["itself", "with a teacher", "with all teachers", "unknown styles"],
)
def test_cost_of_learning_few_steps(said: dict, counted: tuple, tmp_path: Path) -> None:
    recipe = changed(RECIPE, few_steps={"guidance": 7.0}) | said
    cost = cost_of(recipe, tmp_path / "merged.safetensors", [], [])
    assert (cost.pairs, cost.samples, cost.unet_evaluations) == counted


@pytest.mark.parametrize(("regularization", "teachers"), [(True, 2), (False, 1)])
def test_cost_of_one_style_more(regularization: bool, teachers: int, tmp_path: Path) -> None:
    recipe = changed(RECIPE, train={"regularization": regularization})
    recipe |= {"extends": RECIPE, "teachers": [{}]}
    cost = cost_of(recipe, tmp_path / "merged.safetensors", [], [])
    assert (cost.pairs, cost.samples) == (80, 80 // teachers)
    painters = 3 if regularization else 1
    assert cost.unet_evaluations == 2 * 80 + painters * PAINTED


@pytest.mark.parametrize(
    "recipe",
    [
        {},
        {"config": []},
        {"config": {"train": {"steps": "many"}}},
        RECIPE | {"teachers": []},
        RECIPE | {"teachers": [], "accelerates": None},
        changed(RECIPE, train={"steps": 10**4000, "batch_size": 10**4000}),
        changed(RECIPE, data={"painting": PAINTING | {"pictures_per_teacher": "many"}}),
    ],
    ids=range(7),
)
def test_cost_of_a_strange_recipe(recipe: dict, tmp_path: Path) -> None:
    cost = cost_of(recipe, tmp_path / "merged.safetensors", [], [])
    assert (cost.steps, cost.unet_evaluations, cost.seconds) == (None, None, None)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1234.5, "1,234"), (56.78, "56.8"), (8.9, "8.90"), (0.01234, "0.0123"), (-2e-7, "0")],
)
def test_figures_as_people_read_them(value: float, shown: str) -> None:
    assert figure(value) == shown
