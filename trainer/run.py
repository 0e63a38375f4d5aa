"""The trainer's command line: `python trainer/run.py --help`."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

# Run as a script, Python puts this folder first on the path; the packages lie one above.
ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)
IS_MAIN_PROCESS = os.environ.get("RANK", "0") == "0"  # launchers tell each process its rank
if not IS_MAIN_PROCESS:
    os.environ["TQDM_DISABLE"] = "1"
os.environ.setdefault("USE_LIBUV", "0")  # torch's builds for Windows lack it, and stop without this

import typer

from dmm.errors import DmmError

if TYPE_CHECKING:
    from trainer.config import MergeConfig

FORMAT_WARNING = warnings.formatwarning

app = typer.Typer(
    help="Merge many Stable Diffusion checkpoints into one that holds every style.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Config = Annotated[Path, typer.Argument(help="YAML file that says the merge.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="key=value words that go before the file's.")
]
Output = Annotated[Path, typer.Option(help="The file to write.")]
Overwrite = Annotated[bool, typer.Option(help="Replace an output that exists.")]


@app.command()
def merge(
    config: Config,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
) -> None:
    """Merge checkpoints. The same command again goes on where it stopped."""
    from trainer.config_file import load_config

    _merge(load_config(config, overrides), overwrite)


@app.command()
def extend(
    merged: Annotated[Path, typer.Argument(help="The merged checkpoint to add styles to.")],
    new: Annotated[
        list[Path], typer.Option("--with", help="A teacher of a new style; repeat for more.")
    ],
    output: Output,
    overrides: Overrides = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file that says the rest: data, train and so on.")
    ] = None,
    regularization: Annotated[
        bool, typer.Option(help="Without it the old styles are forgotten, as the paper shows.")
    ] = True,
    overwrite: Overwrite = False,
) -> None:
    """Add styles to a merged checkpoint; the teachers of its own styles are not needed again."""
    from dmm.merged import read_styles
    from trainer.config_file import load_config

    read_styles(merged)  # a plain checkpoint is refused
    said = {
        "base": str(merged),
        "teachers": [{"path": str(path)} for path in new],
        "output": str(output),
        "train": {"regularization": regularization},
    }
    _merge(load_config(config, overrides, said), overwrite)


@app.command()
def accelerate(
    merged: Annotated[Path, typer.Argument(help="The merged checkpoint.")],
    output: Output,
    overrides: Overrides = None,
    teachers: Annotated[
        list[Path] | None,
        typer.Option("--with", help="An original teacher, for its style; else the file itself is."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file that says the rest: data, train and so on.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Teach a merged checkpoint to paint in four steps, at CFG 1 with the sampler LCM."""
    from dmm.merged import read_styles
    from trainer.config_file import load_config

    read_styles(merged)  # a plain checkpoint is refused
    said = {"preset": "few-steps", "base": str(merged), "output": str(output), "synthesised": None}
    said["teachers"] = [{"path": str(path)} for path in teachers or ()]
    _merge(load_config(config, overrides, said), overwrite)


@app.command()
def plan(config: Config, overrides: Overrides = None) -> None:
    """Say what will be loaded where, the memory, the disk and the time; start nothing."""
    from trainer.config_file import load_config
    from trainer.plan import describe_plan

    typer.echo(describe_plan(load_config(config, overrides)))


@app.command()
def inspect(files: Annotated[list[Path], typer.Argument(help="Model files or folders.")]) -> None:
    """Say what a file is: architecture, styles, recipe, ancestors."""
    from trainer.inspect_file import describe

    for path in files:
        typer.echo(describe(path))


@app.command()
def sample(
    checkpoint: Annotated[Path, typer.Argument(help="A merged checkpoint, or an adapter.")],
    prompt: Annotated[list[str], typer.Option(help="What to paint; repeat for more.")],
    mix: Annotated[
        list[str] | None, typer.Option(help='"ink:0.7, anime:0.3"; repeat for more. None = each.')
    ] = None,
    output: Annotated[Path, typer.Option(help="The picture to write.")] = Path("sample.png"),
    base: Annotated[Path | None, typer.Option(help="What an adapter is for.")] = None,
    strength: Annotated[float, typer.Option(help="0 = no style.")] = 1.0,
    negative: Annotated[str, typer.Option()] = "",
    steps: Annotated[
        int | None, typer.Option(min=1, help="As the file wants it, or 25, if left out.")
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(min=1, help="As the file wants it, or 7, if left out.")
    ] = None,
    width: Annotated[int | None, typer.Option(help="Pixels; as trained if left out.")] = None,
    height: Annotated[int | None, typer.Option(help="Pixels; as trained if left out.")] = None,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Paint a grid: a row a mix, a column a prompt."""
    from trainer.sample import paint_mixes

    paint_mixes(
        checkpoint,
        prompt,
        mix,
        output,
        base=base,
        strength=strength,
        negative=negative,
        steps=steps,
        guidance=guidance,
        size=(width, height),
        seed=seed,
    )
    typer.echo(output.resolve())


@app.command()
def play(
    checkpoint: Annotated[Path, typer.Argument(help="A merged checkpoint.")],
    pictures: Annotated[
        Path | None, typer.Option(help="Folder to keep the pictures in. Else one beside the file.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="The first free one if left out.")] = None,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
) -> None:
    """Open a page with sliders for a merged checkpoint, for people with no host at hand."""
    from trainer.play import play as open_page

    folder = pictures or checkpoint.with_name(f"{checkpoint.stem}-pictures")
    open_page(checkpoint, folder.resolve(), port=port, browser=browser)


Merged = Annotated[Path, typer.Argument(help="A merged checkpoint or style file.")]


@app.command()
def drop(
    merged: Merged,
    styles: Annotated[list[str], typer.Argument(help="Names of the styles to leave out.")],
    output: Output,
    overwrite: Overwrite = False,
) -> None:
    """Leave styles out of a merged file, without training."""
    from trainer.edit_styles import drop_styles

    drop_styles(merged, styles, output, overwrite=overwrite)
    typer.echo(output.resolve())


@app.command()
def reorder(
    merged: Merged,
    styles: Annotated[list[str], typer.Argument(help="Names that come first, in this order.")],
    output: Output,
    overwrite: Overwrite = False,
) -> None:
    """Put the styles of a merged file into another order, without training."""
    from trainer.edit_styles import reorder_styles

    reorder_styles(merged, styles, output, overwrite=overwrite)
    typer.echo(output.resolve())


@app.command()
def rename(
    merged: Merged,
    renames: Annotated[list[str], typer.Argument(help='"old name=new name"; repeat for more.')],
    output: Output,
    overwrite: Overwrite = False,
) -> None:
    """Give styles of a merged file other names, without training."""
    from trainer.edit_styles import rename_styles

    pairs = dict(word.partition("=")[::2] for word in renames)
    rename_styles(merged, pairs, output, overwrite=overwrite)
    typer.echo(output.resolve())


Features = Annotated[
    str, typer.Option(help="inception, lite0 (needs no download), or torch-fidelity's.")
]
Weights = Annotated[Path | None, typer.Option(help="Of the features' network.")]
Components = Annotated[
    int | None, typer.Option(min=1, help="Principal components, where pictures are few.")
]


@app.command()
def evaluate(
    merged: Merged,
    prompts: Annotated[Path, typer.Option(help="One prompt a line, or COCO captions.")],
    more: Annotated[
        list[str] | None, typer.Argument(help="More teachers, after the first.", metavar="")
    ] = None,
    teachers: Annotated[
        list[str] | None, typer.Option(help="Files it was merged from; or style=file.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="The merge's YAML file, instead of --teachers.")
    ] = None,
    pictures: Annotated[
        int | None, typer.Option(min=2, help="Of each set. Every prompt once if left out.")
    ] = None,
    features: Features = "inception",
    weights: Weights = None,
    components: Components = None,
    scores: Annotated[
        str, typer.Option(help="By networks from a hub: clip, pick, aesthetic, or several of them.")
    ] = "",
    steps: Annotated[int, typer.Option(min=1)] = 25,
    guidance: Annotated[float, typer.Option(min=1)] = 7.0,
    negative: Annotated[str | None, typer.Option(help="The paper's if left out.")] = None,
    width: Annotated[int | None, typer.Option(help="Pixels; as trained if left out.")] = None,
    height: Annotated[int | None, typer.Option(help="Pixels; as trained if left out.")] = None,
    seed: Annotated[int, typer.Option()] = 0,
    batch_size: Annotated[int, typer.Option(min=1)] = 8,
    precision: Annotated[Literal["fp32", "bf16", "fp16"], typer.Option()] = "fp32",
    output: Annotated[
        Path | None, typer.Option(help="Folder of the report. <merged>-evaluation if left out.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="What is painted. dmm-cache beside it if left out.")
    ] = None,
) -> None:
    """Measure each style of a merged checkpoint against its teacher, and write a report.

    The same command again goes on where it stopped; `accelerate launch` shares the work.
    """
    from trainer.config import NEGATIVE
    from trainer.evaluate.evaluation import Settings
    from trainer.evaluate.evaluation import evaluate as run_evaluation
    from trainer.evaluate.report import write_report

    output = output or merged.with_name(f"{merged.stem}-evaluation")
    settings = Settings(
        prompts=prompts,
        cache=cache or output.parent / "dmm-cache",
        pictures=pictures,
        size=(width, height),
        steps=steps,
        guidance=guidance,
        negative=NEGATIVE if negative is None else negative,
        seed=seed,
        batch_size=batch_size,
        precision=precision,
        features=features,
        weights=weights,
        components=components,
        scores=[name.strip() for name in scores.split(",") if name.strip()],
    )
    found = run_evaluation(merged, [*(teachers or ()), *(more or ())], settings, config)
    if found:
        for line in write_report(*found, output):
            _say(line)


@app.command()
def compare(
    folders: Annotated[list[Path], typer.Argument(help="Folders of pictures, two or more.")],
    features: Features = "inception",
    weights: Weights = None,
    components: Components = None,
) -> None:
    """Measure FID and KID between folders of pictures."""
    from trainer.evaluate.extractors import open_extractor
    from trainer.evaluate.features import figure_name
    from trainer.evaluate.folders import compare as compare_folders

    extractor = open_extractor(features, weights=weights)
    figure = figure_name(extractor, components)
    for found in compare_folders(folders, extractor, components):
        typer.echo(f"{found.one} | {found.other}: {figure} {found.frechet:.4f}, ", nl=False)
        typer.echo(f"KID {found.kernel:.6f}")


Dtype = Annotated[Literal["fp16", "bf16", "fp32"], typer.Option(help="Of what is written.")]


@app.command()
def average(
    checkpoints: Annotated[
        list[Path], typer.Argument(help="Plain checkpoints; the first gives the VAE.")
    ],
    output: Output,
    weights: Annotated[
        str | None, typer.Option(help='One a checkpoint: "0.7, 0.3". All alike if left out.')
    ] = None,
    dtype: Dtype = "fp16",
    overwrite: Overwrite = False,
) -> None:
    """Average the weights of plain checkpoints, which blurs their styles: a baseline."""
    from trainer.average import average as write_average
    from trainer.average import parse_weights

    parsed = parse_weights(weights) if weights is not None else None
    write_average(checkpoints, output, parsed, dtype=dtype, overwrite=overwrite)
    typer.echo(output.resolve())


@app.command()
def extract(
    tuned: Annotated[Path, typer.Argument(help="A checkpoint that was fine-tuned from the base.")],
    base: Annotated[Path, typer.Option(help="The checkpoint it was fine-tuned from.")],
    output: Output,
    rank: Annotated[int, typer.Option(min=1, help="More hold more, in a larger file.")] = 32,
    dtype: Dtype = "fp16",
    overwrite: Overwrite = False,
) -> None:
    """Extract a LoRA from a fine-tune, which any host puts on its base."""
    from trainer.extract import extract as write_lora

    write_lora(tuned, base, rank, output, dtype=dtype, overwrite=overwrite)
    typer.echo(output.resolve())


@app.command()
def fold(
    adapter: Annotated[Path, typer.Argument(help="What a merge with `train.adapter` wrote.")],
    base: Annotated[Path, typer.Option(help="The checkpoint it was trained on.")],
    output: Output,
    dtype: Dtype = "fp16",
    overwrite: Overwrite = False,
) -> None:
    """Fold an adapter into its base, which gives a merged checkpoint."""
    from trainer.fold import fold as write_folded

    write_folded(adapter, base, output, dtype=dtype, overwrite=overwrite)
    typer.echo(output.resolve())


def _merge(config: MergeConfig, overwrite: bool) -> None:
    from trainer.loop import Stopped
    from trainer.merge import merge as run_merge

    try:
        written = run_merge(config, overwrite=overwrite)
    except Stopped as stopped:
        _say(f"{stopped} Run the same command again to go on.", err=True)
        raise typer.Exit(130) from None
    for path in written:
        _say(path.resolve())


def _say(message: object, err: bool = False) -> None:
    """Prints, once where a launcher started several processes."""
    if IS_MAIN_PROCESS:
        typer.echo(message, err=err)


def _format_warning(message: Warning | str, category: type[Warning], filename: str, *args) -> str:
    """Our own warnings are for people; those of others say where they come from."""
    if Path(filename).is_relative_to(ROOT):
        return f"Warning: {message}\n"
    return FORMAT_WARNING(message, category, filename, *args)


def main(run: Callable[[], None] = app) -> None:
    """Runs the command line; what the user can mend ends with a message and exit code 2."""
    warnings.formatwarning = _format_warning
    try:
        run()
    except DmmError as error:
        _fail(error)
    except RuntimeError as error:
        from trainer.processes import lost_process

        lost = lost_process(error)
        if lost is None:
            raise
        _fail(lost)


def _fail(error: DmmError) -> NoReturn:
    from trainer.processes import name_of_process

    who = name_of_process()
    typer.echo(f"Error ({who}): {error}" if who else f"Error: {error}", err=True)
    sys.exit(2)


if __name__ == "__main__":
    main()
