"""Transpile profiles: settings of layout, compilation and device runs, in TOML files with inheritance."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from qkd.core.arguments import public
from qkd.core.bundled import find_files, say_what_is_hidden
from qkd.core.errors import ConfigError, nearest
from qkd.core.specs import Spec, option, read_toml, validated
from qkd.devices.snapshot import Snapshot

Count = Annotated[int, Field(ge=1)]


class Profile(Spec):
    """Settings of layout, compilation and device runs."""

    name: str = Field(description="The profile's name: that of its file.")
    description: str = option("", "The purpose of the profile.")
    families: tuple[str, ...] = option((), "The processor families that it supports; none means all.")
    optimization_level: Annotated[int, Field(ge=0, le=3)] = option(3, "The level of Qiskit's preset pass manager.")
    layout_method: Literal["auto", "trivial", "dense", "sabre"] = option(
        "auto", "The layout method; auto looks for a perfect layout first and uses sabre otherwise."
    )
    qubits: tuple[Annotated[int, Field(ge=0)], ...] = option(
        (), "The physical qubit of each logical one; none searches for a layout."
    )
    seeds: Count = option(4, "The number of transpiler seeds; the result with the best score is used.")
    scoring: Literal["fidelity", "two-qubit"] = option(
        "fidelity", "The score: the predicted fidelity with readout, or the number of two-qubit gates."
    )
    basis: Literal["native", "fractional"] = option(
        "native", "The target gates; fractional adds rx, and rzz if its angles are fixed."
    )
    dynamical_decoupling: Literal["none", "XX", "XpXm", "XY4"] = option(
        "none", "The pulse sequence that protects idle qubits on the device."
    )
    mitigation: Literal["none", "readout", "affine", "zne", "pea", "pec"] = option(
        "affine", "The error mitigation of a run that names none."
    )
    shots: Count | Literal["auto"] = option(
        "auto", "Shots of a run that sets none; auto takes the fewest that leave 5 % of the predictions unclear."
    )
    execution_mode: Literal["job", "batch", "session"] = option(
        "job", "How jobs are sent; free plans have no sessions."
    )
    max_qpu_seconds: Annotated[float, Field(gt=0)] = option(
        60, "A run that is estimated to take longer is refused, in seconds of the QPU."
    )

    def check_family(self, snapshot: Snapshot) -> None:
        """Refuse a device of a family that the profile does not support.

        Raises:
            ConfigError: The device belongs to another family.
        """
        family = snapshot.calibration.family
        if self.families and family not in self.families:
            raise ConfigError(
                f"profile '{self.name}' is for {' and '.join(self.families)}, and {snapshot.name} is {_a(family)}; "
                f"take profile '{default_name(snapshot)}'"
            )

    def with_overrides(self, overrides: Mapping[str, Any]) -> Profile:
        """Return this profile with other values of some keys. Strings are parsed as TOML values.

        Raises:
            ConfigError: A key does not exist or a value does not fit.
        """
        values = self.model_dump() | {
            key: _value(value) if isinstance(value, str) else value for key, value in overrides.items()
        }
        return validated(Profile, values, f"profile '{self.name}' with --set")


@public
def load_profile(name: str) -> Profile:
    """Return the profile called ``name``, or the one in a TOML file. Users' profiles precede bundled ones.

    The keys of a profile override those of the profile that it ``inherits``.

    Raises:
        ConfigError: The profile does not exist, a key does not fit, or profiles inherit in a circle.
    """
    return validated(Profile, _merged(name, ()), f"profile '{name}'")


def default_name(snapshot: Snapshot) -> str:
    """Return the default profile of a device: its own, its family's, or ``default``."""
    known = find_files("transpile_profiles", (".toml",))
    device = snapshot.name.replace("fake_", "ibm_", 1)
    family = snapshot.calibration.family.lower()
    return next(name for name in (device, family, "default") if name in known)


def _merged(name: str, heirs: tuple[str, ...]) -> dict[str, object]:
    """Return the keys of a profile file with those that it inherits."""
    if name in heirs:
        raise ConfigError(f"profiles inherit in a circle: {' -> '.join([*heirs, name])}")
    values = read_toml(_locate(name))
    parent = values.pop("inherits", None)
    own_name = values.pop("name", Path(name).stem)
    if parent is not None and not isinstance(parent, str):
        raise ConfigError(f"profile '{name}': inherits = {parent!r} does not fit: give one profile's name")
    return (_merged(parent, (*heirs, name)) if parent else {}) | values | {"name": own_name}


def _locate(name: str) -> Path:
    known = find_files("transpile_profiles", (".toml",))
    if name in known:
        say_what_is_hidden("transpile_profiles", known[name])
        return known[name]
    if name.endswith(".toml"):
        return Path(name)
    raise ConfigError(f"there is no profile '{name}'{nearest(name, known)}")


def _value(text: str) -> Any:
    """Parse a TOML value; a bare word is a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _a(family: str) -> str:
    return f"an {family}" if family[:1] in "AEIOU" else f"a {family}"
