"""What users choose among, in the same words and within the same bounds in every door."""

from __future__ import annotations

BEFORE_MLP, AFTER_MLP = "before MLP", "after MLP"
MIXINGS = (BEFORE_MLP, AFTER_MLP)
"""Where styles are mixed; `dmm.resolving.resolve` takes it as `after_mlp`."""

ONE_PASS, SEPARATE = "one pass", "per-region latents"
METHODS = (ONE_PASS, SEPARATE)
"""How regions are painted: seeing one another, or from latents of their own."""

MAX_STRENGTH = 2.0
MAX_FEATHER = 1024
"""In pixels. Blurring takes time and memory with it."""
