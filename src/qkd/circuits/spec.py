"""The content of a circuit file: a frozen spec with one sentence for each key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from qkd.core.specs import Spec, read_toml, validated

Axis = Literal["rx", "ry", "rz"]
Count = Annotated[int, Field(ge=1)]


class EncodingSpec(Spec):
    """The encoding of the data."""

    rotations: tuple[Axis, ...] = Field(
        default=("ry",), min_length=1, description="Rotations (rx, ry, rz) of every qubit, in order, each an input."
    )
    upload: Literal["once", "every-layer"] = Field(
        default="once", description="Whether the inputs enter once, or again before every-layer."
    )


class AnsatzSpec(Spec):
    """The trained layers."""

    rotations: tuple[Axis, ...] = Field(
        default=(), description="Rotations of every qubit at the start of a layer, each a weight."
    )
    entangler: Literal["cz", "cx", "ecr", "rzz", "none"] = Field(
        default="none", description="The two-qubit gate: cz, cx, ecr, rzz (which has a weight) or none."
    )
    pattern: Literal["line", "brick", "ring", "ladder", "heavy-hex", "qdllm"] = Field(
        default="brick",
        description="The pairs it joins: line, brick, ring, ladder or heavy-hex; qdllm is the paper's whole layer.",
    )
    closing: tuple[Axis, ...] = Field(
        default=(), description="Rotations of every qubit after the last layer, each a weight."
    )

    @model_validator(mode="after")
    def _qdllm_is_whole(self) -> AnsatzSpec:
        if self.pattern == "qdllm" and (self.rotations or self.closing or self.entangler != "none"):
            raise ValueError("the pattern qdllm fixes rotations, entangler and closing; remove these keys")
        return self


class CircuitSpec(Spec):
    """A student circuit, for any number of qubits and layers."""

    name: str = Field(description="The name in reports.")
    description: str = Field(default="", description="The purpose.")
    reference: str = Field(default="", description="The source.")
    qubits: Count = Field(default=11, description="The default width n.")
    layers: Count = Field(default=2, description="The default number of layers.")
    observables: tuple[str, ...] = Field(
        default=("z-each",),
        min_length=1,
        description="z-each, zz-neighbours, or Paulis such as 'Z0 Z1' or '0.5 X0 + Z2'.",
    )
    encoding: EncodingSpec = Field(default=EncodingSpec(), description="The encoding of the data.")
    ansatz: AnsatzSpec = Field(default=AnsatzSpec(), description="The trained layers.")


def read_circuit_spec(path: Path) -> CircuitSpec:
    """Return the spec in a TOML file.

    Raises:
        QkdError: The file is missing, is not TOML, or has an unknown key or value.
    """
    return validated(CircuitSpec, read_toml(path), str(path))
