"""Everything a run's TOML file or options can say: ``Config``, whose sections are the tables of the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic.fields import FieldInfo

from qkd.core.specs import Count, Fraction, Spec, option, read_toml, validated


class DataSpec(Spec):
    """Which texts and labels, and how they are split."""

    data: str = option(
        "docstrings", "A CSV, TSV, JSONL or Parquet file, qdllm:FOLDER, hf:NAME[:CONFIG], or the embedded 'docstrings'."
    )
    text_column: str = option("text", "The column that holds the texts.")
    label_column: str = option("label", "The column that holds the labels.")
    test_data: Path | None = option(
        None, "A table file of test texts, with the same columns; else the data's own test split, or a part of them."
    )
    limit: Count | None = option(None, "Take at most this many texts, stratified by label; all when left out.")
    valid: Fraction = option(
        0.15, "The fraction of texts kept for validation; of the training texts, where the test texts are given."
    )
    test: Fraction = option(0.2, "The fraction of texts kept for the final test, where it is not given.")
    split_seed: int = option(0, "The seed of the train/validation/test split, as far as it is drawn.")
    unlabeled: Path | None = option(
        None, "A file of more texts, without labels, that the teacher alone labels: the student gets KL and JS on them."
    )

    @property
    def stem(self) -> str:
        """A short name of the texts, for folders."""
        return self.data.rpartition(":")[2].rstrip("/").rpartition("/")[2].partition(".")[0]


def _several(value: Any) -> Any:
    """Let one word stand for a list of one."""
    return (value,) if isinstance(value, str) else value


def _switched(value: Any) -> Any:
    """Let a prompt's calibration be on or off, as it was in version 0.1."""
    return {True: "labels", False: "none"}[value] if isinstance(value, bool) else value


class TeacherSpec(Spec):
    """The classifier whose logits the student learns from."""

    teacher: Annotated[tuple[str, ...], BeforeValidator(_several), Field(min_length=1)] = option(
        ("probe:smollm2-135m",),
        "KIND:MODEL, where KIND is probe, prompt, api, lora, classifier or logits and MODEL a short name, folder, hub "
        "id or file; several make an ensemble.",
    )
    ensemble: Literal["probability", "logit"] = option(
        "probability", "What several teachers' weighted average is taken of; validation texts set the weights."
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "auto", "The teacher's weights: auto is float32 on CPUs and bfloat16 on CUDA."
    )
    quantize: Literal["none", "8bit", "4bit"] = option("none", "Load the teacher quantised, by bitsandbytes.")
    max_tokens: Count | None = option(None, "Tokens read of each text; 256, or what the model holds, when left out.")
    label_map: str | None = option(
        None, "For classifier: which of its labels means which of the data's, MODEL=DATA, separated by commas."
    )


class PromptSpec(Spec):
    """How a prompt: teacher is asked."""

    prompt: Annotated[tuple[str, ...], BeforeValidator(_several), Field(min_length=1)] = option(
        ("auto",),
        "Built-in prompts (classify, continue, category), auto for all of them, or TOML or text files with "
        "{text} in them; of several the one that does best on a few labelled texts is taken.",
    )
    examples: Annotated[int, Field(ge=0)] = option(
        0, "Examples of each class shown first, drawn from the training texts."
    )
    examples_seed: int = option(0, "The seed that draws them.")
    calibrate: Annotated[Literal["words", "labels", "batch", "none"], BeforeValidator(_switched)] = option(
        "words",
        "How scores become logits: a linear map, fitted to training texts, of the labels' words and those near them "
        "(words) or of the labels' alone (labels), biases that make all labels equally likely over the texts, whatever "
        "theirs are (batch), or none; with a temperature.",
    )


class ApiSpec(Spec):
    """How an api: teacher asks its servers."""

    api_url: Annotated[tuple[str, ...], BeforeValidator(_several)] = option(
        (),
        "The base URL of a server, such as http://localhost:8000/v1; several share the work. Default: OPENAI_BASE_URL.",
    )
    api_key_env: str = option("OPENAI_API_KEY", "The environment variable that contains the API key.")
    api_source: Literal["auto", "score", "likelihoods", "next-token", "votes"] = option(
        "auto", "Where label probabilities come from; auto uses the first source that passes a test on the server."
    )
    api_votes: Count = option(20, "Samples of a text for the source votes.")
    api_concurrency: Count = option(16, "Simultaneous requests to each server.")
    api_timeout: Annotated[float, Field(gt=0)] = option(120.0, "Seconds until a request counts as failed.")
    price: str | None = option(None, "US dollars for a million read and written tokens, as IN,OUT; needs max_cost.")
    max_cost: Annotated[float, Field(ge=0)] | None = option(None, "US dollars at which labeling stops; needs price.")

    @model_validator(mode="after")
    def _limited(self) -> ApiSpec:
        if (self.price is None) != (self.max_cost is None):
            raise ValueError("price and max_cost need each other: a price without a limit protects nothing")
        _ = self.prices
        return self

    @property
    def prices(self) -> tuple[float, float]:
        """US dollars for a million read and a million written tokens."""
        try:
            read, written = map(float, (self.price or "0,0").split(","))
        except ValueError:
            raise ValueError(f"price '{self.price}' is not IN,OUT, such as 0.25,2.00") from None
        if not (0 <= read < 1e6 and 0 <= written < 1e6):
            raise ValueError(f"price '{self.price}' is negative or too large")
        return read, written


class LoraSpec(Spec):
    """How a lora: teacher is fine-tuned."""

    lora_rank: Count = option(8, "The rank r of the adapters.")
    lora_targets: str = option("all-linear", "The modules that get adapters, by name, separated by commas.")
    lora_depth: Annotated[float, Field(gt=0, le=1)] = option(
        0.67, "The fraction of the LM's layers that is kept, from the bottom."
    )
    lora_tuned: Annotated[float, Field(gt=0, le=1)] = option(
        0.5, "The fraction of the kept layers that gets adapters, from the top."
    )
    lora_epochs: Count = option(3, "The most passes over the training texts.")
    lora_texts: Count | None = option(None, "Learn from at most this many training texts.")
    lora_batch_size: Count = option(16, "Texts per optimizer step.")
    lora_lr: Annotated[float, Field(gt=0)] = option(0.0003, "AdamW's highest learning rate.")
    lora_patience: Count = option(2, "Stop after this many epochs without a better validation loss.")
    lora_seed: int = option(0, "The seed of adapters, batches and dropout.")


class ModelSpec(Spec):
    """How models of the hub are dealt with."""

    offline: bool = option(False, "Ask no hub; HF_HUB_OFFLINE=1 does the same.")
    trust_remote_code: bool = option(False, "Let a model run Python code of its own; read that code first.")


class EncoderSpec(Spec):
    """What turns a text into the student's D numbers."""

    encoder: str = option(
        "minilm?layers=auto",
        "minilm, hashing[:DIM], static:MODEL, any Hugging Face encoder (folder or hub id), with ?layers=, pooling= and "
        "tokens= behind it, or several joined by +; auto layers are chosen by leave-one-out error.",
    )
    whiten: Count | None = option(
        None, "Decorrelate the embeddings and keep this many of the strongest directions; fitted on the training texts."
    )
    tune_encoder: Annotated[int, Field(ge=0)] = option(
        0, "Train this many of the encoder's last layers with the student, through the circuit; of static:, its table."
    )
    tune_epochs: Count = option(6, "The most passes over the training texts that the encoder's layers train for.")
    tune_batch_size: Count = option(32, "Texts per optimizer step while they train.")
    tune_patience: Count = option(2, "Stop that after this many epochs without a better validation loss.")
    tune_lr: Annotated[float, Field(gt=0)] | None = option(
        None, "Adam's learning rate of what trains of the encoder; 7e-5 for layers and 1e-3 for a table when left out."
    )


class StudentSpec(Spec):
    """The quantum student: projection, circuit and head."""

    circuit: str = option("hardware", "A bundled circuit's name, a circuit TOML file, or an OpenQASM 3 file.")
    qubits: Count | None = option(None, "The circuit's width n; the circuit's own default when left out.")
    layers: Count | None = option(None, "How often the ansatz repeats; the circuit's own default when left out.")
    angle_map: Literal["tanh", "minmax"] = option(
        "tanh",
        "How projections become angles: tanh, bounded to (-pi, pi), or minmax, the paper's per-text scaling "
        "to [0, 10].",
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = option(0.5, "The fraction of embedding entries dropped in training.")
    standardize: bool = option(
        True, "Shift and scale embedding entries to mean 0 and deviation 1 over the training texts."
    )
    diagnose: bool = option(
        True, "Measure why the student falls short of its teacher: encoder, capacity, data or optimisation."
    )
    spread_seeds: Annotated[int, Field(ge=0)] = option(
        0, "Train it with this many more seeds, ideally, to see how far they lie apart."
    )
    margin: Annotated[float, Field(ge=0, le=100)] = option(
        1.0, "Points of accuracy within which two classifiers count as equivalent."
    )
    controls: bool = option(
        True, "Show a linear student of the same size and a logistic regression on the same embeddings beside it."
    )


class LossSpec(Spec):
    """What the student minimises, given its own logits, the teacher's and the labels."""

    loss: Literal["qdllm", "qdllm-published"] = option(
        "qdllm",
        "The loss: qdllm is the paper's CE, KL and JS sum; qdllm-published has the JS of its public code, which "
        "softmaxes twice.",
    )
    temperature: Annotated[float, Field(gt=0)] = option(2.0, "T, which softens teacher and student in KL and JS.")
    alpha: Annotated[float, Field(ge=0, le=1)] = option(0.2, "The weight a of the teacher; 0 learns from labels alone.")


class TrainSpec(Spec):
    """How the student is optimised."""

    epochs: Count = option(100, "The most passes over the training texts.")
    batch_size: Count = option(64, "Texts per optimizer step, B.")
    lr: Annotated[float, Field(gt=0)] = option(
        0.005,
        "Adam's learning rate; the projection's is smaller, in inverse proportion to the width of the embeddings.",
    )
    weight_decay: Annotated[float, Field(ge=0)] = option(0.0, "Decoupled weight decay of projection and head.")
    patience: Count = option(10, "Stop after this many epochs without a better validation loss.")
    train_shots: Annotated[int, Field(ge=0)] = option(
        0, "Train for this many shots per expectation value: their exact variance is in the loss; 0 is none."
    )
    shuffle: bool = option(True, "Draw new batches in every epoch; without it, all epochs go through the first ones.")
    seed: int = option(0, "The seed of initial weights, batches and dropout.")


class EngineSpec(Spec):
    """What does the quantum arithmetic."""

    sim: Literal["exact", "aer", "aer-noisy"] = option(
        "exact",
        "What is simulated: exact expectation values; aer, finite shots; aer-noisy, shots under --device's noise.",
    )
    engine: Literal["auto", "statevector", "lightcone", "density", "trajectories", "aer"] = option(
        "auto",
        "What does the arithmetic of training: auto takes the fastest that is exact for the case, aer trains on "
        "AerSimulator's shots.",
    )
    shots: Count = option(4096, "Shots per expectation value where AerSimulator samples.")
    gradient: Literal["spsa", "parameter-shift"] = option("spsa", "How --engine aer estimates gradients.")
    trajectories: Annotated[int, Field(ge=2)] = option(32, "Quantum trajectories per text of --engine trajectories.")
    accuracy: Annotated[float, Field(ge=0, lt=1)] = option(
        0.001,
        "How far expectation values may be off where light cones are too wide to be exact; gradients ten times that, "
        "relatively; 0 insists on exact ones.",
    )
    truncation: Annotated[float, Field(ge=0, lt=1)] = option(
        0.0, "The threshold below which --engine lightcone leaves Pauli strings out; 0 finds it from the accuracy."
    )
    engine_seed: int = option(0, "The seed of shots and trajectories.")
    precision: Literal["single", "double"] = option("single", "Floating-point precision of training.")
    torch_device: str = option("auto", "Where torch computes: auto (CUDA when there is one), cpu, cuda, cuda:1, ...")


class DeviceSpec(Spec):
    """The device whose noise is simulated."""

    device: str = option("ibm_fez", "The device whose snapshot --sim aer-noisy takes: a name, or a snapshot file.")
    profile: str | None = option(None, "The transpile profile; the device's own when left out.")
    idle_noise: bool = option(False, "Whether qubits that wait relax, as a schedule of the circuit says.")


class RunSpec(Spec):
    """Where the results go."""

    runs: Path = option(Path("runs"), "The folder that holds the run folders.")
    name: str | None = option(None, "The run's name; a new one is made from data and circuit when left out.")


class Config(Spec):
    """One distillation, whole."""

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


def make_config(values: Mapping[str, Any], where: str = "the configuration") -> Config:
    """Return the ``Config`` that nested ``values`` describe.

    Raises:
        QkdError: a key does not exist (the nearest known one is named) or a value does not fit.
    """
    return validated(Config, values, where)


def read_config(path: Path | None, overrides: Mapping[tuple[str, str], Any] | None = None) -> Config:
    """Return the configuration of a TOML file with ``{(section, key): value}`` overrides on top.

    Raises:
        QkdError: the file is missing, is not TOML, or says something that does not exist.
    """
    values = {} if path is None else read_toml(path)
    for (section, key), value in (overrides or {}).items():
        table = values.setdefault(section, {})
        if isinstance(table, dict):
            table[key] = value
    return make_config(values, str(path) if path else "the options")


def to_toml(config: Config) -> str:
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
