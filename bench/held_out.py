"""How near merges of the demo's teachers come to them, on captions nobody trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dmm.injection import styled
from dmm.merged import read_styles
from trainer.batches import TrainingBatches
from trainer.checkpoint import open_checkpoint
from trainer.config import MergeConfig
from trainer.diffusion import Diffusion
from trainer.features import captured_features
from trainer.losses import feature_loss, score_loss
from trainer.opening import open_ingredients
from trainer.pairs import PairPlan
from trainer.prepare import prepare
from trainer.stages import open_stages
from trainer.student import predict
from trainer.text import TextEmbedding

DEMO = Path(__file__).parents[1] / "demo"
TEACHERS = ("twemoji", "fluent-3d", "high-contrast", "openmoji")
PICTURES = 13  # held-out captions, painted by each teacher
NOISES = 4  # of each picture, at as many timesteps
PAINTING = {"steps": 8, "guidance": 1, "negative": "", "batch_size": 32}
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Distance:
    """Means over samples and timesteps, the fewer the better."""

    score: float  # squared error of the prediction
    feature: float  # squared error of the blocks' outputs


def demo_config(output: Path, teachers: Sequence[str] = TEACHERS, **said: object) -> MergeConfig:
    """A merge of some of the demo's teachers on its prompts; painting is short and without CFG.

    Args:
        said: sections that differ, such as `train`.
    """
    data = {
        "prompts": DEMO / "prompts.txt",
        "resolution": 64,
        "workers": 0,
        "cache": output.parent / "cache",
        "painting": {**PAINTING, "pictures_per_teacher": 32},
    }
    return MergeConfig.model_validate(
        {
            "base": DEMO / "teachers" / "base.safetensors",
            "teachers": [str(DEMO / "teachers" / f"{name}.safetensors") for name in teachers],
            "output": output,
            "log_with": [],
            "samples": {"steps": 1, "guidance": 1, "negative": "", "count": 1},
            "data": data,
            **said,
        }
    )


class HeldOut:
    """Noisy samples of what each teacher paints of held-out captions, and what it says to them.

    Args:
        folder: where the teachers' paintings are cached.
    """

    @torch.no_grad()
    def __init__(self, folder: Path) -> None:
        painted = {
            "prompts": DEMO / "heldout.txt",
            "painting": {**PAINTING, "pictures_per_teacher": PICTURES},
        }
        config = demo_config(folder / "held-out.safetensors", synthesised=painted)
        ingredients = open_ingredients(config)
        _, own = open_stages(config)
        prepared = prepare(ingredients, own, CPU, torch.float32)
        batches = TrainingBatches(
            prepared.examples,
            prepared.student_text,
            prepared.teacher_text,
            PairPlan(len(TEACHERS), len(TEACHERS) * PICTURES * NOISES),
            caption_dropout=0,
            seed=1,
        )
        (batch,) = batches[0]
        self._batch = batch.to(CPU)
        self._noisy = Diffusion().add_noise(
            self._batch.latents, self._batch.noise, self._batch.timesteps
        )
        self._rows = dict(zip(TEACHERS, (rows for _, rows in batch.segments()), strict=True))
        self._targets: dict[str, Tensor] = {}
        self._features: dict[str, list[Tensor]] = {}
        for name, file, text in zip(
            TEACHERS, ingredients.checkpoints, batch.teacher_text, strict=True
        ):
            unet, rows = file.load_unet(), self._rows[name]
            with captured_features(unet, True) as self._features[name]:
                self._targets[name] = predict(
                    unet, self._noisy[rows], batch.timesteps[rows], text.to(CPU, torch.float32)
                )

    @torch.no_grad()
    def distances(self, merged: Path) -> Mapping[str, Distance]:
        """Of each style that a merged checkpoint has, by name."""
        unet, styles = open_checkpoint(merged).load_unet(), read_styles(merged)
        vectors = styles.prompts(torch.eye(len(styles.names)))
        found = {}
        for name, vector in zip(styles.names, vectors, strict=True):
            rows, batch = self._rows[name], self._batch
            with styled(unet, vector), captured_features(unet, True) as features:
                text = TextEmbedding(batch.text.hidden[rows])
                ours = predict(unet, self._noisy[rows], batch.timesteps[rows], text)
            found[name] = Distance(
                score_loss(ours, self._targets[name]).mean().item(),
                feature_loss(features, self._features[name]).mean().item(),
            )
        return found
