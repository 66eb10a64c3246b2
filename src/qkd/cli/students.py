"""``qkd distill``, ``qkd teach``, ``qkd evaluate`` and ``qkd predict``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qkd.cli.options import LATEST, ConfigFile, Json, RunArgument, print_json
from qkd.core.config import read_config
from qkd.core.console import is_quiet, log, one_line, write
from qkd.core.errors import ConfigError, DataError
from qkd.core.files import write_lines, write_text, write_with
from qkd.pipeline.settings import Options

if TYPE_CHECKING:
    import pandas as pd

    from qkd.results import Prediction

TEACHING = ("data", "teacher", "prompt", "api", "lora", "models", "encoder")
"""Sections of ``Config`` that a teacher needs."""


def distill(
    *,
    config: ConfigFile = None,
    resume: Annotated[
        bool, typer.Option("--resume", rich_help_panel="Run", help="Continue the run --name, or the last one.")
    ] = False,
    json_: Json = False,
    given: Options,
) -> None:
    """Distill an LLM's classifier into a quantum circuit: label, train, evaluate, report.

    Example: qkd distill --data texts.csv --epochs 20
    """
    from qkd import api
    from qkd.reports.run import summary, timings

    base = read_config(config) if config else None
    run = api.distill(base, resume=resume, **given)
    if json_:
        print_json(run.metrics.to_dict())
        return
    write(run.table())
    write(f"\n{summary(run.metrics)}")
    if not is_quiet():
        write(f"{timings(run.metrics)}\nreport: {run.report}")


def teach(
    *,
    out: Annotated[Path, typer.Option(help="Parquet file of the logits, for --teacher logits:FILE.")],
    config: ConfigFile = None,
    torch_device: Annotated[str | None, typer.Option(help="Device of torch: cpu, cuda, cuda:1, ...")] = None,
    ray: Annotated[
        str | None,
        typer.Option(help="Ray cluster for the work: its address, or 'local' (needs qkd-llm[ray])."),
    ] = None,
    embed: Annotated[
        bool, typer.Option("--embed", help="Embed the texts too, so that distill finds both cached.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the tokens and the cost of an api: teacher and stop.")
    ] = False,
    json_: Json = False,
    given: Options,
) -> None:
    """Let a teacher label texts; the logits are cached, so an interrupted labeling continues.

    Example: qkd teach --data texts.csv --teacher probe:smollm2-135m --out logits.parquet
    """
    from qkd import api

    base = read_config(config) if config else None
    if dry_run:
        write(api.estimate_cost(base, **given))
        return
    done = api.teach(out, base, torch_device=torch_device, ray=ray, embed=embed, **given)
    if json_:
        print_json(done.to_dict())
        return
    counts = ", ".join(f"{name} {count:,}" for name, count in done.predicted.items())
    write(
        f"{done.file}: logits of {done.texts:,} texts and {len(done.classes)} classes by "
        f"{done.teacher.name}, accuracy on the validation split {done.valid_accuracy:.3f} "
        f"(chance, the most frequent label: {done.valid_chance:.3f}), "
        f"{done.seconds:.1f} s ({done.texts / max(done.seconds, 1e-9):,.0f} texts/s)\n"
        f"labels given: {counts}"
    )


def evaluate(
    run: RunArgument = LATEST,
    data: Annotated[str | None, typer.Option(help="Labeled texts, as for distill. Default: the test split.")] = None,
    text_column: Annotated[str, typer.Option(help="Column of the texts.")] = "text",
    label_column: Annotated[str, typer.Option(help="Column of the labels.")] = "label",
    json_: Json = False,
) -> None:
    """Evaluate a run's student on labeled texts.

    Example: qkd evaluate runs/latest --data other.csv
    """
    from qkd import api

    result = api.evaluate(run, data, text_column, label_column)
    if json_:
        print_json(result.to_dict())
        return
    write(f"{result.texts:,} texts of {result.data}")
    for name, number in result.numbers.items():
        write(f"{name.replace('_', ' '):18} {number}")


def predict(
    texts: Annotated[list[str] | None, typer.Argument(help="Texts; - reads one a line from standard input.")] = None,
    file: Annotated[Path | None, typer.Option(help="Texts: a .txt file, one a line, or a table file.")] = None,
    text_column: Annotated[str, typer.Option(help="Column of the texts in the file.")] = "text",
    run: Annotated[Path, typer.Option(help="A run folder or a student folder.")] = LATEST,
    output: Annotated[Path | None, typer.Option(help="A .csv, .jsonl or .parquet file for the results.")] = None,
    defer: Annotated[float | None, typer.Option(help="Error rate allowed; texts less sure are deferred.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Classify texts with a run's student, without teacher and training data.

    Example: qkd predict "a text" --run runs/latest
    """
    from qkd import api

    if output is not None and output.suffix.lower() not in WRITERS:
        raise ConfigError(f"--output {output}: its name must end in {', '.join(WRITERS)}")
    texts = list(texts or ())
    if texts == ["-"] or not (texts or file or sys.stdin.isatty()):
        texts = _from_standard_input()
    rows = api.predict(texts, file, text_column, run, defer)
    if output is not None:
        WRITERS[output.suffix.lower()](output, rows)
        log.info(f"{output}: {len(rows):,} texts")
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


def _table(rows: Sequence[Prediction]) -> pd.DataFrame:
    import pandas as pd

    columns = [{f"probability of {name}": value for name, value in row.probabilities.items()} for row in rows]
    first = [{"text": row.text, "label": row.label, "probability": row.probability} for row in rows]
    return pd.concat([pd.DataFrame(first), pd.DataFrame(columns)], axis=1)


WRITERS: dict[str, Callable[[Path, Sequence[Prediction]], None]] = {
    ".csv": lambda path, rows: write_text(path, _table(rows).to_csv(index=False), private=True),
    ".jsonl": lambda path, rows: write_lines(path, [row.to_dict() for row in rows]),
    ".parquet": lambda path, rows: write_with(path, _table(rows).to_parquet, private=True),
}
