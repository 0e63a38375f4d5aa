"""Which teacher sees which sample, counted over many shapes of batches."""

from collections import Counter
from itertools import chain, product
from math import gcd

import pytest

from trainer.pairs import PairPlan

PLANS = [
    PairPlan(teachers, batch, per_sample, per_step)
    for teachers, batch, per_sample, per_step in product(
        (1, 3, 4, 8), (1, 3, 10, 24), (1, 2, None), (None, 2, 3)
    )
]


def by_sample(pairs):
    samples = {}
    for teacher, sample in pairs:
        samples.setdefault(sample, []).append(teacher)
    return samples


@pytest.mark.parametrize(
    ("per_sample", "per_step", "served"),
    [(1, None, 1), (2, None, 2), (None, None, 4), (None, 2, 2)],
)
def test_each_sample_is_served_by_as_many_teachers_as_asked(per_sample, per_step, served):
    plan = PairPlan(4, 24, per_sample, per_step)
    for step in range(6):
        samples = by_sample(plan.pairs(step))
        assert sorted(samples) == list(range(24 // served))
        assert {len(teachers) for teachers in samples.values()} == {served}
        assert all(len(set(teachers)) == served for teachers in samples.values())


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_every_plan_fills_its_batch_with_different_pairs(plan):
    for step in range(10):
        pairs = plan.pairs(step)
        assert len(set(pairs)) == len(pairs) == plan.batch_size
        assert {sample for _, sample in pairs} == set(range(plan.samples_per_step))
        assert sorted({teacher for teacher, _ in pairs}) == plan.teachers(step)
        assert pairs == sorted(pairs, key=lambda pair: pair[0])


@pytest.mark.parametrize("processes", [1, 2, 3, 7, 32])
@pytest.mark.parametrize("plan", PLANS[::5], ids=str)
def test_the_shares_of_all_processes_join_to_the_whole(plan, processes):
    for step in range(3):
        shares = [plan.share(step, process, processes) for process in range(processes)]
        assert list(chain(*shares)) == plan.pairs(step)
        sizes = [len(share) for share in shares]
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_in_the_long_run_every_teacher_serves_equally_often(plan):
    cycle = plan.num_teachers // gcd(plan.num_teachers, plan.active)
    served = Counter(
        teacher for step in range(cycle * plan.active) for teacher, _ in plan.pairs(step)
    )
    assert len(served) == plan.num_teachers
    assert len(set(served.values())) == 1


def test_teachers_take_turns_where_a_step_has_no_room_for_all():
    plan = PairPlan(num_teachers=5, batch_size=2)
    assert [plan.teachers(step) for step in range(3)] == [[0, 1], [2, 3], [0, 4]]
