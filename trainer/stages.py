"""The stages of a merge: one training of the student after the other, each on data of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.config import MergeConfig, Painting, Train
from trainer.controlnet import Conditions
from trainer.data import PictureFolder, Prompts, Source, WebdatasetShards
from trainer.states import saved_states

PROMPTS = Path(__file__).parent / "prompts.txt"  # our own


@dataclass(frozen=True)
class Stage:
    """One training of the student.

    Attributes:
        title: of its progress bar.
        train: its hyper-parameters.
        painting: how the teachers paint, where the source is prompts.
        own: the share of samples that a style takes from what its own teacher painted.
        folder: where its states, statistics and sample grids go.
        conditions: what each teacher is shown beside a picture; none for UNets.
    """

    title: str
    train: Train
    source: Source
    painting: Painting
    own: float
    folder: Path
    conditions: Sequence[Conditions] = ()

    @property
    def is_painted(self) -> bool:
        """Whether its pictures are what the teachers paint of prompts."""
        return isinstance(self.source, Prompts)

    @property
    def is_begun(self) -> bool:
        """Whether it has a state to go on from; then the stages before it are done."""
        return bool(saved_states(self.folder))


def open_stages(config: MergeConfig) -> list[Stage]:
    """The stages that the config asks for, in their order.

    Raises:
        DmmError: the data of one is missing, empty or without captions.
    """
    painting, source = config.data.painting, open_source(config)
    shown = [teacher.condition for teacher in config.teachers if teacher.condition]
    conditions = [Conditions(source, said) for said in shown]
    title = "Accelerating" if config.few_steps else "Training"
    stages = [
        Stage(
            title, config.train, source, painting, config.data.own, config.run_folder, conditions
        ),
    ]
    second = config.synthesised
    if second:
        said = {
            "steps": second.steps,
            "batch_size": second.batch_size,
            "learning_rate": second.learning_rate or config.train.learning_rate,
            "teachers_per_sample": 1,  # who painted it
        }
        stages.append(
            Stage(
                "Fine-tuning",
                config.train.model_copy(update=said),
                Prompts(second.prompts or PROMPTS, config.data.sizes),
                second.painting,
                1.0,
                config.run_folder / "synthesised",
            )
        )
    return stages


def open_source(config: MergeConfig) -> Source:
    """The data that the main stage is trained on.

    Raises:
        DmmError: it is missing, empty or without captions.
    """
    if config.data.pictures:
        return PictureFolder(config.data.pictures)
    if config.data.shards:
        return WebdatasetShards(config.data.shards)
    return Prompts(config.data.prompts or PROMPTS, config.data.sizes)
