"""Captions to embeddings: CLIP's tokenizer and the text encoders that a checkpoint carries."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor, nn
from transformers import CLIPTokenizer

from dmm.errors import DmmError
from trainer.checkpoint import Checkpoint
from trainer.fingerprint import fingerprint, tensors_fingerprint

MERGES = Path(__file__).parent / "tokenizer" / "merges.txt.gz"
FULL_VOCABULARY = 49408  # 256 bytes, the same ending a word, 48,894 merges, start and end
WITHOUT_MERGES = 514


def clip_tokenizer(vocab_rows: int = FULL_VOCABULARY, max_length: int = 77) -> CLIPTokenizer:
    """Build CLIP's tokenizer for a token embedding of `vocab_rows` rows.

    Fewer rows than CLIP's 49,408 mean that only the first merges are used; the last two ids are
    always <|startoftext|> and <|endoftext|>. Rows past CLIP's own (added tokens) stay unused.
    """
    if vocab_rows < WITHOUT_MERGES:
        raise DmmError(
            f"The text encoder's token embedding has {vocab_rows} rows; CLIP's tokenizer needs at "
            f"least {WITHOUT_MERGES}. This is not a CLIP text encoder."
        )
    with gzip.open(MERGES, "rt", encoding="utf-8") as lines:
        merges = [tuple(line.split()) for line in lines][: vocab_rows - WITHOUT_MERGES]
    characters = sorted(ByteLevel.alphabet())
    tokens = [
        *characters,
        *(character + "</w>" for character in characters),
        *("".join(pair) for pair in merges),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=max_length)


def token_ids(tokenizer: CLIPTokenizer, captions: Sequence[str], pad_id: int) -> Tensor:
    """Return ids [B, max_length]; longer captions are cut, as every Stable Diffusion host does.

    Padding happens here since a tokenizer whose padding token is "!" (id 0, what SDXL's second
    encoder was trained with) would take every "!" of a caption for padding too.
    """
    length = tokenizer.model_max_length
    rows = tokenizer(list(captions), truncation=True, max_length=length).input_ids
    return torch.tensor([row + [pad_id] * (length - len(row)) for row in rows])


@dataclass
class TextEmbedding:
    """What the UNet's cross attention reads."""

    hidden: Tensor  # [B, L, C]; SDXL: both encoders' hidden states side by side on C
    pooled: Tensor | None = None  # [B, P], SDXL only

    def expand(self, rows: int) -> TextEmbedding:
        """The only row `rows` times."""
        pooled = None if self.pooled is None else self.pooled.expand(rows, -1)
        return TextEmbedding(self.hidden.expand(rows, -1, -1), pooled)

    def to(self, *args, **kwargs) -> TextEmbedding:
        """Move or cast both tensors, as `Tensor.to`."""
        pooled = None if self.pooled is None else self.pooled.to(*args, **kwargs)
        return TextEmbedding(self.hidden.to(*args, **kwargs), pooled)


class TextEncoders:
    """All text encoders of one checkpoint; their weights are in memory from `encode` to `release`.

    `clip_skip` counts as the community does: 1 is the last layer (the default for SD1), 2 the one
    before it, and so on, each followed by the final layer norm. SDXL always takes the one before
    the last, without the norm.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        clip_skip: int | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        sdxl = checkpoint.family == "sdxl"
        self._indices = range(2 if sdxl else 1)
        for index in self._indices:
            checkpoint.text_encoder_tensors(index)  # says so at once if it was stripped of it
        layers = checkpoint.text_encoder_configs[0]["num_hidden_layers"]
        if sdxl and clip_skip not in (None, 2):
            raise DmmError(
                f"{checkpoint.path}: clip_skip is {clip_skip}, but SDXL checkpoints are always "
                "read at the layer before the last. Leave clip_skip out."
            )
        if clip_skip is not None and not 1 <= clip_skip <= layers:
            raise DmmError(
                f"{checkpoint.path}: clip_skip is {clip_skip}; the text encoder has {layers} "
                f"layers, so it can be 1 (the last) to {layers}."
            )
        self.checkpoint = checkpoint
        self.clip_skip = clip_skip or (2 if sdxl else 1)
        self.device = torch.device(device)
        self.dtype = dtype
        self._models: list[nn.Module] = []

    @cached_property
    def fingerprint(self) -> str:
        """Equal for equal weights read at the same layer, whichever file they come from."""
        files = [self.checkpoint.text_encoder_tensors(index) for index in self._indices]
        weights = [tensors_fingerprint(tensors) for tensors in files]
        return fingerprint("text encoders", self.checkpoint.family, weights, self.clip_skip)

    @cached_property
    def _tokenizers(self) -> list[CLIPTokenizer]:
        return [
            clip_tokenizer(config["vocab_size"], config["max_position_embeddings"])
            for config in self.checkpoint.text_encoder_configs
        ]

    @torch.no_grad()
    def encode(self, captions: Sequence[str]) -> TextEmbedding:
        """Return the embedding of `captions`, on the encoders' device and in their dtype."""
        if not self._models:
            models = [self.checkpoint.load_text_encoder(i, self.dtype) for i in self._indices]
            self._models = [model.to(self.device).eval() for model in models]
        hidden, pooled = [], None
        for index, (model, tokenizer) in enumerate(
            zip(self._models, self._tokenizers, strict=True)
        ):
            pad_id = tokenizer.eos_token_id if index == 0 else 0
            ids = token_ids(tokenizer, captions, pad_id).to(self.device)
            output = model(ids, output_hidden_states=True)
            states = output.hidden_states[-self.clip_skip]
            if self.checkpoint.family == "sd1":
                # The first releases of transformers 5 keep it one level further in.
                states = getattr(model, "text_model", model).final_layer_norm(states)
            elif index == 1:
                pooled = output.text_embeds
            hidden.append(states)
        return TextEmbedding(torch.cat(hidden, dim=-1), pooled)

    def count_cut(self, captions: Sequence[str]) -> int:
        """How many captions are longer than the encoders read, so that their ends are lost."""
        tokenizer = self._tokenizers[0]
        rows = tokenizer(list(captions), truncation=False, verbose=False).input_ids
        return sum(len(row) > tokenizer.model_max_length for row in rows)

    def release(self) -> None:
        """Give the memory back; `encode` reads the weights again."""
        self._models = []
