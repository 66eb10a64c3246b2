"""``qkd compare`` and ``qkd reproduce``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from qkd.cli.options import ConfigFile, Debug, Json, PanelCommand, Quiet, help_of, with_config_options
from qkd.core.config import read_config
from qkd.core.console import write
from qkd.core.specs import validated
from qkd.experiments.specs import CompareSpec
from qkd.pipeline.settings import Options

if TYPE_CHECKING:
    from qkd.results import Comparison, Sweep

S = TypeVar("S", "Comparison", "Sweep")
Ray = Annotated[str | None, typer.Option(help="Ray cluster for the trials: its address, or 'local'.")]
Base = Annotated[Path | None, typer.Argument(help="A run folder or a TOML file to start from.")]
Seeds = Annotated[int, typer.Option(help=help_of(CompareSpec, "seeds"))]
Tune = Annotated[int, typer.Option(help=help_of(CompareSpec, "tune"))]


def compare(
    base: Base = None,
    *,
    students: Annotated[
        str, typer.Option(help=help_of(CompareSpec, "students"))
    ] = "hardware,qdllm,product,linear,mlp,logreg",
    seeds: Seeds = 10,
    sims: Annotated[str, typer.Option(help=help_of(CompareSpec, "sims"))] = "exact",
    train_texts: Annotated[str, typer.Option(help=help_of(CompareSpec, "train_texts"))] = "all",
    shot_counts: Annotated[str, typer.Option(help=help_of(CompareSpec, "shot_counts"))] = "",
    noise_scales: Annotated[str, typer.Option(help=help_of(CompareSpec, "noise_scales"))] = "",
    tune: Tune = 0,
    ray: Ray = None,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    given: Options,
) -> None:
    """Train several students with several seeds on the same texts, and compare them statistically.

    Example: qkd compare runs/latest --students hardware,linear,logreg --seeds 5
    """
    from qkd import studies
    from qkd.reports import comparison

    values = {"students": _words(students), "seeds": seeds, "sims": _words(sims), "train_texts": _counts(train_texts)}
    values |= {"shot_counts": _counts(shot_counts), "noise_scales": _words(noise_scales), "tune": tune}
    spec = validated(CompareSpec, values)
    show(studies.compare(base, spec, ray=ray, **given), comparison.comparison_text, json_, quiet)


def show(study: S, text: Callable[[S], str], json_: bool, quiet: bool) -> None:
    """Print the result of a study, as text or JSON."""
    if json_:
        write(json.dumps(study.to_dict(), indent=2))
        return
    write(text(study))
    if not quiet:
        write(f"report: {study.report}")


def reproduce(
    recipe: Annotated[str, typer.Argument(help="The recipe: qdllm.")] = "qdllm",
    *,
    config: ConfigFile = None,
    seeds: Seeds = 10,
    students: Annotated[str, typer.Option(help="Other students, as for compare.")] = "hardware,linear,logreg",
    deviations: Annotated[
        str, typer.Option(help="Deviations of the public code to run: padding, js, carried, or none.")
    ] = "padding,js,carried",
    tune: Tune = 0,
    ray: Ray = None,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    given: Options,
) -> None:
    """Run the paper's recipe, its public code's deviations from it, and other students on the same texts.

    Example: qkd reproduce qdllm --data qdllm:FOLDER
    """
    from qkd import studies
    from qkd.reports import comparison

    base = read_config(config) if config else None
    chosen = [] if deviations == "none" else _words(deviations)
    reproduction = studies.reproduce(
        recipe, base, seeds=seeds, students=_words(students), deviations=chosen, tune=tune, ray=ray, **given
    )
    show(reproduction, comparison.comparison_text, json_, quiet)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _counts(text: str) -> list[int | str]:
    return [int(word) if word.isdigit() else word for word in _words(text)]


def register(app: typer.Typer) -> None:
    """Add this file's commands to ``app``."""
    app.command("compare", cls=PanelCommand)(with_config_options(compare))
    app.command("reproduce", cls=PanelCommand)(with_config_options(reproduce))
