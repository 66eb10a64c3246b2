"""The model card of a bundle: metadata of the Hugging Face Hub, and a page that a person reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qkd.core.markup import markdown_code, markdown_text
from qkd.core.version import VERSION
from qkd.encoders.registry import map_models
from qkd.models.weights import is_hub_id
from qkd.models.wheels import PINS
from qkd.results.cascade import Cascade
from qkd.student.about import About

if TYPE_CHECKING:
    from qkd.student.bundle import Student

LICENSE = "apache-2.0"  # of the weights that training made; the encoder has its own license
MAX_DRAWN_GATES = 400
# Shares of answered texts at which the card gives the error rate.
CARD_SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)


def model_card(student: Student, includes_encoder: bool = False) -> str:
    """Return the card of a student, YAML metadata and Markdown."""
    model, about = student.model, student.about
    circuit, counts = model.circuit, model.parameter_counts()
    classes = ", ".join(markdown_text(name) for name in model.classes)
    lines = [
        "---",
        _metadata(student),
        "---",
        "",
        f"# Student with {circuit.num_qubits} qubits: {classes}",
        "",
        f"This text classifier was distilled by qkd {VERSION} from the teacher {markdown_code(about.teacher)} on "
        f"{markdown_code(about.data)}.",
        "",
        f"A text passes through the encoder {markdown_code(student.encoder.name)} (D={model.dim}), a linear projection "
        f"and a {model.angle_map} map to {len(circuit.inputs)} angles, the circuit {markdown_code(circuit.name)} "
        f"({len(circuit.weights)} weights, {len(circuit.observables)} observables), and a linear head.",
        "",
        "## Use",
        "",
        "```python",
        "from qkd import Student",
        "",
        'student = Student.from_pretrained("this-folder")',
        'student.predict(["a text", "another text"])',
        "```",
        "",
        "## Results",
        "",
    ]
    if about.metrics is not None:
        columns = {"student": about.metrics, "linear control": about.control_metrics}
        shown = {name: dict(scores.items()) for name, scores in columns.items() if scores is not None}
        lines += [f"| on the test split | {' | '.join(shown)} |", "| --- " * (len(shown) + 1) + "|"]
        lines += [
            f"| {name.replace('_', ' ')} | {' | '.join(str(scores[name]) for scores in shown.values())} |"
            for name in shown["student"]
        ]
        lines += ["", "Brackets are 95 % intervals. The linear control has no circuit and the same size.", ""]
    lines += [
        *(markdown_text(sentence) for sentence in about.controls),
        *([about.conclusion] if about.conclusion else []),
        *_cascade(about.cascade),
    ]
    lines += [
        "",
        "## Size",
        "",
        f"The student has {model.num_parameters:,} trained parameters: {counts.quantum:,} in the circuit and "
        f"{counts.classical:,} in the linear maps. The encoder has {student.encoder.num_parameters:,}."
        + (" The folder `encoder` contains it, under its own license." if includes_encoder else ""),
        "",
        "## Intended use",
        "",
        "The student labels texts of the kind that it was trained on, and it supports research on quantum classifiers. "
        "A person should review answers that matter.",
        "",
        "## Limits",
        "",
        "The student knows the labels above and the kind of texts that it was trained on. It gives a label to every "
        "text, also to texts of another kind or language. A simulator computes the circuit, so no quantum computer is "
        "needed.",
        "",
        *_training(about),
        *_drawing(student),
    ]
    return "\n".join(lines)


def _training(about: About) -> list[str]:
    """Return the training texts of each label, and the command that makes the student again."""
    if not about.command:
        return []
    rows = [f"| {markdown_text(label)} | {count:,} |" for label, count in about.examples.items()]
    table = ["| label | labeled training texts |", "| --- | --- |", *rows, ""]
    return ["## Training", "", *table, "```sh", about.command, "```", ""]


def _metadata(student: Student) -> str:
    """Return the YAML metadata that the hub reads."""
    from huggingface_hub import EvalResult, ModelCardData

    about = student.about
    kind, _, dataset = about.data.partition(":")
    dataset = dataset.partition(":")[0]
    results = [
        EvalResult(
            task_type="text-classification",
            dataset_type="text",
            dataset_name=about.data,
            metric_type=name,
            metric_value=f"{number.value:.4f} (95 % interval {number.low:.4f} to {number.high:.4f})",
        )
        for name, number in (about.metrics.items() if about.metrics is not None else [])
    ]
    return ModelCardData(
        license=LICENSE,
        library_name="qkd",
        pipeline_tag="text-classification",
        base_model=_base_models(student.encoder.name) or None,
        datasets=[dataset] if kind == "hf" and is_hub_id(dataset) else None,
        tags=["qkd", "quantum-machine-learning", "qiskit", "knowledge-distillation"],
        model_name="student" if results else None,
        eval_results=results or None,
    ).to_yaml()


def _base_models(encoder: str) -> list[str]:
    """Return the ids of an encoder's models on the Hugging Face Hub."""
    ids = []

    def collect(model: str) -> str:
        ids.append(PINS[model].hub if model in PINS else model.partition("@")[0])
        return model

    map_models(encoder, collect)
    return [name for name in ids if is_hub_id(name)]


def _cascade(cascade: Cascade | None) -> list[str]:
    """Return the sentence and the risk-coverage curve of a cascade at a few shares of answered texts."""
    if cascade is None:
        return []
    curve, rows = cascade.curve, []
    for share in CARD_SHARES:
        point = min(range(len(curve.coverage)), key=lambda i: abs(curve.coverage[i] - share))
        numbers = (curve.coverage[point], curve.risk[point], curve.low[point], curve.high[point])
        rows.append("| {:.0f} % | {:.1f} % | {:.1f} to {:.1f} % |".format(*(100 * value for value in numbers)))
    head = ["| surest texts answered | errors among them | 95 % interval |", "| --- | --- | --- |"]
    return ["", "## With the language model behind it", "", cascade.sentence, "", *head, *dict.fromkeys(rows)]


def _drawing(student: Student) -> list[str]:
    """Return the circuit as text, unless it is too large to read."""
    circuit = student.model.circuit.circuit
    if circuit.size() > MAX_DRAWN_GATES:
        return []
    return ["## Circuit", "", "```text", str(circuit.draw("text", fold=110)), "```", ""]
