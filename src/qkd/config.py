"""Everything a TOML file or an option can say, as frozen specs.

One sentence per field: the same sentence is the comment in a written ``config.toml`` and the help of the CLI
option. ``Config`` is the root; its sections are the tables of the TOML file.
"""

from __future__ import annotations

import reprlib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from qkd.errors import ConfigError, nearest

TOML_BYTES = 1 << 20
"""Of a TOML file."""
S = TypeVar("S", bound="Spec")
Fraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


def _f(default: Any, sentence: str, option: str | None = None) -> Any:
    """Return a field with its one sentence and, where it differs from the field's name, its CLI option."""
    return Field(default, description=sentence, json_schema_extra={"option": option} if option else None)


class Spec(BaseModel):
    """A frozen table of settings; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


class DataSpec(Spec):
    """Which texts and labels, and how they are split."""

    source: str = _f(
        "docstrings",
        "A CSV, TSV, JSONL or Parquet file, qdllm:FOLDER, hf:NAME[:CONFIG], or the embedded 'docstrings'.",
        option="data",
    )
    text_column: str = _f("text", "The column that holds the texts.")
    label_column: str = _f("label", "The column that holds the labels.")
    test_data: Path | None = _f(
        None, "A table file of test texts, with the same columns; else the data's own test split, or a part of them."
    )
    limit: Count | None = _f(None, "Take at most this many texts, stratified by label; all when left out.")
    valid: Fraction = _f(
        0.15, "The fraction of texts kept for validation; of the training texts, where the test texts are given."
    )
    test: Fraction = _f(0.2, "The fraction of texts kept for the final test, where it is not given.")
    split_seed: int = _f(0, "The seed of the train/validation/test split, as far as it is drawn.")
    unlabeled: Path | None = _f(
        None, "A file of more texts, without labels, that the teacher alone labels: the student gets KL and JS on them."
    )


def _several(value: Any) -> Any:
    """Let one word stand for a list of one."""
    return (value,) if isinstance(value, str) else value


def _switched(value: Any) -> Any:
    """Let a prompt's calibration be on or off, as it was in version 0.1."""
    return {True: "labels", False: "none"}[value] if isinstance(value, bool) else value


class TeacherSpec(Spec):
    """The classifier whose logits the student learns from."""

    spec: Annotated[tuple[str, ...], BeforeValidator(_several), Field(min_length=1)] = _f(
        ("probe:smollm2-135m",),
        "KIND:MODEL, where KIND is probe, prompt, lora, classifier or logits and MODEL a short name, folder, hub id or "
        "file; several make an ensemble.",
        option="teacher",
    )
    ensemble: Literal["probability", "logit"] = _f(
        "probability", "What several teachers' weighted average is taken of; validation texts set the weights."
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = _f(
        "auto", "The teacher's weights: auto is float32 on CPUs and bfloat16 on CUDA."
    )
    quantize: Literal["none", "8bit", "4bit"] = _f("none", "Load the teacher quantised, by bitsandbytes.")
    max_tokens: Count | None = _f(None, "Tokens read of each text; 256, or what the model holds, when left out.")
    label_map: str | None = _f(
        None, "For classifier: which of its labels means which of the data's, MODEL=DATA, separated by commas."
    )


class PromptSpec(Spec):
    """How a prompt: teacher is asked."""

    template: Annotated[tuple[str, ...], BeforeValidator(_several), Field(min_length=1)] = _f(
        ("auto",),
        "Built-in prompts (classify, continue, category), auto for all of them, or TOML or text files with "
        "{text} in them; of several the one that does best on a few labelled texts is taken.",
        option="prompt",
    )
    shots: Annotated[int, Field(ge=0)] = _f(
        0, "Examples of each class shown first, drawn from the training texts.", option="few-shots"
    )
    shots_seed: int = _f(0, "The seed that draws them.", option="few-shots-seed")
    calibrate: Annotated[Literal["labels", "batch", "none"], BeforeValidator(_switched)] = _f(
        "labels",
        "How scores become logits: a small linear map fitted to training texts (labels), biases that make all labels "
        "equally likely over them, whatever theirs are (batch), or none; with a temperature.",
    )


class LoraSpec(Spec):
    """How a lora: teacher is fine-tuned."""

    rank: Count = _f(8, "The rank r of the adapters.", option="lora-rank")
    targets: str = _f(
        "all-linear", "The modules that get adapters, by name, separated by commas.", option="lora-targets"
    )
    depth: Annotated[float, Field(gt=0, le=1)] = _f(
        0.67, "The fraction of the LM's layers that is kept, from the bottom.", option="lora-depth"
    )
    tuned: Annotated[float, Field(gt=0, le=1)] = _f(
        0.5, "The fraction of the kept layers that gets adapters, from the top.", option="lora-tuned"
    )
    epochs: Count = _f(3, "The most passes over the training texts.", option="lora-epochs")
    texts: Count | None = _f(None, "Learn from at most this many training texts.", option="lora-texts")
    batch_size: Count = _f(16, "Texts per optimizer step.", option="lora-batch-size")
    lr: Annotated[float, Field(gt=0)] = _f(0.0003, "AdamW's highest learning rate.", option="lora-lr")
    patience: Count = _f(2, "Stop after this many epochs without a better validation loss.", option="lora-patience")
    seed: int = _f(0, "The seed of adapters, batches and dropout.", option="lora-seed")


class ModelSpec(Spec):
    """How models of the hub are dealt with."""

    offline: bool = _f(False, "Ask no hub; HF_HUB_OFFLINE=1 does the same.")
    trust_remote_code: bool = _f(False, "Let a model run Python code of its own; read that code first.")


class EncoderSpec(Spec):
    """What turns a text into the student's D numbers."""

    name: str = _f(
        "minilm?layers=auto",
        "minilm, hashing[:DIM], static:MODEL, any Hugging Face encoder (folder or hub id), with ?layers=, pooling= and "
        "tokens= behind it, or several joined by +; auto layers are chosen by leave-one-out error.",
        option="encoder",
    )
    whiten: Count | None = _f(
        None, "Decorrelate the embeddings and keep this many of the strongest directions; fitted on the training texts."
    )
    tune: Annotated[int, Field(ge=0)] = _f(
        0,
        "Train this many of the encoder's last layers with the student, through the circuit; of static:, its table.",
        option="tune-encoder",
    )
    tune_epochs: Count = _f(10, "The most passes over the training texts that the encoder's layers train for.")
    tune_batch_size: Count = _f(32, "Texts per optimizer step while they train.")
    tune_patience: Count = _f(3, "Stop that after this many epochs without a better validation loss.")
    tune_lr: Annotated[float, Field(gt=0)] | None = _f(
        None, "Adam's learning rate of what trains of the encoder; 1e-4 for layers and 1e-3 for a table when left out."
    )


class StudentSpec(Spec):
    """The quantum student: projection, circuit and head."""

    circuit: str = _f("hardware", "A bundled circuit's name, a circuit TOML file, or an OpenQASM 3 file.")
    qubits: Count | None = _f(None, "The circuit's width n; the circuit's own default when left out.")
    layers: Count | None = _f(None, "How often the ansatz repeats; the circuit's own default when left out.")
    angle_map: Literal["tanh", "minmax"] = _f(
        "tanh",
        "How projections become angles: tanh, bounded to (-pi, pi), or minmax, the paper's per-text scaling "
        "to [0, 10].",
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = _f(0.5, "The fraction of embedding entries dropped in training.")
    standardise: bool = _f(True, "Shift and scale embedding entries to mean 0 and deviation 1 over the training texts.")
    diagnose: bool = _f(
        True, "Measure why the student falls short of its teacher: encoder, capacity, data or optimisation."
    )
    spread: Annotated[int, Field(ge=0)] = _f(
        0, "Train it with this many more seeds, ideally, to see how far they lie apart.", option="spread-seeds"
    )
    controls: bool = _f(
        True, "Show a linear student of the same size and a logistic regression on the same embeddings beside it."
    )


class LossSpec(Spec):
    """What the student minimises, given its own logits, the teacher's and the labels."""

    name: Literal["qdllm", "qdllm-published"] = _f(
        "qdllm",
        "The loss: qdllm is the paper's CE, KL and JS sum; qdllm-published has the JS of its public code, which "
        "softmaxes twice.",
        option="loss",
    )
    temperature: Annotated[float, Field(gt=0)] = _f(2.0, "T, which softens teacher and student in KL and JS.")
    alpha: Annotated[float, Field(ge=0, le=1)] = _f(0.2, "The weight a of the teacher; 0 learns from labels alone.")


class TrainSpec(Spec):
    """How the student is optimised."""

    epochs: Count = _f(100, "The most passes over the training texts.")
    batch_size: Count = _f(64, "Texts per optimizer step, B.")
    lr: Annotated[float, Field(gt=0)] = _f(
        0.005,
        "Adam's learning rate; the projection's is smaller, in inverse proportion to the width of the embeddings.",
    )
    weight_decay: Annotated[float, Field(ge=0)] = _f(0.0, "Decoupled weight decay of projection and head.")
    patience: Count = _f(10, "Stop after this many epochs without a better validation loss.")
    shots: Annotated[int, Field(ge=0)] = _f(
        0,
        "Train for this many shots per expectation value: their exact variance is in the loss; 0 is none.",
        option="train-shots",
    )
    shuffle: bool = _f(True, "Draw new batches in every epoch; without it, all epochs go through the first ones.")
    seed: int = _f(0, "The seed of initial weights, batches and dropout.")


class EngineSpec(Spec):
    """What does the quantum arithmetic."""

    sim: Literal["exact", "aer", "aer-noisy"] = _f(
        "exact",
        "What is simulated: exact expectation values; aer, finite shots; aer-noisy, shots under --device's noise.",
    )
    engine: Literal["auto", "statevector", "lightcone", "density", "trajectories", "aer"] = _f(
        "auto",
        "What does the arithmetic of training: auto takes the fastest that is exact for the case, aer trains on "
        "AerSimulator's shots.",
    )
    shots: Count = _f(4096, "Shots per expectation value where AerSimulator samples.")
    gradient: Literal["spsa", "parameter-shift"] = _f("spsa", "How --engine aer estimates gradients.")
    trajectories: Annotated[int, Field(ge=2)] = _f(32, "Quantum trajectories per text of --engine trajectories.")
    accuracy: Annotated[float, Field(ge=0, lt=1)] = _f(
        0.001,
        "How far expectation values may be off where light cones are too wide to be exact; gradients ten times that, "
        "relatively; 0 insists on exact ones.",
    )
    truncation: Annotated[float, Field(ge=0, lt=1)] = _f(
        0.0, "The threshold below which --engine lightcone leaves Pauli strings out; 0 finds it from the accuracy."
    )
    seed: int = _f(0, "The seed of shots and trajectories.", option="engine-seed")
    precision: Literal["single", "double"] = _f("single", "Floating-point precision of training.")
    torch_device: str = _f("auto", "Where torch computes: auto (CUDA when there is one), cpu, cuda, cuda:1, ...")


class DeviceSpec(Spec):
    """The device whose noise is simulated."""

    name: str = _f(
        "ibm_fez", "The device whose snapshot --sim aer-noisy takes: a name, or a snapshot file.", option="device"
    )
    profile: str | None = _f(None, "The transpile profile; the device's own when left out.")
    idle_noise: bool = _f(False, "Whether qubits that wait relax, as a schedule of the circuit says.")


class RunSpec(Spec):
    """Where the results go."""

    folder: Path = _f(Path("runs"), "The folder that holds the run folders.", option="runs")
    name: str | None = _f(None, "The run's name; a new one is made from data and circuit when left out.")


class CompareSpec(Spec):
    """What ``qkd compare`` puts side by side."""

    students: Annotated[tuple[str, ...], Field(min_length=2)] = _f(
        ("hardware", "qdllm", "product", "linear", "mlp", "logreg"),
        "Circuits, or linear, mlp, fourier, product, teacher-free, logreg, qdllm (the paper's recipe), "
        "model2vec:MODEL, encoder:MODEL or a TOML file; the others are judged against the first.",
    )
    seeds: Count = _f(10, "How often each student is trained, with seeds 0, 1, ...")
    sims: tuple[Literal["exact", "aer", "aer-noisy"], ...] = _f(
        ("exact",),
        "What circuits are trained for and judged by, and a second one that they are measured with besides: exact, aer "
        "(shots), aer-noisy (shots under --device's noise, which training sees where it comes first).",
    )
    train_texts: Annotated[tuple[Count | Literal["all"], ...], Field(min_length=1)] = _f(
        ("all",), "Numbers of training texts, or all; several make learning curves, the largest is judged."
    )
    shots: tuple[Count, ...] = _f(
        (), "Numbers of shots at which trained circuits are measured too: a curve.", option="shot-counts"
    )
    noise: tuple[Annotated[float, Field(ge=0)], ...] = _f(
        (), "Factors of the gate errors of --device at which they are measured too: a curve.", option="noise-scales"
    )
    tune: Annotated[int, Field(ge=0)] = _f(
        0,
        "How many settings of learning rate, weight decay and dropout each student may try, its own among them; the "
        "smallest validation loss chooses. 0 takes them as they are.",
    )


class SweepSpec(Spec):
    """What ``qkd sweep`` searches, and how long."""

    over: Annotated[tuple[str, ...], Field(min_length=1)] = _f(
        ("qubits", "layers", "encoding", "observables", "encoder", "temperature", "alpha", "lr"),
        "A setting to search, or NAME=LOW..HIGH, or NAME=A,B,C (A|B where one has a comma); repeat it for several.",
    )
    trials: Count = _f(50, "How many students are trained in the search, pruned ones included.")
    goal: Literal["accuracy", "loss"] = _f("accuracy", "What the validation texts choose by.")
    prune: bool = _f(True, "Stop a trial that is behind the median of those before it, from the sixth epoch on.")
    parallel: Count = _f(8, "Trials proposed at once: more keep more cores busy and learn less from one another.")
    seeds: Count = _f(5, "How often the best and the starting point are trained anew, to be judged on the test texts.")
    seed: int = _f(0, "The seed of the search.", option="sweep-seed")

    @model_validator(mode="after")
    def _losses_are_alike(self) -> SweepSpec:
        changed = {word.partition("=")[0].strip() for word in self.over} & {"temperature", "alpha", "loss"}
        if self.goal == "loss" and changed:
            raise ValueError(
                f"losses of different {', '.join(sorted(changed))} cannot be compared; goal = accuracy can"
            )
        return self


class Config(Spec):
    """One distillation, whole."""

    data: DataSpec = DataSpec()
    teacher: TeacherSpec = TeacherSpec()
    prompt: PromptSpec = PromptSpec()
    lora: LoraSpec = LoraSpec()
    models: ModelSpec = ModelSpec()
    encoder: EncoderSpec = EncoderSpec()
    student: StudentSpec = StudentSpec()
    loss: LossSpec = LossSpec()
    train: TrainSpec = TrainSpec()
    engine: EngineSpec = EngineSpec()
    device: DeviceSpec = DeviceSpec()
    run: RunSpec = RunSpec()


def fields() -> Iterator[tuple[str, str, str, FieldInfo]]:
    """Yield ``(section, key, option, field)`` for every leaf of ``Config``, in file order."""
    for section, holder in Config.model_fields.items():
        spec: Any = holder.annotation
        for key, field in spec.model_fields.items():
            extra = field.json_schema_extra
            option = extra["option"] if isinstance(extra, dict) else key
            yield section, key, str(option), field


def make(values: Mapping[str, Any], where: str = "the configuration") -> Config:
    """Return the ``Config`` that nested ``values`` describe.

    Raises:
        QkdError: a key does not exist (the nearest known one is named) or a value does not fit.
    """
    return validated(Config, values, where)


def validated(spec: type[S], values: Mapping[str, Any], where: str) -> S:
    """Return the ``spec`` that nested ``values`` describe; ``where`` begins the sentence if they do not.

    Raises:
        QkdError: a key does not exist (the nearest known one is named) or a value does not fit.
    """
    try:
        return spec.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_sentence(spec, error, where)) from None


def load(path: Path | None, overrides: Mapping[tuple[str, str], Any] | None = None) -> Config:
    """Return the configuration of a TOML file with ``{(section, key): value}`` overrides on top.

    Raises:
        QkdError: the file is missing, is not TOML, or says something that does not exist.
    """
    values = {} if path is None else read_toml(path)
    for (section, key), value in (overrides or {}).items():
        table = values.setdefault(section, {})
        if isinstance(table, dict):
            table[key] = value
    return make(values, str(path) if path else "the options")


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file.

    Raises:
        QkdError: it cannot be read, or is not TOML.
    """
    try:
        if path.stat().st_size > TOML_BYTES:
            raise ConfigError(f"{path}: larger than any file of settings ({TOML_BYTES:,} bytes)")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); name an existing file") from None
    except (ValueError, RecursionError) as error:  # of TOML, of UTF-8, and of numbers with thousands of digits
        raise ConfigError(f"{path}: not a TOML file ({error})") from None


def dumps(config: Config) -> str:
    """Return ``config`` as TOML with every default written out and every field's sentence above it."""
    import tomlkit

    document = tomlkit.document()
    document.add(tomlkit.comment("Everything needed to do this run again: qkd distill --config THIS_FILE"))
    for section in Config.model_fields:
        spec = getattr(config, section)
        table = tomlkit.table()
        for key, field in type(spec).model_fields.items():
            table.add(tomlkit.comment(field.description or ""))
            value = getattr(spec, key)
            if value is None:
                table.add(tomlkit.comment(f"{key} ="))
            else:
                plain = list(value) if isinstance(value, tuple) else value
                table.add(key, str(plain) if isinstance(plain, Path) else plain)
        document.add(section, table)
    return tomlkit.dumps(document)


def _sentence(spec: type[Spec], error: ValidationError, where: str) -> str:
    """Turn pydantic's first complaint into one sentence."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        known, table = spec, ""
        for part in place[:-1]:
            inner: Any = known.model_fields[part].annotation
            known, table = inner, f" in [{part}]"
        return f"{where}: there is no key '{place[-1]}'{table}{nearest(place[-1], known.model_fields)}"
    if first["type"] == "missing":
        return f"{where}: the key '{'.'.join(place)}' is missing"
    message = first["msg"].removeprefix("Value error, ")
    given = reprlib.repr(first["input"])
    return f"{where}: {'.'.join(place)} = {given} does not fit: {message[:1].lower()}{message[1:]}"
