"""The search space of a sweep: dimensions from the command line, and the configuration at a point.

A dimension is ``NAME=LOW..HIGH`` or ``NAME=A,B,C``, or ``NAME=A|B`` if a value contains a comma. Names are options
(``lr``, ``layers``, ``circuit``, ``encoder``, ...).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qkd.circuits import library
from qkd.circuits.build import read_circuit_spec
from qkd.core.config import Config, fields
from qkd.core.errors import ConfigError, nearest
from qkd.pipeline.settings import by_section, merged
from qkd.results.study import Value
from qkd.simulation.diagnostics import check_saved

SEARCHED_SECTIONS = ("student", "loss", "train", "encoder")
"""Sections whose settings can be searched; texts and teacher are the same for all trials."""
MIN_LOG_RATIO = 8.0
"""Ratio of the ends of a positive range from which the search uses a logarithmic scale."""


@dataclass(frozen=True)
class Dimension:
    """One setting that is searched.

    Attributes:
        name: The option's name.
        values: The choices; empty for a range.
        low: The lower end of a range, included.
        high: The upper end of a range, included. Both are integers for whole numbers.
    """

    name: str
    values: tuple[Value, ...] = ()
    low: float = 0.0
    high: float = 0.0

    @property
    def logarithmic(self) -> bool:
        """True if the search uses a logarithmic scale."""
        return isinstance(self.low, float) and self.low > 0 and self.high / self.low >= MIN_LOG_RATIO

    def contains(self, value: Value | None) -> bool:
        """Return True if the dimension contains a value."""
        if self.values:
            return value in self.values
        return isinstance(value, int | float) and self.low <= value <= self.high

    def describe(self) -> str:
        """Return the dimension as a user types it."""
        if not self.values:
            return f"{self.name}={self.low:g}..{self.high:g}"
        words = [str(value) for value in self.values]
        return f"{self.name}={('|' if any(',' in word for word in words) else ',').join(words)}"


def dimensions(words: Sequence[str], config: Config) -> tuple[Dimension, ...]:
    """Return the dimensions that ``words`` name, each tried on ``config`` at its ends."""
    space = [_dimension(word) for word in words]
    check_saved(library.load_circuit(config.student.circuit, config.student.qubits, config.student.layers))
    for dimension in space:
        if sum(other.name == dimension.name for other in space) > 1:
            raise ConfigError(f"--over {dimension.name} appears twice; name each dimension once")
        for value in dimension.values or (dimension.low, dimension.high):  # finds a mistake before any work
            student = settings_at(config, {dimension.name: value}).student
            circuit = library.load_circuit(student.circuit, student.qubits, student.layers, student.inputs)
            if dimension.name in ("circuit", "qubits", "layers"):
                check_saved(circuit)
    return tuple(space)


def _dimension(word: str) -> Dimension:
    name, _, choices = (part.strip() for part in word.partition("="))
    name = name.replace("_", "-")
    options = {key.replace("_", "-"): field for section, key, field in fields() if section in SEARCHED_SECTIONS}
    if name not in options:
        raise ConfigError(f"--over {name}: there is no setting of that name to search{nearest(name, options)}")
    if not choices:
        raise ConfigError(f"--over {name} has no values; write {name}=LOW..HIGH or {name}=A,B,C")
    kind = str(options[name].annotation)
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
        raise ConfigError(f"--over {word}: give different values, separated by commas (or by | if one has a comma)")
    return Dimension(name, tuple(_plain(value) for value in values))


def _number(name: str, text: str) -> int | float:
    value = _plain(text.strip())
    if isinstance(value, str):
        raise ConfigError(f"--over {name}: '{text}' is not a number; a range is LOW..HIGH")
    return value


def _plain(text: str) -> Value:
    """Return a number if the text is one."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def value_at(config: Config, name: str) -> Value | None:
    """Return the value of a setting; qubits and layers that are not given are those of the circuit's file."""
    ((section, key),) = by_section({name.replace("-", "_"): None})
    value: Value | None = getattr(getattr(config, section), key)
    if value is None and name in ("qubits", "layers"):
        path = library.locate(config.student.circuit)
        value = getattr(read_circuit_spec(path), name) if path.suffix == ".toml" else None
    return value


def settings_at(config: Config, point: Mapping[str, Value]) -> Config:
    """Return ``config`` with the values of a point by dimension."""
    return merged(config, by_section({name.replace("-", "_"): value for name, value in point.items()}))
