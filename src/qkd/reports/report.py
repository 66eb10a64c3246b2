"""The page of one run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from qkd.circuits import library
from qkd.circuits.student import StudentCircuit, count
from qkd.core.files import read_text, write_text
from qkd.core.runs import RunFolder
from qkd.reports import plots, run
from qkd.reports.circuit_picture import circuit_picture
from qkd.reports.devices import EXPLANATION, device_table
from qkd.reports.pages import Code, Part, Picture, Report, SearchableTable, Section, report_failures_as_warnings
from qkd.reports.tables import Table
from qkd.results import DeviceResult, MeasuredResult, Metrics, TestPrediction
from qkd.results.run import read_metrics, read_predictions
from qkd.results.teacher import money
from qkd.student.metrics import confusion_matrix

MAX_CHARACTERS = 300
"""Characters of a text that the page shows."""
MAX_TEXTS = 500
"""Texts that the page shows."""
READING = (
    "Brackets are 95 % intervals: Wilson's for accuracy and agreement, bootstrap for the others. 'Like teacher' is the "
    "share of texts with the teacher's class. ECE is the expected calibration error. 'Classical' counts trained "
    "parameters around the circuit, 'quantum' those in it, and 'encoder' those of the encoder. 'linear' is the student "
    "without a circuit, trained alike. 'logreg' is a logistic regression on the same embeddings and labels, without a "
    "teacher. Milliseconds are end to end, from text to class, measured on this run's machine."
)
DEVICE_READING = f"{EXPLANATION} A run on a snapshot is a rehearsal; its QPU seconds estimate those of the device."


def render(
    name: str,
    metrics: Metrics,
    history: Sequence[dict[str, float]],
    predictions: Sequence[TestPrediction],
    circuit: StudentCircuit,
    config: str,
    device_runs: Sequence[DeviceResult] = (),
) -> str:
    """Return the report of one run as a self-contained page.

    Args:
        name: The run's name.
        metrics: The content of ``metrics.json``.
        history: The rows of ``history.jsonl``.
        predictions: The rows of ``predictions.jsonl``.
        circuit: The student's circuit.
        config: The text of ``config.toml``.
        device_runs: The results of the run's device runs.
    """
    measured = [result for result in device_runs if isinstance(result, MeasuredResult)]
    accuracies = Picture(
        "Accuracy. A dot is the measured value, a bar its interval.", plots.accuracies, (metrics.lines,)
    )
    drawing = Picture(
        "Gates with orange frames take data, and gates with blue frames have trained weights.",
        circuit_picture,
        (circuit,),
    )
    results: list[Part | None] = [[accuracies], run.results_table(metrics), run.conclusions(metrics)]
    sections = [
        Section("Results on the test texts", results),
        Section("Training and errors", [_pictures(metrics, history, predictions)]),
        Section("Texts on which the classifiers disagree", disagreements(metrics.classes, predictions)),
        Section("Device runs", _device_parts(measured)),
        Section("The circuit", [f"{circuit.name}: {count(circuit).size()}.", [drawing]]),
        Section("How to read the numbers", [READING], is_folded=True),
        Section("Data, encoder and time", _details(metrics), is_folded=True),
        Section("Settings", ["qkd distill --config FILE repeats this run.", Code(config)], is_folded=True),
    ]
    return Report(name, four_lines(metrics, measured), sections).to_html()


def _pictures(
    metrics: Metrics, history: Sequence[dict[str, float]], predictions: Sequence[TestPrediction]
) -> list[Picture]:
    """Return the pictures of training and of the predictions on the test texts."""
    classes, best = metrics.classes, metrics.student.best_epoch
    probabilities, targets = run.probabilities_and_targets(classes, predictions)
    confusion = confusion_matrix(probabilities["student"].argmax(axis=1), targets, len(classes))
    surest = "Error rate if only the surest texts are answered, with the student's 95 % band."
    deferral = metrics.cascade.deferral if metrics.cascade else None
    if deferral is not None and deferral.threshold is not None:
        surest += " The dotted line is the share that the student answers at the teacher's accuracy."
    return [
        Picture(f"Loss and accuracy. The weights of epoch {best} were kept.", plots.learning, (history, best)),
        Picture("Test texts by label and predicted class.", plots.confusion, (confusion, classes)),
        Picture("On the dotted line, confidence equals accuracy.", plots.reliability, (probabilities, targets)),
        Picture(surest, plots.risk_coverage, (probabilities, targets, deferral)),
        Picture("Teacher and student. A dot is a test text.", plots.agreement, tuple(probabilities.values())),
    ]


def _device_parts(measured: Sequence[MeasuredResult]) -> list[Part | None]:
    """Return the table and the pictures of device runs."""
    captions: dict[Literal["noisy", "exact"], str] = {
        "noisy": "measured expectation values against those predicted from the device's noise.",
        "exact": "measured expectation values against exact ones.",
    }
    pictures = [
        Picture(
            f"{result.plan} on {result.device}, mitigation {result.mitigation.name}: {caption}",
            plots.scatter,
            (result, against),
        )
        for result in measured
        for against, caption in captions.items()
    ]
    return [device_table(measured).transposed(), DEVICE_READING, pictures] if measured else []


def _details(metrics: Metrics) -> list[Part | None]:
    """Return facts about data, encoder, engine and time."""
    texts, encoder, names = metrics.texts, metrics.encoder, {"valid": "validation", "test": "test"}
    splits = " and ".join(names[part] for part in metrics.given_splits)
    data = f"{texts['train']:,} training, {texts['valid']:,} validation and {texts['test']:,} test texts"
    return [
        f"{metrics.data}: {data}." + (f" The data set defines its {splits} split." if splits else ""),
        list(metrics.notes),
        run.endpoint_sentences(metrics.teacher),
        f"Encoder: {encoder.name}, embedding width {encoder.dim}. Engine: {metrics.student.engine}. qkd {metrics.qkd}.",
        Table(
            ("encoder", "leave-one-out error of a linear probe", "its accuracy"),
            [(row.name, f"{row.error:.3f}", f"{row.accuracy:.3f}") for row in encoder.trials],
        ),
        run.timings(metrics),
    ]


def four_lines(metrics: Metrics, measured: Sequence[MeasuredResult] = ()) -> list[tuple[str, str]]:
    """Return question, answer, control and cost of a run for a reader without context."""
    student, lines = metrics.student, metrics.lines
    percent = {name: f"{100 * line.numbers.accuracy.value:.1f} %" for name, line in lines.items()}
    controls = [f"{run.NAMES_IN_SENTENCES.get(name, name)} {percent[name]}" for name in metrics.controls]
    parameters = lines["student"].parameters
    trained = (
        f"{parameters.quantum:,} circuit weights and {parameters.classical:,} classical parameters"
        if parameters
        else ""
    )
    speed = lines["student"].ms_per_text
    cost = f"{trained}; {sum(metrics.seconds.values()):,.0f} s on this machine"
    if speed is not None:
        cost += f", {speed:.2f} ms for each text"
    if metrics.teacher.endpoint and metrics.teacher.endpoint.dollars is not None:
        cost += f"; {money(metrics.teacher.endpoint.dollars)} for {metrics.teacher.name}"
    if measured:
        seconds = sum(result.qpu_seconds_estimated for result in measured)
        cost += f"; {seconds:,.0f} QPU seconds for {sum(result.texts for result in measured):,} texts (estimated)"
    return [
        (
            "Question",
            f"Can a circuit of {student.qubits} qubits classify the texts of {metrics.data} into "
            f"{len(metrics.classes)} classes as well as its teacher, {metrics.teacher.name}?",
        ),
        (
            "Answer",
            f"The student classifies {percent['student']} of {metrics.texts['test']:,} test texts correctly, and the "
            f"teacher {percent['teacher']}. {metrics.gain.sentence}",
        ),
        (
            "Control",
            f"On the same texts: {', '.join([*controls, 'the most frequent class ' + percent['majority']])}."
            + (f" {run.circuit_conclusion(metrics)}" if metrics.controls else ""),
        ),
        ("Cost", f"{cost}."),
    ]


def disagreements(classes: Sequence[str], predictions: Sequence[TestPrediction]) -> list[Part | None]:
    """Return the test texts on which label, student, teacher and linear control disagree.

    Args:
        classes: The C class names.
        predictions: The rows of ``predictions.jsonl``.
    """
    rows = [
        row
        for row in run.predicted_classes(classes, predictions)
        if len({row["label"], row["student"], row["teacher"], row.get("control", row["student"])}) > 1
    ]
    shown = sorted(rows, key=lambda row: -row["confidence"])[:MAX_TEXTS]
    choices = {
        "student wrong": [row["student"] != row["label"] for row in shown],
        "student and teacher differ": [row["student"] != row["teacher"] for row in shown],
        "student and control differ": [row["student"] != row.get("control", row["student"]) for row in shown],
    }
    cells = [
        (
            row["text"][:MAX_CHARACTERS],
            *(row["label"], row["student"], f"{row['confidence']:.2f}", row["teacher"], row.get("control", "-")),
        )
        for row in shown
    ]
    table = Table(("text", "label", "student", "its confidence", "teacher", "linear control"), cells)
    note = f"{len(rows):,} of {len(predictions):,} test texts, the student's surest first."
    if len(rows) > MAX_TEXTS:
        note += f" The page shows {MAX_TEXTS} of them."
    return [note, SearchableTable(table, choices)]


def write_report(folder: RunFolder, device_runs: Sequence[DeviceResult] = ()) -> None:
    """Write a finished run's page from its files. A page that cannot be made is a warning, since numbers are saved.

    Raises:
        FolderError: A file of the run is damaged.
    """
    metrics, history, predictions = read_metrics(folder.metrics), folder.rows(folder.history), read_predictions(folder)
    config = read_text(folder.config)
    with report_failures_as_warnings(folder.report):
        circuit = library.load_circuit(str(folder.student / "circuit.qasm"))
        written = render(folder.name, metrics, history, predictions, circuit, config, device_runs)
        write_text(folder.report, written, private=True)
