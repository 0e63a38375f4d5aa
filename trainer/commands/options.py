"""Options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Config = Annotated[Path, typer.Argument(help="YAML file that says the merge.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="key=value words that go before the file's.")
]
Output = Annotated[Path, typer.Option(help="The file to write.")]
Overwrite = Annotated[bool, typer.Option(help="Replace an output that exists.")]
Merged = Annotated[Path, typer.Argument(help="A merged checkpoint or style file.")]
Dtype = Annotated[Literal["fp16", "bf16", "fp32"], typer.Option(help="Of what is written.")]
