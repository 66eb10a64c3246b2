"""The keyword arguments of Python functions, for editors and type checkers.

`tests/test_api.py` compares them with the fields of ``Config`` and of the requests, which describe each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict


class ConfigOptions(TypedDict, total=False):
    """Settings of a run: the fields of all sections of ``Config``."""

    data: Any
    text_column: str
    label_column: str
    test_data: str | Path | None
    limit: int | None
    valid: float
    test: float
    split_seed: int
    split_column: str | None
    group_column: str | None
    time_column: str | None
    continue_from: str | Path | None
    unlabeled: str | Path | None
    teacher: Any
    dtype: Literal["auto", "float32", "bfloat16", "float16"]
    quantize: Literal["none", "8bit", "4bit"]
    max_tokens: int | None
    label_map: str | None
    prompt: Sequence[str] | str
    examples: int
    examples_seed: int
    calibrate: Literal["words", "labels", "batch", "none"]
    api_url: Sequence[str] | str
    api_key_env: str
    api_source: Literal["auto", "score", "likelihoods", "next-token", "votes"]
    api_votes: int
    api_concurrency: int
    api_timeout: float
    price: str | None
    max_cost: float | None
    lora_rank: int
    lora_targets: str
    lora_depth: float
    lora_tuned: float
    lora_epochs: int
    lora_texts: int | None
    lora_batch_size: int
    lora_lr: float
    lora_patience: int
    lora_seed: int
    offline: bool
    trust_remote_code: bool
    encoder: Any
    tune_encoder: int
    tune_epochs: int
    tune_batch_size: int
    tune_patience: int
    tune_lr: float | None
    circuit: Any
    inputs: Any
    qubits: int | None
    layers: int | None
    angle_map: Literal["tanh", "minmax"]
    dropout: float
    standardize: bool
    diagnose: bool
    spread_seeds: int
    margin: float
    controls: bool
    loss: Any
    temperature: float
    alpha: float
    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    patience: int
    train_shots: int
    shuffle: bool
    seed: int
    sim: Literal["exact", "aer", "aer-noisy"]
    engine: Literal["auto", "statevector", "lightcone", "density", "aer"]
    shots: int
    gradient: Literal["spsa", "parameter-shift"]
    accuracy: float
    truncation: float
    max_hours: float
    engine_seed: int
    precision: Literal["single", "double"]
    torch_device: str
    device: Any
    profile: str | None
    layout: Sequence[int] | str | None
    idle_noise: bool
    runs: str | Path
    name: str | None
    bundle_encoder: bool
    track: Sequence[Literal["tensorboard", "mlflow", "wandb", "trackio"]] | str


class DeviceRunOptions(TypedDict, total=False):
    """Settings of a device run: the fields of ``DeviceRunRequest``."""

    device: Any
    local: bool
    max_qpu_seconds: float | None
    decoupling: str | None
    seed: int
    mitigation: str | None
    samples: int | None
    file: str | Path | None
    text_column: str | None
    shots: int | Literal["auto"] | None
    target_stderr: float | None
    mode: Literal["job", "batch", "session"] | None
    profile: str | None
    layout: Sequence[int] | str | None
    randomizations: int | None
    twirl_gates: bool
    learned: str | None
    client: bool


class LearningOptions(TypedDict, total=False):
    """Settings of ``qkd.learn``: the fields of ``LearningRequest``."""

    local: bool
    max_qpu_seconds: float | None
    decoupling: str | None
    seed: int
    points: int
    shots: int
