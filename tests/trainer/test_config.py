"""Merges written in YAML: presets, paths, overrides, and what is said of mistakes."""

from pathlib import Path

import pytest

from dmm.errors import DmmError
from trainer.config_file import load_config
from trainer.repeats import Repeats

MERGE = """
base: models/base.safetensors
teachers:
  - models/ink.safetensors
  - {path: models/anime_v3.safetensors, name: anime, clip_skip: 2}
output: out/merged.safetensors
data:
  pictures: pictures
"""
PROMPTS = MERGE.replace("pictures: pictures", "prompts: prompts.txt")


def write(folder, text=MERGE):
    path = folder / "merge.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_short_merge_is_ours(tmp_path):
    config = load_config(write(tmp_path))
    assert config.preset == "dmm"
    ours, paper = config.train, load_config(write(tmp_path), ["preset=paper"]).train
    assert (ours.start_from, ours.optimizer, ours.repeats) == ("average", "muon", 4)
    assert (ours.feature_loss, ours.adversarial_weight) == ("relative", 0)
    # An eighth of the UNet evaluations: the student's, and the teachers' where they are asked.
    spent = Repeats.of(ours).new(ours.steps) * ours.batch_size + ours.steps * ours.batch_size
    assert spent == pytest.approx(2 * paper.steps * paper.batch_size / 8, rel=0.01)


def test_a_short_merge_by_the_paper(tmp_path):
    config = load_config(write(tmp_path), ["preset=paper"])
    assert [teacher.name for teacher in config.teachers] == ["ink", "anime"]
    assert [teacher.clip_skip for teacher in config.teachers] == [None, 2]
    assert (config.train.steps, config.train.batch_size) == (100_000, 320)
    assert (config.train.learning_rate, config.train.feature_weight) == (1e-5, 0.001)
    assert config.data.resolution == (512, 512)


def test_paths_in_the_file_are_relative_to_the_file(tmp_path, monkeypatch):
    path = write(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for given in (path, Path("..", "merge.yaml")):
        config = load_config(given)
        assert config.base == tmp_path / "models" / "base.safetensors"
        assert [teacher.path for teacher in config.teachers] == [
            tmp_path / "models" / "ink.safetensors",
            tmp_path / "models" / "anime_v3.safetensors",
        ]
        assert config.output == tmp_path / "out" / "merged.safetensors"
        assert config.data.pictures == tmp_path / "pictures"
        assert config.run_folder == tmp_path / "out" / "merged"
        assert config.cache_folder == tmp_path / "out" / "dmm-cache"


def test_absolute_paths_stay(tmp_path):
    elsewhere = tmp_path / "elsewhere" / "base.safetensors"
    text = MERGE.replace("models/base.safetensors", elsewhere.as_posix())
    assert load_config(write(tmp_path, text)).base == elsewhere


@pytest.mark.parametrize(
    "shards", ["data/{00000..00099}.tar", ["data/a.tar", "data/b.tar"]], ids=["pattern", "list"]
)
def test_shards_are_relative_to_the_file(tmp_path, shards):
    text = MERGE.replace("pictures: pictures", f"shards: {shards!r}")
    found = load_config(write(tmp_path, text)).data.shards
    if isinstance(shards, str):
        assert found == str(tmp_path / shards)
    else:
        assert found == [str(tmp_path / shard) for shard in shards]


@pytest.mark.parametrize("in_file", [True, False], ids=["in the file", "on the command line"])
def test_a_tilde_is_the_home_of_the_user(tmp_path, monkeypatch, in_file):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    said = [
        "preset=controlnet",
        "base=~/base.safetensors",
        "teachers=[~/ink.safetensors, {path: ~/oil.safetensors, loras: [~/pen.safetensors], "
        "condition: ~/lines}]",
        "output=~/merged.safetensors",
        "run=~/run",
        "data={shards: [~/a.tar, ~/b.tar], cache: ~/cache}",
    ]
    if in_file:
        text = "\n".join(word.replace("=", ": ", 1) for word in said)
        config = load_config(write(tmp_path, text))
    else:
        config = load_config(write(tmp_path), ["data.pictures=null", *said])
    home = tmp_path / "home"
    assert config.base == home / "base.safetensors"
    ink, oil = config.teachers
    assert (ink.path, oil.path) == (home / "ink.safetensors", home / "oil.safetensors")
    assert (oil.loras[0].path, oil.condition) == (home / "pen.safetensors", home / "lines")
    assert (config.output, config.run) == (home / "merged.safetensors", home / "run")
    assert config.data.shards == [str(home / "a.tar"), str(home / "b.tar")]
    assert config.data.cache == home / "cache"


def test_a_tilde_that_is_nobodys_home_is_a_name(tmp_path):
    words = ["base=~nobody-of-that-name.safetensors"]
    assert load_config(write(tmp_path), words).base == Path("~nobody-of-that-name.safetensors")


def test_shards_on_the_command_line_are_patterns_as_they_stand(tmp_path):
    words = ["data.pictures=null", "data.shards=data/{00..03}.tar"]
    shards = load_config(write(tmp_path), words).data.shards
    assert shards == str(Path("data/{00..03}.tar"))


def test_overrides_win_over_the_file(tmp_path):
    words = [
        "train.steps=500",
        "train.learning_rate=1e-4",
        "train.teachers_per_sample=null",
        "data.resolution=[768,512]",
        "teachers.0.name=pen",
        "teachers.1.name=manga",
        "output=here.safetensors",
    ]
    config = load_config(write(tmp_path), words)
    assert config.train.steps == 500
    assert config.train.learning_rate == 1e-4
    assert config.train.teachers_per_sample is None
    assert config.data.resolution == (768, 512)
    assert [teacher.name for teacher in config.teachers] == ["pen", "manga"]
    assert config.teachers[0].path == tmp_path / "models" / "ink.safetensors"
    assert config.output == Path("here.safetensors")  # relative to the working folder
    assert config.base == tmp_path / "models" / "base.safetensors"


def test_one_number_is_a_square(tmp_path):
    assert load_config(write(tmp_path), ["data.resolution=64"]).data.resolution == (64, 64)


def test_the_file_wins_over_its_preset(tmp_path):
    config = load_config(write(tmp_path, MERGE + "preset: paper\ntrain: {batch_size: 8}\n"))
    assert config.train.batch_size == 8
    assert config.train.steps == 100_000


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        (MERGE, ["preset=papre"], r"no preset 'papre'\. There are: .*paper"),
        (MERGE + "techers: []\n", [], "`techers`: did you mean `teachers`"),
        (MERGE, ["train.step=5"], r"`train\.step`: did you mean `steps`"),
        (MERGE, ["teachers.1.nam=x"], r"`teachers\.1\.nam`: did you mean `name`"),
        (PROMPTS, ["data.painting.guidence=3"], "did you mean `guidance`"),
        (MERGE, ["export.zzz=1"], "Known here: dtype, style_file"),
        (MERGE, ["train.steps=0"], r"`train\.steps`: .*greater than or equal to 1 \(it is 0\)"),
        (MERGE, ["train.steps=many"], r"`train\.steps`: .*integer"),
        (MERGE, ["train.schedule=sine"], "'constant', 'linear' or 'cosine'"),
        (MERGE, ["data.resolution=500"], "not a multiple of 8"),
        (MERGE, ["output=merged.ckpt"], "does not end in .safetensors"),
        (MERGE, ["teachers.1.name=INK"], "two teachers are called 'ink'"),
        (MERGE, ["teachers.1.name='a,b'"], "holds a comma"),
        (MERGE, ["teachers=[]"], "`teachers`: .*at least 1"),
        (MERGE, ["teachers.7.name=x"], r"teachers\.7\.name=x cannot be applied"),
        (MERGE, ["train.steps"], "is not an override"),
        (MERGE, ["train.steps=[1"], "not valid YAML"),
        (MERGE, ["base=\udcff.ckpt"], "not valid YAML"),  # a file's name that is no UTF-8
        (MERGE, ["data.prompts=p.txt"], "exactly one .* not pictures and prompts"),
        (MERGE, ["data.pictures=null"], "exactly one .* not none"),
        (MERGE.replace("base:", "# base:"), [], "`base` is missing"),
        ("base: [unclosed", [], "not valid YAML"),
        ("- a list", [], "is not a merge"),
        ('"0"', [], "is not a merge"),
        ("base: ${nowhere}\n" + MERGE.split("\n", 2)[2], [], "nowhere"),
        (MERGE + "train: 5\n", [], "`train`"),
        (MERGE, ["train=5"], "`train`"),
        (MERGE.replace("  - models/ink", "  - 5 #"), [], r"`teachers\.0"),
    ],
)
def test_mistakes_are_named(tmp_path, text, words, said):
    with pytest.raises(DmmError, match=said):
        load_config(write(tmp_path, text), words)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DmmError, match=r"no file .*merge\.yaml"):
        load_config(tmp_path / "merge.yaml")


def test_every_mistake_is_said_at_once(tmp_path):
    with pytest.raises(DmmError, match=r"train\.steps.*train\.seed"):
        load_config(write(tmp_path), ["train.steps=0", "train.seed=x"])
