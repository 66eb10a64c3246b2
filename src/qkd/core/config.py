"""Every setting of a run: the sections of ``Config`` are the tables of its TOML file, the fields its options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic.fields import FieldInfo

from qkd.core.errors import nearest
from qkd.core.objects import is_object
from qkd.core.specs import (
    Count,
    Fraction,
    Layout,
    Names,
    Number,
    Positive,
    Seed,
    Share,
    Spec,
    as_toml,
    option,
    read_toml,
    several,
    validated,
)
from qkd.core.teacher_config import ApiSpec, LoraSpec, PromptSpec, TeacherSpec

LOSSES = ("qdllm", "qdllm-published")


SplitKind = Literal["split", "group", "time"]
SplitBy = tuple[SplitKind, str]
Tracker = Literal["tensorboard", "mlflow", "wandb", "trackio"]


class DataSpec(Spec):
    """Texts and labels, and their split."""

    data: str = option(
        "docstrings", "A CSV, TSV, JSONL or Parquet file, qdllm:FOLDER, hf:NAME[:CONFIG], or the embedded docstrings."
    )
    text_column: str = option("text", "Column of the texts.")
    label_column: str = option("label", "Column of the labels.")
    test_data: Path | None = option(
        None, "A file of test texts with the same columns. Default: the test split of the data, or a part of the texts."
    )
    limit: Count | None = option(None, "Maximum number of texts, stratified by label. Default: all.")
    valid: Fraction = option(
        0.15, "Fraction of the texts for validation; of the training texts if test texts are given."
    )
    test: Fraction = option(0.2, "Fraction of the texts for the final test, if test texts are not given.")
    split_seed: Seed = option(0, "Seed of the split into training, validation and test texts.")
    split_column: str | None = option(None, "Column of a table that names the split: train, valid or test.")
    group_column: str | None = option(None, "Column of a table with groups, such as authors. No group is split.")
    time_column: str | None = option(None, "Column of a table with dates or numbers. The newest texts are the test.")
    unlabeled: Path | None = option(
        None, "A file of texts without labels. The student learns the teacher's logits of them."
    )

    continue_from: Path | None = option(
        None, "A run whose student is trained further. Its test texts stay test texts, and both students are compared."
    )

    @model_validator(mode="after")
    def _one_split(self) -> DataSpec:
        if sum(column is not None for column in (self.split_column, self.group_column, self.time_column)) > 1:
            raise ValueError("--split-column, --group-column and --time-column exclude each other; give one of them")
        return self

    @property
    def split_by(self) -> SplitBy | None:
        """Kind and name of the column that decides the split."""
        columns: dict[SplitKind, str | None] = {
            "split": self.split_column,
            "group": self.group_column,
            "time": self.time_column,
        }
        return next(((kind, column) for kind, column in columns.items() if column is not None), None)

    @property
    def stem(self) -> str:
        """A short name of the data, for folders."""
        return self.data.rpartition(":")[2].rstrip("/").rpartition("/")[2].partition(".")[0]


class ModelSpec(Spec):
    """Access to models of the Hugging Face hub."""

    offline: bool = option(False, "Send no request to a hub, as HF_HUB_OFFLINE=1 does.")
    trust_remote_code: bool = option(False, "Run Python code that comes with a model; read that code first.")


class EncoderSpec(Spec):
    """Embeddings of the texts."""

    encoder: str = option(
        "minilm?layers=auto",
        "minilm, hashing[:DIM], static:MODEL, or a Hugging Face encoder (folder or hub id); options ?layers=, pooling= "
        "and tokens= follow, and + joins several. layers=auto selects layers by leave-one-out error.",
    )
    tune_encoder: Number = option(
        0,
        "Number of last encoder layers that are trained with the student, through the circuit; for static:, its table.",
    )
    tune_epochs: Count = option(6, "Maximum number of epochs for encoder layers.")
    tune_batch_size: Count = option(32, "Texts per optimizer step for encoder layers.")
    tune_patience: Count = option(2, "Number of epochs without a better validation loss before encoder layers stop.")
    tune_lr: Positive | None = option(
        None, "Learning rate of the encoder. Default: 7e-5 for layers and 1e-3 for a table."
    )


class StudentSpec(Spec):
    """The quantum student: projection, circuit and head."""

    circuit: str = option(
        "hardware",
        "A bundled circuit (hardware, qdllm, reupload, product), a circuit TOML file, or an OpenQASM 3 file.",
    )
    inputs: Names = option(
        None,
        "Input parameters of an OpenQASM 3 file without a line '// qkd.inputs', or the vector that they form, such as "
        "x[0],x[1] or x.",
    )
    qubits: Count | None = option(None, "Number of qubits n. Default: that of the circuit file.")
    layers: Count | None = option(None, "Repetitions of the ansatz. Default: that of the circuit file.")
    angle_map: Literal["tanh", "minmax"] = option(
        "tanh",
        "Map from projections to angles: tanh to (-pi, pi), or minmax, the paper's scaling of each text to [0, 10].",
    )
    dropout: Share = option(0.5, "Fraction of embedding entries that training drops.")
    standardize: bool = option(
        True, "Scale embedding entries to mean 0 and standard deviation 1 over the training texts."
    )
    diagnose: bool = option(True, "Measure how much encoder, capacity, data and optimization cost the student.")
    spread_seeds: Number = option(
        0, "Number of further seeds that train the student without noise, for the spread of its accuracy."
    )
    margin: Annotated[float, Field(ge=0, le=100)] = option(
        1.0, "Points of accuracy within which two classifiers count as equivalent."
    )
    controls: bool = option(
        True, "Train a linear student of the same size and a logistic regression on the same embeddings."
    )


def _known_loss(name: str) -> str:
    if name not in LOSSES and not is_object(name):
        raise ValueError(f"there is no such loss{nearest(name, LOSSES)}")
    return name


class LossSpec(Spec):
    """The loss, of the logits of student and teacher and of the labels."""

    loss: Annotated[str, AfterValidator(_known_loss)] = option(
        "qdllm",
        "qdllm is the paper's sum of CE, KL and JS. qdllm-published has the JS of its public code, with a second "
        "softmax.",
    )
    temperature: Positive = option(2.0, "Temperature T of teacher and student in KL and JS.")
    alpha: Annotated[float, Field(ge=0, le=1)] = option(0.2, "Weight a of the teacher; 0 learns from labels alone.")


class TrainSpec(Spec):
    """Optimization of the student."""

    epochs: Count = option(100, "Maximum number of epochs.")
    batch_size: Count = option(64, "Texts per optimizer step, B.")
    lr: Positive = option(
        0.005,
        "Learning rate of Adam; that of the projection is inversely proportional to the embedding width.",
    )
    weight_decay: Annotated[float, Field(ge=0)] = option(0.0, "Decoupled weight decay of projection and head.")
    patience: Count = option(10, "Number of epochs without a better validation loss before training stops.")
    train_shots: Number = option(
        0, "Shots per expectation value whose exact variance the loss includes; 0 includes none."
    )
    shuffle: bool = option(True, "Draw new batches in every epoch instead of repeating those of the first.")
    seed: Seed = option(0, "Seed of initial weights, batches and dropout.")


class EngineSpec(Spec):
    """The simulation of the circuit."""

    sim: Literal["exact", "aer", "aer-noisy"] = option(
        "exact",
        "exact computes expectation values; aer samples shots; aer-noisy samples shots under the noise of --device.",
    )
    engine: Literal["auto", "statevector", "lightcone", "density", "aer"] = option(
        "auto",
        "Simulator of training. auto selects the fastest exact one; aer trains on shots of AerSimulator.",
    )
    shots: Count = option(4096, "Shots per expectation value of AerSimulator.")
    gradient: Literal["spsa", "parameter-shift"] = option("spsa", "Gradient estimator of --engine aer.")
    accuracy: Share = option(
        0.001,
        "Maximum error of expectation values for light cones that are too wide for exact values; relative errors of "
        "gradients are ten times larger. 0 requires exact values.",
    )
    truncation: Share = option(
        0.0, "Coefficient below which --engine lightcone drops Pauli strings; 0 derives it from --accuracy."
    )
    max_hours: Positive = option(
        2.0, "Longest simulation in hours; a run whose estimate exceeds it is refused before it starts."
    )
    engine_seed: Seed = option(0, "Seed of shots.")
    precision: Literal["single", "double"] = option("single", "Floating-point precision of training.")
    torch_device: str = option("auto", "Device of torch: auto (CUDA if available), cpu, cuda, cuda:1, ...")


class DeviceSpec(Spec):
    """The device whose noise training simulates."""

    device: str = option("ibm_fez", "Device for --sim aer-noisy: a name such as ibm_fez, or a snapshot file.")
    profile: str | None = option(None, "Transpile profile. Default: that of the device.")
    layout: Layout = option(None, "Physical qubit of each logical one, such as 3,4,5. Default: search for the best.")
    idle_noise: bool = option(False, "Simulate relaxation of idle qubits, from a schedule of the circuit.")


class RunSpec(Spec):
    """The run folder."""

    runs: Path = option(Path("runs"), "Folder of the run folders.")
    name: str | None = option(None, "Name of the run. Default: data and circuit with a number.")
    bundle_encoder: bool = option(
        False, "Copy the encoder's model into the bundle, which then loads without a download."
    )
    track: Annotated[tuple[Tracker, ...], BeforeValidator(several)] = option(
        (), "Trackers that follow the run: tensorboard, mlflow, wandb or trackio, each installed on its own."
    )


class Config(Spec):
    """All settings of one distillation."""

    data: DataSpec = DataSpec()
    teacher: TeacherSpec = TeacherSpec()
    prompt: PromptSpec = PromptSpec()
    api: ApiSpec = ApiSpec()
    lora: LoraSpec = LoraSpec()
    models: ModelSpec = ModelSpec()
    encoder: EncoderSpec = EncoderSpec()
    student: StudentSpec = StudentSpec()
    loss: LossSpec = LossSpec()
    train: TrainSpec = TrainSpec()
    engine: EngineSpec = EngineSpec()
    device: DeviceSpec = DeviceSpec()
    run: RunSpec = RunSpec()


def fields() -> Iterator[tuple[str, str, FieldInfo]]:
    """Yield ``(section, key, field)`` for every setting, in file order; the option is the key with hyphens."""
    for section, holder in Config.model_fields.items():
        spec: Any = holder.annotation
        for key, field in spec.model_fields.items():
            yield section, key, field


def make_config(values: Mapping[str, Any], where: str | None = None) -> Config:
    """Return the ``Config`` that nested ``values`` describe.

    Raises:
        ConfigError: A key does not exist, or a value does not fit.
    """
    return validated(Config, values, where)


def read_config(path: Path | None, overrides: Mapping[tuple[str, str], Any] | None = None) -> Config:
    """Return the configuration of a TOML file with ``{(section, key): value}`` overrides on top.

    Raises:
        ConfigError: The file is missing or not TOML, a key does not exist, or a value does not fit.
    """
    values = {} if path is None else read_toml(path)
    for (section, key), value in (overrides or {}).items():
        table = values.setdefault(section, {})
        if isinstance(table, dict):
            table[key] = value
    return make_config(values, str(path) if path else None)


def to_toml(config: Config) -> str:
    """Return ``config`` as TOML, with all defaults and the sentence of each field."""
    return as_toml(config, "Everything needed to repeat this run: qkd distill --config THIS_FILE")
