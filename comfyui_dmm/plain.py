"""What the host gets of a merged file: it would drop the style tensors with a warning."""

from __future__ import annotations

from torch import Tensor

from dmm.merged import UNET_PREFIXES, find_styles
from dmm.tensors import TensorFile


def plain_tensors(file: TensorFile, prefixes: tuple[str, ...] = UNET_PREFIXES) -> dict[str, Tensor]:
    """A file's tensors but those of its styles.

    Args:
        prefixes: of the style tensors, as `find_styles` takes them.
    """
    its_own = set(find_styles(file, prefixes).values())
    return {name: file[name] for name in file if name not in its_own}
