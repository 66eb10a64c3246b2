"""``qkd distill``, ``qkd teach``, ``qkd evaluate`` and ``qkd predict``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qkd.cli.options import LATEST, ConfigFile, Defer, Json, print_json, risk_of
from qkd.core.config import read_config
from qkd.core.console import held, is_quiet, log, one_line, write
from qkd.core.errors import ConfigError, DataError
from qkd.core.files import check_suffix, write_table
from qkd.core.specs import Spec, option
from qkd.pipeline.settings import Options

if TYPE_CHECKING:
    from qkd.results import Prediction
    from qkd.results.evaluation import EvaluatedText

Output = Annotated[Path | None, typer.Option(help="A .csv, .jsonl or .parquet file for the predictions.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the tokens and the cost of an api: teacher and stop.")]
TEACHING = ("data", "teacher", "prompt", "api", "lora", "models", "encoder")
"""Sections of ``Config`` that a teacher needs."""


class TeachSpec(Spec):
    """Settings of the computation of ``qkd teach``."""

    torch_device: str = option("auto", "Device of torch: auto, cpu, cuda, cuda:1, ...")
    ray: str | None = option(None, "Ray cluster for the work: its address, or 'local' (needs qkd-llm[ray]).")
    embed: bool = option(False, "Embed the texts too, so that distill finds both cached.")
    dry_run: bool = option(False, "Print the tokens and the cost of an api: teacher and stop.")


class PredictSpec(Spec):
    """The student of ``qkd predict``, and a file of texts."""

    file: Path | None = option(None, "Texts: a .txt file, one a line, or a table file.")
    text_column: str | None = option(None, "Column of the texts. Default: the run's own.")
    run: Path = option(LATEST, "A run or bundle folder, or a run's name.")


def distill(
    *,
    config: ConfigFile = None,
    resume: Annotated[
        bool, typer.Option("--resume", rich_help_panel="Run", help="Continue the run --name, or the last one.")
    ] = False,
    dry_run: DryRun = False,
    json_: Json = False,
    given: Options,
) -> None:
    """Distill an LLM's classifier into a quantum circuit.

    The teacher labels the texts, the student trains on them, and the report compares it with controls.

    Example: qkd distill --data texts.csv --epochs 20
    """
    from qkd import api
    from qkd.reports.run import summary, timings

    base = read_config(config) if config else None
    if dry_run:
        write(api.estimate_cost(base, **given))
        return
    run = api.distill(base, resume=resume, **given)
    if json_:
        print_json(run.metrics.to_dict())
        return
    write(str(run.table()))
    write(f"\n{summary(run.metrics)}")
    if not is_quiet():
        write(f"{timings(run.metrics)}\nreport: {run.report}")


def teach(
    *,
    out: Annotated[Path, typer.Option(help="Parquet file of the logits, for --teacher logits:FILE.")],
    spec: TeachSpec,
    config: ConfigFile = None,
    json_: Json = False,
    given: Options,
) -> None:
    """Let a teacher label texts.

    The logits are cached, so an interrupted labeling continues.

    Example: qkd teach --data texts.csv --teacher probe:smollm2-135m --out logits.parquet
    """
    from qkd import api

    base = read_config(config) if config else None
    if spec.dry_run:
        write(api.estimate_cost(base, **given))
        return
    done = api.teach(out, base, ray=spec.ray, embed=spec.embed, torch_device=spec.torch_device, **given)
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
    run: Annotated[Path, typer.Argument(help="A run or bundle folder, or a run's name.", show_default=True)] = LATEST,
    data: Annotated[str | None, typer.Option(help="Labeled texts, as for distill. Default: the test split.")] = None,
    text_column: Annotated[str | None, typer.Option(help="Column of the texts. Default: the run's own.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Column of the labels. Default: the run's own.")] = None,
    output: Output = None,
    json_: Json = False,
) -> None:
    """Evaluate a student on labeled texts.

    The output has scores, scores of each class and the confusion matrix.

    Example: qkd evaluate runs/latest --data other.csv --output predictions.csv
    """
    from qkd import api

    check_suffix(output)
    result = api.evaluate(run, data, text_column, label_column)
    if output is not None:
        _write_predictions(output, result.predictions)
    if json_:
        print_json(result.to_dict())
    else:
        write(str(result))


def predict(
    texts: Annotated[list[str] | None, typer.Argument(help="Texts; - reads one a line from standard input.")] = None,
    *,
    spec: PredictSpec,
    output: Output = None,
    defer: Defer = None,
    ask_teacher: Annotated[
        bool, typer.Option("--ask-teacher", help="Ask the run's teacher about deferred texts. Implies --defer teacher.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Classify texts with a run's student.

    This needs neither the teacher nor the training data.

    Example: qkd predict "a text" --run runs/latest
    """
    from qkd.export.quick import quick_folder

    check_suffix(output)
    texts = list(texts or ())
    if texts == ["-"] or not (texts or spec.file or sys.stdin.isatty()):
        texts = _from_standard_input()
    is_export, deferring = (spec.run / "export.json").is_file(), defer is not None or ask_teacher
    if is_export and deferring:
        raise ConfigError(f"{spec.run}: an export has its own threshold; export with --defer, or name the run")
    if is_export or (not (deferring or spec.file) and quick_folder(spec.run)):
        from qkd.export.server import predict_quickly

        rows = predict_quickly(spec.run, texts, spec.file, spec.text_column or "text")
    else:
        from qkd import api

        rows = api.predict(texts, spec.file, spec.text_column, spec.run, risk_of(defer), ask_teacher)
    if empty := sum(not row.text.strip() for row in rows):
        log.warning(f"{empty:,} of {len(rows):,} texts are empty; their labels say nothing about a text")
    if output is not None:
        _write_predictions(output, rows)
        return
    ascii_only = (getattr(sys.stdout, "encoding", None) or "").lower() != "utf-8"
    for row in rows:
        if json_:
            write(json.dumps(row.to_dict(), ensure_ascii=ascii_only))
        else:
            unknown = row.deferred and row.answered_by is None
            label = "(deferred)" if unknown else one_line(row.label)
            write(f"{label}\t{row.probability:.3f}\t{one_line(row.text)}")


def _from_standard_input() -> list[str]:
    """Return the lines of standard input that are not blank."""
    try:
        with held():
            lines = sys.stdin.buffer.read().decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"standard input is not UTF-8 text ({error}); convert it with iconv") from None
    texts = [line.removesuffix("\r") for line in lines if line.strip()]
    if blank := len(lines) - len(texts) - (lines[-1] == ""):
        log.info(f"skipped {blank:,} blank lines")
    return texts


def _write_predictions(path: Path, rows: Sequence[Prediction] | Sequence[EvaluatedText]) -> None:
    import pandas as pd

    from qkd.reports.evaluation import prediction_rows

    write_table(path, pd.DataFrame(prediction_rows(rows)))
    log.info(f"{path}: {len(rows):,} texts")
