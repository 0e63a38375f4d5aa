"""Prompts files in kohya's syntax."""

from __future__ import annotations

from pathlib import Path

import pytest

from dmm.errors import DmmError
from trainer.data import Prompts
from trainer.prompt_lines import Prompt, parse_prompt


@pytest.mark.parametrize(
    ("line", "prompt"),
    [
        ("a cat", Prompt("a cat")),
        ("a cat --n blurry, bad -- hands", Prompt("a cat", negative="blurry, bad -- hands")),
        ("a cat --n", Prompt("a cat", negative="")),
        ("a cat --d 0 --s 30 --l 5.5", Prompt("a cat", seed=0, steps=30, guidance=5.5)),
        ("a cat  --w 512  --h 768", Prompt("a cat", size=(512, 768))),
        ("a well-known cat -- in a hat", Prompt("a well-known cat -- in a hat")),
        ("--n rain", Prompt("", negative="rain")),
    ],
)
def test_a_line_is_read(line: str, prompt: Prompt) -> None:
    assert parse_prompt(line, "prompts.txt, line 1") == prompt


def test_one_side_of_a_size_leaves_the_other_as_usual() -> None:
    sizes = [(512, 512), (768, 512)]
    assert parse_prompt("a cat --w 768", "", sizes).size == (768, 512)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a cat --x 3", "there is no flag --x. There are --n NEGATIVE"),
        ("a cat --steps 3", "there is no flag --steps"),
        ("a cat --s many", "--s many is not a whole number from 1 to 1000"),
        ("a cat --s 0", "--s 0 is not a whole number from 1 to 1000"),
        ("a cat --l nan", "--l nan is not a number from 1 to 1000"),
        ("a cat --l", "--l  is not a number"),
        ("a cat --d -1", "--d -1 is not a whole number from 0 to "),
        ("a cat --d 1 --d 2", "--d stands there twice"),
        ("a cat --w 640", "640 x 512 is not a size that is trained at (512 x 512, 768 x 512)"),
    ],
)
def test_a_bad_line_is_named(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text(f"# what to paint\n\na dog --s 3\n{line}\n", encoding="utf-8")
    with pytest.raises(DmmError) as error:
        Prompts(path, [(512, 512), (768, 512)])
    assert str(error.value).startswith(f"{path}, line 4: ")
    assert message in str(error.value)


def test_a_changed_line_is_other_data(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    seen = set()
    for line in ("a cat", "a cat --d 1", "a cat --d 2", "a cat --s 9"):
        path.write_text(line, encoding="utf-8")
        seen.add(Prompts(path).fingerprint)
    assert len(seen) == 4
