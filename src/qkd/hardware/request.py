"""Requests for device runs: the only list of their fields.

The command line, the Python API and the stored plan all use these classes. The sentence of a field is its help text.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from qkd.core.config import read_config
from qkd.core.errors import ConfigError, nearest
from qkd.core.files import Row
from qkd.core.runs import RunFolder
from qkd.core.specs import Count, Layout, Seed, Spec, option
from qkd.hardware.mitigation.registry import METHODS, check_method

MIN_CIRCUITS = 16
Mode = Literal["job", "batch", "session"]
DECOUPLINGS = ("none", "XX", "XpXm", "XY4")
# Fields that do not change what is measured.
FINGERPRINT_EXCLUDES = {"run", "max_qpu_seconds", "file"}


class BaseRequest(Spec):
    """Fields that every request for a device has."""

    run: Path = option(Path("runs/latest"), "A run folder.")
    device: str | None = option(None, "The device, such as ibm_fez, a snapshot or a snapshot file; else the run's own.")
    local: bool = option(False, "Rehearse on the device's snapshot and submit nothing.")
    max_qpu_seconds: Annotated[float, Field(ge=0)] | None = option(
        None, "Refuse a run that is estimated to take more QPU seconds; else the profile's limit."
    )
    decoupling: str | None = option(None, "Pulses on idle qubits: none, XX, XpXm or XY4; else the profile's.")
    seed: Seed = option(0, "Seed of the choice of texts or circuits.")

    @field_validator("decoupling")
    @classmethod
    def _known_decoupling(cls, word: str | None) -> str | None:
        return _known("decoupling", word, DECOUPLINGS)


class DeviceRunRequest(BaseRequest):
    """A request to classify texts on a device; None takes the profile's choice or the run's."""

    kind: Literal["predict"] = "predict"
    mitigation: str | None = option(
        None, f"Error mitigation: {', '.join(METHODS)}, several joined by commas, or all; else the profile's."
    )
    samples: Count | None = option(None, "Number of test texts, stratified by label; all if not set.")
    file: Path | None = option(None, "Your own texts instead: a .txt file with one text a line, or a table.")
    text_column: str | None = option(None, "Column of the file that holds the texts; else the run's own.")
    shots: Count | Literal["auto"] | None = option(
        None, "Shots per expectation value; auto takes the fewest at which at most 5 % of predictions are unclear."
    )
    target_stderr: Annotated[float, Field(gt=0)] | None = option(
        None, "Largest standard error of an expectation value, instead of --shots."
    )
    mode: Mode | None = option(None, "How jobs are submitted: job, batch or session; else the profile's.")
    profile: str | None = option(None, "The transpile profile; else that of training, or the device's own.")
    layout: Layout = option(None, "Physical qubit of each logical one, such as 3,4,5. Default: search for the best.")
    randomizations: Count | None = option(None, "Number of twirls that the shots are spread over.")
    twirl_gates: bool = option(False, "Twirl two-qubit gates, whatever the mitigation.")
    learned: str | None = option(
        None, "Learned errors: a file of 'qkd devices learn', or none; else the newest of the last 7 days."
    )
    client: bool = option(False, "With --local: let IBM's client simulate every twirl, which is slow.")

    @field_validator("shots", mode="before")
    @classmethod
    def _number_of_shots(cls, value: Any) -> Any:
        return int(value) if isinstance(value, str) and value.isdecimal() and value.isascii() else value

    @model_validator(mode="after")
    def _consistent(self) -> DeviceRunRequest:
        for name in self.methods("none"):
            check_method(name)
        if self.target_stderr is not None and self.shots not in (None, "auto"):
            raise ConfigError("--shots and --target-stderr set the same thing; give one of them")
        return self

    def methods(self, default: str) -> list[str]:
        """Return the names of the requested mitigation methods; ``default`` if none is requested."""
        if self.mitigation == "all":
            return list(METHODS)
        return list(dict.fromkeys(word.strip() for word in (self.mitigation or default).split(",")))


class LearningRequest(BaseRequest):
    """A request to learn a device's errors from random circuits on a run's region."""

    kind: Literal["learn"] = "learn"
    points: Annotated[int, Field(ge=MIN_CIRCUITS)] = option(256, "Number of circuits to measure.")
    shots: Count = option(128, "Shots of each circuit.")
    client: ClassVar[bool] = False

    def for_texts(self) -> DeviceRunRequest:
        """Return the request for texts on the same device with the same settings, without mitigation."""
        shared = self.model_dump(include=set(BaseRequest.model_fields))
        return DeviceRunRequest(**shared, mitigation="none", shots=self.shots, samples=1, learned="none")


AnyRequest = DeviceRunRequest | LearningRequest


def _known(field: str, word: str | None, known: tuple[str, ...]) -> str | None:
    if word is not None and word not in known:
        raise ConfigError(f"--{field} '{word}' is not known{nearest(word, known)}")
    return word


def fingerprint(request: AnyRequest, folder: RunFolder) -> str:
    """Return a hash of everything that decides what a request measures: settings, student, and texts or circuit."""
    content: list[Any] = [request.model_dump(mode="json", exclude=FINGERPRINT_EXCLUDES)]
    if isinstance(request, LearningRequest):
        content.append(_hash_of(folder.student / "circuit.qasm"))
    else:
        content.append(_hash_of(folder.student / "student.safetensors"))
        content.append([row["text"] for row in read_texts(request, folder)])
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _hash_of(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); train the run again") from None


def read_texts(request: DeviceRunRequest, folder: RunFolder) -> list[Row]:
    """Return the texts to classify, with labels and teacher logits where they are known."""
    if request.file is not None:
        from qkd.data.loading import load_texts

        column = request.text_column or read_config(folder.config).data.text_column
        texts = load_texts(request.file, column)
        rows = [{"text": text, "label": None, "teacher": None} for text in texts]
    else:
        rows = [{key: row[key] for key in ("text", "label", "teacher")} for row in folder.rows(folder.predictions)]
    return [rows[i] for i in _sample(rows, request)]


def _sample(rows: list[Row], request: DeviceRunRequest) -> list[int]:
    """Return the indices of the requested number of rows, stratified by label; all if no number is requested."""
    if request.samples is None or request.samples >= len(rows):
        return list(range(len(rows)))
    import numpy as np

    random = np.random.default_rng(request.seed)
    groups: dict[Any, list[int]] = {}
    for i in random.permutation(len(rows)):
        groups.setdefault(rows[i]["label"], []).append(int(i))
    ranked = [(place / len(members), i) for members in groups.values() for place, i in enumerate(members)]
    return sorted(i for _, i in sorted(ranked)[: request.samples])


def check_objects(backend: object, service: object) -> None:
    """Refuse objects that are no backend or no client of IBM Quantum.

    Raises:
        ConfigError: One is neither, or both are given.
    """
    from qiskit.providers import BackendV2

    if backend is not None and not isinstance(backend, BackendV2):
        kind = f"the class {backend.__name__}" if isinstance(backend, type) else f"a {type(backend).__name__}"
        raise ConfigError(f"the device is {kind}; give a name, a snapshot file or a BackendV2")
    if service is not None and not callable(getattr(service, "backends", None)):
        raise ConfigError(f"service is a {type(service).__name__}; give a QiskitRuntimeService")
    if service is not None and backend is not None:
        raise ConfigError("backend brings its own service; omit service=")
