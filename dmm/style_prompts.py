"""Style prompts: the codebook and the MLP that turn a mix of styles into one vector."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dmm.errors import DmmError


class StylePrompts(nn.Module):
    """V(w) = MLP(Σ_i w_i E_i), the vector added to a UNet's timestep embedding.

    The codebook E has one row a style, drawn from N(0, 1) as the paper's (rebuttal Q.21: each
    |E_i| ≈ √d ≈ 36); the MLP is Linear → SiLU → Linear (rebuttal Q.10).

    Args:
        num_styles: N.
        dim: d, the width of the UNet's time embedding (1280 in SD1.5 and SDXL).
    """

    def __init__(self, num_styles: int, dim: int) -> None:
        super().__init__()
        self.codebook = nn.Parameter(torch.randn(num_styles, dim))
        self.linear_1 = nn.Linear(dim, dim)
        self.linear_2 = nn.Linear(dim, dim)

    @property
    def num_styles(self) -> int:
        return self.codebook.shape[0]

    @property
    def dim(self) -> int:
        return self.codebook.shape[1]

    def forward(self, weights: Tensor) -> Tensor:
        """Mixes before the MLP, as the paper does: weights [..., N] to vectors [..., d]."""
        return self._mlp(weights.to(self.codebook) @ self.codebook)

    def mixed_after(self, weights: Tensor) -> Tensor:
        """Mixes after the MLP, Σ_i w_i MLP(E_i): weights [..., N] to vectors [..., d]."""
        return weights.to(self.codebook) @ self._mlp(self.codebook)

    def extended(self, rows: Tensor) -> StylePrompts:
        """These style prompts with more rows in the codebook, [M, d] (paper, section 3.5)."""
        prompts = StylePrompts(self.num_styles + len(rows), self.dim)
        state = self.state_dict() | {"codebook": torch.cat([self.codebook, rows]).detach()}
        prompts.load_state_dict(state)
        return prompts

    def _mlp(self, prompts: Tensor) -> Tensor:
        vectors: Tensor = self.linear_2(F.silu(self.linear_1(prompts)))
        return vectors

    # The authors' names, which every file carries: `model_embedding` for the codebook, and for the
    # MLP `add_embedding`, or `add_embedding2` in SDXL, whose `add_embedding` is text_time.

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> StylePrompts:
        """Builds float32 style prompts from tensors under the authors' names (see `find_styles`).

        Raises:
            DmmError: a tensor is missing, has an unfitting shape, or holds NaN or infinity.
        """
        mlp = mlp_name(tensors)
        expected = _names(mlp)
        missing = [name for name in expected.values() if name not in tensors]
        if missing:
            raise DmmError(
                f"The style prompts are incomplete: {', '.join(missing)} is missing. "
                "Get the file again from where it came, or merge again."
            )
        codebook = tensors["model_embedding.weight"]
        if codebook.ndim != 2 or 0 in codebook.shape:
            raise DmmError(f"The style codebook has the shape {list(codebook.shape)}, not [N, d].")
        with torch.device("meta"):
            prompts = cls(*codebook.shape)
        for name, parameter in prompts.state_dict().items():
            tensor = tensors[expected[name]]
            if tensor.shape != parameter.shape:
                raise DmmError(
                    f"The style tensor {expected[name]} has the shape {list(tensor.shape)} where "
                    f"{list(parameter.shape)} fits the codebook {list(codebook.shape)}."
                )
            if not tensor.isfinite().all():
                raise DmmError(
                    f"The style tensor {expected[name]} holds NaN or infinity: the file is damaged "
                    "or its training went wrong. Use an earlier one."
                )
        # Not by load_state_dict, for which AUTOMATIC1111 has a stand-in, seen by every thread, as
        # long as it reads a checkpoint.
        for name, source in expected.items():
            module, _, parameter_name = name.rpartition(".")
            parameter = nn.Parameter(tensors[source].float())
            setattr(prompts.get_submodule(module), parameter_name, parameter)
        return prompts

    def to_tensors(self, mlp: str) -> dict[str, Tensor]:
        """The tensors under the authors' names; `mlp` is "add_embedding" or "add_embedding2"."""
        names = _names(mlp)
        return {names[name]: tensor for name, tensor in self.state_dict().items()}


def _names(mlp: str) -> dict[str, str]:
    return {
        "codebook": "model_embedding.weight",
        "linear_1.weight": f"{mlp}.linear_1.weight",
        "linear_1.bias": f"{mlp}.linear_1.bias",
        "linear_2.weight": f"{mlp}.linear_2.weight",
        "linear_2.bias": f"{mlp}.linear_2.bias",
    }


def mlp_name(names: Iterable[str]) -> str:
    """The MLP's name among style tensors: "add_embedding2" in SDXL files, else "add_embedding"."""
    sdxl = any(name.startswith("add_embedding2.") for name in names)
    return "add_embedding2" if sdxl else "add_embedding"


def style_tensor_names(mlp: str) -> list[str]:
    """The names of all style tensors, for an MLP called `mlp`."""
    return list(_names(mlp).values())
