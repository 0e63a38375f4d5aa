"""How much of the benchmark is done: seconds for the tests, minutes on a laptop, all on a GPU."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """What a run takes.

    Attributes:
        steps, batch_size: of every merge that trains; a batch is of pairs.
        warmup: steps.
        learning_rate: of all merges that train, so that recipes differ in nothing else.
        second_steps: of the paper's fine-tuning on what the teachers paint.
        painted: pictures that each teacher paints to train on, and again for the second stage.
        seen, unseen: pictures of a style for each measurement, by prompts that the teachers were
            trained on and by others.
        components: that the Frechet distance is taken of; None = all features.
        repeats: measurements from other noise, for the interval.
        sampling_steps, guidance: of every picture.
        ranks: of the LoRAs.
        search: mixes tried for the best weighted average.
    """

    name: str
    steps: int
    batch_size: int
    warmup: int
    learning_rate: float
    second_steps: int
    painted: int
    seen: int
    unseen: int
    components: int | None
    repeats: int
    sampling_steps: int
    guidance: float
    ranks: tuple[int, ...]
    search: int


SIZES = {
    size.name: size
    for size in (
        Size("tiny", 3, 8, 1, 1e-3, 2, 4, 8, 8, 4, 2, 2, 2.0, (8,), 2),
        Size("laptop", 900, 64, 20, 1e-3, 100, 125, 125, 104, 64, 3, 15, 2.0, (8, 32, 128), 6),
        Size(
            "gpu",
            20_000,
            128,
            200,
            3e-4,
            1000,
            1500,
            2000,
            1500,
            None,
            3,
            25,
            3.0,
            (8, 32, 128),
            12,
        ),
    )
}
