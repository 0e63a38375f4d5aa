"""How much of the benchmark is done: seconds for the tests, minutes on a laptop, an evening on it,
all on a GPU."""

from __future__ import annotations

from dataclasses import dataclass, replace


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
        sampling_steps, guidance: of every picture.
        ranks: of the LoRAs.
        search: mixes tried for the best weighted average.
        fifths: whether merges with a fifth of the UNet evaluations are made as well; painting may
            leave them too few.
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
    sampling_steps: int
    guidance: float
    ranks: tuple[int, ...]
    search: int
    fifths: bool


LAPTOP = Size(
    "laptop",
    steps=200,
    batch_size=32,
    warmup=20,
    learning_rate=1e-3,
    second_steps=40,
    painted=125,
    seen=125,
    unseen=65,
    components=48,
    sampling_steps=10,
    guidance=2.0,
    ranks=(8, 32, 128),
    search=4,
    fifths=False,
)

SIZES = {
    size.name: size
    for size in (
        Size(
            "tiny",
            steps=3,
            batch_size=8,
            warmup=1,
            learning_rate=1e-3,
            second_steps=2,
            painted=4,
            seen=8,
            unseen=8,
            components=4,
            sampling_steps=2,
            guidance=2.0,
            ranks=(8,),
            search=2,
            fifths=True,
        ),
        LAPTOP,
        replace(
            LAPTOP, name="evening", steps=900, warmup=45, second_steps=180, search=12, fifths=True
        ),
        Size(
            "gpu",
            steps=20_000,
            batch_size=128,
            warmup=200,
            learning_rate=3e-4,
            second_steps=1000,
            painted=1500,
            seen=2000,
            unseen=1500,
            components=None,
            sampling_steps=25,
            guidance=3.0,
            ranks=(8, 32, 128),
            search=12,
            fifths=True,
        ),
    )
}
