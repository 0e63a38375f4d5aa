"""What a merge is: the sections and keys of its YAML file, each with its default and its bounds."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dmm.metadata import PredictionType
from trainer.buckets import Size, sizes_like

PICTURES_PER_TEACHER = 1500  # paper, supplementary A.3
CONDITIONS = ("edges", "grey")  # made from the pictures, see `trainer.controlnet.conditions`
EIGHT_BIT = Path(__file__).with_name("requirements-8bit.txt")
NEGATIVE = "worst quality,low quality,normal quality,lowres,watermark,nsfw"  # paper, section 4


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_default=True)


class Lora(_Section):
    """A LoRA on a teacher; a path alone is enough."""

    path: Path
    weight: float = Field(1.0, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _from_path(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, (str, Path)) else value


class Teacher(_Section):
    """One checkpoint to learn from, with LoRAs on it or without; a path alone is enough."""

    path: Path | None = None  # None = the base, where there are LoRAs on it
    loras: list[Lora] = []  # files, or {path: ..., weight: 0.6}
    condition: Path | None = None  # of a ControlNet: a folder of pictures, or "edges", "grey"
    name: str = ""  # of its style. Empty = the files' names.
    # 1 = last layer, 2 = the one before. None = 1 (SDXL: 2).
    clip_skip: int | None = Field(None, ge=1)
    prediction_type: PredictionType | None = None  # None = as the file says.

    @model_validator(mode="before")
    @classmethod
    def _from_path(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, (str, Path)) else value

    @model_validator(mode="after")
    def _named(self) -> Teacher:
        paths = [self.path, *(lora.path for lora in self.loras)]
        files = " + ".join(path.stem for path in paths if path)
        if not files:
            raise ValueError("give a `path`, or `loras` to stand on the base")
        self.name = " ".join((self.name or files).split())
        if "," in self.name:
            raise ValueError(
                f"the style name {self.name!r} holds a comma, which separates styles in a mix"
            )
        return self


class Painting(_Section):
    """How the teachers paint the training latents where prompts are all the data there is."""

    # None = every prompt once; 1,500 as in the paper where the prompts are ours.
    pictures_per_teacher: int | None = Field(None, ge=1)
    steps: int = Field(25, ge=1)  # of DPM-Solver++
    guidance: float = Field(7.0, ge=1)
    negative: str = NEGATIVE
    batch_size: int = Field(8, ge=1)


class Data(_Section):
    """What the student is trained on: exactly one of pictures, shards, prompts and synthetic."""

    pictures: Path | None = None  # folder of pictures with same-stem .txt captions
    shards: str | list[str] | None = None  # webdataset tars: "data/{00000..00099}.tar"
    prompts: Path | None = None  # text file, one prompt a line; the teachers paint
    synthetic: bool = False  # the teachers paint our own prompts; `data: synthetic` says it too
    # Where teachers paint: the share of samples that a style takes from its own teacher's pictures;
    # in the others all teachers are asked about the same picture.
    own: float = Field(0.0, ge=0, le=1)
    resolution: tuple[int, int] = (512, 512)  # width, height in pixels
    # More sizes to train at, a picture at the one nearest its shape and the prompts in turn;
    # true = all with about as many pixels as `resolution`, up to 1:2 and 2:1.
    buckets: bool | list[tuple[int, int]] = False
    painting: Painting = Painting()
    cache: Path | None = None  # latents and text embeddings. None = "dmm-cache" beside the output.
    workers: int = Field(2, ge=0)  # processes that prepare batches ahead

    @model_validator(mode="before")
    @classmethod
    def _square(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("resolution"), int):
            value = {**value, "resolution": (value["resolution"],) * 2}
        return value

    @model_validator(mode="after")
    def _one_source(self) -> Data:
        sources = ("pictures", "shards", "prompts", "synthetic")
        given = [key for key in sources if getattr(self, key)]
        if len(given) != 1:
            raise ValueError(
                "give exactly one of `pictures` (a folder), `shards` (webdataset tars), `prompts` "
                "(a text file; the teachers paint) and `synthetic: true` (they paint prompts of "
                f"ours), not {' and '.join(given) or 'none'}"
            )
        if self.own and not (self.prompts or self.synthetic):
            raise ValueError(
                "`own` is for what the teachers paint: give `prompts` or `synthetic: true`, or "
                "leave it out"
            )
        for size in self.sizes:
            if any(side % 8 or side < 8 for side in size):
                key = "resolution" if size == self.resolution else "buckets"
                raise ValueError(f"`{key}`: {list(size)} is not a multiple of 8")
        if self.synthetic and self.painting.pictures_per_teacher is None:
            said = {"pictures_per_teacher": PICTURES_PER_TEACHER}
            self.painting = self.painting.model_copy(update=said)
        return self

    @property
    def sizes(self) -> list[Size]:
        """All sizes that are trained at, `resolution` first."""
        more = self.buckets
        if isinstance(more, bool):
            more = sizes_like(self.resolution) if more else []
        return list(dict.fromkeys([self.resolution, *more]))


class Adapter(_Section):
    """The student as a LoRA on the base, which stays as it is."""

    rank: int = Field(64, ge=1)  # more hold more, in a larger file
    layers: Literal["all", "attention"] = "all"  # of the UNet: every matrix, or its transformers'


class Train(_Section):
    """The training itself. A *pair* is one noisy sample seen by one teacher."""

    steps: int = Field(100_000, ge=1)
    batch_size: int = Field(320, ge=1)  # pairs a step, over all processes
    # Pairs at once on a process. None = its whole share.
    micro_batch_size: int | None = Field(None, ge=1)
    teachers_per_sample: int | None = Field(1, ge=1)  # teachers that serve one sample. None = all.
    teachers_per_step: int | None = Field(None, ge=1)  # teachers that serve one step. None = all.
    regularization: bool = True  # where a merged checkpoint is extended: it teaches its old styles
    # Of its losses beside the new teachers'. They are small as long as it is followed, and at 1
    # the new style's outweigh them (see bench/README.md).
    regularization_weight: float = Field(10.0, gt=0)
    repeats: int = Field(1, ge=1)  # times that a pair is learned from; its teacher is asked once
    # Pairs whose answers are kept for that, in the computer's memory. SD1.5's take 13 MB each with
    # their features in half precision, 64 KB without.
    repeat_among: int = Field(512, ge=1)
    # Teachers in device memory. None = as many as fit.
    teacher_slots: int | None = Field(None, ge=1)
    # The student's first weights: base, or teachers' mean
    start_from: Literal["base", "average"] = "base"
    adapter: Adapter | None = None  # a small file for the base. None = the whole UNet learns
    learning_rate: float = Field(1e-5, gt=0)
    # Of codebook and MLP. None = learning_rate.
    style_learning_rate: float | None = Field(None, gt=0)
    warmup_steps: int = Field(0, ge=0)
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    optimizer: Literal["adamw", "adamw8bit", "muon"] = "adamw"
    weight_decay: float = Field(0.01, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    feature_weight: float = Field(0.001, ge=0)  # λ_feat; 0 = no feature imitation
    # "relative" = l2 as a share of the teacher's variance, for a feature_weight of about 1
    feature_loss: Literal["l2", "relative", "cosine"] = "l2"
    adversarial_weight: float = Field(0.01, ge=0)  # λ_adv; 0 = no discriminator
    caption_dropout: float = Field(0.1, ge=0, le=1)
    # Above 1, more of the samples are noisy: t = s u / (1 + (s - 1) u) of all timesteps, u uniform.
    timestep_shift: float = Field(1.0, gt=0, allow_inf_nan=False)
    ema_decay: float | None = Field(None, gt=0, lt=1)  # None = no moving average
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"  # of the arithmetic; weights stay fp32
    gradient_checkpointing: bool = False
    seed: int = 0
    save_every: int = Field(1000, ge=1)  # steps between saved states
    keep_last: int = Field(2, ge=1)  # saved states kept


class Synthesised(_Section):
    """A second stage: each style is fine-tuned on what its teacher paints (paper, section 3.4)."""

    prompts: Path | None = None  # text file, as `data.prompts`. None = ours.
    painting: Painting = Painting(pictures_per_teacher=PICTURES_PER_TEACHER)
    steps: int = Field(10_000, ge=1)
    batch_size: int = Field(10, ge=1)  # pairs a step, over all processes
    learning_rate: float | None = Field(None, gt=0)  # None = train.learning_rate; so all the rest


class FewSteps(_Section):
    """A merged checkpoint learns to paint in few steps (`run.py accelerate`)."""

    loss: Literal["splam", "lcm"] = "splam"  # arXiv 2404.13903, 2310.04378
    steps: int = Field(4, ge=1)  # to paint in
    guidance: float = Field(7.0, ge=1)  # becomes part of the weights: sample at CFG 1
    negative: str = NEGATIVE  # so does this
    pieces: int = Field(50, ge=2, le=500)  # that the teacher's path is cut into, a DDIM step each


class Samples(_Section):
    """The sample grids painted on the way and at the end."""

    prompts: list[str] = Field(default_factory=list)  # empty = the first captions of the data
    every: int | None = Field(None, ge=1)  # steps between grids. None = only at the end.
    count: int = Field(6, ge=1)  # columns, where prompts is empty
    steps: int = Field(25, ge=1)
    guidance: float = Field(7.0, ge=1)
    negative: str = NEGATIVE
    seed: int = 0


class Export(_Section):
    """What is written at the end."""

    dtype: Literal["fp16", "bf16", "fp32"] = "fp16"
    style_file: bool = True  # <output>.styles.safetensors
    diffusers_folder: bool = False  # <output> without its suffix, + "-diffusers"


class MergeConfig(_Section):
    """A whole merge."""

    preset: str = "dmm"
    base: Path  # gives the student its text encoder, VAE and first weights
    teachers: list[Teacher] = []
    output: Path
    run: Path | None = None  # the run folder. None = beside the output, named like it.
    data: Data
    train: Train = Train()
    synthesised: Synthesised | None = None  # a second stage. None = there is none
    few_steps: FewSteps | None = None  # None = the merge paints in as many as its teachers
    samples: Samples = Samples()
    export: Export = Export()
    log_with: list[Literal["tensorboard", "wandb"]] = ["tensorboard"]

    @model_validator(mode="after")
    def _consistent(self) -> MergeConfig:
        if not self.teachers and not self.few_steps:
            raise ValueError("`teachers`: give at least 1 checkpoint to learn from")
        names = [teacher.name.casefold() for teacher in self.teachers]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two teachers are called {twice[0]!r}: give each its own `name`")
        if self.output.suffix != ".safetensors":
            raise ValueError(f"`output` {str(self.output)!r} does not end in .safetensors")
        return self

    @model_validator(mode="after")
    def _repeated(self) -> MergeConfig:
        if self.few_steps and self.train.repeats > 1:
            raise ValueError(
                "`train.repeats` is for what teachers say, and with `few_steps` the student's own "
                "average is asked too: leave it out"
            )
        return self

    @model_validator(mode="after")
    def _controlnets(self) -> MergeConfig:
        if not any(teacher.condition for teacher in self.teachers):
            return self
        if not (self.data.pictures or self.data.shards):
            raise ValueError(
                "a `condition` belongs to a picture, and this data has none: give `data.pictures`"
            )
        for section, said in (
            ("synthesised", self.synthesised),
            ("few_steps", self.few_steps),
            ("adapter", self.train.adapter),
        ):
            if said:
                raise ValueError(
                    f"ControlNets are merged without `{section}`: `preset: controlnet` says all "
                    "that they need"
                )
        return self

    @model_validator(mode="after")
    def _adapter_on_base(self) -> MergeConfig:
        if self.train.adapter and self.train.start_from == "average":
            raise ValueError(
                "`train.start_from: average` is no file that an adapter could stand on: write it "
                "with `run.py average` and make it the `base`"
            )
        if self.train.adapter and self.export.diffusers_folder:
            raise ValueError(
                "`export.diffusers_folder` holds a whole UNet, which `train.adapter` does not "
                "write: leave one of them out"
            )
        return self

    @model_validator(mode="after")
    def _installed(self) -> MergeConfig:
        if self.train.optimizer == "adamw8bit":
            _require("bitsandbytes", "`train.optimizer: adamw8bit`", "use `adamw`", EIGHT_BIT)
        if "wandb" in self.log_with:
            _require("wandb", "`log_with: [wandb]`", "leave it out of `log_with`")
        return self

    @property
    def run_folder(self) -> Path:
        """States, statistics and sample grids of this merge."""
        return self.run or self.output.with_suffix("")

    @property
    def cache_folder(self) -> Path:
        return self.data.cache or self.output.parent / "dmm-cache"


def _require(package: str, wanted_by: str, way_out: str, file: Path | None = None) -> None:
    if find_spec(package) is None:
        command = f'"{sys.executable}" -m pip install ' + (f'-r "{file}"' if file else package)
        raise ValueError(
            f"{wanted_by} needs the package {package}, which is not installed: "
            f"give the command {command}, or {way_out}"
        )
