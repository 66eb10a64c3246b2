"""What a sweep searches: dimensions as people write them, and what a point of them makes of a configuration.

A dimension is ``NAME`` with a range of its own, ``NAME=LOW..HIGH`` or ``NAME=A,B,C`` (``NAME=A|B`` where a value has a
comma). Names are those of options (``lr``, ``layers``, ``encoder``, ...), and ``encoding`` and ``observables``, which
are said in a circuit's file: for those a file is written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import tomlkit

from qkd.circuits import library
from qkd.circuits.build import build
from qkd.circuits.spec import CircuitSpec, read_circuit_spec
from qkd.core.config import Config, fields
from qkd.core.errors import ConfigError, nearest
from qkd.core.files import write_text
from qkd.core.specs import validated
from qkd.pipeline.settings import merged
from qkd.results.study import Value

FILED = ("encoding", "observables")
"""Dimensions that a circuit's file says, and no option."""
SEARCHED = ("student", "loss", "train", "encoder")
"""Sections whose settings can be searched: texts and teacher are the same for all trials."""
USUAL = {
    "qubits": "3..12",
    "layers": "1..4",
    "circuit": "hardware,reupload,product",
    "encoding": "ry,rx,rz+ry,ry@every-layer",
    "observables": "z-each,zz-neighbours,z-each+zz-neighbours",
    "encoder": "minilm?layers=4|minilm?layers=4,6|minilm?layers=6",
    "temperature": "1..8",
    "alpha": "0..1",
    "lr": "0.0005..0.05",
    "weight-decay": "0.001..1",
    "dropout": "0..0.7",
    "batch-size": "16,32,64,128",
}
"""Ranges of dimensions that are named without one."""
DECADE = 8.0
"""A range of numbers above 0 that is at least so many times its lower end is searched on a logarithmic scale."""


@dataclass(frozen=True)
class Dimension:
    """One thing that is searched.

    name: an option's, or one of ``FILED``.
    values: what there is to choose from; empty for a range.
    low, high: the ends of a range, both in it; integers for whole numbers.
    """

    name: str
    values: tuple[Value, ...] = ()
    low: float = 0.0
    high: float = 0.0

    @property
    def logarithmic(self) -> bool:
        """Whether it is searched on a logarithmic scale."""
        return isinstance(self.low, float) and self.low > 0 and self.high / self.low >= DECADE

    def holds(self, value: Value | None) -> bool:
        """Whether a value is one of it."""
        if self.values:
            return value in self.values
        return isinstance(value, int | float) and self.low <= value <= self.high

    def describe(self) -> str:
        """Return it as it is typed."""
        if not self.values:
            return f"{self.name}={self.low:g}..{self.high:g}"
        words = [str(value) for value in self.values]
        return f"{self.name}={('|' if any(',' in word for word in words) else ',').join(words)}"


def dimensions(words: Sequence[str], config: Config) -> tuple[Dimension, ...]:
    """Return the dimensions that ``words`` name, each tried on ``config`` at its ends.

    Raises:
        QkdError: a name is unknown or stands there twice, a range is none, or a value does not fit.
    """
    space = [_dimension(word) for word in words]
    for dimension in space:
        if sum(other.name == dimension.name for other in space) > 1:
            raise ConfigError(f"--over {dimension.name}: it stands there twice; name each dimension once")
        for value in dimension.values or (dimension.low, dimension.high):  # so that a mistake comes out before any work
            settings_at(config, {dimension.name: value}, None)
    return tuple(space)


def _dimension(word: str) -> Dimension:
    name, _, choices = (part.strip() for part in word.partition("="))
    name = name.replace("_", "-")
    options = {key.replace("_", "-"): field for section, key, field in fields() if section in SEARCHED}
    if name not in FILED and name not in options:
        raise ConfigError(f"--over {name}: there is nothing of that name to search{nearest(name, [*USUAL, *options])}")
    choices = choices or USUAL.get(name, "")
    if not choices:
        raise ConfigError(f"--over {name} has no usual range; write {name}=LOW..HIGH or {name}=A,B,C")
    kind = "" if name in FILED else str(options[name].annotation)
    low, dots, high = choices.partition("..")
    if dots and ("int" in kind or "float" in kind):
        ends = _number(name, low), _number(name, high)
        if not ends[0] < ends[1]:
            raise ConfigError(f"--over {word}: a range goes from a smaller number to a larger one")
        if "float" in kind:
            return Dimension(name, (), float(ends[0]), float(ends[1]))
        if not all(isinstance(end, int) for end in ends):
            raise ConfigError(f"--over {word}: {name} is a whole number; give a range of whole numbers")
        return Dimension(name, (), *ends)
    values = [part.strip() for part in choices.split("|" if "|" in choices else ",")]
    if not all(values) or len(set(values)) < len(values):
        raise ConfigError(f"--over {word}: give different values, separated by commas (or by | where one has a comma)")
    return Dimension(name, tuple(_plain(value) for value in values))


def _number(name: str, text: str) -> int | float:
    value = _plain(text.strip())
    if isinstance(value, str):
        raise ConfigError(f"--over {name}: '{text}' is not a number; a range is LOW..HIGH")
    return value


def _plain(text: str) -> Value:
    """Return a number where a text is one."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def value_at(config: Config, name: str) -> Value | None:
    """Return the value that a configuration has in a dimension, None where it is said in no simple way."""
    spec = _circuit_file(config) if name in (*FILED, "qubits", "layers") else None
    if name == "encoding" and spec is not None:
        again = "" if spec.encoding.upload == "once" else f"@{spec.encoding.upload}"
        return "+".join(spec.encoding.rotations) + again
    if name == "observables" and spec is not None:
        return "+".join(spec.observables)
    for section, key, _ in fields():
        if key.replace("_", "-") == name and section in SEARCHED:
            value = getattr(getattr(config, section), key)
            return getattr(spec, name) if value is None and spec is not None and name in ("qubits", "layers") else value
    return None


def settings_at(config: Config, point: Mapping[str, Value], folder: Path | None) -> Config:
    """Return ``config`` at a point.

    Args:
        config: what the point does not say.
        point: values by dimension.
        folder: where the file of a circuit of its own is written; None looks only whether the circuit can be built.

    Raises:
        QkdError: a value does not fit.
    """
    known = {key.replace("_", "-"): (section, key) for section, key, _ in fields()}
    config = merged(config, {known[name]: value for name, value in point.items() if name not in FILED})
    filed = {name: str(value) for name, value in point.items() if name in FILED}
    if not filed:
        if folder is None:
            library.load_circuit(config.student.circuit, config.student.qubits, config.student.layers)
        return config
    spec = _circuit_file(config)
    if spec is None:
        raise ConfigError(f"--over {next(iter(filed))}: {config.student.circuit} is no TOML circuit, which says it")
    values = spec.model_dump()
    if "encoding" in filed:
        rotations, _, upload = filed["encoding"].partition("@")
        values["encoding"] = {"rotations": tuple(rotations.split("+")), "upload": upload or "once"}
    if "observables" in filed:
        values["observables"] = tuple(re.split(r"(?<! )\+(?! )", filed["observables"]))  # a sum of Paulis has spaces
    values["name"] = "-".join([spec.name, *(re.sub(r"[^\w]+", "-", value) for value in filed.values())])
    circuit_spec = validated(CircuitSpec, values, f"--over {', '.join(filed)}")
    if folder is None:
        build(circuit_spec, config.student.qubits, config.student.layers)
        return config
    path = folder / f"{circuit_spec.name}.toml"
    write_text(
        path, tomlkit.dumps({key: value for key, value in circuit_spec.model_dump(mode="json").items() if value != ""})
    )
    return merged(config, {("student", "circuit"): str(path)})


def _circuit_file(config: Config) -> CircuitSpec | None:
    """Return what a configuration's circuit file says, None of one in OpenQASM."""
    path = library.locate(config.student.circuit)
    return read_circuit_spec(path) if path.suffix == ".toml" else None
