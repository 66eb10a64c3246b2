"""The report: one HTML page that holds its own pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from qkd.circuits import draw, library
from qkd.core.files import write_text
from qkd.core.runs import RunFolder
from qkd.reports import devices, plots, run
from qkd.reports.pages import page, picture, report_failures_as_warnings
from qkd.results import DeviceResult, MeasuredResult, Metrics, TestPrediction
from qkd.results.reading import read_metrics, read_predictions
from qkd.student.metrics import softmax

LONGEST = 300
"""Characters of a text that the page shows."""


class Section(NamedTuple):
    """A heading and what stands below it: each picture with its caption."""

    title: str
    figures: list[dict[str, str]]


class DeviceSection(NamedTuple):
    """The table and the pictures of device runs."""

    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    figures: list[dict[str, str]]


def render(
    name: str,
    metrics: Metrics,
    history: Sequence[dict[str, float]],
    predictions: Sequence[TestPrediction],
    drawing: str,
    config: str,
    device_runs: Sequence[DeviceResult] = (),
) -> str:
    """Return the report of one run as a self-contained HTML page.

    Args:
        name: the run's name.
        metrics: the content of ``metrics.json``.
        history: the rows of ``history.jsonl``.
        predictions: the rows of ``predictions.jsonl``.
        drawing: the circuit as text.
        config: the run's ``config.toml``.
        device_runs: what each device run came to.
    """
    classes = metrics.classes
    targets = np.array([classes.index(row.label) for row in predictions])
    logits = {who: np.array([getattr(row, who) for row in predictions]) for who in ("teacher", "student")}
    probabilities = {who: softmax(rows) for who, rows in logits.items()}
    lines, best = metrics.lines, metrics.student.best_epoch
    answers = logits["student"].argmax(axis=1)
    trusted = "On the dotted line, confidence equals accuracy."
    sections = [
        Section("How close", [picture("A dot is the measured value, a bar its interval.", plots.accuracies, lines)]),
        Section("How it learned", [picture(f"The weights of epoch {best} were kept.", plots.learning, history, best)]),
        Section(
            "Where it errs, and whether it knows",
            [
                picture("Counts of test texts.", plots.confusion, answers, targets, classes),
                picture(trusted, plots.reliability, probabilities, targets),
                picture(
                    "Error rate if only the surest texts are answered.", plots.risk_coverage, probabilities, targets
                ),
            ],
        ),
        Section(
            "What it took from the teacher",
            [picture("One dot is one test text.", plots.agreement, *probabilities.values())],
        ),
    ]
    wrong = np.flatnonzero(answers != targets)
    surest = wrong[np.argsort(-probabilities["student"].max(axis=1)[wrong])][:10]
    mistakes = [
        {
            "text": predictions[i].text[:LONGEST],
            "label": predictions[i].label,
            **{who: classes[logits[who][i].argmax()] for who in logits},
        }
        for i in surest
    ]
    student = metrics.student
    names = {"valid": "validation", "test": "test"}
    return page(
        "page.html",
        title=name,
        subtitle=" · ".join([f"qkd {metrics.qkd}", metrics.data, f"teacher {metrics.teacher.name}", student.engine]),
        conclusions=run.conclusions(metrics),
        columns=run.COLUMNS,
        rows=run.run_rows(metrics),
        texts=metrics.texts,
        given=" and ".join(names[part] for part in metrics.given_splits),
        sections=sections,
        device=_devices(device_runs),
        circuit=f"{student.circuit}: {student.qubits} qubits, {student.inputs} inputs, "
        f"{student.weights} weights, {student.observables} observables.",
        drawing=drawing,
        mistakes=mistakes,
        wrong=len(wrong),
        data=metrics.data,
        notes=metrics.notes,
        encoder=metrics.encoder,
        timings=run.timings(metrics),
        config=config,
    )


def write_report(folder: RunFolder, device_runs: Sequence[DeviceResult] = ()) -> None:
    """Write a finished run's page from its files. A page that cannot be made is a warning, since numbers are saved.

    Raises:
        FolderError: A file of the run is damaged.
    """
    metrics, history, predictions = read_metrics(folder.metrics), folder.rows(folder.history), read_predictions(folder)
    config = folder.config.read_text(encoding="utf-8")
    with report_failures_as_warnings(folder.report):
        drawing = draw.circuit_text(library.load_circuit(str(folder.student / "circuit.qasm")))
        written = render(folder.name, metrics, history, predictions, drawing, config, device_runs)
        write_text(folder.report, written, private=True)


def _devices(results: Sequence[DeviceResult]) -> DeviceSection:
    """Return the page's table and figures of device runs."""
    measured = [result for result in results if isinstance(result, MeasuredResult)]
    names = [f"{result.plan}, {result.device}, mitigation {result.mitigation.name}" for result in measured]
    figures = [
        picture(f"{name}: one dot is an expectation value.", plots.scatter, result)
        for result, name in zip(measured, names, strict=True)
    ]
    return DeviceSection(devices.COLUMNS, devices.device_rows(measured), figures)
