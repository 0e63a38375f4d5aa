"""Learning from the same pairs again: which, how often, and that nobody is asked twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from tests.trainer.merging import (
    assert_same_tensors,
    command,
    run_merge,
    statistics,
    write_models,
)
from trainer.repeats import Answer, Answers, Repeats
from trainer.teachers import TeacherPool

WORDS = (
    *("train.steps=9", "train.batch_size=3", "train.save_every=1", "train.keep_last=9"),
    *("train.learning_rate=1e-3", "train.feature_weight=0.1", "export.style_file=false"),
)
TWICE = ("train.repeats=2", "train.repeat_among=8")  # two batches at a time


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("repeats"))


def test_once_is_every_batch_in_its_turn() -> None:
    assert [Repeats().batch(step) for step in range(50)] == [*range(50)]
    assert [Repeats(remembered=7).batch(step) for step in range(50)] == [*range(50)]


@pytest.mark.parametrize(("times", "remembered"), [(2, 1), (3, 5), (4, 16)])
def test_each_comes_as_often_in_its_round_and_new_ones_in_order(
    times: int, remembered: int
) -> None:
    repeats = Repeats(times, remembered)
    batches = [repeats.batch(step) for step in range(3 * times * remembered)]
    assert set(Counter(batches).values()) == {times}
    assert list(dict.fromkeys(batches)) == [*range(3 * remembered)]
    for number in range(3):
        a_round = batches[number * times * remembered :][: times * remembered]
        assert {*a_round} == {*range(number * remembered, (number + 1) * remembered)}
    for steps in range(len(batches)):
        assert repeats.new(steps) == len({*batches[:steps]})


def test_the_order_is_another_each_time() -> None:
    repeats = Repeats(times=3, remembered=32)
    turns = [[repeats.batch(32 * turn + place) for place in range(32)] for turn in range(3)]
    assert turns[0] == sorted(turns[0]) == sorted(turns[1]) == sorted(turns[2])
    assert turns[0] != turns[1] != turns[2] != turns[0]
    assert [Repeats(3, 32, seed=1).batch(32 + place) for place in range(32)] != turns[1]


def test_the_oldest_answers_give_way() -> None:
    asked = []

    def look_up(answers: Answers, key: int) -> None:
        def ask() -> Answer:
            asked.append(key)
            return Answer(torch.full((2, 1, 1, 1), float(key)), [torch.zeros(2, 3)])

        answer = answers.get(key, ask, "cpu")
        assert answer.predictions.eq(key).all() and answer.features[0].shape == (2, 3)

    answers = Answers(5)  # two of two pairs
    for key in (1, 2, 1, 3, 2, 1):
        look_up(answers, key)
    assert asked == [1, 2, 3, 1]
    for key in (1, 1):
        look_up(Answers(0), key)
    assert asked[4:] == [1, 1]


def test_teachers_are_asked_once_and_their_answers_serve_again(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    predict = TeacherPool.predict

    def counting(pool: TeacherPool, teacher: int, noisy: torch.Tensor, *more: object):
        asked.append(len(noisy))
        return predict(pool, teacher, noisy, *more)

    monkeypatch.setattr(TeacherPool, "predict", counting)
    twice = run_merge(config, *WORDS, *TWICE, f"output={config.parent / 'twice.safetensors'}")
    # Nine steps: two batches, twice; two more, twice; and one of the next.
    assert sum(asked) == 5 * 3
    scores = [line["score"] for line in statistics(twice)]
    once = run_merge(config, *WORDS, f"output={config.parent / 'once.safetensors'}")
    assert [line["score"] for line in statistics(once)][:2] == scores[:2]
    # Learning from the first two again, it knows them better.
    assert sum(scores[2:4]) < sum(scores[:2])


@pytest.mark.parametrize("stop", [3, 6], ids=["while it repeats", "with new ones"])
def test_a_run_that_goes_on_asks_again_and_ends_with_the_same_bits(config: Path, stop: int) -> None:
    whole, resumed = (config.parent / f"{name}-{stop}.safetensors" for name in ("whole", "resumed"))
    run_merge(config, *WORDS, *TWICE, f"output={whole}")
    run_merge(config, *WORDS, *TWICE, f"output={resumed}", f"train.steps={stop}").unlink()
    run_merge(config, *WORDS, *TWICE, f"output={resumed}")
    assert_same_tensors(resumed, whole)
    assert statistics(resumed) == statistics(whole)


def test_the_plan_says_it(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = [*WORDS, *TWICE, f"output={config.parent / 'said.safetensors'}"]
    assert command("plan", config, *said) == 0
    assert "3 pairs a step, learned from 2 times: 1 samples" in capsys.readouterr().out


def test_few_steps_have_no_repeats(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("merge", config, "few_steps={}", *TWICE) == 2
    assert "`train.repeats` is for what teachers say" in capsys.readouterr().err
