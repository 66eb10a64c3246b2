"""``qkd distill``, ``qkd evaluate`` and ``qkd predict``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qkd.cli.options import ConfigFile, Debug, Json, PanelCommand, Quiet, with_config_options
from qkd.core.console import log, one_line, write
from qkd.core.errors import DataError
from qkd.core.files import check_suffix, write_table
from qkd.pipeline.settings import Options

if TYPE_CHECKING:
    from qkd.results import Prediction
    from qkd.results.run import EvaluatedText

LATEST = Path("runs/latest")
Output = Annotated[Path | None, typer.Option(help="A .csv, .jsonl or .parquet file for the predictions.")]


def distill(
    *,
    config: ConfigFile = None,
    resume: Annotated[
        bool, typer.Option("--resume", rich_help_panel="Run", help="Continue the run --name, or the last one.")
    ] = False,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    given: Options,
) -> None:
    """Distill an LLM's classifier into a quantum circuit: label, train, evaluate, report.

    Example: qkd distill --data texts.csv --epochs 20
    """
    from qkd import api
    from qkd.core.config import read_config
    from qkd.reports.run import summary, timings

    base = read_config(config) if config else None
    run = api.distill(base, resume=resume, **given)
    if json_:
        write(json.dumps(run.metrics.to_dict(), indent=2))
        return
    write(str(run.table()))
    write(f"\n{summary(run.metrics)}")
    if not quiet:
        write(f"{timings(run.metrics)}\nreport: {run.report}")


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run or bundle folder, or a run's name.", show_default=True)] = LATEST,
    data: Annotated[str | None, typer.Option(help="Labeled texts, as for distill. Default: the test split.")] = None,
    text_column: Annotated[str | None, typer.Option(help="Column of the texts. Default: the run's own.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Column of the labels. Default: the run's own.")] = None,
    output: Output = None,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Evaluate a student on labeled texts: scores, scores of each class, confusion matrix.

    Example: qkd evaluate runs/latest --data other.csv --output predictions.csv
    """
    from qkd import api

    check_suffix(output)
    result = api.evaluate(run, data, text_column, label_column)
    if output is not None:
        _write_predictions(output, result.predictions)
    write(json.dumps(result.to_dict(), indent=2) if json_ else str(result))


def predict(
    texts: Annotated[list[str] | None, typer.Argument(help="Texts; - reads one a line from standard input.")] = None,
    file: Annotated[Path | None, typer.Option(help="Texts: a .txt file, one a line, or a table file.")] = None,
    text_column: Annotated[str, typer.Option(help="Column of the texts in the file.")] = "text",
    run: Annotated[Path, typer.Option(help="A run or bundle folder, or a run's name.")] = LATEST,
    output: Output = None,
    defer: Annotated[float | None, typer.Option(help="Error rate allowed; texts less sure are deferred.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Classify texts with a run's student, without teacher and training data.

    Example: qkd predict "a text" --run runs/latest
    """
    from qkd import api

    check_suffix(output)
    texts = list(texts or ())
    if texts == ["-"] or not (texts or file or sys.stdin.isatty()):
        texts = _from_standard_input()
    rows = api.predict(texts, file, text_column, run, defer)
    if output is not None:
        _write_predictions(output, rows)
        return
    ascii_only = (getattr(sys.stdout, "encoding", None) or "").lower() != "utf-8"
    for row in rows:
        if json_:
            write(json.dumps(row.to_dict(), ensure_ascii=ascii_only))
        else:
            write(
                f"{'(deferred)' if row.deferred else one_line(row.label)}\t{row.probability:.3f}\t{one_line(row.text)}"
            )


def _from_standard_input() -> list[str]:
    """Return the lines of standard input that are not blank.

    Raises:
        DataError: They are not UTF-8.
    """
    try:
        lines = sys.stdin.buffer.read().decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"standard input is not UTF-8 text ({error}); convert it with iconv") from None
    texts = [line.removesuffix("\r") for line in lines if line.strip()]
    if blank := len(lines) - len(texts) - (lines[-1] == ""):
        log.info(f"skipped {blank:,} blank lines")
    return texts


def _write_predictions(path: Path, rows: Sequence[Prediction] | Sequence[EvaluatedText]) -> None:
    import pandas as pd

    from qkd.results.run import prediction_rows

    write_table(path, pd.DataFrame(prediction_rows(rows)))
    log.info(f"{path}: {len(rows):,} texts")


def register(app: typer.Typer) -> None:
    """Add this file's commands to ``app``."""
    app.command("distill", cls=PanelCommand)(with_config_options(distill))
    app.command("evaluate")(evaluate)
    app.command("predict")(predict)
