"""``qkd distill``, ``qkd evaluate`` and ``qkd predict``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from qkd.cli.options import ConfigFile, Debug, Json, Quiet, RunArgument, with_config_options
from qkd.core.console import one_line, write
from qkd.pipeline.settings import Options

LATEST = Path("runs/latest")


def distill(
    *,
    config: ConfigFile = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run --name, or the last one.")] = False,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    given: Options,
) -> None:
    """Distil an LLM's classifier into a quantum circuit: label, train, measure, report."""
    from qkd import api
    from qkd.core.config import read_config
    from qkd.reports.run import summary, timings

    base = read_config(config) if config else None
    run = api.distill(base, resume=resume, **given)
    if json_:
        write(json.dumps(run.metrics.to_dict(), indent=2))
        return
    write(run.table())
    write(f"\n{summary(run.metrics)}")
    if not quiet:
        write(f"{timings(run.metrics)}\nreport: {run.report}")


def evaluate(
    run: RunArgument = LATEST,
    data: Annotated[str | None, typer.Option(help="Labelled texts, as for distill; else the run's test split.")] = None,
    text_column: Annotated[str, typer.Option(help="The column that holds the texts.")] = "text",
    label_column: Annotated[str, typer.Option(help="The column that holds the labels.")] = "label",
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Measure a run's student on labelled texts."""
    from qkd import api

    result = api.evaluate(run, data, text_column, label_column)
    if json_:
        write(json.dumps(result.to_dict(), indent=2))
        return
    write(f"{result.texts:,} texts of {result.data}")
    for name, number in result.numbers.items():
        write(f"{name.replace('_', ' '):18} {number}")


def predict(
    texts: Annotated[list[str] | None, typer.Argument(help="Texts to classify.")] = None,
    file: Annotated[Path | None, typer.Option(help="Texts: a .txt file, one a line, or a table file.")] = None,
    text_column: Annotated[str, typer.Option(help="The column of the file that holds the texts.")] = "text",
    run: Annotated[Path, typer.Option(help="A run folder or a student folder.")] = LATEST,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Classify texts with a run's student; needs neither teacher nor training data."""
    from qkd import api

    rows = api.predict(texts or [], file, text_column, run)
    ascii_only = (getattr(sys.stdout, "encoding", None) or "").lower() != "utf-8"
    for row in rows:
        if json_:
            write(json.dumps(row.to_dict(), ensure_ascii=ascii_only))
        else:
            write(f"{one_line(row.label)}\t{row.probability:.3f}\t{one_line(row.text)}")


def register(app: typer.Typer) -> None:
    """Add this file's commands to ``app``."""
    app.command("distill")(with_config_options(distill))
    app.command("evaluate")(evaluate)
    app.command("predict")(predict)
