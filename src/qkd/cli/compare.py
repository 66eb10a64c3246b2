"""``qkd compare`` and ``qkd reproduce``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from qkd import config as configs
from qkd.cli.options import ConfigFile, Debug, Json, Quiet, with_config_options

Ray = Annotated[str | None, typer.Option(help="Spread the trials over a Ray cluster: its address, or 'local'.")]


def _help(key: str) -> str:
    """Return the sentence of a setting of ``CompareSpec``."""
    return str(configs.CompareSpec.model_fields[key].description)


def compare(
    base: Annotated[Path | None, typer.Argument(help="A run folder or a TOML file to start from.")] = None,
    *,
    students: Annotated[str, typer.Option(help=_help("students"))] = "hardware,qdllm,product,linear,mlp,logreg",
    seeds: Annotated[int, typer.Option(help=_help("seeds"))] = 10,
    sims: Annotated[str, typer.Option(help=_help("sims"))] = "exact",
    train_texts: Annotated[str, typer.Option(help=_help("train_texts"))] = "all",
    ray: Ray = None,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    given: dict[str, Any],
) -> None:
    """Train several students over several seeds on the same texts, and say what may be concluded."""
    from qkd import studies
    from qkd.reports import comparison

    values = {"students": _words(students), "seeds": seeds, "sims": _words(sims), "train_texts": _counts(train_texts)}
    spec = configs.validated(configs.CompareSpec, values, "the options")
    found = studies.compare(base, spec, ray=ray, **given)
    if json_:
        print(json.dumps(found, indent=2))
        return
    print(comparison.text(found))
    if not quiet:
        print(f"report: {found['report']}")


def reproduce(
    recipe: Annotated[str, typer.Argument(help="The recipe: qdllm.")] = "qdllm",
    *,
    config: ConfigFile = None,
    seeds: Annotated[int, typer.Option(help=_help("seeds"))] = 10,
    students: Annotated[str, typer.Option(help="Students beside it, as for compare.")] = "hardware,linear,logreg",
    slips: Annotated[
        str, typer.Option(help="Slips of the public code to look at, of padding, js, carried; none for none.")
    ] = "padding,js,carried",
    ray: Ray = None,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    given: dict[str, Any],
) -> None:
    """Run the paper's recipe honestly, beside itself with the slips of its public code, and beside other students."""
    from qkd import studies
    from qkd.reports import comparison

    base = configs.load(config) if config else None
    chosen = [] if slips == "none" else _words(slips)
    found = studies.reproduce(recipe, base, seeds=seeds, students=_words(students), slips=chosen, ray=ray, **given)
    if json_:
        print(json.dumps(found, indent=2))
        return
    print(comparison.text(found))
    if not quiet:
        print(f"report: {found['report']}")


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _counts(text: str) -> list[int | str]:
    return [int(word) if word.isdigit() else word for word in _words(text)]


def register(app: typer.Typer) -> None:
    """Add this file's commands to ``app``."""
    app.command("compare")(with_config_options(compare))
    app.command("reproduce")(with_config_options(reproduce))
