"""Texts that people hand to one another: a merge's YAML, prompts, presets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dmm.errors import DmmError
from dmm.presets import Presets
from tests.fuzz.test_files import json_values, read_or_refused
from trainer.config_file import load_config
from trainer.data import Prompts
from trainer.prompt_lines import Prompt

any_text = st.text(st.characters() | st.sampled_from("\ud800\udfff\x00\u2028\ufeff"), max_size=60)


keys = st.sampled_from(
    [
        "base",
        "teachers",
        "output",
        "data",
        "train",
        "samples",
        "export",
        "synthesised",
        "preset",
        "few_steps",
        "log_with",
        "prompts",
        "pictures",
        "shards",
        "resolution",
        "buckets",
        "steps",
        "batch_size",
        "path",
        "name",
        "loras",
        "weight",
        "condition",
        "painting",
        "adapter",
        "rank",
    ]
)
odd_values = st.sampled_from(
    [
        "???",
        "${base}",
        "${oc.env:HOME}",
        "${oc.decode:'{a: 1}'}",
        "${train}",
        "${..}",
        "${",
        "synthetic",
        "paper",
        10**400,
        "0" * 5000,
        {"base": {"base": "${base}"}},
    ]
)
config_values = st.recursive(
    json_values | odd_values | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys | any_text, inner, max_size=4),
    max_leaves=10,
)

yaml_texts = st.one_of(
    any_text,
    st.lists(
        st.sampled_from(
            [
                "base: ",
                "teachers:\n",
                "- ",
                "  ",
                "\n",
                "&a ",
                "*a",
                "<<: *a",
                "!!python/name:os.system",
                "!!python/object/apply:os.system [touch code-was-run]",
                "!!binary aGk=",
                "!!set",
                "{",
                "}",
                "[",
                "]",
                "? ",
                "|\n",
                ">-\n",
                "%TAG ! tag:",
                "---\n",
                "...\n",
                "0x1f",
                ".nan",
                "2001-01-01",
                "1e999",
                "~",
                "${a}",
                ": ",
                "# ",
                '"',
                "'",
                "\t",
                "ink.safetensors",
            ]
        )
        | any_text,
        max_size=12,
    ).map("".join),
)


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@given(content=yaml_texts | st.binary(max_size=60))
def test_any_yaml(folder, content):
    path = folder / "any.yaml"
    path.write_bytes(content if isinstance(content, bytes) else encoded(content))
    read_or_refused(load_config, path)
    assert not Path("code-was-run").exists()


@given(said=st.dictionaries(keys | any_text, config_values, max_size=6))
def test_a_config_of_any_values(folder, said):
    path = folder / "values.yaml"
    whole = {"base": "base.safetensors", "teachers": ["ink.safetensors"], "data": "synthetic"}
    path.write_bytes(encoded(yaml.safe_dump(whole | said)))
    config = read_or_refused(load_config, path)
    if config is not None:
        config.model_dump_json()


@given(words=st.lists(st.tuples(st.lists(keys | any_text), yaml_texts), max_size=4))
def test_overrides(folder, words):
    path = folder / "overridden.yaml"
    path.write_text("base: a.safetensors\nteachers: [b.safetensors]\ndata: synthetic\n")
    overrides = [f"{'.'.join(key)}={value}" for key, value in words]
    read_or_refused(lambda path: load_config(path, overrides), path)


def test_a_few_letters_that_unfold_to_a_billion(folder):
    path = folder / "laughs.yaml"
    lines = ["a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(DmmError, match=r"laughs\.yaml.*anchors"):
        load_config(path)


def test_a_list_in_itself(folder):
    path = folder / "itself.yaml"
    path.write_text("base: &a [*a]\n", encoding="utf-8")
    with pytest.raises(DmmError, match="anchors"):
        load_config(path)


flags = st.sampled_from(["--n", "--w", "--h", "--d", "--s", "--l", "--x", "--", "-n"])
numbers = st.sampled_from(["7", "512", "-1", "0", "1e3", "nan", "inf", "9" * 30, "9" * 5000, "٣"])
lines = st.lists(flags | numbers | any_text | st.just("a fox"), max_size=8).map(" ".join)


@given(text=st.lists(lines, max_size=5).map("\n".join) | st.binary(max_size=60))
def test_prompts_files(folder, text):
    path = folder / "prompts.txt"
    path.write_bytes(text if isinstance(text, bytes) else encoded(text))
    read = read_or_refused(Prompts, path)
    for prompt in read.prompts if read else ():
        assert_can_be_painted(prompt)


def assert_can_be_painted(prompt: Prompt) -> None:
    prompt.text.encode()
    assert prompt.seed is None or 0 <= prompt.seed < 2**64  # what torch's generator takes
    assert prompt.steps is None or 1 <= prompt.steps <= 1000  # of the training schedule
    assert prompt.size is None or max(prompt.size) <= 16_384


@given(content=json_values | any_text | st.binary(max_size=60))
def test_a_presets_file(folder, content):
    path = folder / "presets.json"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_bytes(encoded(content if isinstance(content, str) else json.dumps(content)))
    before = path.read_bytes()
    read_or_refused(lambda path: Presets(path).read(), path)
    assert path.read_bytes() == before


preset = st.fixed_dictionaries(
    {},
    optional={
        "name": any_text | json_values,
        "mix": any_text | json_values | st.just("ink:0.7, anime:0.3"),
        "strength": json_values | st.just(10**400),
        "normalise": st.booleans() | json_values,
        "mixing": st.sampled_from(["before MLP", "after MLP"]) | json_values,
        "more": json_values,
    },
)


@given(said=preset | json_values)
def test_saving_a_preset(folder, said):
    presets = Presets(folder / "saved.json")
    presets.path.unlink(missing_ok=True)
    saved = read_or_refused(presets.save, said)
    if saved is None:
        assert not presets.path.exists()
    else:
        assert presets.read() == saved
        json.dumps(saved, ensure_ascii=False, allow_nan=False).encode()  # as a host answers with it
